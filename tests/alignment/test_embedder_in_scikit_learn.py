import numpy as np
import pytest
import sklearn
from hyperopt import hp
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
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
    HyperoptSearchCV,
)
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import TransformedTargetRetriever

CV = DrugCellLineKFold(2, 2, random_state=0)


def folds(estimator, study, cv=CV, **params):
    scores = cross_validate(
        estimator, study.smiles, study.ge, cv=cv, scoring=RetrievalScorer(),
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


# -- a train_split that wants groups, inside of what has them -------------------------

SPLIT = DrugCellLineShuffleSplit(1, test_drugs=0.4, test_cell_lines=1, random_state=0)
ALL_LINES = DrugCellLineKFold(2, hold_out="drugs", random_state=0)
NEEDED = r"train_split=Drug.* needs groups .* fit was given none"


def search_of(net, prefix=""):
    grid = {f"{prefix}module__embedding_size": [4]}
    return GridSearchCV(
        net, grid, cv=ALL_LINES, scoring=RetrievalScorer("mrr"), error_score="raise"
    )


def hyperopt_of(net, prefix=""):
    space = {f"{prefix}module__embedding_size": hp.choice("size", [4, 5])}
    return HyperoptSearchCV(
        net, space, n_iter=1, cv=ALL_LINES, scoring=RetrievalScorer("mrr"),
        error_score="raise", random_state=0,
    )  # fmt: skip


def pipeline_of(net):
    return Pipeline([("net", net)])


def test_lines_that_the_error_names(make_net, study):
    """Each way in which groups do not reach `fit`, and the line by which they do."""
    X, y, groups = study.smiles, study.ge, study.groups
    net = make_net(train_split=SPLIT, max_epochs=1)
    pipe = pipeline_of(net)
    for fail in (
        lambda: clone(net).fit(X, y),
        lambda: clone(pipe).fit(X, y),
        lambda: folds(net, study, ALL_LINES, groups=groups),
        lambda: folds(pipe, study, ALL_LINES, groups=groups),
        lambda: search_of(net).fit(X, y, groups=groups),
        lambda: hyperopt_of(net).fit(X, y, groups=groups),
        lambda: hyperopt_of(pipe, "net__").fit(X, y, groups=groups),
    ):
        with pytest.raises(ValueError, match=NEEDED) as caught:
            fail()
    said = str(caught.value)
    assert "fit(X, y, net__groups=groups)" in said
    clone(pipe).fit(X, y, net__groups=groups)
    assert 'params={"groups": groups}, or {"net__groups": groups}' in said
    folds(net, study, ALL_LINES, groups=groups, params={"groups": groups})
    folds(pipe, study, ALL_LINES, groups=groups, params={"net__groups": groups})
    assert "sklearn.set_config(enable_metadata_routing=True)" in said
    assert "embedder.set_fit_request(groups=True)" in said
    assert "search.fit(X, y, groups=groups)" in said
    with sklearn.config_context(enable_metadata_routing=True):
        asks = clone(net).set_fit_request(groups=True)
        for make in (search_of, hyperopt_of):
            for search in (make(asks), make(pipeline_of(asks), "net__")):
                best = search.fit(X, y, groups=groups).best_estimator_
                best = getattr(best, "named_steps", {"net": best})["net"]
                assert 0 < best.history[-1, "valid_mrr"] <= 1


class Recording(DrugCellLineShuffleSplit):
    """Keeps the rows of its parts."""

    def split(self, X, y=None, groups=None):
        for train, valid in super().split(X, y, groups):
            self.parts_ = {"train": train, "valid": valid}
            yield train, valid


def test_drugs_are_told_by_their_structure_where_no_line_is_asked_for(make_net, study):
    """Splits by drugs alone work without groups, as if they had been given."""
    inner = Recording(1, test_drugs=0.4, hold_out="drugs", random_state=0)
    X, y = study.smiles, study.ge
    net = make_net(train_split=inner, max_epochs=1)
    plain = clone(net).fit(X, y)
    drugs = drug_ids(X)
    given = clone(net).fit(X, y, np.column_stack([drugs, study.groups[:, 1]]))
    for name in ("train", "valid"):
        rows = [model.train_split.parts_[name] for model in (plain, given)]
        np.testing.assert_array_equal(*rows)
    assert not set(drugs[rows[0]]) & set(drugs[plain.train_split.parts_["train"]])
    assert folds(net, study, groups=study.groups).shape == (4,)
    search_of(net).fit(X, y, groups=study.groups)
    features = make_net(None, train_split=inner, max_epochs=1).fit(y[:, :5], y)
    assert 0 < features.history[-1, "valid_mrr"] <= 1
