import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import RetrievalScorer, chance_scores, retrieval_ranks
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    cross_val_ranks,
)
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever, DrugBlindRetriever


@pytest.fixture(scope="module")
def study():
    full = make_perturbation_study(
        90, n_cell_lines=6, n_genes=50, level=5, random_state=0
    )
    return full[np.random.default_rng(0).random(len(full)) < 0.7]


def pipe(retriever=None):
    return make_pipeline(
        MorganFingerprinter(fp_size=128), retriever or CCA(2, ridge=1.0, metric="dot")
    )


def test_by_a_slow_loop(study):
    X, y, groups = study.smiles, study.ge, study.groups
    means = np.array([y[groups[:, 1] == line].mean(axis=0) for line in groups[:, 1]])
    expected = pipe().fit(X, means)
    blind = DrugBlindRetriever(pipe()).fit(X, y, groups=groups)
    np.testing.assert_allclose(
        blind.similarity(X[:5], y), expected[-1].similarity(
            expected[:-1].transform(X[:5]), y), atol=1e-4
    )  # fmt: skip
    inside = pipe(DrugBlindRetriever(CCA(2, ridge=1.0, metric="dot")))
    inside.fit(X, y, drugblindretriever__groups=groups)
    np.testing.assert_array_equal(
        retrieval_ranks(inside, X, y), retrieval_ranks(blind, X, y)
    )


def test_is_at_chance_in_cross_validation(study):
    cv = DrugCellLineKFold(3, 2, random_state=0)
    given = {"groups": study.groups, "cv": cv, "params": {"groups": study.groups}}
    blind = DrugBlindRetriever(pipe())
    table = cross_val_ranks(blind, study.smiles, study.ge, candidates="fold", **given)
    chance = chance_scores(table["n_candidates"])["mrr"]
    # The sd of a drug's mean of 1 / rank is at most 0.2, among 30.
    assert abs((1 / table["rank"]).mean() - chance) < 4 * 0.2 / np.sqrt(90)
    splits = list(cv.split(study.smiles, groups=study.groups))
    scores = cross_validate(
        blind, study.smiles, study.ge, cv=splits, scoring=RetrievalScorer("mrr"),
        params={"groups": study.groups}, error_score="raise",
    )["test_score"]  # fmt: skip
    by_fold = (1 / table["rank"]).groupby(table["fold"]).mean()
    np.testing.assert_allclose(scores, by_fold)


def test_tells_lines_that_give_molecules_away(study):
    # Drugs of even number in even lines: whoever knows the line knows half the drug.
    drug = np.unique(study.groups[:, 0].astype(str), return_inverse=True)[1]
    line = np.unique(study.groups[:, 1].astype(str), return_inverse=True)[1]
    kept = np.flatnonzero(drug % 2 == line % 2)
    X = np.column_stack([drug % 2, np.ones(len(drug))])[kept]
    y, groups = study.ge[kept], study.groups[kept]
    y[:, :9] += 3.0 * (line[kept] % 2)[:, None]
    blind = DrugBlindRetriever(CCA(1, ridge=0.1, metric="dot"))
    table = cross_val_ranks(
        blind, X, y, groups=groups, drugs=groups[:, 0], params={"groups": groups},
        cv=DrugCellLineKFold(3, hold_out="drugs", random_state=0), candidates="fold",
    )  # fmt: skip
    sizes = table["n_candidates"]
    assert table["rank"].mean() < 0.6 * (1 + sizes.mean()) / 2


def test_names_of_genes_and_the_parameter(study):
    frame = pd.DataFrame(study.ge).add_prefix("G")
    blind = clone(DrugBlindRetriever(DoubleNNRetriever()))
    features = MorganFingerprinter(fp_size=64).transform(study.smiles)
    blind.fit(features, frame, groups=study.groups)
    assert blind.gene_names_in_.tolist() == frame.columns.tolist()
    assert blind.retriever_.gene_names_in_.tolist() == frame.columns.tolist()
    plain = DrugBlindRetriever(DoubleNNRetriever()).fit(
        features, study.ge, groups=study.groups
    )
    np.testing.assert_allclose(
        blind.similarity(features[:3], frame), plain.similarity(features[:3], study.ge)
    )
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        plain.fit(features, study.ge)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        plain.fit(features, study.ge, groups=study.groups[:5])


def test_missing_genes_are_left_out_of_the_means(study):
    X, y, groups = study.smiles, study.ge.copy(), study.groups
    y[::2, :3] = np.nan
    y[groups[:, 1] == groups[0, 1], 5] = np.nan  # a gene that the line lacks
    seen = []

    class Watched(CCA):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X, np.nan_to_num(y))

    DrugBlindRetriever(pipe(Watched(2, ridge=1.0, metric="dot"))).fit(X, y, groups)
    for row, line in zip(seen[0], groups[:, 1], strict=True):
        of_line = pd.DataFrame(y[groups[:, 1] == line])
        np.testing.assert_allclose(row, of_line.mean(), rtol=1e-4, atol=1e-5)
    assert np.isnan(seen[0]).sum() == (groups[:, 1] == groups[0, 1]).sum()
    with pytest.raises(ValueError, match="NaN"):
        DrugBlindRetriever(pipe()).fit(X, y, groups)
