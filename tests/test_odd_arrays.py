"""Arrays that are no tables of numbers, or whose numbers no computation keeps."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import bootstrap_scores, pairwise_similarity
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever, OracleRetriever

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 6)), RNG.normal(size=(12, 8))
NET = CoordinatedEmbedder(
    None,
    module__expression_layers=(8,),
    module__embedding_size=4,
    max_epochs=1,
    random_state=0,
)
ESTIMATORS = [CCA(2, ridge=0.1), DoubleNNRetriever("correlation"), NET]


def with_cell(array, value):
    array = array.astype(object)
    array[1, 2] = value
    return array


ODD = {
    "mask": (lambda a: np.ma.array(a, mask=a > 1), "masked values"),
    "dates": (lambda a: a.astype("i8").astype("M8[s]"), "dates or times"),
    "spans": (lambda a: a.astype("i8").astype("m8[s]"), "dates or times"),
    "table of dates": (
        lambda a: pd.DataFrame(a.astype("i8").astype("M8[s]")),
        "dates or times",
    ),
    "complex": (lambda a: a + 1j, "Complex data not supported"),
    "a list": (lambda a: with_cell(a, [1.0]), r"Row 1, column 2 is '\[1.0\]'"),
    "text": (lambda a: with_cell(a, "x"), "Row 1, column 2 is 'x'"),
    "a huge integer": (lambda a: with_cell(a, 10**400), "Row 1, column 2 is '1000"),
    "no columns": (lambda a: a[:, :0], r"0 feature\(s\)"),
    "no rows": (lambda a: a[:0], r"0 sample\(s\)"),
    "no table": (lambda a: {"a": 1}, "not 'dict'|number of rows"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_what_is_no_table_of_numbers(estimator, kind):
    make, words = ODD[kind]
    for name, views in (("X", (make(X), Y)), ("y", (X, make(Y)))):
        with pytest.raises(
            (TypeError, ValueError), match=rf"(?s)\b{name}\b.*({words})"
        ):
            estimator.fit(*views)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-310])
def test_metrics_without_a_size_take_any(metric, scale):
    expected = pairwise_similarity(X, X, metric=metric)
    found = pairwise_similarity(X * scale, X, metric=metric)
    np.testing.assert_allclose(found, expected, atol=1e-9 if scale > 1e-300 else 1e-6)


@pytest.mark.parametrize("metric", ["dot", "euclidean", "tanimoto"])
def test_products_that_overflow_are_refused(metric):
    for A, B in ((X * 1e200, X), (X, X * 1e200)):
        with pytest.raises(ValueError, match=rf"metric='{metric}'.*scale the rows"):
            pairwise_similarity(A, B, metric=metric)


@pytest.mark.parametrize("scale", [1e-41, 1e38])
def test_extremes_of_float32_are_no_embedding(scale):
    small = CCA(2, ridge=0.1, metric="dot").fit(X * 1e-40, Y * 1e-40)
    y = (Y * scale).astype(np.float32)
    with pytest.raises(ValueError, match="y has values too large, or too small"):
        small.transform_ge(y)


def test_a_network_says_what_float32_loses():
    with pytest.raises(ValueError, match="y must vary: in float32, whose steps are 64"):
        NET.fit(X, Y + 1e9)
    with pytest.raises(ValueError, match="features of X must vary"):
        NET.fit(X + 1e9, Y)
    with pytest.warns(
        DataWarning, match="8 of the 8 columns of y vary by less than 32"
    ):
        NET.fit(X, Y + 4e6)
    with pytest.raises(ValueError, match=r"y must not be above 5.3e\+36.*scale it"):
        NET.fit(X, (np.sign(Y) * 3e38).astype(np.float32))
    with pytest.raises(ValueError, match="y has values too large"):
        NET.fit(X, Y).transform_ge((np.sign(Y) * 3e38).astype(np.float32))


@pytest.mark.parametrize("start", ["random", "cca"])
@pytest.mark.parametrize("smiles", [["CCO"] * 6, ["CCO", "OCC"] * 3])
def test_one_drug_is_not_enough(start, smiles):
    net = CoordinatedEmbedder(
        None,
        molecule_features=MorganFingerprinter(fp_size=64),
        module__start=start,
        max_epochs=1,
    )
    with pytest.raises(ValueError, match=r"at least 2 drugs.*Got 6 of one drug"):
        net.fit(smiles, Y[:6])


def test_a_featurizer_says_what_overflows():
    featurizer = L1000Featurizer().fit(Y)
    with pytest.raises(ValueError, match="X has values too large"):
        featurizer.transform(np.sign(Y) * 1.7e308)


def test_masked_ranks_are_refused():
    with pytest.raises(ValueError, match="ranks has 1 masked values of 2"):
        bootstrap_scores(np.ma.array([1.0, 2.0], mask=[False, True]), ["a", "b"])


def test_labels_that_begin_alike_are_two():
    groups = np.array([[f"d{i // 2}", f"c{i % 3}"] for i in range(12)], dtype=object)
    groups[1::2, 0] += "\x00x"
    cv = DrugCellLineKFold(12, 2, hold_out="drugs")
    assert len(list(cv.split(X, groups=groups))) == 12
    groups[3, 0] = ["d1"]
    with pytest.raises(TypeError, match="'drug' of groups must hold texts or numbers"):
        list(cv.split(X, groups=groups))


def test_a_table_of_big_endian_numbers():
    model = CCA(2, ridge=0.1, metric="dot").fit(X, Y)
    oracle = OracleRetriever().fit(X, Y)
    for estimator in (model, oracle):
        expected = estimator.score(X, pd.DataFrame(Y))
        assert estimator.score(X, pd.DataFrame(Y.astype(">f8"))) == expected
