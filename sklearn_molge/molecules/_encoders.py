"""Encoders by name, from chemprop's files and modules, and back into a file."""

import argparse
import importlib.util
from copy import deepcopy
from os import PathLike
from pathlib import Path

import torch
from chemprop.models import MPNN
from chemprop.models.utils import save_model
from chemprop.nn import AggregationRegistry, BondMessagePassing, RegressionFFN
from chemprop.utils.v1_to_v2 import convert_model_dict_v1_to_v2
from torch import nn

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._files.tensors import check_weights, read_tensors
from sklearn_molge._utils.messages import shortened
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.molecules._dmpnn import ACTIVATIONS, DMPNN
from sklearn_molge.molecules._graphs import MODES

__all__ = ["load_encoder", "save_encoder"]

_ADMET_AI = Path("resources", "models", "admet_classification", "model_0.pt")
_AGGREGATIONS = {
    "MeanAggregation": "mean",
    "SumAggregation": "sum",
    "NormAggregation": "norm",
}
# chemprop's names of what a DMPNN is made with.
_NAMES = {
    "d_v": "atom_features",
    "d_e": "bond_features",
    "d_h": "hidden_size",
} | {name: name for name in ("depth", "bias", "dropout", "undirected")}
# Far beyond every published D-MPNN: depth is searched from 2 to 6, widths to 2,400.
_LIMITS = {
    "atom_features": (1, 100_000),
    "bond_features": (1, 100_000),
    "hidden_size": (1, 100_000),
    "depth": (1, 100),
    "dropout": (0.0, 1.0),
    "aggregation_norm": (1e-30, 1e30),
}


def load_encoder(
    encoder: str | PathLike | nn.Module,
    *,
    hidden_size: int = 300,
    depth: int = 3,
    bias: bool = False,
    dropout: float = 0.0,
    activation: str = "relu",
    aggregation: str = "mean",
) -> tuple[nn.Module, str]:
    """Make the network that turns graphs of molecules into vectors.

    Parameters
    ----------
    encoder : str, PathLike or nn.Module
        - "random": an untrained :class:`DMPNN`. Its weights are drawn from torch's
          generator, which the caller seeds.
        - A path: a file of chemprop v2 or v1, or of CheMeleon. Widths, activation and
          aggregation are the file's.
        - "admet-ai": the first classification network in the installed package
          admet-ai.
        - A module of chemprop (``MPNN``, whose predictor is left out, or
          ``BondMessagePassing``), a `DMPNN`, or any module that maps a
          :class:`GraphBatch` to one row per molecule. It is copied. An attribute `mode`
          names the featuriser mode that it needs, "V2" without one.
    hidden_size, depth, bias, dropout, activation
        Of the "random" encoder; see :class:`DMPNN`.
    aggregation : {"mean", "sum", "norm"}, default="mean"
        Of the "random" encoder, and of those that hold message passing alone.

    Returns
    -------
    module : nn.Module
        The network.
    mode : str
        The mode of :meth:`MoleculeGraphs.from_smiles` that it needs.

    Raises
    ------
    ImportError
        If `encoder` is "admet-ai" and the package is not installed.
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If the file is damaged, or no encoder that can be used: it says why. No code in
        it is run, and nothing is built before its shapes are known to fit.

    Examples
    --------
    >>> from sklearn_molge.molecules import load_encoder
    >>> module, mode = load_encoder("random", hidden_size=8)
    >>> module.output_size, mode
    (8, 'V2')
    """
    network: nn.Module
    if isinstance(encoder, MPNN | BondMessagePassing):
        network = _from_chemprop(
            encoder.hparams, encoder.state_dict(), aggregation=aggregation
        )
    elif isinstance(encoder, nn.Module):
        network = deepcopy(encoder)
    elif encoder == "random":
        network = DMPNN(
            hidden_size=hidden_size,
            depth=depth,
            bias=bias,
            dropout=dropout,
            activation=activation,
            aggregation=aggregation,
        )
    else:
        path = _admet_ai_path() if encoder == "admet-ai" else encoder
        contents = _read_checkpoint(path)
        parts = contents["hyper_parameters"], contents["state_dict"]
        with reading(path):
            try:
                network = _from_chemprop(*parts, aggregation=aggregation)
                return network, _mode_of(network, encoder)
            except ValueError as error:
                raise CorruptFileError(path, "", str(error)) from error
    return network, _mode_of(network, encoder)


def save_encoder(encoder: nn.Module, path: str | PathLike) -> None:
    """Write an encoder as a checkpoint of chemprop v2.

    ``chemprop.models.MPNN.load_from_file`` reads it, and so does ``chemprop train
    --from-foundation``. Its predictor is a ``RegressionFFN`` with random weights, to be
    trained.

    Parameters
    ----------
    encoder : DMPNN
        The network.
    path : str or PathLike
        The file; chemprop expects the ending ``.pt``.

    Raises
    ------
    TypeError
        If `encoder` is not a DMPNN: chemprop has no class for it.

    Examples
    --------
    >>> from sklearn_molge.molecules import DMPNN, load_encoder, save_encoder
    >>> save_encoder(DMPNN(hidden_size=8), "encoder.pt")  # doctest: +SKIP
    >>> encoder, mode = load_encoder("encoder.pt")  # doctest: +SKIP
    """
    if not isinstance(encoder, DMPNN):
        raise TypeError(
            "encoder must be a DMPNN to be written for chemprop. Got a "
            f"{type(encoder).__name__}."
        )
    with replacing(path) as draft:
        save_model(draft, _to_chemprop(encoder))


def _mode_of(network, encoder):
    if not isinstance(network, DMPNN):
        mode = getattr(network, "mode", "V2")
        if mode not in MODES:
            raise ValueError(
                f"The encoder's attribute 'mode' must be one of {list(MODES)}. "
                f"Got {mode!r}."
            )
        return mode
    widths = network.atom_features, network.bond_features
    for mode, known in MODES.items():
        if widths == known:
            return mode
    modes = ", ".join(f"{mode}: {a} and {b}" for mode, (a, b) in MODES.items())
    raise ValueError(
        f"The encoder {encoder!r} needs {widths[0]} atom features and {widths[1]} bond "
        f"features, which no featuriser mode gives ({modes})."
    )


def _admet_ai_path():
    # Only its place is wanted: importing the package would load all of its networks.
    spec = importlib.util.find_spec("admet_ai")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "encoder='admet-ai' needs the package admet-ai: "
            'pip install "sklearn-molge[pretrained]".'
        )
    return Path(spec.submodule_search_locations[0], _ADMET_AI)


# chemprop's networks as a DMPNN, and back.


def _from_chemprop(hyperparameters, weights, *, aggregation):
    """Build a DMPNN from what chemprop keeps of an ``MPNN`` or its message passing.

    The ``hparams`` and ``state_dict()`` of either. What those of message passing leave
    out has chemprop's default, which is ours; they do not name an aggregation.
    """
    passing = hyperparameters.get("message_passing", hyperparameters)
    _check_message_passing(passing)
    norm = 100.0
    batch_norm = False
    if "message_passing" in hyperparameters:
        aggregation, norm = _aggregation_of(hyperparameters.get("agg") or {})
        batch_norm = hyperparameters.get("batch_norm", False)
        weights = {
            name.removeprefix("message_passing."): weight
            for name, weight in weights.items()
            if name.startswith(("message_passing.", "bn."))
        }
    given = {ours: passing[name] for name, ours in _NAMES.items() if name in passing}
    settings = given | {
        "activation": _activation_of(passing.get("activation", "relu")),
        "aggregation": aggregation,
        "aggregation_norm": norm,
        "batch_norm": batch_norm,
    }
    _check_settings(settings)
    with torch.device("meta"):  # has shapes, and needs no memory
        differing = check_weights(weights, DMPNN(**settings).state_dict())
    if differing:
        raise ValueError(
            "the weights are not those of a plain D-MPNN, one without extra atom "
            f"features or descriptors: {differing}."
        )
    network = DMPNN(**settings)
    network.load_state_dict(weights)
    return network


def _check_settings(settings):
    for name, (least, most) in _LIMITS.items():
        value = settings.get(name, least)
        kinds = (int,) if isinstance(least, int) else (int, float)
        is_one = isinstance(value, kinds) and not isinstance(value, bool)
        if not (is_one and least <= value <= most):
            raise ValueError(
                f"{name} must be {'an int' if len(kinds) == 1 else 'a number'} from "
                f"{least} to {most}. Got {shortened(value)}."
            )
    for name in ("bias", "undirected", "batch_norm"):
        if not isinstance(settings.get(name, False), bool):
            raise ValueError(f"{name} must be a bool. Got {settings[name]!r}.")


def _check_message_passing(hyperparameters):
    kind = getattr(hyperparameters.get("cls"), "__name__", "BondMessagePassing")
    if kind != "BondMessagePassing":
        raise ValueError(f"message passing must be a BondMessagePassing. Got {kind}.")
    missing = [name for name in ("d_v", "d_e", "d_h") if name not in hyperparameters]
    if missing:
        raise ValueError(f"the hyper-parameters of message passing lack {missing}.")


def _aggregation_of(hyperparameters):
    kind = getattr(hyperparameters.get("cls"), "__name__", None)
    if kind not in _AGGREGATIONS:
        raise ValueError(
            f"the aggregation must be one of {list(_AGGREGATIONS)}. Got {kind}."
        )
    return _AGGREGATIONS[kind], hyperparameters.get("norm", 100.0)


def _activation_of(value):
    """Name in ACTIVATIONS of an activation: a name, an enum's member or a module."""
    if isinstance(value, str):
        name = value.lower()
    elif type(value).__name__ == "Activation":  # chemprop's enum, read from a file
        name = str(value.args[0]).lower()
    else:
        name = type(value).__name__.lower()
    if name not in ACTIVATIONS:
        raise ValueError(
            f"the activation must be one of {list(ACTIVATIONS)}. Got {name!r}."
        )
    module = ACTIVATIONS[name]()
    for constant in {"negative_slope", "alpha"} & set(vars(module)):
        expected, got = getattr(module, constant), getattr(value, constant, None)
        if got not in (None, expected):
            raise ValueError(
                f"{constant} of the activation {name!r} must be {expected}. Got {got}."
            )
    return name


def _to_chemprop(network: DMPNN) -> MPNN:
    """Make chemprop's ``MPNN``, whose ``fingerprint`` is the network's output."""
    norm = {"norm": network.aggregation_norm} if network.aggregation == "norm" else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = MPNN(
            BondMessagePassing(
                d_v=network.atom_features,
                d_e=network.bond_features,
                d_h=network.hidden_size,
                bias=network.W_i.bias is not None,
                depth=network.depth,
                dropout=network.dropout.p,
                activation=network.activation,
                undirected=network.undirected,
            ),
            AggregationRegistry[network.aggregation](**norm),
            RegressionFFN(input_dim=network.output_size),
            batch_norm=isinstance(network.bn, torch.nn.BatchNorm1d),
        )
    weights = network.state_dict()
    model.bn.load_state_dict(network.bn.state_dict())
    model.message_passing.load_state_dict(
        {name: w for name, w in weights.items() if not name.startswith("bn.")}
    )
    return model


# Files of chemprop and CheMeleon, opened without running their code.


def _read_checkpoint(path):
    """Read a file of chemprop (v1 or v2) or CheMeleon.

    "hyper_parameters" and "state_dict" are as in v2, with tensors, plain containers and
    numbers. Classes, and objects of any class, are inert ones of that name.
    """
    contents = read_tensors(path, inert=True)
    keys = list(contents) if isinstance(contents, dict) else []
    if "state_dict" not in keys or not {"hyper_parameters", "args"} & set(keys):
        raise CorruptFileError(
            path,
            "",
            "it is not a chemprop or CheMeleon file, which holds a dictionary with "
            "'state_dict' and 'hyper_parameters' (or 'args', chemprop v1). Got a "
            f"{type(contents).__name__} with keys {shortened(keys[:8])}",
        )
    return _converted(contents, path) if "args" in keys else contents


def _converted(contents, path):
    # Of the predictor nothing is needed; its size is not the file's to say.
    predictor = {"num_tasks": 1, "target_weights": None, "ffn_num_layers": 0}
    with reading(path, "'args', by chemprop's converter of v1 files"):
        settings = argparse.Namespace(**vars(contents["args"]) | predictor)
        scaler = {"means": [0.0], "stds": [1.0]}
        return convert_model_dict_v1_to_v2(
            {**contents, "args": settings, "data_scaler": scaler}
        )
