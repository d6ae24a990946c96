"""What skorch offers works as in skorch, unmodified."""

import io
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    TrainEndCheckpoint,
)
from torch import nn

from sklearn_molge.alignment import CoordinatedEmbedder, EmbeddedBatch
from sklearn_molge.metrics import RetrievalScorer, mean_reciprocal_rank, retrieval_ranks
from sklearn_molge.molecules import MorganFingerprinter


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge, study.groups


@pytest.fixture
def fit(make_net, data, split):
    """Train with callbacks, and a validation part."""

    def fit(*callbacks, **params):
        params = {"train_split": split, "max_epochs": 3} | params
        return make_net(callbacks=list(callbacks), **params).fit(*data)

    return fit


# -- callbacks -----------------------------------------------------------------------


def mean_loss(net, X, y=None):
    """Score by the predictions of an epoch or a batch: by cached ones, if there are."""
    batches = list(net.forward_iter(X if y is None else net.get_dataset(X, y)))
    assert all(isinstance(batch, EmbeddedBatch) for batch in batches)
    return float(np.mean([net.get_loss(batch, None).item() for batch in batches]))


def test_epoch_scoring_of_predictions(fit):
    net = fit(EpochScoring(mean_loss, name="loss"))
    batches = net.history[:, "batches", :, "valid_loss"]
    expected = [np.mean([loss for loss in epoch if loss]) for epoch in batches]
    np.testing.assert_allclose(net.history[:, "loss"], expected, rtol=1e-5)
    assert net.history[0, "loss_best"]


def test_epoch_scoring_of_predictions_that_are_made_anew(fit):
    net = fit(EpochScoring(mean_loss, name="loss", use_caching=False))
    assert np.isfinite(net.history[:, "loss"]).all()
    with pytest.raises(ValueError, match="requires y to be passed"):
        next(net.forward_iter(["CCO", "CCN"]))


def test_epoch_scoring_of_the_training_part(fit):
    scoring = EpochScoring(mean_loss, name="loss", on_train=True)
    net = fit(scoring)
    losses = net.history[:, "batches", :, "train_loss"]
    expected = [np.mean([loss for loss in epoch if loss]) for epoch in losses]
    np.testing.assert_allclose(net.history[:, "loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("scoring", [RetrievalScorer("mrr"), None])
def test_epoch_scoring_of_rows(fit, data, split, scoring):
    """A scorer of scikit-learn's kind is given molecules and profiles."""
    net = fit(
        EpochScoring(scoring, lower_is_better=False, name="mrr", use_caching=False)
    )
    _, valid = next(split.split(*data))
    ranks = retrieval_ranks(net, data[0][valid], data[1][valid])
    expected = mean_reciprocal_rank(ranks)
    assert net.history[-1, "mrr"] == pytest.approx(expected)


def test_batch_scoring(fit):
    net = fit(BatchScoring(mean_loss, name="loss"))
    for epoch in net.history:
        pairs = [b for b in epoch["batches"] if "valid_loss" in b]
        assert pairs
        for record in pairs:
            assert record["loss"] == pytest.approx(record["valid_loss"], rel=1e-5)
        assert epoch["loss"] == pytest.approx(epoch["valid_loss"], rel=1e-5)


def test_early_stopping_on_a_score_of_ones_own(fit):
    scoring = EpochScoring(
        RetrievalScorer("mrr"), lower_is_better=False, name="mrr", use_caching=False
    )
    stop = EarlyStopping(
        "mrr", lower_is_better=False, patience=2, threshold=10, threshold_mode="abs"
    )
    assert len(fit(scoring, stop, max_epochs=9).history) == 3


def test_learning_rate_schedule(fit):
    net = fit(LRScheduler("StepLR", step_size=1, gamma=0.5))
    np.testing.assert_allclose(net.history[:, "event_lr"], [0.01, 0.005, 0.0025])


def test_checkpoint_of_the_best_epoch_is_loaded(fit, data, tmp_path):
    keep = Checkpoint("valid_loss_best", dirname=tmp_path, load_best=True)
    net = fit(keep, max_epochs=5, lr=0.05)
    best = int(np.argmin(net.history[:, "valid_loss"]))
    until_best = fit(max_epochs=best + 1, lr=0.05)
    np.testing.assert_array_equal(net.transform(data[0]), until_best.transform(data[0]))


def test_checkpoint_at_the_end(fit, data, make_net, tmp_path):
    net = fit(TrainEndCheckpoint(dirname=tmp_path))
    fresh = make_net(module__n_genes=30).initialize()
    fresh.load_params(
        f_params=tmp_path / "train_end_params.pt",
        f_history=tmp_path / "train_end_history.json",
    )
    np.testing.assert_array_equal(fresh.transform(data[0]), net.transform(data[0]))
    assert fresh.history[:, "train_loss"] == net.history[:, "train_loss"]


# -- initialize ----------------------------------------------------------------------


def parameters_of(net):
    file = io.BytesIO()
    net.save_params(f_params=file)
    file.seek(0)
    return file


def test_initialize_and_load_params(fitted, data, make_net):
    net = make_net(module__n_genes=30)
    assert net.initialize() is net
    assert net.initialized_
    assert (net.n_genes_in_, net.n_molecule_features_) == (30, 0)
    for answer in (lambda: net.transform_ge(data[1]), lambda: net.transform(data[0])):
        with pytest.raises(NotFittedError):  # its weights are random
            answer()
    net.load_params(f_params=parameters_of(fitted))
    np.testing.assert_array_equal(net.transform(data[0]), fitted.transform(data[0]))
    np.testing.assert_array_equal(
        net.transform_ge(data[1]), fitted.transform_ge(data[1])
    )
    assert net.score(*data[:2]) == fitted.score(*data[:2])


def test_initialize_for_features(data, make_net):
    X, y = data[1][:, :7], data[1]
    expected = make_net(None).fit(X, y)
    net = make_net(None, module__n_genes=30, module__n_features=7).initialize()
    net.load_params(f_params=parameters_of(expected))
    np.testing.assert_array_equal(net.transform(X), expected.transform(X))


def test_initialize_with_a_transformer_of_molecules(data, make_net):
    """It is fitted by the first training."""
    features = MorganFingerprinter(fp_size=16)
    sizes = {"module__n_genes": 30, "module__n_features": 16}
    net = make_net(molecule_features=features, **sizes).initialize()
    with pytest.raises(NotFittedError):
        net.transform(data[0])
    module = net.module_
    net.partial_fit(*data)
    assert net.module_ is module
    assert net.transform(data[0]).shape == (120, 8)


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({}, "set module__n_genes."),
        ({"module__n_features": 0}, "set module__n_genes."),
        ({"encoder": None}, "set module__n_genes and module__n_features."),
        ({"encoder": None, "module__n_genes": 3}, "set module__n_features."),
        (
            {"molecule_features": MorganFingerprinter(), "module__n_genes": 3},
            "set module__n_features.",
        ),
    ],
)
def test_initialize_without_sizes(make_net, params, missing):
    net = make_net(**{"encoder": "random"} | params)
    with pytest.raises(ValueError, match=f"from X and y; .* {missing}"):
        net.initialize()
    assert not net.initialized_


@pytest.mark.parametrize("name", ["n_genes", "n_features"])
def test_sizes_that_are_not_those_of_the_data(make_net, data, name):
    net = make_net(**{f"module__{name}": 29})
    found = 30 if name == "n_genes" else 0
    with pytest.raises(ValueError, match=f"module__{name} is 29, .* have {found}"):
        net.fit(*data)


def test_initialize_is_seeded(make_net):
    first, again, other = (
        make_net(module__n_genes=30, random_state=seed).initialize()
        for seed in (0, 0, 1)
    )
    weights = [
        net.module_.expression_tower.network[0].weight for net in (first, again, other)
    ]
    assert bool((weights[0] == weights[1]).all())
    assert not bool((weights[0] == weights[2]).any())


def test_partial_fit_after_initialize_keeps_the_weights(make_net, data):
    net = make_net(module__n_genes=30, lr=1e-12, max_epochs=1).initialize()
    module = net.module_
    before = [p.detach().clone() for p in module.parameters()]
    net.partial_fit(*data)
    assert net.module_ is module
    for now, then in zip(module.parameters(), before, strict=True):
        np.testing.assert_allclose(now.detach(), then, atol=1e-6)
    with pytest.raises(ValueError, match=r"y has 29 genes, .* fitted on 30"):
        net.partial_fit(data[0], data[1][:, :29])


def test_warm_start_after_initialize_goes_on(make_net, data):
    net = make_net(module__n_genes=30, warm_start=True).initialize()
    module = net.module_
    net.fit(*data).fit(*data)
    assert net.module_ is module
    assert net.history[:, "epoch"] == [1, 2, 3, 4]


# -- parameters ----------------------------------------------------------------------


def test_get_params_for(make_net, fitted):
    net = make_net(criterion__margin=0.3, sampler__partners=True, optimizer__eps=1e-6)
    assert net.get_params_for("criterion") == {"margin": 0.3}
    assert net.get_params_for("sampler") == {"batch_size": 32, "partners": True}
    assert net.get_params_for("optimizer") == {"eps": 1e-6}
    assert net.get_params_for("encoder") == {"hidden_size": 16}
    own = {"expression_layers": (16,), "embedding_size": 8}
    assert net.get_params_for("module") == own
    sizes = {"n_genes": 30, "n_features": 0}
    assert fitted.get_params_for("module") == sizes | own


def test_sizes_do_not_leak_into_parameters(fitted):
    assert not any("n_genes" in name for name in fitted.get_params())
    copy = clone(fitted)
    assert not copy.initialized_
    assert not hasattr(copy, "n_genes_in_")


def test_a_rate_that_is_set_counts_at_once(make_net, data):
    net = make_net().fit(*data).set_params(lr=1e-12)
    before = net.transform_ge(data[1])
    assert net.optimizer_.param_groups[0]["lr"] == 1e-12
    net.partial_fit(*data)
    np.testing.assert_allclose(net.transform_ge(data[1]), before, atol=1e-6)


def test_parameters_of_a_callback_by_name(make_net, data):
    stop = ("stop", EarlyStopping("train_loss", patience=9))
    net = make_net(callbacks=[stop], callbacks__stop__patience=7).fit(*data)
    assert dict(net.callbacks_)["stop"].patience == 7
    assert net.get_params()["callbacks__stop__patience"] == 7


def test_initialized_nets_are_pickled(make_net, data):
    net = make_net(module__n_genes=30).initialize()
    loaded = pickle.loads(pickle.dumps(net))
    with pytest.raises(NotFittedError):
        loaded.transform(data[0])
    for a, b in zip(loaded.module_.parameters(), net.module_.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach(), b.detach())


class TwoLosses(CoordinatedEmbedder):
    """A second module, as skorch's guide adds one."""

    def initialize_module(self):
        super().initialize_module()
        self.extra_ = nn.Linear(2, 2)
        return self


def test_another_module_is_trained_and_pickled_too(make_net, data):
    net = TwoLosses(**make_net().get_params(deep=False)).fit(*data)
    assert [name for name, _ in net.get_all_learnable_params()][-1] == "bias"
    assert "extra_" in net.cuda_dependent_attributes_
    loaded = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(loaded.transform(data[0]), net.transform(data[0]))


# -- what is needed to embed ---------------------------------------------------------


def scaled(radius=2, **params):
    return make_pipeline(
        MorganFingerprinter(radius, fp_size=32, **params), StandardScaler()
    )


@pytest.mark.parametrize("use_safetensors", [False, True])
@pytest.mark.parametrize("state", ["unfitted", "fitted on other rows"])
def test_a_file_of_weights_has_the_scale_of_the_features(
    make_net, data, tmp_path, use_safetensors, state
):
    X, y, _ = data
    path = tmp_path / "params"
    expected = make_net(molecule_features=scaled()).fit(X, y)
    expected.save_params(f_params=path, use_safetensors=use_safetensors)
    sizes = {"module__n_genes": 30, "module__n_features": 32}
    net = make_net(molecule_features=scaled(n_jobs=1), random_state=1, **sizes)
    if state == "unfitted":
        net.initialize()
    else:
        some = np.isin(X, np.unique(X)[:8])
        net.fit(X[some], y[some])
    net.load_params(f_params=path, use_safetensors=use_safetensors)
    np.testing.assert_array_equal(net.transform(X), expected.transform(X))
    np.testing.assert_array_equal(net.transform_ge(y), expected.transform_ge(y))
    assert not hasattr(net.molecule_features[-1], "mean_")
    net.partial_fit(X, y)  # goes on with that scale
    np.testing.assert_array_equal(
        net.molecule_features_[-1].mean_, expected.molecule_features_[-1].mean_
    )


OTHERS = {
    "radius": {"molecule_features": scaled(3)},
    "kind": {
        "molecule_features": make_pipeline(
            MorganFingerprinter(fp_size=32), MinMaxScaler()
        )
    },
    "none": {"molecule_features": None, "encoder": None},
    "depth": {"encoder__depth": 5},
    "aggregation": {"encoder__aggregation": "sum"},
    "activation": {"module__activation": "relu", "module__init": "lecun"},
    "normalize": {"module__normalize": False},
    "unit_profiles": {"module__unit_profiles": True},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("use_safetensors", [False, True])
def test_weights_of_another_net_are_refused(
    make_net, data, tmp_path, name, use_safetensors
):
    X, y, _ = data
    path = tmp_path / "params"
    params = {"molecule_features": scaled()}
    if name == "none":  # features of the same width, in X
        params = {"encoder": None, "molecule_features": scaled()}
    make_net(**{"encoder": "random"} | params).fit(X, y).save_params(
        f_params=path, use_safetensors=use_safetensors
    )
    net = make_net(**{"encoder": "random"} | params | OTHERS[name], random_state=1)
    rows = scaled().fit_transform(X) if name == "none" else X
    net.fit(rows, y)
    before = net.transform(rows)
    with pytest.raises(ValueError, match=r"other (molecule_features|settings)"):
        net.load_params(f_params=path, use_safetensors=use_safetensors)
    np.testing.assert_array_equal(net.transform(rows), before)


def test_what_the_weights_were_trained_with_is_saved(make_net, data):
    """Not what was set since."""
    X, y, _ = data
    expected = make_net(molecule_features=scaled()).fit(X, y)
    file = parameters_of(expected.set_params(molecule_features__steps=[("x", None)]))
    net = make_net(molecule_features=scaled(), random_state=1).fit(X, y)
    net.load_params(f_params=file)
    np.testing.assert_array_equal(net.transform(X), expected.transform(X))


class Hidden(StandardScaler):
    """Learns what is no array."""

    def fit(self, X, y=None):
        self.inner_ = StandardScaler().fit(X)
        return self

    def transform(self, X):
        return self.inner_.transform(X)


def test_features_whose_state_a_file_cannot_hold(make_net, data, tmp_path):
    X, y, _ = data
    features = make_pipeline(MorganFingerprinter(fp_size=32), Hidden())
    net = make_net(molecule_features=features).fit(X, y)
    expected = net.transform(X)
    file = parameters_of(net)
    net.partial_fit(X, y).load_params(f_params=file)  # into itself it can
    np.testing.assert_array_equal(net.transform(X), expected)
    file.seek(0)
    some = np.isin(X, np.unique(X)[:8])
    other = make_net(molecule_features=features).fit(X[some], y[some])
    with pytest.raises(ValueError, match=r"cannot be held by .* joblib\.dump"):
        other.load_params(f_params=file)


def test_weights_alone_as_of_an_earlier_version(fitted, make_net, data):
    state = fitted.module_.state_dict()
    del state["_extra_state"]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    net = make_net(module__n_genes=30).initialize()
    with pytest.raises(ValueError, match="f_params cannot be read: it has weights"):
        net.load_params(f_params=file)
    with pytest.raises(NotFittedError):
        net.transform(data[0])
