import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import PredefinedSplit
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Freezer,
    ProgressBar,
    Unfreezer,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import predefined_split

from sklearn_molge.alignment import losses
from sklearn_molge.alignment.losses import (
    DeepCCALoss,
    InfoNCELoss,
    QuadrupletLoss,
    QuintupletLoss,
    SigmoidLoss,
    TripletCCALoss,
    TripletLoss,
)
from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
    UniformSampler,
)
from sklearn_molge.metrics import (
    mean_reciprocal_rank,
    retrieval_ranks,
)
from sklearn_molge.molecules import (
    MoleculeGraphs,
    MorganFingerprinter,
)


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


# -- what is learnt from what --------------------------------------------------------


def test_nothing_is_learnt_from_the_validation_part(make_net, study, split):
    """Garbage in all rows but the training rows changes no weight and no scale."""
    X, y, groups = study.smiles, study.ge, study.groups
    train, valid = next(split.split(X, groups=groups))
    assert not set(groups[train, 0]) & set(groups[valid, 0])
    net = make_net(train_split=split, molecule_features=MorganFingerprinter(fp_size=32))
    expected = clone(net).fit(X, y, groups=groups)
    spoilt_y, spoilt_X = np.full_like(y, 1e3), X.copy()
    spoilt_y[train] = y[train]
    others = np.setdiff1d(np.arange(len(X)), train)
    for i, drug in enumerate(np.unique(groups[others, 0])):
        rows = others[groups[others, 0] == drug]
        if not np.isin(drug, groups[train, 0]):
            spoilt_X[rows] = "C" * (i + 1)
    net.fit(spoilt_X, spoilt_y, groups=groups)
    state, wanted = (n.module_.state_dict() for n in (net, expected))
    for key in wanted:
        assert torch.equal(state[key], wanted[key]), key
    assert net.history[:, "train_loss"] == expected.history[:, "train_loss"]
    assert net.history[:, "valid_loss"] != expected.history[:, "valid_loss"]


class Batches(Callback):
    def initialize(self):
        self.drugs_, self.profiles_ = [], []
        return self

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        pairs = batch[0]
        if training:
            self.profiles_.append(pairs.profiles)
            drugs = pairs.molecule_drugs[pairs.molecule_index]
            if pairs.triplets is not None:
                own, other, partners = (drugs[part] for part in pairs.triplets)
                assert bool((own != other).all())
                assert bool((own == partners).all())
            self.drugs_.append(pairs.molecule_drugs)


def test_training_sees_the_training_rows_only(make_net, study, split):
    train, _ = next(split.split(study.smiles, groups=study.groups))
    net = make_net(
        train_split=split, callbacks=[Batches()], sampler__partners=True
    ).fit(study.smiles, study.ge, groups=study.groups)
    seen = torch.cat(dict(net.callbacks_)["Batches"].profiles_).numpy()
    np.testing.assert_array_equal(
        np.unique(seen, axis=0), np.unique(study.ge[train], axis=0)
    )


def test_isomers_and_salts_are_no_negatives(make_net, data):
    X, y = data[0][:60].copy(), data[1][:60]
    X[:9:3], X[1:9:3], X[2:9:3] = (
        "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)[O-].[Na+]",
    )  # fmt: skip
    for sampler in (UniformSampler, DrugBalancedSampler):
        extra = {"sampler__partners": True} if sampler is UniformSampler else {}
        net = make_net(sampler=sampler, callbacks=[Batches()], **extra).fit(X, y)
        codes = torch.cat(dict(net.callbacks_)["Batches"].drugs_)
        assert len(torch.unique(codes)) == 1 + len(set(X[9:]))


# -- training ------------------------------------------------------------------------


def test_partial_fit_goes_on(make_net, data):
    net = make_net().partial_fit(*data)
    np.testing.assert_array_equal(
        net.transform(data[0]), make_net().fit(*data).transform(data[0])
    )
    module = net.module_
    assert net.partial_fit(*data) is net
    assert net.module_ is module
    assert net.history[:, "epoch"] == [1, 2, 3, 4]
    warm = make_net(warm_start=True).fit(*data).fit(*data)
    np.testing.assert_array_equal(warm.transform(data[0]), net.transform(data[0]))
    # Two and two epochs are four: each has its own seed.
    whole = make_net(max_epochs=4, lr=1e-2).fit(*data)
    np.testing.assert_array_equal(whole.transform(data[0]), net.transform(data[0]))


def test_fit_begins_anew(make_net, data):
    net = make_net().fit(*data)
    first = net.transform(data[0])
    np.testing.assert_array_equal(net.fit(*data).transform(data[0]), first)
    assert len(net.history) == 2


def test_partial_fit_takes_other_rows_but_no_other_genes(make_net, data):
    net = make_net().fit(*data)
    net.partial_fit(["CCO", "CCN", "CCC"], data[1][:3])
    with pytest.raises(ValueError, match="y has 29 genes"):
        net.partial_fit(data[0], data[1][:, :29])


def test_early_stopping_restores_the_best_weights(make_net, study, split):
    for key in ("valid_mrr", "valid_mrr_drug"):
        stop = EarlyStopping(key, patience=3, lower_is_better=False, load_best=True)
        net = make_net(train_split=split, callbacks=[stop], max_epochs=30, lr=0.03).fit(
            study.smiles, study.ge, groups=study.groups
        )
        scores = net.history[:, key]
        best = int(np.argmax(scores))
        assert len(scores) == best + 4  # three epochs without a better score
        until_best = make_net(train_split=split, max_epochs=best + 1, lr=0.03)
        until_best.fit(study.smiles, study.ge, groups=study.groups)
        np.testing.assert_array_equal(
            net.transform(study.smiles), until_best.transform(study.smiles)
        )


def test_skorch_keeps_the_best_checkpoints(make_net, study, split, tmp_path):
    keep = Checkpoint(
        "valid_mrr_best", dirname=tmp_path, f_params="params_{last_epoch[epoch]}.pt",
        f_history="history.json",
    )  # fmt: skip
    net = make_net(train_split=split, callbacks=[keep], max_epochs=5)
    net.fit(study.smiles, study.ge, groups=study.groups)
    assert len(net.history) == 5
    best = [row["epoch"] for row in net.history if row["valid_mrr_best"]]
    files = {path.name for path in tmp_path.glob("params_*.pt")}
    assert files == {f"params_{epoch}.pt" for epoch in best}
    assert json.loads((tmp_path / "history.json").read_text())
    net.load_params(f_params=tmp_path / f"params_{best[-1]}.pt")
    _, valid = next(split.split(study.smiles, groups=study.groups))
    ranks = retrieval_ranks(
        net, study.smiles[valid], study.ge[valid], drugs=study.groups[valid, 0]
    )
    scores = net.history[:, "valid_mrr"]
    assert mean_reciprocal_rank(ranks) == pytest.approx(max(scores))


def test_params_as_safetensors(make_net, fitted, data, tmp_path):
    path = tmp_path / "params.safetensors"
    fitted.save_params(f_params=path, use_safetensors=True)
    net = make_net(random_state=1).fit(*data)
    assert not np.allclose(net.transform(data[0]), fitted.transform(data[0]))
    net.load_params(f_params=path, use_safetensors=True)
    np.testing.assert_array_equal(net.transform(data[0]), fitted.transform(data[0]))


@pytest.mark.filterwarnings("default")  # tqdm's, where there is no notebook
def test_progress_bar(make_net, data, capsys):
    make_net(callbacks=[ProgressBar(detect_notebook=False)], verbose=1).fit(*data)
    printed = capsys.readouterr()
    assert "train_loss" in printed.out
    assert printed.err.count("| 0/4 [") >= 2  # four batches, twice


def test_colours_are_for_a_terminal(make_net, data, capsys, monkeypatch):
    make_net(verbose=1).fit(*data)
    plain = capsys.readouterr().out
    assert "train_loss" in plain
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    make_net(verbose=1).fit(*data)
    assert "\x1b" in capsys.readouterr().out


class Weights(Callback):
    """Keeps the graph network's first weights after each epoch."""

    def initialize(self):
        self.kept_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        tower = net.module_.molecule_tower
        weights = (tower.encoder.W_i.weight, tower.head[0].weight)
        self.kept_.append([w.detach().clone() for w in weights])


def changes(net):
    """Which of graph network and head changed, epoch after epoch from the second."""
    kept = dict(net.callbacks_)["Weights"].kept_
    return [
        [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        for before, after in pairwise(kept)
    ]


def test_freezing_and_unfreezing_the_graph_network(make_net, data):
    pattern = "molecule_tower.encoder.*"
    callbacks = [Freezer(pattern), Unfreezer(pattern, at=3), Weights()]
    net = make_net(callbacks=callbacks, max_epochs=3).fit(*data)
    assert changes(net) == [[False, True], [True, True]]


def test_parts_have_their_own_learning_rate(make_net, data):
    groups = [("molecule_tower.encoder.*", {"lr": 0.0})]
    net = make_net(optimizer__param_groups=groups, callbacks=[Weights()]).fit(*data)
    assert changes(net) == [[False, True]]
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.0, 0.01]


def test_beta_is_learnt_if_asked_to(make_net, data):
    learnt = make_net(criterion__learn_beta=True).fit(*data)
    fixed = make_net().fit(*data)
    parameters = [list(net.criterion_.parameters()) for net in (learnt, fixed)]
    assert [len(p) for p in parameters] == [1, 0]
    (beta,) = parameters[0]
    assert beta.item() != pytest.approx(1.2)
    assert any(beta is p for g in learnt.optimizer_.param_groups for p in g["params"])


@pytest.mark.parametrize("criterion", [InfoNCELoss, SigmoidLoss])
def test_losses_over_all_pairs(make_net, data, criterion):
    net = make_net(
        criterion=criterion, sampler=DrugBalancedSampler, sampler__drugs_per_batch=8,
        module__normalize=True, max_epochs=5,
    ).fit(*data)  # fmt: skip
    losses = net.history[:, "train_loss"]
    assert losses[-1] < losses[0]
    norms = np.linalg.norm(net.transform(data[0]), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


# -- what a loss needs of its sampler ------------------------------------------------

TWO_PROFILES = [
    {"criterion": QuintupletLoss},
    {"criterion": TripletLoss, "criterion__anchor": "expression_only"},
    {"criterion": TripletCCALoss, "criterion__anchor": "expression_only"},
]


@pytest.mark.parametrize("params", TWO_PROFILES)
@pytest.mark.parametrize("sampler", [DistanceWeightedSampler, UniformSampler])
def test_a_loss_that_needs_partners_gets_them(
    make_net, data, params, sampler, assert_same_training
):
    net = make_net(sampler=sampler, **params).fit(*data)
    told = make_net(sampler=sampler, sampler__partners=True, **params).fit(*data)
    assert_same_training(net, told)
    balanced = make_net(sampler=DrugBalancedSampler, **params).fit(*data)
    assert np.isfinite(balanced.history[:, "train_loss"]).all()


class NoPartners(UniformSampler):
    """A sampler of one's own, which says that it draws none."""

    def __init__(self, *, batch_size=8):
        super().__init__(batch_size=batch_size)


@pytest.mark.parametrize("params", TWO_PROFILES)
@pytest.mark.parametrize(
    "sampler",
    [
        {"sampler": DistanceWeightedSampler, "sampler__partners": False},
        {"sampler": NoPartners},
    ],
)
def test_a_sampler_without_partners_is_refused_at_once(
    make_net, data, params, sampler, monkeypatch
):
    monkeypatch.setattr(MoleculeGraphs, "from_smiles", pytest.fail)
    loss, drawn_by = params["criterion"].__name__, sampler["sampler"].__name__
    with pytest.raises(ValueError, match=rf"{loss} .* {drawn_by} .*sampler__partners="):
        make_net(**params, **sampler).fit(*data)


# -- training that diverges ----------------------------------------------------------


class Spoil(Callback):
    """Sets a weight to NaN in one epoch."""

    def __init__(self, epoch, value=np.nan):
        self.epoch = epoch
        self.value = value

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history) == self.epoch:
            with torch.no_grad():
                net.module_.expression_tower.network[0].bias[0] = self.value


@pytest.mark.parametrize("criterion", [QuadrupletLoss, InfoNCELoss, DeepCCALoss])
def test_diverged_training_returns_to_its_last_finite_epoch(
    make_net, study, split, criterion, assert_same_training, tmp_path
):
    params = {"criterion": criterion, "train_split": split, "module__dropout": 0.1}
    rows = study.smiles, study.ge, study.groups
    stop = EarlyStopping("valid_mrr", patience=9, lower_is_better=False)
    net = make_net(
        callbacks=[Spoil(3), stop], max_epochs=5, checkpoint_folder=tmp_path, **params
    )
    with pytest.warns(
        ConvergenceWarning,
        match=r"diverged in epoch 3: .*lr=0\.01\..* epoch 2, the last",
    ):
        net.fit(*rows)
    assert len(net.history) == 2
    assert_same_training(net, make_net(max_epochs=2, **params).fit(*rows))
    assert np.isfinite(net.similarity(study.smiles, study.ge)).all()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_that_diverges_at_once_raises(make_net, data, value):
    net = make_net(callbacks=[Spoil(1, value)])
    with pytest.raises(ValueError, match=r"in epoch 1: .* lr=0\.01\. Lower lr"):
        net.fit(*data)
    with pytest.raises(NotFittedError):
        net.transform(data[0])
    with pytest.raises(ValueError, match=r"diverged in epoch 1: .* lr=1e\+30"):
        make_net(lr=1e30).fit(*data)


def test_training_on_that_diverges_at_once_keeps_the_weights(make_net, data):
    net = make_net().fit(*data)
    before = net.transform(data[0])
    net.set_params(lr=1e30)
    with pytest.warns(ConvergenceWarning, match="epoch 3: .* that of epoch 2"):
        net.partial_fit(*data)
    np.testing.assert_array_equal(net.transform(data[0]), before)
    # and can go on at another rate
    net.set_params(lr=1e-3).partial_fit(*data)
    assert net.history[:, "epoch"] == [1, 2, 3, 4]


def test_an_error_that_is_not_of_the_numbers_is_raised(make_net, data):
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("no space")

    net = make_net(callbacks=[Broken()])
    with pytest.raises(RuntimeError, match="no space"):
        net.fit(*data)


# -- parts of the data ---------------------------------------------------------------


def test_a_validation_part_without_rows(make_net, data):
    split = PredefinedSplit(np.full(120, -1))
    with pytest.raises((ValueError, StopIteration)):
        make_net(train_split=split).fit(*data)

    class NoRows:
        def split(self, X, y, groups):
            yield np.arange(120), np.arange(0)

    with pytest.raises(ValueError, match="leaves none to the validation part"):
        make_net(train_split=NoRows()).fit(*data)


def test_rows_chosen_beforehand(make_net, study, split):
    X, y, groups = study.smiles, study.ge, study.groups
    train, valid = next(split.split(X, groups=groups))
    rows = np.r_[train, valid]
    fold = np.r_[np.full(len(train), -1), np.zeros(len(valid), dtype=int)]
    net = make_net(train_split=PredefinedSplit(fold)).fit(X[rows], y[rows])
    expected = make_net(train_split=split).fit(X, y, groups)
    assert len(expected.history) == len(net.history)
    assert 0 < net.history[-1, "valid_mrr"] <= 1
    held = SkorchDataset(X[valid], y[valid])
    with pytest.raises(TypeError, match=r"predefined_split .*PredefinedSplit\("):
        make_net(train_split=predefined_split(held)).fit(X[train], y[train])


SAMPLERS = [DistanceWeightedSampler, UniformSampler, DrugBalancedSampler]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", losses.__all__)
def test_smallest_sets_train_to_finite_weights(make_net, data, sampler, name):
    """Two drugs with a profile each; more anchors a batch than there are."""
    X, y = data
    rows = [0, int(np.flatnonzero(X != X[0])[0])]
    groups = np.array([["a", "only"], ["b", "only"]], dtype=object)
    net = make_net(criterion=getattr(losses, name), sampler=sampler)
    net.fit(X[rows], y[rows], groups)
    assert np.isfinite(net.similarity(X[rows], y[rows])).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_of_the_profiles(make_net, data, dtype):
    y = data[1].astype(np.float16)
    expected = make_net().fit(data[0], y.astype(np.float32))
    net = make_net().fit(data[0], y.astype(dtype))
    np.testing.assert_array_equal(net.transform_ge(y), expected.transform_ge(y))
