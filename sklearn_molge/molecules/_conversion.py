"""Between chemprop's networks and DMPNN."""

from typing import Any

import torch
from chemprop.models import MPNN
from chemprop.nn import AggregationRegistry, BondMessagePassing, RegressionFFN

from sklearn_molge.molecules._dmpnn import ACTIVATIONS, DMPNN

__all__ = ["network_from_chemprop", "network_to_chemprop"]

_AGGREGATIONS = {
    "MeanAggregation": "mean",
    "SumAggregation": "sum",
    "NormAggregation": "norm",
}


def network_from_chemprop(
    hyperparameters: dict[str, Any],
    weights: dict[str, torch.Tensor],
    *,
    aggregation: str = "mean",
) -> DMPNN:
    """Build a DMPNN from what chemprop keeps of an ``MPNN`` or its message passing.

    Parameters
    ----------
    hyperparameters : dict
        ``hparams`` of the ``MPNN`` or ``BondMessagePassing``. Of the latter's those
        that are left out have chemprop's default, but the widths "d_v", "d_e", "d_h".
    weights : dict of str to Tensor
        Its ``state_dict()``.
    aggregation : {"mean", "sum", "norm"}, default="mean"
        Aggregation if there is none in `hyperparameters`.

    Returns
    -------
    network : DMPNN
        With these weights.

    Raises
    ------
    ValueError
        If the network is of another kind.
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
    network = DMPNN(
        atom_features=passing["d_v"],
        bond_features=passing["d_e"],
        hidden_size=passing["d_h"],
        depth=passing.get("depth", 3),
        bias=passing.get("bias", False),
        dropout=passing.get("dropout", 0.0),
        activation=_activation_of(passing.get("activation", "relu")),
        undirected=passing.get("undirected", False),
        aggregation=aggregation,
        aggregation_norm=norm,
        batch_norm=batch_norm,
    )
    _load_weights(network, weights)
    return network


def _check_message_passing(hyperparameters):
    kind = getattr(hyperparameters.get("cls"), "__name__", "BondMessagePassing")
    if kind != "BondMessagePassing":
        raise ValueError(f"message passing must be a BondMessagePassing. Got {kind}.")
    missing = [name for name in ("d_v", "d_e", "d_h") if name not in hyperparameters]
    if missing:
        raise ValueError(f"the hyper-parameters of message passing lack {missing}.")


def _load_weights(network, weights):
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    got = {name: tuple(w.shape) for name, w in weights.items()}
    names = sorted(expected | got)
    differing = ", ".join(
        f"{name}: expected {expected.get(name, 'none')}, got {got.get(name, 'none')}"
        for name in names
        if expected.get(name) != got.get(name)
    )
    if differing:
        raise ValueError(
            "the weights are not those of a plain D-MPNN, one without extra atom "
            f"features or descriptors: {differing}."
        )
    network.load_state_dict(weights)


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
        name = value.args[0].lower()
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


def network_to_chemprop(network: DMPNN) -> MPNN:
    """Make chemprop's ``MPNN`` of a network.

    Parameters
    ----------
    network : DMPNN
        The network.

    Returns
    -------
    model : chemprop.models.MPNN
        Its ``fingerprint`` is the network's output. The predictor is a
        ``RegressionFFN`` with random weights.
    """
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
