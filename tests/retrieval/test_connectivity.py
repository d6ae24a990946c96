import pickle

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import cross_validate

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.metrics import (
    RetrievalScorer,
    connectivity_tau,
    normalized_connectivity,
    pairwise_connectivity,
    retrieval_ranks,
    summarize_connectivity,
)
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.retrieval import ConnectivityRetriever

SMILES = np.array(["CCO", "CCN", "CCS", "CCCl", "c1ccccc1O"], dtype=object)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    drug = np.repeat(np.arange(5), [6, 4, 3, 2, 1])
    lines = np.array(["A", "A", "B", "C", "D", "D", *"ABCD", *"ABB", *"AC", "B"])
    y = rng.normal(size=(16, 30))
    groups = np.column_stack([drug.astype(str), lines]).astype(object)
    return SMILES[drug], y, groups, rng.normal(size=(7, 30))


def slow_summary(data, queries, **options):
    """Go through molecules and lines, one by one."""
    X, y, groups, _ = data
    metric, n_genes = options.get("metric", "wtcs"), options.get("n_genes", 5)
    scores = pairwise_connectivity(queries, y, metric=metric, n_genes=n_genes)
    if options.get("unit") != "raw":
        scores = normalized_connectivity(scores, groups[:, 1])
    columns = []
    for smiles in SMILES:
        means = [
            scores[:, (X == smiles) & (groups[:, 1] == line)].mean(axis=1)
            for line in sorted(set(groups[X == smiles, 1]))
        ]
        summary = options.get("summary", "max_quantile")
        one = np.zeros(len(means))
        columns.append(
            summarize_connectivity(np.transpose(means), one, summary=summary)[:, 0]
        )
    return np.transpose(columns)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unit": "raw"},
        {"metric": "cosine", "summary": "max"},
        {"metric": "spearman", "summary": "mean"},
    ],
)
def test_equals_slow_loop(data, options):
    X, y, groups, queries = data
    model = ConnectivityRetriever(n_genes=5).set_params(**options).fit(X, y, groups)
    expected = slow_summary(data, queries, **options)
    np.testing.assert_allclose(model.similarity(SMILES, queries), expected)
    model.set_params(direction="reverse")
    np.testing.assert_allclose(
        model.similarity(SMILES, queries), slow_summary(data, -queries, **options)
    )


def test_tau_is_that_of_the_reference_queries(data):
    X, y, groups, queries = data
    model = ConnectivityRetriever("cosine", unit="tau", n_reference=8, random_state=0)
    model.fit(X, y, groups)
    assert len(model.reference_) == 8
    known = slow_summary(data, y[model.reference_], metric="cosine")
    expected = connectivity_tau(slow_summary(data, queries, metric="cosine"), known)
    np.testing.assert_allclose(model.similarity(SMILES, queries), expected)
    table = model.query(queries).set_index(["query", "molecule"])["tau"]
    for q, row in enumerate(expected):
        np.testing.assert_allclose(table[q][SMILES], row)


def test_table_of_molecules(data):
    X, y, groups, queries = data
    model = ConnectivityRetriever(n_genes=5, random_state=0).fit(X, y, groups)
    table = model.query(queries)
    similarity = model.similarity(SMILES, queries)
    assert len(table) == 35
    for q, part in table.groupby("query"):
        assert part["rank"].tolist() == [1, 2, 3, 4, 5]
        assert part["ncs"].is_monotonic_decreasing
        by_molecule = part.set_index("molecule")
        np.testing.assert_allclose(by_molecule.loc[SMILES, "ncs"], similarity[q])
        assert by_molecule.loc[SMILES, "n_cell_lines"].tolist() == [4, 4, 2, 2, 1]
        assert (np.sign(part["tau"]) == np.sign(part["ncs"])).all()
    reverse = clone(model).set_params(direction="reverse").fit(X, y, groups)
    least = reverse.query(queries, n_answers=1)
    np.testing.assert_allclose(least["ncs"], similarity.min(axis=1))
    assert least["rank"].tolist() == [1] * 7


def test_table_of_lines(data):
    X, y, groups, queries = data
    model = ConnectivityRetriever("cosine", random_state=0).fit(X, y, groups)
    table = model.query(queries, per="cell_line")
    assert len(table) == 7 * len({*zip(X, groups[:, 1], strict=True)})
    scores = pairwise_connectivity(queries, y, metric="cosine")
    ncs = normalized_connectivity(scores, groups[:, 1])
    for row in table.sample(20, random_state=0).itertuples():
        rows = (row.molecule == X) & (row.cell_line == groups[:, 1])
        assert row.score == pytest.approx(scores[row.query, rows].mean())
        assert row.ncs == pytest.approx(ncs[row.query, rows].mean())
    plain = ConnectivityRetriever("cosine").fit(X, y).query(queries, per="cell_line")
    assert sorted(plain["signature"][:16]) == list(range(16))


def test_order_of_rows_and_salts_do_not_matter(data):
    X, y, groups, queries = data
    order = np.random.default_rng(1).permutation(len(X))
    model = ConnectivityRetriever(n_genes=5).fit(X, y, groups)
    other = clone(model).fit(X[order], y[order], groups[order])
    expected = model.similarity(SMILES, queries)
    np.testing.assert_allclose(other.similarity(SMILES, queries), expected)
    found = model.similarity(["[Na+].[O-]c1ccccc1", "OCC"], queries)
    np.testing.assert_allclose(found, expected[:, [4, 0]])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.similarity(SMILES, queries), expected)


def test_order_of_rows_does_not_choose_references_or_names(data):
    X, y, groups, queries = data
    y = y.copy()
    y[1], groups = y[0], np.array(groups)  # equal rows, of one molecule
    X = X.copy()
    X[::2] += ".Cl"
    model = ConnectivityRetriever("cosine", n_reference=4, random_state=0)
    expected = model.fit(X, y, groups).query(queries)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(X))
        found = clone(model).fit(X[order], y[order], groups[order]).query(queries)
        assert found["molecule"].tolist() == expected["molecule"].tolist()
        np.testing.assert_allclose(found["tau"], expected["tau"])


@pytest.mark.parametrize("metric", ["wtcs", "cosine", "correlation", "spearman"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tau_of_a_reference_query_does_not_depend_on_the_batch(data, metric, dtype):
    X, y, groups, _ = data
    y = y.astype(dtype)
    model = ConnectivityRetriever(metric, unit="tau", n_genes=5).fit(X, y, groups)
    expected = model.similarity(SMILES, y)
    for rows in (slice(0, 1), slice(3, 8), slice(None, None, -1)):
        np.testing.assert_allclose(model.similarity(SMILES, y[rows]), expected[rows])
    # A query is not below itself, so among 16 references none has more than 15 below.
    assert np.abs(expected).max() <= 100 * 15 / 16 + 1e-9


def test_sparse_and_dense_features_are_the_same_molecules(data):
    X, y, groups, queries = data
    dense = (np.arange(5)[:, None] == np.arange(4)) * np.float32([0.5, 2, 1, 3])
    rows = dense[np.searchsorted(np.sort(SMILES), X)]
    few = sparse.csr_array(dense)
    models = [
        ConnectivityRetriever(n_genes=5).fit(fitted, y, groups)
        for fitted in (rows, sparse.csr_array(rows))
    ]
    expected = models[0].similarity(dense, queries)
    for model in models:
        for asked in (dense, few, np.negative(-dense)):
            assert (model.knows(asked) == models[0].knows(dense)).all()
            assert (model.knows(asked) > 0).all()
            np.testing.assert_allclose(model.similarity(asked, queries), expected)


def test_molecules_without_a_signature(data):
    X, y, groups, queries = data
    model = ConnectivityRetriever(n_genes=5).fit(X, y, groups)
    assert model.knows(["CCO", "CCP", "c1ccccc1O"]).tolist() == [4, 0, 1]
    message = "1 of the 2 molecules have no measured signature.*index 1: 'CCP'"
    with pytest.warns(DataWarning, match=message):
        found = model.similarity(["CCO", "CCP"], queries)
    assert (found[:, 1] == -np.inf).all()
    assert np.isfinite(found[:, 0]).all()


def test_finds_molecules_in_a_line_that_was_not_seen():
    study = make_perturbation_study(
        30, n_cell_lines=4, n_genes=80, level=5, random_state=0
    )
    seen = study.groups[:, 1] != study.groups[0, 1]
    model = ConnectivityRetriever(n_genes=20)
    model.fit(study.smiles[seen], study.ge[seen], study.groups[seen])
    ranks = retrieval_ranks(model, study.smiles[~seen], study.ge[~seen])
    assert np.mean(1 / ranks) > 0.3  # chance: 0.13
    # As an oracle, it may be fitted on the molecules that it is tested on: no warning.
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(
            ConnectivityRetriever("cosine").set_fit_request(groups=True),
            study.smiles,
            study.ge,
            params={"groups": study.groups},
            cv=DrugCellLineKFold(2, 4, hold_out="cell_lines"),
            scoring=RetrievalScorer("mrr"),
            error_score="raise",
        )["test_score"]
    assert scores.mean() > 0.3


def test_errors(data):
    X, y, groups, queries = data
    with pytest.raises(ValueError, match="direction='reverse' needs profiles with a s"):
        ConnectivityRetriever(direction="reverse").fit(X, np.abs(y))
    with pytest.warns(DataWarning, match="Connectivity needs profiles with a sign"):
        ConnectivityRetriever().fit(X, np.abs(y), groups)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ConnectivityRetriever().fit(X, y, groups[:5])
    model = ConnectivityRetriever().fit(X, y, groups)
    with pytest.raises(ValueError, match="per must be 'molecule' or 'cell_line'"):
        model.query(queries, per="drug")
    with pytest.raises(ValueError, match="n_answers must be an int >= 1 or None"):
        model.query(queries, n_answers=0)
