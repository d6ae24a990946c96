"""The space of HyperoptSearchCV: what a clone keeps, what one label may mean."""

import numpy as np
import pytest
from hyperopt import hp
from sklearn.base import clone
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import (
    CoordinatedEmbedder,
    finlayson2020_search_space,
    recommended_search_space,
)
from sklearn_molge.model_selection import HyperoptSearchCV

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 5)), rng.normal(size=40)


def make(estimator=None, space=None, **params):
    estimator = Ridge() if estimator is None else estimator
    space = {"alpha": hp.loguniform("alpha", -3, 5)} if space is None else space
    return HyperoptSearchCV(
        estimator, space, **{"n_iter": 8, "cv": 2, "random_state": 0, **params}
    )


def shared_space():
    share = hp.uniform("share", 0.1, 1)
    return {"alpha": share, "l1_ratio": share}


def test_a_clone_shares_what_the_search_shares():
    search = make(ElasticNet(), shared_space(), n_iter=3)
    first, second = search.fit(X, y).cv_results_, clone(search).fit(X, y).cv_results_
    assert first["params"] == second["params"]
    assert all(point["alpha"] == point["l1_ratio"] for point in second["params"])


@pytest.mark.parametrize(
    "space",
    [
        recommended_search_space(),
        recommended_search_space(tower="graph"),
        finlayson2020_search_space(),
        finlayson2020_search_space(variant="committed"),
    ],
)
def test_the_spaces_of_the_library_survive_a_clone(space):
    def refuse(model, X, y):
        raise KeyboardInterrupt

    search = clone(make(CoordinatedEmbedder(None), space, scoring=refuse))
    # It comes as far as the first fit.
    with pytest.raises((KeyboardInterrupt, ValueError), match=r"All 8 trials|^$"):
        search.fit(X[:, 0], y)


def test_expressions_of_one_label_must_be_equal():
    space = {"alpha": hp.uniform("a", 0, 1), "tol": hp.uniform("a", 0, 2)}
    with pytest.raises(ValueError, match="'a' comes twice, with other distributions"):
        make(space=space).fit(X, y)


def test_functions_without_a_name_may_be_drawn_and_shared():
    scale = hp.choice("scale", [lambda X: X, lambda X: X / 2])
    space = {
        "functiontransformer__func": scale,
        "functiontransformer__inverse_func": scale,
    }
    estimator = make_pipeline(FunctionTransformer(check_inverse=False), Ridge())
    search = clone(make(estimator, space, n_iter=4)).fit(X, y)
    assert search.trials_.vals["scale"]
    for point in search.cv_results_["params"]:
        assert len(set(point.values())) == 1
