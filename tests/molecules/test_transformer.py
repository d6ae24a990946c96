"""What holds for every transformer of SMILES."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils import estimator_checks

from sklearn_molge import molecules
from sklearn_molge.exceptions import InvalidSmilesError, InvalidSmilesWarning
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O",
    "CN1CCC[C@H]1c1cccnc1",
    "C[C@H]([NH3+])C(=O)O.[Cl-]",
    "Clc1ccc2c(c1)C(=NCC(=O)N2C)c1ccccc1",
    "N[Pt](N)(Cl)Cl",
    "CCO",
]
MANY = [f"[{mass}CH3]C" for mass in range(1, 600)]  # small, and all different
FINGERPRINTERS = [
    MorganFingerprinter(fp_size=128),
    MorganFingerprinter(fp_size=128, count=True),
    MoleculeFingerprinter("atom_pair", fp_size=128),
    MoleculeFingerprinter("torsion", fp_size=128, count=True),
    MoleculeFingerprinter("rdkit", fp_size=128),
    MoleculeFingerprinter("maccs"),
]
PUBLIC = [getattr(molecules, name) for name in molecules.__all__]
FINGERPRINTERS += [
    cls()
    for cls in PUBLIC
    if hasattr(cls, "transform")
    and cls not in map(type, FINGERPRINTERS)
    and "fp_size" in cls().get_params()
]  # a new one takes part in the tests
DESCRIPTORS = MoleculeDescriptors(["MolWt", "TPSA", "MaxPartialCharge", "fr_benzene"])
EMBEDDER = ChempropEmbedder(hidden_size=16, random_state=0)
TRANSFORMERS = [*FINGERPRINTERS, DESCRIPTORS, EMBEDDER]

CHECKS = [
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_estimators_unfitted,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_mixin_order,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_param_validation,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_set_params,
    estimator_checks.check_valid_tag_types,
]


@pytest.fixture(params=TRANSFORMERS, ids=str)
def transformer(request):
    return clone(request.param)


# How the base class works, which ChempropEmbedder does not need: its tests are apart.
with_rdkit = pytest.mark.parametrize(
    "transformer", [*FINGERPRINTERS, DESCRIPTORS], indirect=True, ids=str
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learn_checks(transformer, check):
    check(type(transformer).__name__, transformer)


def test_rows_do_not_depend_on_the_other_rows(transformer):
    transformer.fit(SMILES)
    together = transformer.transform(SMILES)
    one_by_one = np.vstack([transformer.transform([smiles]) for smiles in SMILES])
    atol = 1e-6 if isinstance(transformer, ChempropEmbedder) else 0  # sums round
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=atol)


def test_fit_transform_equals_fit_then_transform(transformer):
    entries = [*SMILES, *SMILES[:3]]
    expected = clone(transformer).fit(entries).transform(entries)
    np.testing.assert_array_equal(transformer.fit_transform(entries), expected)


@with_rdkit
def test_each_distinct_text_is_read_once_and_keeps_its_place(transformer, read_in):
    transformer.fit(SMILES)
    expected = transformer.transform(SMILES)
    order = [0, 3, 0, 2, 2, 7, 0]

    def transform():
        for part in (slice(2), slice(None)):  # of which some are known by then
            features = transformer.transform([SMILES[i] for i in order[part]])
            np.testing.assert_array_equal(features, expected[order[part]])

    assert read_in(transform) == [SMILES[i] for i in (0, 3, 2, 7)]


@with_rdkit
def test_fit_and_transform_read_once(transformer, read_in):
    entries = [*SMILES, *SMILES[:3]]
    texts = read_in(lambda: clone(transformer).fit(entries).transform(entries))
    assert texts == list(dict.fromkeys(SMILES))


@with_rdkit
def test_n_jobs_does_not_change_the_result(transformer):
    entries = [*SMILES, *MANY, *SMILES[:3]]  # more than one chunk
    expected = transformer.fit_transform(entries)
    np.testing.assert_array_equal(transformer.transform(entries[-5:]), expected[-5:])
    transformer.set_params(n_jobs=2)
    np.testing.assert_array_equal(transformer.fit_transform(entries), expected)
    np.testing.assert_array_equal(transformer.transform(entries), expected)


@with_rdkit
@pytest.mark.parametrize("entry", ["-666", None, np.nan, "", "restricted", "C1CC"])
@pytest.mark.parametrize("method", ["fit", "fit_transform", "transform"])
def test_bad_entries_are_named_before_any_computing(
    transformer, monkeypatch, entry, method
):
    transformer.fit(SMILES)
    monkeypatch.setattr(
        type(transformer), "_featurize", lambda *_: pytest.fail("computed")
    )
    message = "2 entries of X are not valid SMILES: index 1: "
    with pytest.raises(InvalidSmilesError, match=message) as caught:
        getattr(transformer, method)(["CCO", entry, "CCN", entry])
    assert caught.value.indices == [1, 3]
    assert caught.value.entries[0] is entry


@with_rdkit
def test_bad_entries_of_all_chunks_are_named(transformer):
    transformer.fit(SMILES)
    with pytest.raises(InvalidSmilesError) as caught:
        transformer.transform(["C1", *MANY, "C2", None])
    assert caught.value.indices == [0, len(MANY) + 1, len(MANY) + 2]


@pytest.mark.parametrize("X", ["CCO", [["CCO", "CCN"]]])
def test_one_column_is_needed(transformer, X):
    with pytest.raises(ValueError, match="X must be a 1-D array-like of SMILES"):
        transformer.fit(X)
    with pytest.raises(ValueError, match="X must be a 1-D array-like of SMILES"):
        transformer.fit(SMILES).transform(X)


def test_no_molecules(transformer):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        transformer.fit(SMILES).transform([])


@pytest.mark.parametrize(
    "kind",
    [
        np.array,
        lambda entries: np.array(entries, dtype=object)[:, None],
        lambda entries: pd.Series(entries, dtype="string"),
        lambda entries: pd.DataFrame({"smiles": entries}),
    ],
)
def test_kinds_of_input(transformer, kind):
    expected = transformer.fit_transform(SMILES)
    np.testing.assert_array_equal(transformer.fit_transform(kind(SMILES)), expected)


def test_set_output_keeps_the_index(transformer):
    X = pd.Series(SMILES, index=[f"mol{i}" for i in range(len(SMILES))])
    expected = transformer.fit_transform(X)
    transformer.set_output(transform="pandas")
    for features in (transformer.fit_transform(X), transformer.transform(X)):
        pd.testing.assert_index_equal(features.index, X.index)
        assert features.columns.tolist() == list(transformer.get_feature_names_out())
        np.testing.assert_array_equal(features, expected)


def test_pickle_and_clone(transformer):
    expected = transformer.fit_transform(SMILES)
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(SMILES), expected)
    np.testing.assert_array_equal(clone(transformer).fit_transform(SMILES), expected)


def test_pipeline_and_union():
    union = make_union(*map(clone, TRANSFORMERS))
    expected = np.hstack([clone(t).fit_transform(SMILES) for t in TRANSFORMERS])
    np.testing.assert_array_equal(union.fit_transform(SMILES), expected)
    assert len(union.get_feature_names_out()) == expected.shape[1]
    y = [0, 1] * 4
    pipeline = make_pipeline(union, LogisticRegression()).fit(SMILES, y)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(SMILES), pipeline.predict(SMILES))


@pytest.mark.parametrize("fingerprinter", FINGERPRINTERS, ids=str)
def test_fingerprints_need_no_fit(fingerprinter):
    expected = clone(fingerprinter).fit(SMILES).transform(SMILES)
    unfitted = clone(fingerprinter)
    np.testing.assert_array_equal(unfitted.transform(SMILES), expected)
    assert len(unfitted.get_feature_names_out()) == expected.shape[1]


@pytest.mark.parametrize("fingerprinter", FINGERPRINTERS, ids=str)
@pytest.mark.parametrize(
    ("interface", "kind"),
    [("spmatrix", sparse.csr_matrix), ("sparray", sparse.csr_array)],
)
def test_sparse_equals_dense(fingerprinter, interface, kind):
    entries = [*SMILES, *SMILES[:3]]
    dense = clone(fingerprinter).fit_transform(entries)
    assert dense.dtype == (np.uint32 if fingerprinter.count else np.uint8)
    with config_context(sparse_interface=interface):
        rows = clone(fingerprinter).set_params(sparse_output=True).transform(entries)
    assert type(rows) is kind
    assert rows.has_sorted_indices
    assert rows.dtype == dense.dtype
    np.testing.assert_array_equal(rows.toarray(), dense)


def test_descriptors_need_fit():
    with pytest.raises(NotFittedError):
        clone(DESCRIPTORS).transform(SMILES)
    with pytest.raises(NotFittedError):
        clone(DESCRIPTORS).get_feature_names_out()


# What becomes of bad entries.

BAD = ["CCO", "C1CC", None, "CCN", "*CC", "CCO", "C" * 1200]
IS_BAD = [False, True, True, False, True, False, True]


def as_array(features):
    return features.toarray() if sparse.issparse(features) else features


@pytest.mark.filterwarnings("ignore::sklearn_molge.exceptions.InvalidSmilesWarning")
@pytest.mark.parametrize("sparse_output", [False, True])
def test_bad_entries_can_be_rows_of_nan(transformer, sparse_output):
    if sparse_output and "sparse_output" in transformer.get_params():
        transformer.set_params(sparse_output=True)
    good = [text for text, bad in zip(BAD, IS_BAD, strict=True) if not bad]
    expected = as_array(clone(transformer).fit_transform(good))
    transformer.set_params(on_bad_smiles="nan")
    features = transformer.fit_transform(BAD)
    assert features.dtype == np.float32
    assert sparse.issparse(features) == bool(
        sparse_output and "sparse_output" in transformer.get_params()
    )
    features = as_array(features)
    assert np.isnan(features).all(axis=1).tolist() == IS_BAD
    np.testing.assert_array_equal(features[~np.array(IS_BAD)], expected)
    again = as_array(transformer.transform(BAD))
    np.testing.assert_array_equal(again, features)
    # Their type does not depend on the data.
    assert transformer.transform(["CCO"]).dtype == np.float32


def test_rows_of_nan_are_counted(transformer):
    transformer.set_params(on_bad_smiles="nan")
    with pytest.warns(InvalidSmilesWarning, match="4 of 7 entries of X are no mol"):
        transformer.fit(BAD)
    with pytest.warns(InvalidSmilesWarning, match="4 of 7 entries"):
        transformer.transform(BAD)
    with pytest.raises(ValueError, match="none of the 2 entries of X is one"):
        transformer.fit(["C1CC", None])


@pytest.mark.parametrize(
    "transformer",
    [MoleculeDescriptors(["MolWt"], max_atoms=5), MoleculeFingerprinter(max_atoms=5)],
    ids=["descriptors", "fingerprints"],
)
def test_limit_of_atoms(transformer):
    assert transformer.fit_transform(["CCCCC", "C"]).shape[0] == 2
    for method in (transformer.fit, transformer.fit_transform, transformer.transform):
        with pytest.raises(InvalidSmilesError) as caught:
            method(["C", "CCCCCC", "C", "CCCCCC"])
        assert caught.value.indices == [1, 3]
        assert "index 1: 'CCCCCC' (6 heavy atoms, more than max_atoms=5)" in str(
            caught.value
        )


@pytest.mark.parametrize("dtype", ["string", "string[pyarrow]", "str", "category"])
def test_texts_of_pandas(transformer, dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    texts = pd.Series(SMILES[:3], dtype=dtype)
    features = as_array(transformer.fit_transform(texts))
    expected = as_array(clone(transformer).fit_transform(SMILES[:3]))
    np.testing.assert_array_equal(features, expected)
    texts = pd.concat([texts, pd.Series([None], dtype=dtype)])
    with pytest.raises(InvalidSmilesError) as caught:
        transformer.fit(texts)
    assert caught.value.indices == [3]


TRANSFORMERS = [
    MorganFingerprinter(fp_size=64),
    MoleculeFingerprinter("maccs"),
    MoleculeDescriptors(["MolWt"]),
    ChempropEmbedder(hidden_size=8, random_state=0),
]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(
    "text", ["O\x00C", "[C+9999]", "CC\u200b", "[H]." * 1200 + "[H]"]
)
def test_a_text_is_not_taken_for_another(transformer, text):
    transformer = clone(transformer).fit(["O", "CCC"])
    with pytest.raises(InvalidSmilesError, match="index 1: ") as caught:
        transformer.transform(["O", text, "CCC"])
    assert caught.value.indices == [1]
    transformer.set_params(on_bad_smiles="nan")
    with pytest.warns(InvalidSmilesWarning, match="1 of 3"):
        rows = transformer.transform(["O", text, "CCC"])
    assert np.isnan(rows).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("entry", [["CC"], {"a": 1}, b"CC", object(), pd.NA, 5])
def test_what_is_no_text_is_a_bad_entry(transformer, entry):
    entries = np.empty(3, dtype=object)
    entries[:] = "O", entry, "CCC"
    with pytest.raises(InvalidSmilesError, match="index 1: "):
        clone(transformer).fit(entries)
