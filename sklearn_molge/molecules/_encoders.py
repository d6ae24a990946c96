"""Encoders by name, from files and modules, and back into a file."""

import importlib.util
from copy import deepcopy
from os import PathLike, fspath
from pathlib import Path

from chemprop.models import MPNN
from chemprop.models.utils import save_model
from chemprop.nn import BondMessagePassing
from torch import nn

from sklearn_molge.molecules._checkpoints import read_checkpoint
from sklearn_molge.molecules._conversion import (
    network_from_chemprop,
    network_to_chemprop,
)
from sklearn_molge.molecules._dmpnn import DMPNN
from sklearn_molge.molecules._graphs import MODES

__all__ = ["load_encoder", "save_encoder"]

_ADMET_AI = Path("resources", "models", "admet_classification", "model_0.pt")


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
          :class:`GraphBatch` to one row a molecule. It is copied. An attribute `mode`
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
    ValueError
        If the file cannot be used: it says why.

    Examples
    --------
    >>> from sklearn_molge.molecules import load_encoder
    >>> module, mode = load_encoder("random", hidden_size=8)
    >>> module.output_size, mode
    (8, 'V2')
    """
    network: nn.Module
    if isinstance(encoder, nn.Module):
        network = _from_module(encoder, aggregation)
    elif encoder == "random":
        network = DMPNN(
            hidden_size=hidden_size,
            depth=depth,
            bias=bias,
            dropout=dropout,
            activation=activation,
            aggregation=aggregation,
        )
    elif encoder == "admet-ai":
        network = _from_file(_admet_ai_path(), aggregation)
    else:
        network = _from_file(encoder, aggregation)
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
    save_model(path, network_to_chemprop(encoder))


def _from_file(path, aggregation):
    contents = read_checkpoint(path)
    try:
        return network_from_chemprop(
            contents["hyper_parameters"],
            contents["state_dict"],
            aggregation=aggregation,
        )
    except ValueError as error:
        raise ValueError(f"{fspath(path)!r}: {error}") from error


def _from_module(module, aggregation):
    if isinstance(module, MPNN | BondMessagePassing):
        return network_from_chemprop(
            module.hparams, module.state_dict(), aggregation=aggregation
        )
    return deepcopy(module)


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
