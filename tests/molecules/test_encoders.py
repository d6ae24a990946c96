import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from chemprop.models import MPNN
from chemprop.models.utils import save_model
from chemprop.nn import (
    AtomMessagePassing,
    AttentiveAggregation,
    BinaryClassificationFFN,
    BondMessagePassing,
    MeanAggregation,
    NormAggregation,
    RegressionFFN,
    SumAggregation,
    UnscaleTransform,
)
from chemprop.nn.metrics import MAE, RMSE
from chemprop.utils.v1_to_v2 import convert_model_file_v1_to_v2
from torch import nn

from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.molecules import DMPNN, MoleculeGraphs, load_encoder, save_encoder

SMILES = ["CCO", "C", "CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)[O-].[Na+]"]


def batch_of(mode="V2"):
    return MoleculeGraphs.from_smiles(SMILES, mode=mode).take(range(len(SMILES)))


def assert_same_fingerprints(network, model, mode="V2"):
    batch = batch_of(mode)
    with torch.no_grad():
        torch.testing.assert_close(
            network.eval()(batch), model.eval().fingerprint(batch), rtol=1e-5, atol=1e-6
        )


def chemprop_model(passing=None, aggregation=None, **parameters):
    passing = passing or BondMessagePassing(d_h=12)
    return MPNN(
        passing,
        aggregation or MeanAggregation(),
        RegressionFFN(input_dim=passing.output_dim),
        **parameters,
    )


MODELS = {
    "plain": lambda: chemprop_model(),
    "as trained by its command": lambda: MPNN(
        BondMessagePassing(d_h=8, activation="elu", dropout=0.1),
        SumAggregation(),
        RegressionFFN(
            input_dim=8, output_transform=UnscaleTransform([1], [2]), criterion=MAE()
        ),
        metrics=[RMSE()],
    ),
    "classifier": lambda: MPNN(
        BondMessagePassing(d_h=8),
        NormAggregation(norm=9.0),
        BinaryClassificationFFN(2, 8),
    ),
    "module as activation": lambda: chemprop_model(
        BondMessagePassing(d_h=8, activation=nn.Tanh(), depth=2, bias=True)
    ),
    "learnt activation": lambda: chemprop_model(
        BondMessagePassing(d_h=8, activation="prelu", undirected=True)
    ),
    "batch norm": lambda: chemprop_model(batch_norm=True),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_and_files_of_chemprop_v2(kind, tmp_path):
    torch.manual_seed(0)
    model = MODELS[kind]()
    if kind == "batch norm":
        model.fingerprint(batch_of())  # moves its statistics
    save_model(tmp_path / "model.pt", model)
    for encoder in (model, tmp_path / "model.pt", str(tmp_path / "model.pt")):
        network, mode = load_encoder(encoder, aggregation="sum")
        assert (type(network), mode) == (DMPNN, "V2")
        assert_same_fingerprints(network, model)
        assert network.dropout.p == model.message_passing.dropout.p


def test_lightning_s_checkpoint(tmp_path):
    model = chemprop_model()
    path = tmp_path / "epoch=1.ckpt"
    torch.save(
        {
            "epoch": 1,
            "callbacks": {"ModelCheckpoint": {"dirpath": Path("here")}},
            "optimizer_states": [torch.optim.Adam(model.parameters()).state_dict()],
            "hyper_parameters": model.hparams,
            "state_dict": model.state_dict(),
        },
        path,
    )
    assert_same_fingerprints(load_encoder(path)[0], model)


def v1_contents(mode_width=133, **settings):
    """What chemprop v1.5 to v1.7 wrote, as its converter reads it."""
    hidden, n_tasks = 10, 2
    weights = {
        "encoder.encoder.0.cached_zero_vector": torch.zeros(hidden),
        "encoder.encoder.0.W_i.weight": torch.randn(hidden, mode_width + 14),
        "encoder.encoder.0.W_h.weight": torch.randn(hidden, hidden),
        "encoder.encoder.0.W_o.weight": torch.randn(hidden, mode_width + hidden),
        "encoder.encoder.0.W_o.bias": torch.randn(hidden),
        "readout.1.weight": torch.randn(hidden, hidden),
        "readout.1.bias": torch.randn(hidden),
        "readout.4.weight": torch.randn(n_tasks, hidden),
        "readout.4.bias": torch.randn(n_tasks),
    }
    args = {
        "dataset_type": "regression",
        "loss_function": "mse",
        "metric": "rmse",
        "num_tasks": n_tasks,
        "target_weights": None,
        "number_of_molecules": 1,
        "atom_messages": False,
        "atom_descriptors_size": 0,
        "features_generator": None,
        "hidden_size": hidden,
        "ffn_hidden_size": hidden,
        "ffn_num_layers": 2,
        "depth": 4,
        "bias": False,
        "dropout": 0.0,
        "activation": "ReLU",
        "undirected": False,
        "aggregation": "norm",
        "aggregation_norm": 50,
        "warmup_epochs": 2.0,
        "init_lr": 1e-4,
        "max_lr": 1e-3,
        "final_lr": 1e-4,
        "device": torch.device("cpu"),
        "save_dir": Path("models"),
    }
    scaler = {"means": np.zeros(n_tasks), "stds": np.ones(n_tasks)}
    return {
        "args": Namespace(**args | settings),
        "state_dict": weights,
        "data_scaler": scaler,
        "features_scaler": None,
    }


def test_file_of_chemprop_v1(tmp_path):
    torch.manual_seed(0)
    torch.save(v1_contents(), tmp_path / "v1.pt")
    network, mode = load_encoder(tmp_path / "v1.pt")
    assert mode == "V1"
    convert_model_file_v1_to_v2(tmp_path / "v1.pt", tmp_path / "v2.pt")
    expected = MPNN.load_from_file(tmp_path / "v2.pt")
    assert (network.depth, network.aggregation_norm) == (4, 50)
    assert_same_fingerprints(network, expected, mode)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregation": "attentive"}, "converter of v1 files: KeyError"),
        ({"mode_width": 150}, "150 atom features and 14 bond features, which no"),
        ({"atom_messages": True}, "BondMessagePassing. Got AtomMessagePassing"),
        ({"bias": True}, r"W_h.bias: expected \(10,\), got none"),
    ],
    ids=str,
)
def test_files_of_chemprop_v1_that_cannot_be_used(tmp_path, settings, message):
    torch.save(v1_contents(**settings), tmp_path / "v1.pt")
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path / "v1.pt")


@pytest.mark.parametrize("aggregation", ["mean", "sum"])
def test_file_of_chemeleon(tmp_path, aggregation):
    passing = BondMessagePassing(d_h=16, depth=5)
    settings = {k: v for k, v in passing.hparams.items() if k != "cls"}
    contents = {"hyper_parameters": settings, "state_dict": passing.state_dict()}
    torch.save(contents, tmp_path / "mp.pt")
    aggregate = {"mean": MeanAggregation, "sum": SumAggregation}[aggregation]()
    model = chemprop_model(passing, aggregate)
    for encoder in (passing, tmp_path / "mp.pt"):
        network, mode = load_encoder(encoder, aggregation=aggregation)
        assert mode == "V2"
        assert_same_fingerprints(network, model)


def test_random_is_chemprop_s_random():
    torch.manual_seed(5)
    passing = BondMessagePassing(d_h=6, depth=2, bias=True, activation="tanh")
    torch.manual_seed(5)
    network, mode = load_encoder(
        "random", hidden_size=6, depth=2, bias=True, activation="tanh", dropout=0.5
    )
    assert (mode, network.dropout.p) == ("V2", 0.5)
    assert_same_fingerprints(network, chemprop_model(passing))


@pytest.mark.parametrize(
    ("widths", "mode"),
    [((133, 14), "V1"), ((72, 14), "V2"), ((44, 14), "ORGANIC"), ((52, 2), "RIGR")],
)
def test_the_mode_follows_from_the_widths(widths, mode):
    encoder = DMPNN(atom_features=widths[0], bond_features=widths[1], hidden_size=4)
    network, found = load_encoder(encoder)
    assert found == mode
    assert network is not encoder
    with torch.no_grad():
        encoder.W_o.bias += 1
    assert not torch.equal(network.W_o.bias, encoder.W_o.bias)


def test_any_module():
    class Counts(nn.Module):
        def forward(self, graphs):
            return graphs.n_atoms[:, None].float()

    module = Counts()
    assert load_encoder(module)[1] == "V2"
    module.mode = "RIGR"
    network, mode = load_encoder(module)
    assert mode == "RIGR"
    assert isinstance(network, Counts)
    module.mode = "v3"
    with pytest.raises(ValueError, match=r"'mode' must be one of .*Got 'v3'"):
        load_encoder(module)


def test_admet_ai_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"pip install \"sklearn-molge\[pretrained\]"):
        load_encoder("admet-ai")
    package = tmp_path / "admet_ai"
    folder = package / "resources" / "models" / "admet_classification"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    encoder = DMPNN(hidden_size=4)
    save_encoder(encoder, folder / "model_0.pt")
    network, mode = load_encoder("admet-ai")
    assert mode == "V2"
    assert torch.equal(network(batch_of()), encoder(batch_of()))


def test_real_pretrained_weights(admet_ai_checkpoint):
    network, mode = load_encoder(admet_ai_checkpoint)
    assert (mode, network.output_size, network.aggregation) == ("V2", 300, "norm")
    expected = MPNN.load_from_file(admet_ai_checkpoint, map_location="cpu")
    assert_same_fingerprints(network, expected)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"aggregation": "norm", "aggregation_norm": 7.0, "batch_norm": True},
        {"activation": "prelu", "bias": True, "undirected": True, "dropout": 0.2},
        {"atom_features": 133, "aggregation": "sum", "depth": 5},
    ],
    ids=str,
)
def test_what_is_saved_is_read_by_chemprop_and_by_us(tmp_path, parameters):
    torch.manual_seed(0)
    encoder = DMPNN(hidden_size=9, **parameters)
    mode = "V1" if "atom_features" in parameters else "V2"
    encoder(batch_of(mode))  # moves the statistics of batch norm
    before = torch.random.get_rng_state()
    save_encoder(encoder, tmp_path / "encoder.pt")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same_fingerprints(
        encoder, MPNN.load_from_file(tmp_path / "encoder.pt"), mode
    )
    again, found = load_encoder(tmp_path / "encoder.pt")
    assert found == mode
    assert repr(again) == repr(encoder)
    assert torch.equal(again.eval()(batch_of(mode)), encoder.eval()(batch_of(mode)))


def test_only_a_dmpnn_can_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"must be a DMPNN .* Got a Linear"):
        save_encoder(nn.Linear(2, 2), tmp_path / "encoder.pt")
    assert not list(tmp_path.iterdir())


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, exec])
def test_no_code_in_a_file_runs(tmp_path, function):
    model = chemprop_model()
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()"
    argument = str(trace) if function is os.mkdir else code
    contents = {
        "hyper_parameters": model.hparams,
        "state_dict": model.state_dict(),
        "extra": Calls(function, argument),
    }
    torch.save(contents, tmp_path / "model.pt")
    assert_same_fingerprints(load_encoder(tmp_path / "model.pt")[0], model)
    assert not trace.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert trace.exists()


def test_missing_and_damaged_files(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(FileNotFoundError, match=r"model\.pt"):
        load_encoder(path)
    save_model(path, chemprop_model())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        CorruptFileError, match=r"model\.pt cannot .* is cut or damaged"
    ):
        load_encoder(path)
    path.write_text("not a checkpoint")
    with pytest.raises(CorruptFileError, match=r"model\.pt cannot .* no file of PyTor"):
        load_encoder(str(path))


HOSTILE = {
    # It ran for ever, and asked for 14 GB: nothing is built before it is compared.
    "depth must be an int from 1 to 100": {"depth": 10**9},
    r"W_i.weight: expected \(60000, 86\), got \(8, 86\)": {"d_h": 60_000},
    "hidden_size must be an int from 1 to 100000": {"d_h": 10**9},
    "atom_features must be .* Got -1": {"d_v": -1},
    "dropout must be a number from 0.0 to 1.0. Got nan": {"dropout": float("nan")},
    "depth must be an int .* Got '3'": {"depth": "3"},
    "bias must be a bool. Got 1": {"bias": 1},
}


@pytest.mark.parametrize("message", HOSTILE)
def test_settings_that_no_network_has(tmp_path, message):
    model = chemprop_model(BondMessagePassing(d_h=8))
    path = tmp_path / "model.pt"
    save_model(path, model)
    contents = torch.load(path, weights_only=False)
    contents["hyper_parameters"]["message_passing"].update(HOSTILE[message])
    torch.save(contents, path)
    with pytest.raises(CorruptFileError, match=message):
        load_encoder(path)


def test_weights_that_are_no_numbers(tmp_path):
    model = chemprop_model()
    with torch.no_grad():
        model.message_passing.W_h.weight[2, 3] = np.nan
    save_model(tmp_path / "model.pt", model)
    with pytest.raises(CorruptFileError, match=r"W_h.weight: not all numbers are fin"):
        load_encoder(tmp_path / "model.pt")


def test_a_file_of_v1_that_would_make_a_large_predictor(tmp_path):
    torch.save(v1_contents(num_tasks=10**12, ffn_num_layers=10**9), tmp_path / "v1.pt")
    assert load_encoder(tmp_path / "v1.pt")[1] == "V1"


def test_the_weights_before_are_drawn_as_ever(tmp_path):
    """A net's towers are drawn after its encoder, whose size decides what is left."""
    save_model(tmp_path / "model.pt", chemprop_model())
    torch.manual_seed(0)
    load_encoder(tmp_path / "model.pt")
    after = torch.random.get_rng_state()
    torch.manual_seed(0)
    DMPNN(hidden_size=12)
    assert torch.equal(after, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([1, 2], r"is not a chemprop or CheMeleon file, .*Got a list"),
        ({"W_i.weight": torch.zeros(2)}, r"Got a dict with keys \['W_i.weight'\]"),
        (nn.Linear(2, 2), "Got a Linear with keys"),
        ({"state_dict": {}, "hyper_parameters": {"d_v": 72}}, r"lack \['d_e', 'd_h'\]"),
    ],
    ids=["list", "weights alone", "module", "no widths"],
)
def test_files_of_something_else(tmp_path, contents, message):
    torch.save(contents, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt .*{message}"):
        load_encoder(tmp_path / "other.pt")


UNSUPPORTED = {
    "AtomMessagePassing": lambda: chemprop_model(AtomMessagePassing(d_h=8)),
    "Got AttentiveAggregation": lambda: chemprop_model(
        BondMessagePassing(d_h=8), AttentiveAggregation(output_size=8)
    ),
    r"W_d.weight: expected none, got \(13, 13\)": lambda: chemprop_model(
        BondMessagePassing(d_h=8, d_vd=5)
    ),
    "70 atom features and 14 bond features, which no featuriser mode": (
        lambda: chemprop_model(BondMessagePassing(d_v=70, d_h=8))
    ),
    "activation must be one of .*Got 'gelu'": lambda: chemprop_model(
        BondMessagePassing(d_h=8, activation=nn.GELU())
    ),
    "negative_slope of the activation 'leakyrelu' must be 0.1. Got 0.01": (
        lambda: chemprop_model(BondMessagePassing(d_h=8, activation=nn.LeakyReLU()))
    ),
}


@pytest.mark.parametrize("message", UNSUPPORTED)
def test_networks_of_another_kind(tmp_path, message):
    model = UNSUPPORTED[message]()
    save_model(tmp_path / "model.pt", model)
    with pytest.raises(ValueError, match=rf"model\.pt .*{message}"):
        load_encoder(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load_encoder(model)
