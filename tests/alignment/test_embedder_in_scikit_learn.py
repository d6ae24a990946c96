import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline

from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import load_lincs
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import (
    RetrievalScorer,
    chance_scores,
    similarity,
)
from sklearn_molge.model_selection import DrugCellLineKFold, DrugCellLineShuffleSplit
from sklearn_molge.molecules import (
    MorganFingerprinter,
)
from sklearn_molge.retrieval import TransformedTargetRetriever

CV = DrugCellLineKFold(2, 2, random_state=0)


def folds(estimator, study, **params):
    scores = cross_validate(
        estimator, study.smiles, study.ge, cv=CV, scoring=RetrievalScorer(),
        error_score="raise", **params,
    )  # fmt: skip
    return scores["test_mrr"]


def test_cross_validate_by_hand(make_net, study):
    net = make_net(module__dropout=0.1)
    expected = []
    for train, test in CV.split(study.smiles, groups=study.groups):
        model = clone(net).fit(study.smiles[train], study.ge[train])
        expected.append(model.score(study.smiles[test], study.ge[test]))
    got = folds(net, study, groups=study.groups)
    np.testing.assert_array_equal(got, expected)


def test_read_only_profiles_as_of_a_memory_map(make_net, study):
    ge = study.ge.copy()
    ge.flags.writeable = False  # torch would warn, and could write into it
    net, same = make_net().fit(study.smiles, ge), make_net().fit(study.smiles, study.ge)
    np.testing.assert_array_equal(net.transform_ge(ge), same.transform_ge(study.ge))
    np.testing.assert_array_equal(ge, study.ge)


@pytest.mark.slow
def test_cross_validate_in_two_processes(make_net, study):
    net = make_net(module__dropout=0.1)
    one, two = (folds(net, study, groups=study.groups, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_groups_reach_the_inner_split_with_and_without_routing(make_net, study):
    inner = DrugCellLineShuffleSplit(
        1, test_drugs=0.4, test_cell_lines=1, hold_out="drugs", random_state=0
    )
    net = make_net(train_split=inner)
    groups = study.groups
    expected = []
    for train, test in CV.split(study.smiles, groups=groups):
        model = clone(net).fit(
            study.smiles[train], study.ge[train], groups=groups[train]
        )
        assert 0 < model.history[-1, "valid_mrr"] <= 1
        expected.append(model.score(study.smiles[test], study.ge[test]))
    plain = folds(net, study, groups=groups, params={"groups": groups})
    np.testing.assert_allclose(plain, expected)
    with sklearn.config_context(enable_metadata_routing=True):
        net.set_fit_request(groups=True)
        pipe = Pipeline([("net", clone(net))])
        for estimator in (net, pipe):
            routed = folds(estimator, study, params={"groups": groups})
            np.testing.assert_allclose(routed, expected)


def test_a_pipeline_around_and_after(make_net, study):
    """Profiles go through a featuriser, molecules through fingerprints."""
    X, y = study.smiles, study.ge
    target = TransformedTargetRetriever(make_net(None), transformer=L1000Featurizer())
    pipe = Pipeline([("fp", MorganFingerprinter(fp_size=64)), ("net", target)]).fit(
        X, y
    )
    features = MorganFingerprinter(fp_size=64).fit(X).transform(X)
    featurizer = L1000Featurizer().fit(y)
    net = make_net(None).fit(features, featurizer.transform(y))
    expected = net.similarity(features[:4], featurizer.transform(y[:3]))
    np.testing.assert_allclose(similarity(pipe, X[:4], y[:3]), expected, rtol=1e-5)
    assert pipe.transform(X).shape == (120, 8)
    scores = RetrievalScorer()(pipe, X, y)
    assert scores["mrr"] == pytest.approx(pipe.score(X, y))
    pipe.set_params(net__retriever__module__embedding_size=3).fit(X, y)
    assert pipe.transform(X).shape == (120, 3)


def test_groups_through_a_pipeline(make_net, study, split):
    target = TransformedTargetRetriever(
        make_net(train_split=split), transformer=L1000Featurizer()
    )
    target.fit(study.smiles, study.ge, groups=study.groups)
    assert "valid_mrr" in target.retriever_.history[-1]
    pipe = Pipeline([("net", target)])
    pipe.fit(study.smiles, study.ge, net__groups=study.groups)
    assert "valid_mrr" in pipe[-1].retriever_.history[-1]


def test_grid_search_over_parts(make_net, study):
    search = GridSearchCV(
        make_net(max_epochs=1),
        {
            "module__embedding_size": [4, 8],
            "criterion__margin": [0.1, 0.5],
            "criterion": [make_net().criterion],
        },
        scoring=RetrievalScorer("mrr"),
        cv=CV,
        error_score="raise",
    ).fit(study.smiles, study.ge, groups=study.groups)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    best = search.best_estimator_
    assert best.module_.embedding_size == search.best_params_["module__embedding_size"]
    np.testing.assert_array_equal(
        similarity(search, study.smiles[:2], study.ge[:2]),
        best.similarity(study.smiles[:2], study.ge[:2]),
    )


def test_searching_the_features_of_molecules(make_net, study):
    search = GridSearchCV(
        make_net(max_epochs=1, molecule_features=MorganFingerprinter(fp_size=32)),
        {"molecule_features__radius": [1, 2], "encoder__hidden_size": [8, 16]},
        cv=CV,
        error_score="raise",
    ).fit(study.smiles, study.ge, groups=study.groups)
    params = search.best_params_
    assert (
        search.best_estimator_.molecule_features_.radius
        == (params["molecule_features__radius"])
    )
    encoder = search.best_estimator_.module_.molecule_tower.encoder
    assert encoder.hidden_size == params["encoder__hidden_size"]


def test_real_level5_data(level5_folder, make_net):
    """A small one beats chance on unseen drugs in unseen lines."""
    study = load_lincs(level5_folder, level=5)
    cv = DrugCellLineShuffleSplit(1, test_drugs=0.35, test_cell_lines=6, random_state=0)
    train, test = next(cv.split(study.smiles, groups=study.groups))
    net = make_net(
        None, molecule_features=MorganFingerprinter(),
        criterion=InfoNCELoss, sampler=DrugBalancedSampler, lr=1e-3, max_epochs=4,
        module__expression_layers=(128,), module__embedding_size=64,
        module__normalize=True, module__dropout=0.1,
    )  # fmt: skip
    net.fit(study.smiles[train], study.ge[train], groups=study.groups[train])
    score = net.score(study.smiles[test], study.ge[test])
    assert score > 2 * chance_scores(len(np.unique(study.groups[test, 0])))["mrr"]
