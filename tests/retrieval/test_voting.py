import itertools

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags

from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.base import EmbedderMixin, TwoViewMixin
from sklearn_molge.metrics import RetrievalScorer, retrieval_ranks, similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

CCA_4 = CCA(4, ridge=0.1)
DNN = DoubleNNRetriever("euclidean", n_neighbors=3)
INFINITE = -np.inf


class Table(TwoViewMixin, BaseEstimator):
    """Its similarities are a table: X holds the columns and y the rows."""

    def __init__(self, table):
        self.table = table

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def compare_to(self, X):
        columns = np.asarray(X, dtype=int)[:, 0]
        return lambda y: np.asarray(self.table)[
            np.ix_(np.asarray(y, dtype=int)[:, 0], columns)
        ]


class FewColumns(EmbedderMixin, BaseEstimator):
    """Its joint space is eight columns: molecules that differ elsewhere meet there."""

    metric = "correlation"

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X[:, 1:9]

    def transform_ge(self, y):
        return y[:, :8]


def vote_of_tables(*tables, **options):
    names = [(f"table{i}", Table(table)) for i, table in enumerate(tables)]
    rows, columns = np.shape(tables[0])
    vote = VotingRetriever(names, **options).fit([[0.0]], [[0.0]])
    return vote, np.arange(columns)[:, None], np.arange(rows)[:, None]


@pytest.fixture
def views():
    """40 rows of 20 molecules: two profiles each."""
    rng = np.random.default_rng(0)
    hidden = np.repeat(rng.normal(size=(20, 3)), 2, axis=0)
    molecules = hidden[::2] @ rng.normal(size=(3, 12)) + rng.normal(size=(20, 12))
    X = np.repeat(molecules, 2, axis=0)
    return X, hidden @ rng.normal(size=(3, 15)) + rng.normal(size=(40, 15))


def _without_number(X):
    return X[:, 1:]


def standardized_by_loop(similarities, molecules):
    """Centre and scale each row over the first row of each distinct molecule."""
    out = np.empty_like(similarities)
    first = [i for i, m in enumerate(molecules) if m not in molecules[:i]]
    for q, row in enumerate(similarities):
        known = [row[i] for i in first if row[i] != INFINITE]
        mean = sum(known) / len(known)
        spread = (sum((k - mean) ** 2 for k in known) / len(known)) ** 0.5
        for m, value in enumerate(row):
            out[q, m] = (value - mean) / spread
    return out


def test_numbers_by_hand():
    # Standard deviations 2 and 0.5; the constant row and the lone candidate give 0.
    first = [[1.0, 5.0, 1.0, 5.0], [3.0, 3.0, 3.0, 3.0]]
    second = [[0.0, 0.0, -1.0, -1.0], [0.25, -0.75, 0.25, -0.75]]
    vote, X, y = vote_of_tables(first, second, weights=[3, 1])
    np.testing.assert_allclose(
        vote.similarity(X, y), [[-0.5, 1.0, -1.0, 0.5], [0.25, -0.25, 0.25, -0.25]]
    )
    np.testing.assert_array_equal(vote.similarity(X[:1], y), [[0.0], [0.0]])
    vote.set_params(standardize=False)
    np.testing.assert_allclose(
        vote.similarity(X, y),
        [[0.75, 3.75, 0.5, 3.5], [2.3125, 2.0625, 2.3125, 2.0625]],
    )


def test_the_rounding_errors_of_a_constant_row_are_not_a_spread():
    noisy = [[0.1 * 3, 0.3, 0.1 + 0.2, 0.3]]
    assert len(set(noisy[0])) == 2
    vote, X, y = vote_of_tables(noisy)
    np.testing.assert_array_equal(vote.similarity(X, y), [[0.0, 0.0, 0.0, 0.0]])
    single = [np.float32([1e3, 1e3 + 6e-5, 1e3, 1e3])]
    vote, X, y = vote_of_tables(single)
    np.testing.assert_array_equal(vote.similarity(X, y), [[0.0, 0.0, 0.0, 0.0]])


def test_a_molecule_that_one_estimator_cannot_find_is_last():
    oracle = [[INFINITE, 1.0, 3.0, INFINITE], [INFINITE] * 4]
    other = [[9.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 2.0]]
    vote, X, y = vote_of_tables(oracle, other)
    small, large = (-1 - 3**-0.5) / 2, (1 - 3**-0.5) / 2
    expected = [[INFINITE, small, large, INFINITE], [INFINITE] * 4]
    np.testing.assert_allclose(vote.similarity(X, y), expected)
    own = np.array([[0.0], [0.0], [1.0], [1.0]])  # each molecule's profile
    ranks = retrieval_ranks(vote, X, own)
    np.testing.assert_array_equal(ranks, [3.5, 2.0, 2.5, 2.5])
    silent, X, y = vote_of_tables(oracle, other, weights=[0, 2], standardize=False)
    np.testing.assert_array_equal(silent.similarity(X, y), other)


def test_nan_is_handed_on_and_refused_by_the_ranks():
    vote, X, y = vote_of_tables([[np.nan, 1.0], [0.0, 1.0]], [[0.0, 1.0]] * 2)
    assert np.isnan(vote.similarity(X, y)).tolist() == [[True, False], [False] * 2]
    with pytest.raises(ValueError, match="similarities of 1 queries are NaN"):
        retrieval_ranks(vote, X, y)


def test_equals_a_slow_loop_over_distinct_molecules(views):
    X, y = views
    members = [clone(e).fit(X[:30], y[:30]) for e in (CCA_4, DNN, OracleRetriever())]
    names = ("cca", "dnn", "oracle")
    vote = VotingRetriever(list(zip(names, members, strict=True)), weights=[2, 1, 3])
    vote.fit(X[:30], y[:30])
    shown = np.r_[0:30, 4, 4, 4]  # repeated rows must not weigh more
    expected = np.zeros((40, len(shown)))
    molecules = [tuple(row) for row in X[shown]]
    for weight, member in zip([2, 1, 3], members, strict=True):
        similarities = member.similarity(X[shown], y)
        expected += weight / 6 * standardized_by_loop(similarities, molecules)
    np.testing.assert_allclose(vote.similarity(X[shown], y), expected, atol=1e-6)
    np.testing.assert_allclose(vote.weights_, [2 / 6, 1 / 6, 3 / 6])


@pytest.mark.parametrize("member", [CCA_4, DNN, OracleRetriever(), Table(np.eye(40))])
def test_one_estimator_alone_is_itself(views, member):
    X, y = views
    if isinstance(member, Table):
        X = y = np.arange(40.0)[:, None]
    vote = VotingRetriever([("one", member)], standardize=False).fit(X, y)
    alone = clone(member).fit(X, y)
    np.testing.assert_allclose(vote.similarity(X, y), alone.similarity(X, y), atol=1e-6)
    expected = retrieval_ranks(alone, X, y)
    np.testing.assert_array_equal(retrieval_ranks(vote, X, y), expected)
    vote.set_params(standardize=True)  # a row's order stays
    np.testing.assert_array_equal(retrieval_ranks(vote, X, y), expected)


def test_order_of_estimators_and_jobs_do_not_matter(views):
    X, y = views
    named = [("cca", CCA_4), ("dnn", DNN), ("chance", RandomRetriever(0))]
    weights = {"cca": 3, "dnn": 2, "chance": 1}
    answers = []
    for order in itertools.permutations(named):
        vote = VotingRetriever(
            list(order), weights=[weights[name] for name, _ in order]
        )
        answers.append(vote.fit(X, y).similarity(X, y))
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-12)
    parallel = clone(vote).set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(parallel.similarity(X, y), answers[-1])


def test_the_scale_of_an_estimator_does_not_matter():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6, 5))
    vote, X, y = vote_of_tables(first, second)
    scaled, _, _ = vote_of_tables(1e4 * first + 7, second)
    np.testing.assert_allclose(scaled.similarity(X, y), vote.similarity(X, y))


def test_ranks_are_those_of_the_similarities(views):
    X, y = views
    X = np.vstack([X, X[:1] + 1])  # a molecule with one profile
    y = np.vstack([y, y[:1]])
    vote = VotingRetriever([("cca", CCA_4), ("dnn", DNN)]).fit(X, y)
    similarities = vote.similarity(X, y)
    for q, rank in enumerate(retrieval_ranks(vote, X, y)):
        by_molecule = {tuple(x): s for x, s in zip(X, similarities[q], strict=True)}
        assert len(by_molecule) == 21
        closer = sum(s > similarities[q, q] for s in by_molecule.values())
        tied = sum(s == similarities[q, q] for s in by_molecule.values())
        assert rank == 1 + closer + (tied - 1) / 2
    assert vote.score(X, y) == np.mean(1 / retrieval_ranks(vote, X, y))


def test_drug_level_ranks_average_similarities(views):
    X, y = views
    vote = VotingRetriever([("cca", CCA_4), ("dnn", DNN)]).fit(X, y)
    means = vote.similarity(X[::2], y).reshape(20, 2, 20).mean(axis=1)
    closer = (means > np.diagonal(means)[:, None]).sum(axis=1)
    drugs = np.repeat([f"{i:02d}" for i in range(20)], 2)
    ranks = retrieval_ranks(vote, X, y, drugs=drugs, per="drug")
    np.testing.assert_array_equal(ranks, 1 + closer)


def test_molecules_that_look_equal_to_all_estimators_tie():
    # BLAS rounds equal rows differently, by their place; the last of an odd number.
    rng = np.random.default_rng(0)
    features = np.tile(rng.normal(size=(25, 150)), (3, 1))
    X = np.column_stack([np.arange(75.0), features])
    y = rng.normal(size=(75, 40))
    members = [CCA(n, ridge=0.1) for n in (4, 8, 15)] + [DNN]
    pipes = [make_pipeline(FunctionTransformer(_without_number), e) for e in members]
    pipes.append(FewColumns())
    vote = VotingRetriever([(f"e{i}", pipe) for i, pipe in enumerate(pipes)]).fit(X, y)
    similarities = vote.similarity(X, y)
    different = similarities[:, :25]
    np.testing.assert_array_equal(similarities, np.tile(different, 3))
    closer = (different > np.diagonal(similarities)[:, None]).sum(axis=1)
    np.testing.assert_array_equal(retrieval_ranks(vote, X, y), 2 + 3 * closer)


def test_smiles_with_equal_fingerprints_tie():
    ethers = ["C" * n + "O" + "C" * (12 - n) for n in (3, 4)]
    smiles = [ethers[0], "CCN", "CCS", "CCCl", "CCBr", "CCF", "CCI", "CP", ethers[1]]
    X, y = np.array(smiles, object), np.random.default_rng(0).normal(size=(9, 30))
    bits = MorganFingerprinter(radius=0, fp_size=256)
    members = [("cca", make_pipeline(bits, CCA_4)), ("dnn", make_pipeline(bits, DNN))]
    ranks = retrieval_ranks(VotingRetriever(members).fit(X, y), X, y)
    np.testing.assert_array_equal(ranks[[0, -1]] % 1, 0.5)


def test_estimators_in_wrappers_and_the_vote_in_wrappers(views):
    X, y = views
    scorer = RetrievalScorer("mrr")
    search = GridSearchCV(DNN, {"n_neighbors": [1, 3]}, scoring=scorer, cv=2)
    members = {
        "pipe": make_pipeline(StandardScaler(), CCA_4),
        "target": TransformedTargetRetriever(CCA_4, PCA(6)),
        "search": search,
        "frozen": FrozenEstimator(clone(DNN).fit(X[:9], y[:9])),
        "vote": VotingRetriever([("dnn", DNN)]),
    }
    vote = VotingRetriever(list(members.items()), standardize=False).fit(X, y)
    expected = np.mean(
        [similarity(clone(e).fit(X, y), X, y) for e in members.values()], axis=0
    )
    np.testing.assert_allclose(vote.similarity(X, y), expected)
    inner = VotingRetriever([("cca", CCA_4), ("dnn", DNN)])
    outer = make_pipeline(
        StandardScaler(), TransformedTargetRetriever(inner, PCA(6, random_state=0))
    ).fit(X, y)
    scaled, scores = StandardScaler().fit_transform(X), outer[-1].transformer_
    expected = clone(inner).fit(scaled, scores.transform(y))
    np.testing.assert_array_equal(
        similarity(outer, X, y), expected.similarity(scaled, scores.transform(y))
    )
    assert not hasattr(outer, "transform")
    ranks = retrieval_ranks(expected, scaled, scores.transform(y))
    np.testing.assert_array_equal(retrieval_ranks(outer, X, y), ranks)


def test_data_frames(views):
    X, y = views
    frames = pd.DataFrame(X).add_prefix("bit"), pd.DataFrame(y).add_prefix("gene")
    members = [
        ("target", TransformedTargetRetriever(CCA_4, PCA(6))),
        ("pipe", make_pipeline(StandardScaler().set_output(transform="pandas"), DNN)),
    ]
    vote = VotingRetriever(members).fit(*frames)
    plain = VotingRetriever(members).fit(X, y)
    np.testing.assert_allclose(
        vote.similarity(*frames), plain.similarity(X, y), atol=1e-6
    )
    np.testing.assert_array_equal(
        retrieval_ranks(vote, *frames), retrieval_ranks(plain, X, y)
    )
    named = VotingRetriever([("cca", CCA_4)]).fit(*frames)
    assert named.feature_names_in_.tolist() == frames[0].columns.tolist()
    assert named.n_features_in_ == 12
    assert not hasattr(named.fit(X, y), "feature_names_in_")


def test_cross_validation_and_search(views):
    X, y = views
    groups = np.repeat(np.arange(20), 2)
    vote = VotingRetriever([("cca", CCA_4), ("dnn", DNN)])
    cv = GroupKFold(2)
    found = cross_validate(vote, X, y, groups=groups, cv=cv, scoring=RetrievalScorer())
    for i, (train, test) in enumerate(cv.split(X, y, groups)):
        ranks = retrieval_ranks(clone(vote).fit(X[train], y[train]), X[test], y[test])
        assert found["test_mrr"][i] == pytest.approx(np.mean(1 / ranks))
    grid = {"weights": [[1, 0], [0, 1]], "dnn__n_neighbors": [1, 3]}
    scorer = RetrievalScorer("mrr")
    search = GridSearchCV(vote, grid, cv=cv, scoring=scorer).fit(X, y, groups=groups)
    for parameters, mean in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        one = CCA_4 if parameters["weights"] == [1, 0] else clone(DNN)
        if one is not CCA_4:
            one.set_params(n_neighbors=parameters["dnn__n_neighbors"])
        alone = cross_validate(one, X, y, groups=groups, cv=cv, scoring=scorer)
        assert mean == pytest.approx(alone["test_score"].mean())


def test_dropped_estimators(views):
    X, y = views
    vote = VotingRetriever(
        [("cca", CCA_4), ("dnn", DNN), ("chance", RandomRetriever(0))],
        weights=[1, 5, 3],
    ).set_params(dnn="drop")
    vote.fit(X, y)
    assert [type(e) for e in vote.estimators_] == [CCA, RandomRetriever]
    assert vote.named_estimators_.dnn == vote.named_estimators.dnn == "drop"
    assert vote.named_estimators_.cca is vote.estimators_[0]
    np.testing.assert_array_equal(vote.weights_, [0.25, 0.75])
    rest = VotingRetriever(
        [("cca", CCA_4), ("chance", RandomRetriever(0))], weights=[1, 3]
    ).fit(X, y)
    np.testing.assert_array_equal(vote.similarity(X, y), rest.similarity(X, y))


def test_nested_parameters_clone_and_pickle(views, tmp_path):
    X, y = views
    members = [("cca", CCA(3, ridge=0.1)), ("dnn", DoubleNNRetriever("cosine"))]
    vote = VotingRetriever(members)
    vote.set_params(dnn__n_neighbors=4, cca__n_components=3, standardize=False)
    params = clone(vote).get_params()
    assert (params["dnn__n_neighbors"], params["cca__n_components"]) == (4, 3)
    assert "dnn" not in vote.get_params(deep=False)
    vote.fit(X, y)
    assert vote.named_estimators_.dnn.n_neighbors == 4
    assert not hasattr(members[0][1], "x_rotations_")  # clones were fitted
    joblib.dump(vote, tmp_path / "vote.joblib")
    loaded = joblib.load(tmp_path / "vote.joblib")
    np.testing.assert_array_equal(loaded.similarity(X, y), vote.similarity(X, y))


def test_fit_params_and_routing(views):
    X, y = views
    weight = np.linspace(1, 2, 40)
    expected = clone(CCA_4).fit(X, y, sample_weight=weight).correlations_
    twice = VotingRetriever([("a", CCA_4), ("b", CCA_4)])
    for fitted in twice.fit(X, y, sample_weight=weight).estimators_:
        np.testing.assert_allclose(fitted.correlations_, expected)
    mixed = VotingRetriever([("cca", CCA_4), ("dnn", DNN), ("c", CCA_4), ("d", "drop")])
    mute = ("mute", vote_of_tables([[0.0]])[0].estimators[0][1])
    with pytest.raises(ValueError, match="sample_weight was given, and the voter 'mu"):
        VotingRetriever([*mixed.estimators, mute]).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        mixed.set_params(
            dnn=clone(DNN).set_fit_request(sample_weight=False),
            cca=clone(CCA_4).set_fit_request(sample_weight=True),
            c=clone(CCA_4).set_fit_request(sample_weight=False),
        ).fit(X, y, sample_weight=weight)
        with pytest.raises(TypeError, match="unexpected argument"):
            VotingRetriever([mute]).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(mixed.named_estimators_.cca.correlations_, expected)
    plain = clone(CCA_4).fit(X, y).correlations_
    np.testing.assert_allclose(mixed.named_estimators_.c.correlations_, plain)


def test_takes_what_all_its_estimators_take():
    jaccard, chance = DoubleNNRetriever(), RandomRetriever()
    tags = get_tags(VotingRetriever([("a", jaccard), ("b", chance)]))
    assert tags.input_tags.sparse
    assert not tags.input_tags.string
    assert tags.non_deterministic
    tags = get_tags(VotingRetriever([("a", OracleRetriever()), ("b", chance)]))
    assert tags.input_tags.string
    process = GaussianProcessRetriever()  # of dense features
    tags = get_tags(VotingRetriever([("a", process), ("b", chance), ("c", "drop")]))
    assert not tags.input_tags.sparse
    assert not get_tags(VotingRetriever("nonsense")).input_tags.sparse


@pytest.mark.parametrize(
    ("estimators", "match"),
    [
        ("cca", "'estimators' parameter of VotingRetriever must be an instance of 'li"),
        ([], "estimators must be a non-empty list"),
        ([CCA_4], "estimators must be a non-empty list"),
        ([("cca", CCA_4, 1)], "estimators must be a non-empty list"),
        ([(1, CCA_4)], "estimators must be a non-empty list"),
        ([("cca", "dropped")], r"or \"drop\"\. Got \[\('cca', 'dropped'\)\]"),
        ([("cca", CCA_4), ("cca", CCA_4)], "not unique"),
        ([("weights", CCA_4)], "conflict with constructor arguments"),
        ([("a__b", CCA_4)], "must not contain __"),
        ([("cca", "drop")], "must hold one that is not dropped"),
    ],
)
def test_estimators_are_checked(views, estimators, match):
    with pytest.raises(ValueError, match=match):
        VotingRetriever(estimators).fit(*views)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ("12", "'weights' parameter of VotingRetriever must be an array-like"),
        ([1], "one entry for each of the 2 estimators, dropped ones included. Got 1"),
        ([1, -1], r"finite numbers of at least 0.* Got \[1, -1\]"),
        ([1, np.nan], "finite numbers of at least 0"),
        ([0, 0], "not all of the estimators that are not dropped may have 0"),
    ],
)
def test_weights_are_checked(views, weights, match):
    with pytest.raises(ValueError, match=match):
        VotingRetriever([("cca", CCA_4), ("dnn", DNN)], weights=weights).fit(*views)


def test_other_errors(views):
    X, y = views
    vote = VotingRetriever([("cca", CCA_4), ("dnn", "drop")], weights=[0, 1])
    with pytest.raises(ValueError, match="not all of the estimators"):
        vote.fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        VotingRetriever([("cca", CCA_4)]).fit(X, y[:7])
    with pytest.raises(TypeError, match="must be a fitted two-view estimator"):
        VotingRetriever([("linear", LinearRegression())]).fit(X, y)
    vote = VotingRetriever([("cca", CCA_4)])
    with pytest.raises(sklearn.exceptions.NotFittedError):
        vote.similarity(X, y)
    assert not hasattr(vote, "n_features_in_")
    with pytest.raises(ValueError, match="7 genes, but VotingRetriever was"):
        vote.fit(X, y).similarity(X, y[:, :7])
