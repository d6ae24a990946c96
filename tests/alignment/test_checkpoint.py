import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_validate
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    Unfreezer,
)
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import DrugCellLineKFold


def interrupt_in(patch, epoch):
    """Press Ctrl-C in the second batch of an epoch, once."""
    original = CoordinatedEmbedder.on_batch_begin
    pending = [True]

    def on_batch_begin(self, net, **kwargs):
        original(self, net, **kwargs)
        second = len(net.history[-1, "batches"]) == 2
        if len(net.history) == epoch and second and pending:
            pending.clear()
            raise KeyboardInterrupt

    patch.setattr(CoordinatedEmbedder, "on_batch_begin", on_batch_begin)


def interrupted(fit, *data, epoch=3):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in(patch, epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(*data)


@pytest.fixture
def epochs(monkeypatch):
    """Numbers of the epochs that are trained during the test."""
    original, numbers = CoordinatedEmbedder.on_epoch_begin, []

    def on_epoch_begin(self, net, **kwargs):
        original(self, net, **kwargs)
        numbers.append(len(net.history))

    monkeypatch.setattr(CoordinatedEmbedder, "on_epoch_begin", on_epoch_begin)
    return numbers


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge, study.groups


def callbacks():
    return [
        EarlyStopping("valid_mrr", patience=3, lower_is_better=False, load_best=True),
        GradientNormClipping(0.5),
        LRScheduler(LambdaLR, lr_lambda=partial(pow, 0.7)),
        Freezer("molecule_tower.encoder.*"),
        Unfreezer("molecule_tower.encoder.*", at=4),
    ]


PARAMS = {"max_epochs": 5, "module__dropout": 0.2, "criterion__learn_beta": True}

# The same training in a process that is killed in the middle of its third epoch.
SCRIPT = """
import os, signal, sys
import joblib
from sklearn_molge.alignment import CoordinatedEmbedder

net, data = joblib.load("job")
original = CoordinatedEmbedder.on_batch_begin

def on_batch_begin(self, net, **kwargs):
    original(self, net, **kwargs)
    if len(net.history) == 3 and len(net.history[-1, "batches"]) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

CoordinatedEmbedder.on_batch_begin = on_batch_begin
net.fit(*data)
"""


def test_killed_and_resumed_is_as_uninterrupted(
    make_net, data, split, tmp_path, assert_same_training, epochs
):
    expected = make_net(**PARAMS, train_split=split, callbacks=callbacks()).fit(*data)
    folder = tmp_path / "checkpoints"
    params = PARAMS | {"train_split": split, "checkpoint_folder": folder}
    joblib.dump((make_net(**params, callbacks=callbacks()), data), tmp_path / "job")
    (tmp_path / "job.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "job.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert [path.suffix for path in folder.iterdir()] == [".pt"]
    epochs.clear()
    resumed = make_net(**params, callbacks=callbacks()).fit(*data)
    assert epochs == list(range(3, len(expected.history) + 1))
    assert_same_training(resumed, expected)
    for key in ("valid_mrr", "valid_mrr_best", "valid_loss_best", "event_lr"):
        assert resumed.history[:, key] == expected.history[:, key]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "schedule",
    [
        LRScheduler("WarmRestartLR", min_lr=1e-3, max_lr=1e-2, base_period=2),
        LRScheduler(CosineAnnealingLR, T_max=4),
        LRScheduler(MultiStepLR, milestones=[1, 4], gamma=0.5),
        LRScheduler(OneCycleLR, max_lr=0.02, total_steps=40, step_every="batch"),
        LRScheduler(ReduceLROnPlateau, monitor="train_loss", patience=0),
    ],
    ids=lambda schedule: str(schedule.policy),
)
def test_interrupted_and_resumed_with_a_schedule(
    make_net, data, tmp_path, assert_same_training, schedule
):
    params = {"max_epochs": 5, "callbacks": [schedule]}
    expected = make_net(**params).fit(*data)
    net = make_net(**params, checkpoint_folder=tmp_path)
    interrupted(net.fit, *data)
    assert_same_training(net.fit(*data), expected)
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_an_interrupt_is_raised_too(make_net, data):
    net = make_net()
    interrupted(net.fit, *data, epoch=2)
    assert len(net.history) == 2
    assert net.transform(data[0]).shape == (120, 8)


def test_an_interrupt_before_the_first_epoch_is_raised(make_net, data, split):
    """EarlyStopping looks at the last epoch, and there is none."""

    class Sampler(CoordinatedEmbedder().sampler):
        def prepare(self, *args, **kwargs):
            raise KeyboardInterrupt

    net = make_net(sampler=Sampler, train_split=split, callbacks=callbacks())
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data)


def test_early_stopping_is_no_interrupt(make_net, data, split, tmp_path):
    # Nothing is ever better than the first epoch by so much.
    stop = EarlyStopping(
        "valid_mrr", patience=2, lower_is_better=False,
        threshold=10, threshold_mode="abs", load_best=True,
    )  # fmt: skip
    params = {"train_split": split, "callbacks": [stop], "max_epochs": 9}
    net = make_net(**params, checkpoint_folder=tmp_path).fit(*data)
    assert len(net.history) == 3
    assert list(tmp_path.iterdir()) == []
    first = make_net(max_epochs=1, train_split=split).fit(*data)
    np.testing.assert_array_equal(net.transform(data[0]), first.transform(data[0]))


@pytest.mark.parametrize("damage", ["garbage", "cut", "other format", "other network"])
def test_a_file_that_cannot_be_read(make_net, data, tmp_path, damage):
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path)
    interrupted(net.fit, *data)
    (path,) = tmp_path.iterdir()
    if damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        state = torch.load(path)
        if damage == "other format":
            state["format"] = 0
        else:
            state["module_"].popitem()
        torch.save(state, path)
    with pytest.raises(
        CorruptFileError, match=f"(?s){path} cannot be read: .*checkpoint_folder: remov"
    ):
        net.fit(*data)
    assert path.exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_in_a_file_is_run(make_net, data, tmp_path):
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path / "checkpoints")
    interrupted(net.fit, *data)
    (path,) = (tmp_path / "checkpoints").iterdir()
    torch.save({"format": 1, "seed": Bomb(tmp_path / "exploded")}, path)
    with pytest.raises(ValueError, match=r"cannot be read: .*it names __buil"):
        net.fit(*data)
    assert not (tmp_path / "exploded").exists()


def test_folds_share_a_folder(make_net, study, tmp_path, epochs):
    def run(net):
        return cross_validate(
            net, study.smiles, study.ge, groups=study.groups,
            cv=DrugCellLineKFold(2, 2, random_state=0),
            scoring=RetrievalScorer("mrr"), error_score="raise",
        )["test_score"]  # fmt: skip

    expected = run(make_net(max_epochs=3))
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path)
    epochs.clear()
    with pytest.MonkeyPatch.context() as patch:
        # Each fold of the first run is cut off, as if killed.
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        run(net.set_params(max_epochs=3))
    assert len(list(tmp_path.iterdir())) == 4
    assert epochs == [1, 2, 3] * 4
    np.testing.assert_array_equal(run(net), expected)
    assert epochs == [1, 2, 3] * 4  # all were at their end: nothing is trained again
    assert list(tmp_path.iterdir()) == []


def test_another_training_does_not_take_the_file(
    make_net, data, tmp_path, assert_same_training
):
    X, y, _ = data
    interrupted(make_net(max_epochs=3, checkpoint_folder=tmp_path).fit, *data)
    others = [
        ({"lr": 0.02}, (X, y)),
        ({"random_state": 1}, (X, y)),
        ({}, (X, y + 1)),
        ({}, (X[::-1], y[::-1])),
    ]
    for params, other in others:
        net = make_net(max_epochs=3, **params)
        expected = make_net(max_epochs=3, **params).fit(*other)
        net.set_params(checkpoint_folder=tmp_path).fit(*other)
        assert_same_training(net, expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_where_the_folder_is_and_what_is_printed_does_not_matter(
    make_net, data, tmp_path, epochs, capsys
):
    interrupted(make_net(max_epochs=3, checkpoint_folder=tmp_path / "a").fit, *data)
    (tmp_path / "a").rename(tmp_path / "b")
    epochs.clear()
    make_net(max_epochs=3, checkpoint_folder=str(tmp_path / "b"), verbose=1).fit(*data)
    assert epochs == [3]
    assert capsys.readouterr().out.split()[0] == "3"


def test_without_a_random_state_the_file_holds_the_seed(
    make_net, data, tmp_path, assert_same_training
):
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path, random_state=None)
    interrupted(net.fit, *data)
    seed = net.seed_
    net.fit(*data)
    assert net.seed_ == seed
    again = make_net(max_epochs=3)
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules[CoordinatedEmbedder.initialize_module.__module__]
        patch.setattr(module, "draw_seed", lambda random_state: seed)
        assert_same_training(again.fit(*data), net)


def test_partial_fit_is_resumed_too(make_net, data, tmp_path, assert_same_training):
    first = pickle.dumps(make_net(checkpoint_folder=tmp_path).fit(*data))
    expected = pickle.loads(first).partial_fit(*data)
    assert len(expected.history) == 4
    interrupted(pickle.loads(first).partial_fit, *data, epoch=4)
    assert_same_training(pickle.loads(first).partial_fit(*data), expected)
    # Not by a model that comes from other weights.
    interrupted(pickle.loads(first).partial_fit, *data, epoch=4)
    other = make_net().fit(data[0][:60], data[1][:60])
    alone = pickle.loads(pickle.dumps(other)).partial_fit(*data)
    other.set_params(checkpoint_folder=tmp_path).partial_fit(*data)
    assert_same_training(other, alone)
    assert len(list(tmp_path.iterdir())) == 1


class Counter(Callback):
    def initialize(self):
        self.losses_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        self.losses_.append(net.history[-1, "train_loss"])


def test_what_callbacks_learnt_comes_back(make_net, data, tmp_path):
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path, callbacks=[Counter()])
    interrupted(net.fit, *data)
    net.fit(*data)
    assert dict(net.callbacks_)["Counter"].losses_ == net.history[:, "train_loss"]


def test_what_cannot_be_told_apart_later_is_refused(make_net, data, tmp_path):
    net = make_net(
        checkpoint_folder=tmp_path,
        callbacks=[LRScheduler(LambdaLR, lr_lambda=lambda epoch: 1.0)],
    )
    with pytest.raises(TypeError, match=r"checkpoint_folder: .*<lambda> cannot be imp"):
        net.fit(*data)
    assert list(tmp_path.iterdir()) == []


def shrunk(state):
    name = next(n for n in state["module_"] if n.endswith("weight"))
    state["module_"][name] = state["module_"][name][:1]


def not_finite(state):
    name = next(n for n in state["module_"] if n.endswith("weight"))
    state["module_"][name][0, 0] = np.nan


def put(*place, value):
    def change(state):
        *way, last = place
        for step in way:
            state = state[step]
        state[last] = value

    return change


CHANGES = {
    "module: .*size mismatch": shrunk,
    "module: .*not all numbers are finite": not_finite,
    "module: .*_extra_state: expected": put("module_", "_extra_state", value=1),
    "optimizer: .*RuntimeError": put(
        "optimizer_", "state", 0, "exp_avg", value=torch.ones(3, 7, 5)
    ),
    "optimizer: .*weights that are not finite": lambda state: state["optimizer_"][
        "state"
    ][0]["exp_avg_sq"].fill_(-1),
    "optimizer: .*TypeError": put("optimizer_", "param_groups", 0, "lr", value="x"),
    "seed -1": put("seed", value=-1),
    "epoch 2 of the history is none": put("history", 1, "train_loss", value=[1]),
    "9 epochs, of a training of 3": put("history", value=[{}] * 9),
    "'trainable' is not for": put("trainable", value=[True]),
    "'on_epoch_end' of RetrievalScoring is not learnt": put(
        "callbacks", "valid_mrr", "on_epoch_end", value=1
    ),
    "'__class__' of RetrievalScoring is not learnt": put(
        "callbacks", "valid_mrr", "__class__", value=1
    ),
    "is not like": put("callbacks", "valid_mrr", "best_", value=5),
    "KeyError: 'criterion_'": lambda state: state.pop("criterion_"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_changed_file_is_refused_whole(make_net, data, tmp_path, message):
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path)
    interrupted(net.fit, *data)
    (path,) = tmp_path.iterdir()
    state = torch.load(path)
    CHANGES[message](state)
    torch.save(state, path)
    with pytest.raises(CorruptFileError, match=f"(?s){path} cannot be read.*{message}"):
        net.fit(*data)


def test_every_flipped_byte_is_found(make_net, data, tmp_path):
    """torch compares no checksums: a weight of 0.1 was 3e37 after the restart."""
    net = make_net(max_epochs=3, checkpoint_folder=tmp_path)
    interrupted(net.fit, *data)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    at = content.find(np.float32(net.module_.expression_tower.scale.scale[0]).tobytes())
    assert at > 0
    path.write_bytes(content[:at] + b"\x00" + content[at + 1 :])
    with pytest.raises(CorruptFileError, match=r"record '.*' is damaged: Bad CRC-32"):
        net.fit(*data)
