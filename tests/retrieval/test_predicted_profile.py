"""PredictedProfileRetriever: any regressor of profiles is a retriever."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVR

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import evaluate_study
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import RetrievalScorer, pairwise_similarity, retrieval_ranks
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    PredictedProfileRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)


@pytest.fixture(scope="module")
def views():
    """60 profiles of 20 molecules: 1 to 5 of each."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(20, 3))
    codes = np.repeat(np.arange(20), np.resize([1, 2, 3, 4, 5], 20))
    molecules = hidden @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(20, 6))
    y = (hidden @ rng.normal(size=(3, 12)))[codes] + rng.normal(size=(60, 12))
    return molecules[codes], y, codes


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=40, level=5, random_state=0
    )


REGRESSORS = [
    Ridge(),
    KernelRidge(),
    PLSRegression(2),
    RandomForestRegressor(5, random_state=0),
    MultiOutputRegressor(SVR()),
    make_pipeline(StandardScaler(), Ridge()),
    GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=3),
    TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
]


@pytest.mark.parametrize("regressor", REGRESSORS, ids=lambda r: type(r).__name__)
def test_similarity_is_that_of_the_predicted_profiles(views, regressor):
    X, y, _ = views
    retriever = PredictedProfileRetriever(regressor).fit(X, y)
    predicted = retriever.regressor_.predict(X[:7])
    np.testing.assert_array_equal(retriever.transform(X[:7]), predicted)
    np.testing.assert_array_equal(retriever.transform_ge(y), y)
    np.testing.assert_allclose(
        retriever.similarity(X[:7], y), np.corrcoef(y, predicted)[:60, 60:]
    )
    assert retriever.score(X, y) > 0.25  # chance is 0.18
    again = pickle.loads(pickle.dumps(retriever))
    np.testing.assert_array_equal(again.transform(X), retriever.transform(X))


def test_averages_are_the_fit_to_all_profiles_of_least_squares(views):
    X, y, _ = views
    weights = np.random.default_rng(1).uniform(0, 2, size=len(y))
    weights[:3] = 0  # of two molecules, of which one has no other profile
    for given in (None, weights):
        every = Ridge(3.0).fit(X, y, sample_weight=given)
        for average in (True, False):
            fitted = PredictedProfileRetriever(Ridge(3.0), average_profiles=average)
            fitted.fit(X, y, sample_weight=given)
            np.testing.assert_allclose(fitted.regressor_.coef_, every.coef_)


def test_a_regressor_without_weights_counts_each_molecule_once(views):
    X, y, codes = views
    means = np.array([y[codes == code].mean(axis=0) for code in range(20)])
    first = np.unique(codes, return_index=True)[1]
    expected = KNeighborsRegressor(3).fit(X[first], means).predict(X)
    fitted = PredictedProfileRetriever(KNeighborsRegressor(3)).fit(X, y)
    np.testing.assert_allclose(fitted.transform(X), expected)


def test_neither_order_nor_dtype_of_rows_matters(views):
    X, y, _ = views
    order = np.random.default_rng(0).permutation(len(y))
    fitted = PredictedProfileRetriever(Ridge()).fit(X, y)
    other = PredictedProfileRetriever(Ridge()).fit(X[order], y[order])
    np.testing.assert_allclose(fitted.transform(X), other.transform(X))
    single = PredictedProfileRetriever(Ridge()).fit(X, y.astype(np.float32))
    np.testing.assert_allclose(fitted.transform(X), single.transform(X), atol=1e-5)


@pytest.mark.parametrize(
    "regressor",
    [
        Ridge(),
        make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Ridge())),
        GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=3),
        MultiOutputRegressor(Ridge()),
        TransformedTargetRegressor(Ridge()),
        TransformedTargetRegressor(),
    ],
    ids=lambda r: type(r).__name__,
)
def test_weights_reach_the_regressor_inside(views, regressor):
    X, y, _ = views
    weights = np.where(np.arange(len(y)) < 30, 1.0, 1e-9)
    weighted = PredictedProfileRetriever(regressor).fit(X, y, sample_weight=weights)
    alone = PredictedProfileRetriever(regressor).fit(X[:30], y[:30])
    np.testing.assert_allclose(
        weighted.transform(X[:9]), alone.transform(X[:9]), rtol=0.2, atol=0.2
    )
    plain = PredictedProfileRetriever(regressor).fit(X, y)
    assert np.abs(plain.transform(X) - weighted.transform(X)).max() > 0.3


@pytest.mark.parametrize(
    "regressor", [PLSRegression(2), MultiOutputRegressor(KNeighborsRegressor(2))]
)
def test_weights_that_cannot_be_heeded_are_refused(views, regressor):
    X, y, _ = views
    retriever = PredictedProfileRetriever(regressor)
    with pytest.raises(ValueError, match="sample_weight was given, and the regressor"):
        retriever.fit(X, y, sample_weight=np.ones(len(y)))
    retriever.fit(X, y)


def test_metadata_routing(views):
    X, y, _ = views
    weights = np.arange(1.0, len(y) + 1)
    expected = Ridge().fit(X, y, sample_weight=weights).coef_
    with sklearn.config_context(enable_metadata_routing=True):
        ridge = Ridge().set_fit_request(sample_weight=True)
        inner = make_pipeline(StandardScaler(with_mean=False, with_std=False), ridge)
        inner[0].set_fit_request(sample_weight=False)
        vote = VotingRetriever(
            [
                (
                    "ridge",
                    PredictedProfileRetriever(inner).set_fit_request(
                        sample_weight=True
                    ),
                )
            ]
        )
        vote.fit(X, y, sample_weight=weights)
        found = vote.estimators_[0].regressor_[-1].coef_
        np.testing.assert_allclose(found, expected)
        silent = PredictedProfileRetriever(make_pipeline(StandardScaler(), Ridge()))
        silent.fit(X, y)
        with pytest.raises(ValueError, match="set_fit_request"):
            silent.fit(X, y, sample_weight=weights)


class Notes(RegressorMixin, BaseEstimator):
    """Keeps what `fit` got, and predicts what it was told to."""

    def __init__(self, answer=None):
        self.answer = answer

    def fit(self, X, y, groups=None, n_rounds=1):
        self.got_ = np.asarray(y), groups, n_rounds
        return self

    def predict(self, X):
        return np.zeros((len(X), 12)) if self.answer is None else self.answer(X)


def test_metadata_of_rows_needs_rows(views):
    X, y, codes = views
    fitted = PredictedProfileRetriever(Notes()).fit(X, y, n_rounds=7)
    assert fitted.regressor_.got_[2] == 7
    with pytest.raises(ValueError, match="groups has an entry for each of the 60"):
        clone(fitted).fit(X, y, groups=codes)
    every = PredictedProfileRetriever(Notes(), average_profiles=False)
    assert every.fit(X, y, groups=codes).regressor_.got_[1] is codes


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda X: np.zeros((len(X), 11)), r"float64 of shape \(1, 11\)"),
        (lambda X: np.zeros(len(X)), r"float64 of shape \(1,\)"),
        (lambda X: np.zeros((12, len(X))), r"float64 of shape \(12, 1\)"),
        (lambda X: np.full((len(X), 12), "a"), r"<U1 of shape \(1, 12\)"),
    ],
)
def test_what_is_no_profile_is_refused(views, answer, got):
    X, y, _ = views
    expected = rf"predict a profile of each molecule.*\(1, 12\)\. Got {got} from Notes"
    with pytest.raises(ValueError, match=expected):
        PredictedProfileRetriever(Notes(answer)).fit(X, y)


def test_one_output_is_told_what_to_do(views):
    X, y, _ = views
    with pytest.raises(ValueError, match="1d array") as info:
        PredictedProfileRetriever(SVR()).fit(X, y)
    assert "MultiOutputRegressor" in info.value.__notes__[0]


def test_one_gene(views):
    X, y, _ = views
    fitted = PredictedProfileRetriever(SVR(), metric="euclidean").fit(X, y[:, 0])
    assert fitted.transform(X).shape == (60, 1)
    expected = -np.abs(y[:, :1] - fitted.regressor_.predict(X))
    np.testing.assert_allclose(fitted.similarity(X, y[:, 0]), expected, atol=1e-7)


def test_a_constant_prediction_ranks_in_the_middle(views):
    X, y, _ = views
    fitted = PredictedProfileRetriever(DummyRegressor()).fit(X, y)
    np.testing.assert_array_equal(retrieval_ranks(fitted, X, y), 10.5)
    zero = PredictedProfileRetriever(Notes()).fit(X, y)
    np.testing.assert_array_equal(zero.similarity(X, y), 0)


def test_what_is_known_of_the_inside(views):
    X, y, _ = views
    genes = [f"G{i}" for i in range(12)]
    frame = pd.DataFrame(X, columns=list("abcdef"))
    fitted = PredictedProfileRetriever(Ridge()).set_output(transform="pandas")
    fitted.fit(frame, pd.DataFrame(y, columns=genes))
    assert fitted.n_features_in_ == 6
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    assert fitted.transform(frame).columns.tolist() == genes
    assert not hasattr(PredictedProfileRetriever(Ridge()), "n_features_in_")
    plain = PredictedProfileRetriever(Ridge()).fit(X, y)
    assert plain.get_feature_names_out()[:2].tolist() == ["gene0", "gene1"]


def test_a_pipeline_of_smiles_in_all_that_ranks(study):
    smiles = make_pipeline(MorganFingerprinter(fp_size=128), Ridge(10.0))
    inside = PredictedProfileRetriever(smiles)
    outside = make_pipeline(
        MorganFingerprinter(fp_size=128), PredictedProfileRetriever(Ridge(10.0))
    )
    cv = DrugCellLineKFold(2, 2, random_state=0)
    scores = [
        cross_validate(
            each, study.smiles, study.ge, groups=study.groups, cv=cv,
            scoring=RetrievalScorer(k=(1, 10)),
        )["test_mrr"]
        for each in (inside, outside, TransformedTargetRetriever(inside, Normalizer()))
    ]  # fmt: skip
    np.testing.assert_allclose(scores[0], scores[1])
    assert np.shape(scores) == (3, 4)
    inside.fit(study.smiles, study.ge)
    library = np.unique(study.smiles.astype(str)).astype(object)
    index = MoleculeIndex(inside).fit(library)
    expected = pairwise_similarity(study.ge, inside.transform(library)).argmax(axis=1)
    found = index.kneighbors(study.ge, 1, return_distance=False)[:, 0]
    np.testing.assert_array_equal(found, expected)


def test_a_study_in_one_call(study):
    ridge = make_pipeline(MorganFingerprinter(fp_size=128), Ridge(10.0))
    report = evaluate_study(
        study, methods={"ridge": PredictedProfileRetriever(ridge)}, embedders={},
        n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    table = report.tables["table1"]
    assert table.loc["ridge", "mrr"] > table.loc["chance", "mrr"]
