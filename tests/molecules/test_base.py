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

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)
from sklearn_molge.molecules import _transformer as base_module

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
FINGERPRINTERS = [
    MorganFingerprinter(fp_size=128),
    MorganFingerprinter(fp_size=128, count=True),
    MoleculeFingerprinter("atom_pair", fp_size=128),
    MoleculeFingerprinter("torsion", fp_size=128, count=True),
    MoleculeFingerprinter("rdkit", fp_size=128),
    MoleculeFingerprinter("maccs"),
]
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
def test_each_distinct_text_is_read_once_and_keeps_its_place(transformer, monkeypatch):
    transformer.fit(SMILES)
    expected = transformer.transform(SMILES)
    read = []
    parse = base_module.parse_smiles
    monkeypatch.setattr(
        base_module, "parse_smiles", lambda text: read.append(text) or parse(text)
    )
    order = [0, 3, 0, 2, 2, 7, 0]
    features = transformer.transform([SMILES[i] for i in order])
    np.testing.assert_array_equal(features, expected[order])
    assert read == [SMILES[i] for i in (0, 3, 2, 7)]


@with_rdkit
def test_n_jobs_and_chunks_do_not_change_the_result(transformer, monkeypatch):
    entries = [*SMILES, *SMILES[:3]]
    expected = transformer.fit_transform(entries)
    monkeypatch.setattr(base_module, "_CHUNK_SIZE", 3)
    for n_jobs in (1, 2):
        transformer.set_params(n_jobs=n_jobs)
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
def test_bad_entries_of_all_chunks_are_named(transformer, monkeypatch):
    transformer.fit(SMILES)
    monkeypatch.setattr(base_module, "_CHUNK_SIZE", 2)
    entries = ["C1", "CC", "CCC", "CCCC", "CCCCC", "C2", None]
    with pytest.raises(InvalidSmilesError) as caught:
        transformer.transform(entries)
    assert caught.value.indices == [0, 5, 6]


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
