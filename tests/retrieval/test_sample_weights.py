"""Weights of rows: 0 is a row left out, a whole number is as many rows."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.base import TwoViewMixin
from sklearn_molge.metrics import RetrievalScorer, similarity
from sklearn_molge.molecules import TanimotoKernel
from sklearn_molge.retrieval import (
    ConformalRetriever,
    DoubleNNRetriever,
    DrugBlindRetriever,
    OracleRetriever,
    PredictedProfileRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_molge.exceptions.FewCandidatesWarning",
    "ignore::sklearn_molge.exceptions.CalibrationWarning",
)

CCA_3 = CCA(3, ridge=0.1, metric="dot")
DNN = DoubleNNRetriever("tanimoto", n_neighbors=3)
RIDGE = PredictedProfileRetriever(Ridge(2.0))


class NoWeights(TwoViewMixin, BaseEstimator):
    """Takes none."""

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def compare_to(self, X):
        return lambda y: np.zeros((len(y), len(X)))


def piped(retriever):
    return make_pipeline(FunctionTransformer(), retriever)


# Exactly as if the rows were there that often.
REPEATS = {
    "dnn": DNN,
    "dnn, a nearest profile": DoubleNNRetriever("tanimoto", neighbors="profile"),
    "dnn, all profiles": DoubleNNRetriever(
        "tanimoto", neighbors="profile", n_neighbors=None, temperature=0.3
    ),
    "oracle": OracleRetriever("euclidean"),
    "oracle, query kept": OracleRetriever(leave_query_out=False),
    "random": RandomRetriever(random_state=0),
    "predicted": RIDGE,
    "predicted, profiles": PredictedProfileRetriever(
        KernelRidge(), average_profiles=False
    ),
    "transformed": TransformedTargetRetriever(piped(CCA_3), FunctionTransformer()),
    "drug-blind": DrugBlindRetriever(piped(DNN)),
    "vote": VotingRetriever(
        [
            ("cca", piped(CCA_3)),
            ("dnn", TransformedTargetRetriever(piped(DNN))),
            ("again", VotingRetriever([("ridge", RIDGE), ("oracle", "drop")])),
        ],
        weights=[2, 1, 1],
    ),
}
# Theirs are precisions, or probabilities; what is calibrated counts profiles.
OTHERS = {
    "dnn, three profiles": DoubleNNRetriever(
        "tanimoto", neighbors="profile", n_neighbors=3
    ),
    "gaussian process": GaussianProcessRetriever(
        TanimotoKernel(), n_components=3, heritability=0.7, random_state=0
    ),
    "conformal": ConformalRetriever(piped(CCA_3), random_state=0),
}


@pytest.fixture
def data():
    """60 rows of 15 molecules in 4 lines, and weights: 0, 1, 2 or 3."""
    rng = np.random.default_rng(0)
    molecules = rng.poisson(0.7, size=(15, 20)).astype(float)
    drug, line = np.repeat(np.arange(15), 4), np.tile(np.arange(4), 15)
    y = molecules[drug] @ rng.normal(size=(20, 10)) + rng.normal(size=(60, 10))
    weights = rng.integers(0, 4, size=60)
    groups = np.column_stack([drug, line]).astype(object)
    keep = rng.random(60) < 0.8
    return molecules[drug][keep], y[keep], groups[keep], weights[keep].astype(float)


def fitted(estimator, X, y, groups, **params):
    if isinstance(estimator, DrugBlindRetriever):
        params["groups"] = groups
    return sklearn.clone(estimator).fit(X, y, **params)


@pytest.mark.parametrize("name", [*REPEATS, *OTHERS])
def test_a_row_of_weight_0_is_left_out(data, name):
    X, y, groups, weights = data
    estimator = (REPEATS | OTHERS)[name]
    used = weights > 0
    weighted = fitted(estimator, X, y, groups, sample_weight=used.astype(float))
    if name == "conformal":  # rows of weight 0 calibrate, and teach nothing
        weighted, left = weighted.retriever_, fitted(CCA_3, X[used], y[used], None)
    else:
        left = fitted(estimator, X[used], y[used], groups[used])
    np.testing.assert_allclose(
        similarity(weighted, X, y), similarity(left, X, y), atol=1e-8
    )


@pytest.mark.parametrize("name", REPEATS)
def test_a_whole_number_is_as_many_rows(data, name):
    X, y, groups, weights = data
    estimator = REPEATS[name]
    rows = np.repeat(np.arange(len(y)), weights.astype(int))
    weighted = fitted(estimator, X, y, groups, sample_weight=weights)
    repeated = fitted(estimator, X[rows], y[rows], groups[rows])
    found = similarity(weighted, X, y)
    np.testing.assert_allclose(found, similarity(repeated, X, y), atol=1e-8)
    if name not in ("random", "dnn, a nearest profile"):
        equal = fitted(estimator, X, y, groups, sample_weight=(weights > 0) * 1.0)
        assert not np.allclose(found, similarity(equal, X, y), atol=1e-3)


def test_the_say_of_neighbours_by_hand():
    X, y = np.eye(3), np.array([[0.0, 0, 1], [0, 1, 0], [5, 0, 0]])
    model = DoubleNNRetriever("dot", neighbors="profile", metric_ge="euclidean")
    model.set_params(n_neighbors=2).fit(X, y, sample_weight=[1, 3, 9])
    np.testing.assert_allclose(
        model.similarity(X, [[0.0, 0.4, 0.5]]), [[0.25, 0.75, 0]]
    )


def test_weights_of_a_mean_by_hand():
    X, y = np.array(["CCO", "CCO", "CCN"]), np.array([[1.0, 5], [3, 1], [0, 0]])
    oracle = OracleRetriever("dot").fit(X, y, sample_weight=[1, 3, 0])
    np.testing.assert_allclose(oracle.means_, [[2.5, 2]])
    assert oracle.similarity(["CCN"], y)[0, 0] == -np.inf
    # without the query, the other profile alone
    np.testing.assert_allclose(oracle.similarity(["CCO"], y[:1]), [[8]])


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (VotingRetriever([("cca", CCA_3), ("mute", NoWeights())]), "voter 'mute'"),
        (VotingRetriever([("deep", piped(NoWeights()))]), "voter 'deep'"),
        (TransformedTargetRetriever(NoWeights()), "retriever takes none"),
        (TransformedTargetRetriever(VotingRetriever([("a", NoWeights())])), "retrie"),
        (DrugBlindRetriever(NoWeights()), "retriever takes none"),
        (ConformalRetriever(piped(NoWeights())), "retriever takes none"),
        (PredictedProfileRetriever(piped(KNeighborsRegressor())), "regressor"),
    ],
)
def test_who_takes_none_is_named_before_any_fit(data, estimator, what):
    X, y, groups, weights = data
    with pytest.raises(ValueError, match=f"sample_weight was given, and the {what}"):
        fitted(estimator, X, y, groups, sample_weight=weights)
    fitted(estimator, X, y, groups, sample_weight=None)


def test_what_is_frozen_needs_no_weights(data):
    X, y, _, weights = data
    frozen = FrozenEstimator(CCA_3.fit(X, y))
    vote = VotingRetriever([("old", frozen), ("new", DNN)])
    vote.fit(X, y, sample_weight=weights)
    expected = DNN.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(
        vote.named_estimators_.new.similarity(X, y), expected.similarity(X, y)
    )


def test_weights_reach_searches_and_the_regressors_of_regressors(data):
    X, y, groups, weights = data
    score = RetrievalScorer("mrr")
    search = GridSearchCV(piped(CCA_3), {"cca__ridge": [0.5]}, scoring=score, cv=2)
    search.set_params(cv=list(GroupKFold(2).split(X, y, groups[:, 0])))
    vote = VotingRetriever([("search", search)]).fit(X, y, sample_weight=weights)
    alone = CCA(3, ridge=0.5, metric="dot").fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(
        vote.estimators_[0].best_estimator_[-1].correlations_, alone.correlations_
    )
    lasso = PredictedProfileRetriever(piped(Lasso(0.1)), average_profiles=False)
    assert np.isfinite(lasso.fit(X, y, sample_weight=weights).similarity(X, y)).all()


def test_with_routing_each_gets_what_it_requests(data):
    X, y, groups, weights = data
    alone = CCA(3, ridge=0.1, metric="dot").fit(X, y, sample_weight=weights)
    with sklearn.config_context(enable_metadata_routing=True):
        cca = CCA(3, ridge=0.1, metric="dot").set_fit_request(sample_weight=True)
        for inner in (cca, piped(cca), TransformedTargetRetriever(piped(cca))):
            vote = VotingRetriever([("cca", inner)]).fit(X, y, sample_weight=weights)
            np.testing.assert_allclose(
                similarity(vote.set_params(standardize=False), X, y),
                alone.similarity(X, y),
            )
        blind = DrugBlindRetriever(piped(cca)).set_fit_request(sample_weight=True)
        outer = piped(blind).fit(X, y, groups=groups, sample_weight=weights)
        np.testing.assert_allclose(
            similarity(outer, X, y),
            similarity(fitted(blind, X, y, groups, sample_weight=weights), X, y),
        )
        mute = DrugBlindRetriever(piped(CCA(3)))
        with pytest.raises(ValueError, match=r"requests none, see set_fit_request"):
            mute.fit(X, y, groups=groups, sample_weight=weights)


@pytest.mark.parametrize("weights", [[1.0], np.full(99, 1.0), -np.ones(60), "heavy"])
@pytest.mark.parametrize("name", ["dnn", "oracle", "random", "drug-blind"])
def test_bad_weights_are_refused(data, name, weights):
    X, y, groups, _ = data
    if len(weights) == 60:
        weights = weights[: len(y)]
    with pytest.raises(ValueError, match=r"sample_weight|could not convert|weights"):
        fitted(REPEATS[name], X, y, groups, sample_weight=weights)
