"""Files of weights that are damaged or hostile change nothing, and run nothing."""

import json
import pickle
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from skorch.callbacks import Checkpoint, LoadInitState

from sklearn_molge.exceptions import CorruptFileError


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge, study.groups


def same_net(net, before):
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key])
    return True


@pytest.fixture
def saved(make_net, data, tmp_path):
    """A net, and the files of another training of it."""
    net = make_net(random_state=1).fit(*data)
    net.save_params(
        tmp_path / "params", tmp_path / "optimizer", f_history=str(tmp_path / "history")
    )
    net.save_params(tmp_path / "safe", use_safetensors=True)
    return make_net().fit(*data), tmp_path


def load(net, folder, **files):
    names = {"f_params": "params", "f_optimizer": "optimizer", "f_history": "history"}
    net.load_params(**{k: str(folder / n) for k, n in names.items()} | files)


def test_all_files_or_none(saved):
    net, folder = saved
    before, epochs = deepcopy(net.module_.state_dict()), deepcopy(net.history)
    content = (folder / "optimizer").read_bytes()
    (folder / "optimizer").write_bytes(content[:-100])
    with pytest.raises(CorruptFileError, match="optimizer cannot be read: it is cut"):
        load(net, folder)
    assert same_net(net, before)
    assert net.history == epochs
    (folder / "optimizer").write_bytes(content)
    load(net, folder)
    assert not torch.equal(
        net.module_.state_dict()["expression_tower.network.0.weight"],
        before["expression_tower.network.0.weight"],
    )


def test_a_flipped_bit_in_safetensors_is_found(saved):
    """The format has no checksums: the weights have their own."""
    net, folder = saved
    before = deepcopy(net.module_.state_dict())
    content = bytearray((folder / "safe").read_bytes())
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    start, _ = header["expression_tower.network.0.weight"]["data_offsets"]
    content[8 + n + start + 2] ^= 1
    (folder / "safe").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"safe cannot .* their checksum dif"):
        net.load_params(folder / "safe", use_safetensors=True)
    assert same_net(net, before)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 1 << 60, (1 << 64) - 1])
def test_safetensors_whose_header_is_none(saved, size):
    net, folder = saved
    content = (folder / "safe").read_bytes()
    (folder / "safe").write_bytes(size.to_bytes(8, "little") + content[8:])
    with pytest.raises(CorruptFileError, match="safe cannot be read"):
        net.load_params(folder / "safe", use_safetensors=True)


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", '[{"train_loss": {}}]', "[5]", '[{"batches": 5}]', "[" * 99999],
)
def test_a_history_that_is_none(saved, text):
    net, folder = saved
    epochs = deepcopy(net.history)
    (folder / "history").write_text(text)
    with pytest.raises(CorruptFileError, match="history cannot be read: the history"):
        load(net, folder)
    assert net.history == epochs


class Exploding:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["params", "optimizer"])
@pytest.mark.parametrize("by_torch", [True, False])
def test_no_file_of_weights_runs_code(saved, name, by_torch):
    net, folder = saved
    if by_torch:
        torch.save(Exploding(folder / "trace"), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Exploding(folder / "trace")))
    with pytest.raises(CorruptFileError, match=f"{name} cannot be read"):
        load(net, folder)
    assert not (folder / "trace").exists()


def test_code_in_weights_runs_by_the_user_s_word_alone(saved):
    net, folder = saved
    torch.save(Exploding(folder / "trace"), folder / "params")
    net.set_params(torch_load_kwargs={"weights_only": False})
    with pytest.raises(CorruptFileError):
        load(net, folder)
    assert (folder / "trace").exists()


def test_initial_states_are_loaded_by_the_same_reader(make_net, data, tmp_path):
    keep = Checkpoint(dirname=tmp_path, monitor=None)
    make_net(callbacks=[keep]).fit(*data)
    torch.save(Exploding(tmp_path / "trace"), tmp_path / "params.pt")
    net = make_net(callbacks=[LoadInitState(keep)])
    with pytest.raises(CorruptFileError, match=r"params\.pt cannot be read"):
        net.fit(*data)
    assert not (tmp_path / "trace").exists()


def test_files_that_are_not_known(fitted, tmp_path):
    with pytest.raises(TypeError, match="names that begin with f_"):
        fitted.load_params(params=tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="none"):
        fitted.load_params(tmp_path / "none", use_safetensors=True)
