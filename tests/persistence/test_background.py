"""The background in a model file: what answers of an index are judged by."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.persistence import (
    describe_model,
    load_background,
    load_model,
    save_model,
)

LIBRARY = ["CCO", "CCN", "c1ccccc1O", "CC=O"]


@pytest.fixture(scope="module")
def study():  # of the model
    return make_perturbation_study(
        20, n_cell_lines=2, n_genes=24, level=5, random_state=0
    )


def answers(model, X, y, queries):
    index = MoleculeIndex(model).fit(LIBRARY)
    return index.calibrate(X, y).query(queries, 4)


def test_answers_are_judged_as_by_the_study_itself(pipe, study, tmp_path):
    path = tmp_path / "a.molge"
    save_model(pipe, path, background=study)
    found, model = load_background(path), load_model(path)
    queries = study.profiles()[:3]
    expected = answers(pipe, study.smiles, study.profiles(), queries)
    pd.testing.assert_frame_equal(
        answers(model, found.smiles, found.profiles, queries), expected
    )
    assert {"percentile", "nearest_training", "in_training"} <= set(expected)
    np.testing.assert_array_equal(found.profiles, study.ge)
    assert list(found.profiles) == list(study.profiles())
    assert found.smiles.tolist() == sorted(set(study.smiles))


def test_a_large_study_is_sampled(pipe, study, tmp_path):
    rng = np.random.default_rng(0)
    y = pd.DataFrame(
        rng.normal(size=(5000, 24)).astype(np.float32), columns=list(study.profiles())
    )
    for name in ("a", "b"):
        save_model(pipe, tmp_path / name, background=(None, y))
    found = load_background(tmp_path / "a")
    assert found.smiles is None
    assert found.profiles.shape == (2000, 24)
    again = load_background(tmp_path / "b").profiles
    pd.testing.assert_frame_equal(found.profiles, again)
    # Each is a row of the study, in its order.
    rows = {row.tobytes(): i for i, row in enumerate(y.to_numpy())}
    places = [rows[row.tobytes()] for row in found.profiles.to_numpy()]
    assert places == sorted(places)
    assert len(set(places)) == 2000
    queries = study.profiles()[:2]
    pd.testing.assert_frame_equal(
        answers(pipe, None, found.profiles, queries),
        answers(pipe, None, y.iloc[places], queries),
    )
    assert "percentile" in answers(pipe, None, found.profiles, queries)


def test_the_card_says_that_profiles_are_there(pipe, study, tmp_path):
    path = tmp_path / "a.molge"
    save_model(pipe, path)
    bare = describe_model(path)
    assert load_background(path) is None
    assert "Holds data" not in bare.facts()
    save_model(pipe, path, background=study)
    card = describe_model(path)
    assert (card.n_background_profiles, card.n_background_molecules) == (80, 20)
    told = "80 measured profiles and 20 molecules of the training"
    assert told in card.facts()["Holds data"]
    assert card.identity == bare.identity  # the model is the same
    save_model(pipe, path, background=(study.smiles, None))
    assert describe_model(path).n_background_profiles == 0
    assert load_background(path).profiles is None


def test_genes_are_put_in_the_order_of_the_model(pipe, study, tmp_path):
    path = tmp_path / "a.molge"
    save_model(pipe, path, background=(None, study.profiles().iloc[:, ::-1]))
    pd.testing.assert_frame_equal(
        load_background(path).profiles,
        study.profiles().reset_index(drop=True),
        check_column_type=False,
        check_names=False,
    )
    save_model(pipe, path, background=(None, study.ge.astype(float) / 3))
    found = load_background(path).profiles
    np.testing.assert_array_equal(found, study.ge.astype(float) / 3)
    assert found.dtypes.unique().tolist() == [np.float64]


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (3, r"a Study, or a pair .* Got int"),
        ((None, None), "must be a Study, or a pair"),
        ((None, np.zeros((2, 3))), "the 24 genes of the estimator. Got 3"),
        ((None, np.full((2, 24), np.nan)), "finite numbers"),
        ((None, np.zeros((0, 24))), "table of finite numbers"),
        ((None, pd.DataFrame({"a": [0.0], "b": [1.0]})), "0 of the 24 genes"),
        ((["CCO", "C(C"], None), "C(C"),
    ],
)
def test_what_is_no_background(pipe, tmp_path, background, message):
    kind = InvalidSmilesError if "C(C" in message else ValueError
    with pytest.raises(kind, match=message.replace("C(C", r"C\(C")):
        save_model(pipe, tmp_path / "a.molge", background=background)
    assert not list(tmp_path.iterdir())
