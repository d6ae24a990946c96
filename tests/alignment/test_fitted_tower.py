import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import LambdaLR

from sklearn_molge.alignment import CCA, CoordinatedEmbedder, FittedTower
from sklearn_molge.metrics import RetrievalScorer, similarity
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


@pytest.fixture(scope="module")
def towers(fitted):
    return fitted.molecule_encoder(), fitted.expression_encoder()


def test_towers_are_the_embedder_s(fitted, towers, data):
    molecules, profiles = towers
    assert (molecules.view, profiles.view) == ("molecules", "profiles")
    X, y = data
    np.testing.assert_array_equal(molecules.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(profiles.transform(y), fitted.transform_ge(y))


def test_fit_learns_nothing(fitted, towers, data):
    X, y = data
    before = fitted.transform(X), fitted.transform_ge(y)
    for tower, view, expected in zip(towers, (X, y), before, strict=True):
        assert tower.fit(view[:5]) is tower
        np.testing.assert_array_equal(tower.fit_transform(view), expected)


def test_clone_is_the_same_object(towers):
    for tower in towers:
        assert clone(tower) is tower
        assert clone(make_pipeline(tower))[-1] is tower


def test_names_and_frames(fitted):
    names = fitted.molecule_encoder().get_feature_names_out().tolist()
    assert names == [f"fittedtower{i}" for i in range(8)]
    tower = fitted.expression_encoder().set_output(transform="pandas")
    assert tower.transform(np.zeros((2, 30))).columns.tolist() == names


def test_pickle(towers, data):
    for tower, view in zip(towers, data, strict=True):
        loaded = pickle.loads(pickle.dumps(tower))
        np.testing.assert_array_equal(loaded.transform(view), tower.transform(view))


@pytest.mark.parametrize("retriever", [CCA(4, ridge=0.1), DoubleNNRetriever()])
def test_aligned_representations_feed_other_retrievers(
    fitted, towers, study, data, retriever
):
    """The paper's "aligned" rows: CCA and D-NN on what the towers return."""
    X, y = data
    molecules, profiles = towers
    pipe = make_pipeline(molecules, TransformedTargetRetriever(retriever, profiles))
    pipe.fit(X, y)
    views = fitted.transform(X), fitted.transform_ge(y)
    by_hand = clone(retriever).fit(*views)
    np.testing.assert_allclose(
        similarity(pipe, X[:5], y[:4]),
        by_hand.similarity(views[0][:5], views[1][:4]),
        atol=1e-6,
    )
    before = joblib.hash([p.detach().numpy() for p in fitted.module_.parameters()])
    scores = cross_validate(
        pipe, X, y, groups=study.groups, cv=DrugCellLineKFold(2, 2, random_state=0),
        scoring=RetrievalScorer("mrr"), error_score="raise",
    )["test_score"]  # fmt: skip
    assert np.isfinite(scores).all()
    after = joblib.hash([p.detach().numpy() for p in fitted.module_.parameters()])
    assert after == before


def test_wrong_parameters(fitted):
    with pytest.raises(ValueError, match=r"'view' .* Got 'genes'"):
        FittedTower(fitted, view="genes").fit()
    with pytest.raises(ValueError, match="'embedder' parameter of FittedTower"):
        FittedTower(DoubleNNRetriever()).fit()


def test_an_embedder_that_is_not_fitted():
    tower = FittedTower(CoordinatedEmbedder())
    for call in (tower.fit, lambda: tower.transform(["CCO"])):
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize("train", ["fit", "partial_fit", "load_params", "set_params"])
def test_training_the_embedder_further_does_not_change_its_towers(
    make_net, data, tmp_path, train
):
    X, y = data
    # A callback that cannot be pickled can be copied.
    schedule = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch)
    net = make_net(callbacks=[schedule]).fit(X, y)
    towers = net.molecule_encoder(), FittedTower(net, view="profiles")
    before = towers[0].transform(X), towers[1].transform(y)
    if train == "load_params":
        path = tmp_path / "params.pt"
        make_net(random_state=1).fit(X, y).save_params(f_params=path)
        net.load_params(f_params=path)
    elif train == "set_params":
        net.set_params(batch_size=3, metric="dot", random_state=1).fit(X, y)
    else:
        getattr(net, train)(X[:50], y[:50] + 1)
    assert not np.allclose(net.transform_ge(y), before[1])
    for tower, view, expected in zip(towers, (X, y), before, strict=True):
        np.testing.assert_array_equal(tower.transform(view), expected)
        np.testing.assert_array_equal(clone(tower).transform(view), expected)


def test_a_tower_of_a_linear_alignment_is_kept_too():
    X, y = np.random.default_rng(0).normal(size=(2, 20, 5))
    cca = CCA(3, ridge=0.1).fit(X, y)
    tower = FittedTower(cca)
    expected = tower.transform(X)
    cca.fit(X[::-1], y)
    assert not np.allclose(cca.transform(X), expected)
    np.testing.assert_array_equal(tower.transform(X), expected)
