import io
import pickle
import random
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochTimer,
    GradientNormClipping,
    LRScheduler,
)
from skorch.dataset import Dataset
from skorch.exceptions import DeviceWarning
from torch.optim import SGD

from sklearn_molge.alignment import CoordinatedEmbedder, EmbeddedBatch, TwoTower
from sklearn_molge.alignment.losses import InfoNCELoss, QuadrupletLoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler, UniformSampler
from sklearn_molge.molecules import DMPNN, MoleculeGraphs, MorganFingerprinter


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


# -- losses --------------------------------------------------------------------------


def embedded(net, data, batch):
    """Embed a batch by way of `transform` and `transform_ge`."""
    X, y = data
    # Which rows they are: no two profiles of the study are alike.
    rows = [int(np.flatnonzero((y == profile).all(1))[0]) for profile in batch.profiles]
    distinct, index = np.unique(X[rows], return_inverse=True)
    return EmbeddedBatch(
        torch.from_numpy(net.transform(distinct)),
        torch.from_numpy(net.transform_ge(y[rows])),
        torch.from_numpy(index),
        torch.arange(len(distinct)),
        batch.profiles,
        batch.triplets,
    )


@pytest.mark.parametrize("criterion", [QuadrupletLoss, InfoNCELoss])
def test_training_loss_is_the_loss_of_what_transform_returns(make_net, data, criterion):
    """With hardly a step, an epoch's loss is computed by hand from the embeddings."""
    batches = []

    class Batches(Callback):
        def on_batch_begin(self, net, batch=None, **kwargs):
            batches.append(batch[0])

    net = make_net(
        criterion=criterion, sampler=UniformSampler, lr=1e-12, max_epochs=1,
        callbacks=[Batches()],
    ).fit(*data)  # fmt: skip
    with torch.no_grad():
        losses = [net.criterion_(embedded(net, data, b)).item() for b in batches]
    got = [record["train_loss"] for record in net.history[-1, "batches"]]
    np.testing.assert_allclose(got, losses, rtol=1e-5)
    sizes = [record["train_batch_size"] for record in net.history[-1, "batches"]]
    assert net.history[-1, "train_loss"] == pytest.approx(
        np.average(got, weights=sizes)
    )


def test_losses_that_are_read_at_the_end_of_the_epoch(
    monkeypatch, make_net, study, split, assert_same_training
):
    """The loop for a GPU, run on the CPU."""
    data = study.smiles, study.ge, study.groups
    expected = make_net(train_split=split).fit(*data)
    monkeypatch.setattr(CoordinatedEmbedder, "_losses_wait", True)
    net = make_net(train_split=split).fit(*data)
    assert_same_training(net, expected)
    for got, wanted in zip(net.history, expected.history, strict=True):
        assert got["batches"] == wanted["batches"]
        del got["dur"], wanted["dur"]
        assert got == wanted


def test_bfloat16_stays_near_float32(make_net, data):
    exact, rough = (
        make_net(precision=precision, lr=1e-4).fit(*data)
        for precision in ("float32", "bfloat16")
    )
    losses = [net.history[:, "train_loss"] for net in (exact, rough)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert rough.transform(data[0]).dtype == np.float32
    correlation = np.corrcoef(
        *(net.transform(data[0]).ravel() for net in (exact, rough))
    )
    assert correlation[0, 1] > 0.99


def test_tf32_is_set_back(make_net, data):
    before = torch.backends.cuda.matmul.allow_tf32
    make_net(precision="tf32", max_epochs=1).fit(*data)
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_workers_of_the_loader_change_nothing(make_net, data, assert_same_training):
    params = {"module__dropout": 0.2, "max_epochs": 1}
    net = make_net(**params, iterator_train__num_workers=2).fit(*data)
    assert_same_training(net, make_net(**params).fit(*data))


# -- seeds ---------------------------------------------------------------------------


def test_same_seed_same_weights(make_net, data, assert_same_training):
    params = {"module__dropout": 0.3, "encoder__dropout": 0.1}
    nets = [make_net(**params, random_state=seed).fit(*data) for seed in (3, 3, 4)]
    assert_same_training(*nets[:2])
    assert_same_training(clone(nets[0]).fit(*data), nets[0])
    assert nets[0].history[:, "train_loss"] != nets[2].history[:, "train_loss"]


def test_a_random_state_instance_is_drawn_from_at_each_fit(make_net, data):
    nets = [
        make_net(random_state=np.random.RandomState(0), max_epochs=1) for _ in range(2)
    ]
    first, again = ([net.fit(*data).seed_ for _ in range(2)] for net in nets)
    assert first == again
    assert first[0] != first[1]


@pytest.mark.parametrize("random_state", [0, None])
def test_global_generators_are_left_alone(make_net, data, random_state):
    def states():
        numbers = np.random.get_state()[1].tolist(), np.random.get_state()[2]
        return torch.get_rng_state().tolist(), *numbers, random.getstate()

    before = states()
    net = make_net(random_state=random_state, module__dropout=0.1).fit(*data)
    net.partial_fit(*data).score(*data)
    assert states() == before


def test_the_state_of_global_generators_does_not_matter(
    make_net, data, assert_same_training
):
    expected = make_net(module__dropout=0.1).fit(*data)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert_same_training(make_net(module__dropout=0.1).fit(*data), expected)


def test_each_epoch_of_each_training_has_a_seed_of_its_own(make_net, data):
    seeds = []

    class Seeds(Callback):
        def on_batch_begin(self, net, **kwargs):
            seeds.append(torch.initial_seed())

    for random_state in range(3):
        make_net(random_state=random_state, callbacks=[Seeds()]).fit(*data)
    n_epochs = 3 * make_net().max_epochs
    assert len(set(seeds)) == n_epochs < len(seeds)


# -- device --------------------------------------------------------------------------


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    net = CoordinatedEmbedder(device="auto")
    for there, name in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert net.device == name
        assert CoordinatedEmbedder(device="cuda:1").device == "cuda:1"


def save_params(net):
    file = io.BytesIO()
    net.save_params(f_params=file)
    file.seek(0)
    return file


def test_the_device_stays_as_it_was_named(make_net, data):
    net = make_net(device="auto").fit(*data)
    assert net.get_params()["device"] == "auto"
    assert clone(net).get_params()["device"] == "auto"
    assert net.device in ("cpu", "cuda")
    net.load_params(f_params=save_params(net))
    assert net.get_params()["device"] == "auto"


def test_a_model_from_a_gpu_is_unpickled_without_one(fitted, data):
    """What a model trained with device="cuda" has in its pickle, without the GPU."""
    state = fitted.__getstate__() | {"device": "cuda"}
    net = CoordinatedEmbedder.__new__(CoordinatedEmbedder)
    if torch.cuda.is_available():
        net.__setstate__(state)
    else:
        with pytest.warns(DeviceWarning) as record:
            net.__setstate__(state)
        assert "Setting self.device = cpu" in str(record[-1].message)
        assert str(net.device) == "cpu"
    got = net.transform(data[0]), net.transform_ge(data[1])
    expected = fitted.transform(data[0]), fitted.transform_ge(data[1])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_auto_is_unpickled_without_a_warning(fitted, data):
    state = pickle.dumps(fitted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = pickle.loads(state)
    np.testing.assert_array_equal(net.transform(data[0]), fitted.transform(data[0]))


class NoTensors(pickle.Pickler):
    def reducer_override(self, obj):
        assert not isinstance(obj, torch.Tensor)
        return NotImplemented


def test_every_tensor_is_in_the_part_of_the_pickle_that_may_move(make_net, data, study):
    """Else a pickle of a GPU's tensors could not be read without one."""
    callbacks = [
        LRScheduler("WarmRestartLR"),
        EarlyStopping("train_loss", load_best=True),
        GradientNormClipping(1.0),
    ]
    net = make_net(callbacks=callbacks, criterion__learn_beta=True).fit(*data)
    state = net.__getstate__()
    moved = pickle.loads(state.pop("__cuda_dependent_attributes__"))
    assert {"module_", "criterion_", "optimizer_", "callbacks_"} <= set(moved)
    NoTensors(io.BytesIO()).dump(state)
    loaded = pickle.loads(pickle.dumps(net))
    schedule = dict(loaded.callbacks_)["LRScheduler"].lr_scheduler_
    assert schedule.optimizer is loaded.optimizer_


# -- parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"module__dropout": 2}, ValueError, "'dropout'.* Got 2"),
        ({"module__expression_layers": [0]}, ValueError, "expression_layers must be"),
        ({"module__droput": 0.1}, TypeError, "nearest is 'module__dropout'"),
        ({"criterion__margin": -1}, ValueError, "'margin'.* Got -1"),
        ({"criterion__alpha": 1}, TypeError, "alpha"),
        ({"sampler__weighting": "x"}, ValueError, "'weighting'.* Got 'x'"),
        ({"sampler__foo": 1}, TypeError, "foo"),
        ({"encoder__aggregation": "max"}, ValueError, "aggregation must .* Got 'max'"),
        ({"encoder__depht": 8}, TypeError, "nearest is 'encoder__depth'"),
        ({"encoder": "no_such_file.pt"}, FileNotFoundError, "no_such_file.pt"),
        ({"encoder": 3}, ValueError, "'encoder'.* Got 3"),
        ({"optimizer__betas": (2, 3)}, ValueError, "Invalid beta parameter"),
        ({"optimizer__momentum": 1}, TypeError, "momentum"),
        ({"optimiser__lr": 1}, TypeError, "optimiser__lr'.* is 'optimizer__lr'"),
        ({"max_epoch": 1}, TypeError, "'max_epoch'.* nearest is 'max_epochs'"),
        ({"module_dropout": 0}, TypeError, "nearest is 'module__dropout'"),
        ({"iterator_train__num_worker": 1}, TypeError, "iterator_train__num_workers'"),
        ({"callbacks__print_lg": None}, TypeError, "is 'callbacks__print_log'"),
        ({"lr": -1}, ValueError, "'lr'.* Got -1"),
        ({"max_epochs": 0}, ValueError, "'max_epochs'.* Got 0"),
        ({"batch_size": 1}, ValueError, "'batch_size'.* Got 1"),
        ({"metric": "jaccard"}, ValueError, "'metric'.* Got 'jaccard'"),
        ({"precision": "half"}, ValueError, "'precision'.* Got 'half'"),
        ({"device": "gpu"}, ValueError, "device must be .* Got 'gpu'"),
        ({"train_split": 5}, ValueError, "'train_split'.* Got 5"),
        ({"random_state": "x"}, ValueError, "'random_state'.* Got 'x'"),
        ({"molecule_features": 5}, ValueError, "'molecule_features'.* Got 5"),
        ({"callbacks": 5}, ValueError, "'callbacks'.* Got 5"),
    ],
)  # fmt: skip
def test_wrong_parameters_raise_before_any_work(
    monkeypatch, make_net, data, params, error, match
):
    def work(*args, **kwargs):
        pytest.fail("a graph was built")

    monkeypatch.setattr(MoleculeGraphs, "from_smiles", work)
    with pytest.raises(error, match=match):
        make_net(**params).fit(*data)


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer__param_groups": [("*", {"lr": 1e-5})], "optimizer__eps": 1e-7},
        {"callbacks": [("mine", EpochTimer())], "callbacks__mine": None},
        {"callbacks": [LRScheduler()], "callbacks__LRScheduler__monitor": "train_loss",
         "callbacks__LRScheduler__step_every": "epoch"},
        {"callbacks__valid_mrr": None, "iterator_train__num_workers": 0},
        {"dataset": Dataset, "compile": False, "use_caching": "auto"},
    ],
)  # fmt: skip
def test_names_of_skorch_are_taken(make_net, data, params):
    clone(make_net(**params)).fit(*data)


def test_a_module_that_takes_any_parameter(make_net):
    class Open(TwoTower):
        def __init__(self, n_genes, n_features=0, encoder=None, **others):
            others.pop("of_its_own", None)
            super().__init__(n_genes, n_features, encoder, **others)

    make_net(module=Open, module__of_its_own=1)._validate_params()


def test_a_parameter_group_that_matches_nothing(make_net, data):
    groups = [("molecule_tower.encodr.*", {"lr": 1e-5})]
    with pytest.raises(ValueError, match=r"optimizer__param_groups .*encodr.* none"):
        make_net(optimizer__param_groups=groups).fit(*data)


def test_get_params_clone_and_repr(make_net):
    features = MorganFingerprinter(fp_size=32)
    net = make_net(
        molecule_features=features, module__dropout=0.1, callbacks=[LRScheduler()]
    )
    params = net.get_params()
    assert params["molecule_features__fp_size"] == 32
    assert params["module__dropout"] == 0.1
    assert params["encoder__hidden_size"] == 16
    copy = clone(net)
    assert copy.molecule_features is not features
    assert copy.molecule_features.fp_size == 32
    assert copy.module__dropout == 0.1
    assert "CoordinatedEmbedder" in repr(net)


def test_clone_of_a_fitted_net_is_unfitted(fitted, data):
    copy = clone(fitted)
    for method, X in (("transform", data[0]), ("transform_ge", data[1])):
        with pytest.raises(NotFittedError):
            getattr(copy, method)(X)
    assert copy.get_params(deep=False) == fitted.get_params(deep=False)


CHANGES = {
    "encoder": None,
    "encoder__hidden_size": 5,
    "molecule_features": MorganFingerprinter(fp_size=8),
    "module__embedding_size": 3,
    "module__dropout": 0.9,
    "criterion": InfoNCELoss,
    "optimizer": SGD,
    "sampler": UniformSampler,
    "callbacks": [LRScheduler()],
    "lr": 5.0,
    "random_state": 8,
    "device": "meta",
    "max_epochs": 1,
}


@pytest.mark.parametrize("name", CHANGES)
def test_set_params_leaves_a_fitted_net_working(make_net, data, fitted, name):
    net = pickle.loads(pickle.dumps(fitted))
    module = net.module_
    assert net.set_params(**{name: CHANGES[name]}) is net
    assert net.get_params()[name] is CHANGES[name]
    assert net.module_ is module
    np.testing.assert_array_equal(net.transform(data[0]), fitted.transform(data[0]))
    np.testing.assert_array_equal(
        net.transform_ge(data[1]), fitted.transform_ge(data[1])
    )


def test_set_params_counts_in_the_next_fit(
    make_net, data, fitted, assert_same_training
):
    net = pickle.loads(pickle.dumps(fitted))
    net.set_params(module__embedding_size=3, lr=0.02, criterion=InfoNCELoss).fit(*data)
    expected = make_net(module__embedding_size=3, lr=0.02, criterion=InfoNCELoss)
    assert_same_training(net, expected.fit(*data))


def test_nested_set_params(make_net, data):
    net = make_net(molecule_features=MorganFingerprinter(fp_size=32))
    net.fit(*data).set_params(
        molecule_features__radius=1, molecule_features__fp_size=64
    )
    assert net.molecule_features.radius == 1
    assert net.molecule_features_.fp_size == 32
    assert net.transform(data[0][:3]).shape == (3, 8)
    assert net.fit(*data).molecule_features_.fp_size == 64


def test_set_params_of_what_is_not_there(make_net):
    with pytest.raises(ValueError, match="Invalid parameter 'widht'"):
        make_net().set_params(widht=3)


@pytest.mark.parametrize("name", ["predict", "predict_proba", "forward"])
def test_what_a_two_view_estimator_has_not(fitted, name):
    assert not hasattr(fitted, name)
    with pytest.raises(AttributeError, match="has no predict; use similarity"):
        getattr(fitted, name)


# -- pickles -------------------------------------------------------------------------


def test_pickles_before_between_and_after_trainings(
    make_net, data, tmp_path, assert_same_training
):
    params = {"callbacks": [LRScheduler("StepLR", step_size=1)], "module__dropout": 0.1}
    expected = make_net(**params).fit(*data).partial_fit(*data)
    net = make_net(**params)
    for train in ("fit", "partial_fit"):
        joblib.dump(net, tmp_path / "net")
        net = getattr(joblib.load(tmp_path / "net"), train)(*data)
    assert_same_training(net, expected)
    joblib.dump(net, tmp_path / "net")
    loaded = joblib.load(tmp_path / "net")
    np.testing.assert_array_equal(
        loaded.similarity(data[0][:5], data[1][:4]),
        expected.similarity(data[0][:5], data[1][:4]),
    )


def test_the_graph_network_is_made_once_a_fit(monkeypatch, make_net, data):
    calls = []
    original = DMPNN.__init__

    def init(self, *args, **kwargs):
        calls.append((kwargs["hidden_size"], kwargs["depth"]))
        original(self, *args, **kwargs)

    monkeypatch.setattr(DMPNN, "__init__", init)
    make_net(encoder__depth=2).fit(*data).partial_fit(*data)
    assert calls == [(16, 2)]


# -- training that goes on after set_params ------------------------------------------

FOR_GOOD = {
    "encoder": None,
    "encoder__hidden_size": 5,
    "encoder__depth": 2,
    "molecule_features": MorganFingerprinter(fp_size=32, radius=1),
    "molecule_features__radius": 1,
    "module__embedding_size": 3,
    "module__dropout": 0.9,
    "random_state": 8,
}


@pytest.mark.parametrize("name", FOR_GOOD)
@pytest.mark.parametrize("warm", [False, True])
def test_what_trained_weights_do_not_fit_is_refused(make_net, data, name, warm):
    features = MorganFingerprinter(fp_size=32)
    net = make_net(molecule_features=features, warm_start=warm, max_epochs=1)
    net.fit(*data)
    net = pickle.loads(pickle.dumps(net))
    before, given = net.transform(data[0]), net.get_params()
    train = net.fit if warm else net.partial_fit
    net.set_params(**{name: FOR_GOOD[name]})
    said = name.removesuffix("__radius")
    with pytest.raises(ValueError, match=rf"'{said}' changed since .* warm_start=Fals"):
        train(*data)
    np.testing.assert_array_equal(net.transform(data[0]), before)
    if name in given:
        net.set_params(**{name: given[name]})
        train(*data)
        assert net.history[:, "epoch"] == [1, 2]


def test_another_loss_is_taken_up(make_net, data):
    """A loss with a parameter of its own: the optimizer is made anew for it."""
    X, y = data
    net = make_net(warm_start=True).fit(X, y)
    module = net.module_
    net.set_params(criterion=InfoNCELoss, criterion__learn_temperature=True)
    assert net.get_params()["criterion__learn_temperature"]
    net.fit(X, y)
    assert net.module_ is module
    assert isinstance(net.criterion_, InfoNCELoss)
    learnt = [p for group in net.optimizer_.param_groups for p in group["params"]]
    assert any(net.criterion_.log_scale is p for p in learnt)
    assert len(net.history) == 4
    before = net.criterion_.log_scale.item()
    net.partial_fit(X, y)  # nothing changed: the loss goes on, too
    assert net.criterion_.log_scale.item() != before
    net.set_params(criterion__temperature=0.5).partial_fit(X, y)
    assert net.criterion_.log_scale.item() == pytest.approx(np.log(2), abs=0.2)


def test_another_optimizer_and_other_callbacks_are_taken_up(make_net, data, tmp_path):
    X, y = data
    net = make_net(module__start="random").fit(X, y)
    net.set_params(optimizer=SGD).partial_fit(X, y)
    assert isinstance(net.optimizer_, SGD)
    groups = [("molecule_tower.*", {"lr": 0.0})]
    net.set_params(optimizer__param_groups=groups).partial_fit(X, y)
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.0, 0.01]
    stop = EarlyStopping("train_loss", patience=1, threshold=10, threshold_mode="abs")
    net.set_params(callbacks=[stop], max_epochs=9).partial_fit(X, y)
    assert len(net.history) == 6 + 2
    net.set_params(callbacks=None, max_epochs=1, checkpoint_folder=tmp_path / "kept")
    net.partial_fit(X, y)
    assert (tmp_path / "kept").is_dir()
    net.set_params(sampler=DrugBalancedSampler, sampler__drugs_per_batch=20)
    net.partial_fit(X, y)
    assert len(net.history[-1, "batches"]) == 3


def test_best_scores_are_remembered_when_callbacks_change(make_net, study, split):
    rows = study.smiles, study.ge, study.groups
    net = make_net(train_split=split, max_epochs=4, lr=0.03).fit(*rows)
    net.set_params(callbacks=[LRScheduler("StepLR", step_size=1)]).partial_fit(*rows)
    best = -1.0
    for epoch in net.history:
        assert epoch["valid_mrr_best"] == (epoch["valid_mrr"] > best)
        best = max(best, epoch["valid_mrr"])


def test_a_seed_of_a_generator_may_have_moved_on(make_net, data):
    net = make_net(random_state=np.random.RandomState(0)).fit(*data)
    net.random_state.rand()
    assert len(net.partial_fit(*data).history) == 4


def test_other_features_of_rows(make_net, data):
    X, y = data[1][:, :7], data[1]
    net = make_net(None).fit(X, y)
    net.partial_fit(X[:9] + 1, y[:9])  # molecules that it has not seen
    with pytest.raises(ValueError, match="X has 6 features"):
        net.partial_fit(X[:, :6], y)


@pytest.mark.parametrize("entry", [1, "EarlyStopping", ("stop", 3), None, object()])
def test_callbacks_that_are_none(make_net, data, entry):
    with pytest.raises(ValueError, match=r"callbacks must be a list .* Got "):
        make_net(callbacks=[LRScheduler, entry]).fit(*data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_a_device_that_is_not_there(make_net, data, device):
    with pytest.raises(ValueError, match=r"torch finds 0 GPU.* Got 'cuda"):
        make_net(device=device).fit(*data)
