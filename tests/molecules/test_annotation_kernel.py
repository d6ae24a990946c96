"""AnnotationKernel against a slow loop; a molecule's own labels never count."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError, LeakageWarning
from sklearn_molge.molecules import (
    AnnotationKernel,
    MorganFingerprinter,
    StructureKernel,
    TanimotoKernel,
    annotation_matrix,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*annotated, and neither:UserWarning")

ANNOTATED = np.array(
    ["CCO", "CCCO", "CC(C)O", "c1ccccc1O", "c1ccccc1C", "CCN", "CCCN"], dtype=object
)
LABELS = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 1], [0, 0], [0, 0]])
OTHERS = ["CCCCO", "c1ccccc1CC", "CCCCN"]
STRUCTURE = TanimotoKernel(MorganFingerprinter(count=True))


def make(**parameters):
    settings = {"molecules": ANNOTATED, "labels": LABELS, "kernel": STRUCTURE}
    return AnnotationKernel(**settings | parameters)


def expect(smiles, molecules, labels, alpha=0.3):
    """Ridge regression in the space of the kernel, for one molecule."""
    A = STRUCTURE(molecules) + alpha * np.eye(len(molecules))
    return STRUCTURE([smiles], molecules)[0] @ np.linalg.solve(A, labels)


def test_labels_and_cosines_are_those_of_a_slow_loop():
    molecules = [*ANNOTATED[:4], *OTHERS]
    expected = np.array(
        [
            *(
                expect(s, np.delete(ANNOTATED, i), np.delete(LABELS, i, axis=0))
                for i, s in enumerate(ANNOTATED[:4])
            ),
            *(expect(s, ANNOTATED, LABELS) for s in OTHERS),
        ]
    )
    kernel = make().fit(molecules[:2])
    assert kernel.n_annotated_ == len(ANNOTATED)
    np.testing.assert_allclose(kernel.predict_labels(molecules), expected, rtol=1e-9)
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(kernel(molecules), units @ units.T, rtol=1e-9)
    np.testing.assert_allclose(
        kernel(molecules[:2], OTHERS), units[:2] @ units[4:].T, rtol=1e-9
    )
    np.testing.assert_allclose(kernel.diag(np.array(molecules)), 1)


def test_own_labels_never_count():
    other = LABELS.copy()
    other[3] = 1 - other[3]
    rows = [
        make(labels=y).fit(OTHERS).predict_labels(ANNOTATED) for y in (LABELS, other)
    ]
    np.testing.assert_allclose(rows[0][3], rows[1][3])
    assert not np.allclose(rows[0][4], rows[1][4])


def test_excluded_molecules_have_no_labels():
    # Written otherwise, and as a salt: identity counts.
    kernel = make(exclude=["OCC", "Oc1ccccc1", "CCN.Cl"]).fit(OTHERS)
    kept = [1, 2, 4, 6]
    same = make(molecules=ANNOTATED[kept], labels=LABELS[kept]).fit(OTHERS)
    assert kernel.n_annotated_ == 4
    np.testing.assert_allclose(kernel(ANNOTATED, OTHERS), same(ANNOTATED, OTHERS))


def test_rows_of_one_drug_are_joined_and_labels_may_be_sparse():
    molecules = [*ANNOTATED, "OCCC"]
    labels = np.vstack([LABELS, [0, 1]])
    joined = LABELS.copy()
    joined[1] = [1, 1]
    kernel = make(molecules=molecules, labels=sparse.csr_matrix(labels)).fit(OTHERS)
    assert kernel.n_annotated_ == len(ANNOTATED)
    np.testing.assert_allclose(kernel(OTHERS), make(labels=joined).fit(OTHERS)(OTHERS))


def test_the_order_of_rows_does_not_matter():
    molecules = np.array([*ANNOTATED, *(f"{s}.Cl" for s in ANNOTATED)], dtype=object)
    labels = np.vstack([LABELS, LABELS[::-1]])
    order = np.random.default_rng(0).permutation(len(molecules))
    kernels = [
        make(molecules=molecules[rows], labels=labels[rows]).fit(OTHERS)(OTHERS)
        for rows in (np.arange(len(molecules)), order)
    ]
    np.testing.assert_array_equal(*kernels)


def test_molecules_that_say_nothing_are_alike_and_unlike_others():
    kernel = make(molecules=["CCO", "CCCO"], labels=[[1], [1]]).fit(["CCO"])
    np.testing.assert_allclose(
        kernel(["[Zn]", "[Mg]", "CCCCO"]), [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    )


def test_clone_and_pickle():
    kernel = make().fit(OTHERS)
    K = kernel(ANNOTATED, OTHERS)
    again = clone(kernel)
    with pytest.raises(NotFittedError, match="AnnotationKernel is not fitted"):
        again(OTHERS)
    with pytest.raises(NotFittedError, match="AnnotationKernel is not fitted"):
        again.predict_labels(OTHERS)
    np.testing.assert_array_equal(again.fit(OTHERS)(ANNOTATED, OTHERS), K)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(kernel))(ANNOTATED, OTHERS), K
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": "a"}, "alpha must be a finite number above 0. Got 'a'"),
        ({"alpha": 0}, "alpha must be a finite number above 0. Got 0"),
        ({"labels": LABELS * 2}, "labels must be 0 or 1.* Got 2"),
        ({"labels": LABELS[:3]}, "labels"),
        ({"exclude": ANNOTATED[1:]}, "at least 2 drugs .* Got 1 of 7"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters).fit(OTHERS)


def test_bad_smiles_are_named():
    with pytest.raises(InvalidSmilesError, match="nonsense"):
        make(molecules=["nonsense", *ANNOTATED[1:]]).fit(OTHERS)
    with pytest.raises(InvalidSmilesError, match="nonsense"):
        make().fit(["CCO", "nonsense"])
    with pytest.raises(InvalidSmilesError, match="index 1: nan"):
        make(molecules=["CCO", np.nan, *ANNOTATED[2:]]).fit(OTHERS)


def test_labels_of_a_table():
    moa = ["alcohol", "alcohol", "alcohol", "alcohol|aromatic", "aromatic", "", None]
    table = pd.DataFrame({"smiles": ANNOTATED, "moa": moa})
    labels = annotation_matrix(ANNOTATED, table, columns=["moa"])
    expected = make().fit(OTHERS)(OTHERS)
    np.testing.assert_allclose(make(labels=labels).fit(OTHERS)(OTHERS), expected)
    with pytest.raises(ValueError, match="annotation_matrix makes labels"):
        make(labels=moa[:1] * 7).fit(OTHERS)


def test_it_is_a_share_of_the_kernel_of_a_gaussian_process():
    study = make_perturbation_study(20, n_cell_lines=2, level=5, random_state=0)
    kernel = StructureKernel([("structure", STRUCTURE), ("labels", make())], [85, 15])
    retriever = GaussianProcessRetriever(kernel, heritability=0.85)
    retriever.fit(study.smiles, study.ge)
    molecules = list(ANNOTATED)
    together = retriever.similarity(molecules, study.ge[:3])
    apart = [retriever.similarity([m], study.ge[:3]) for m in molecules]
    np.testing.assert_allclose(together, np.hstack(apart))


def test_labels_of_candidates_are_told():
    """Of molecules asked for, in any spelling; not of those of the training."""
    kernel = make().fit(["CCO", "CCCCO"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel(["CCO", "CCCCO"])
        kernel(["CCO.Cl", "CCCCCO"])
        kernel.predict_labels(ANNOTATED)
        make(exclude=["CCN"]).fit(["CCO"])(["CCN", "CCO"])
    with pytest.warns(LeakageWarning, match="1 of 3 molecules .* index 1: 'NCC.Cl'"):
        kernel(["CCO", "NCC.Cl", "CCCCN"])
