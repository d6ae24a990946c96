"""The fully connected part of both towers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "selu": nn.SELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}
_NARROWEST = 4


def layer_widths(width: float, growth: float, depth: int) -> tuple[int, ...]:
    """Widths of `depth` layers: the first one, each next `growth` times as wide.

    As in the paper's search (``hyperparameter_search.py``): rounded down, no layer
    narrower than 4.
    """
    return tuple(max(int(width * growth**i), _NARROWEST) for i in range(depth))


def check_layers(name: str, layers: Sequence[int]) -> tuple[int, ...]:
    """Check a list of layer widths."""
    widths = tuple(layers)
    if not all(float(w).is_integer() and w >= 1 for w in widths):
        raise ValueError(
            f"{name} must be a sequence of layer widths, ints of at least 1. "
            f"Got {layers!r}."
        )
    return tuple(int(w) for w in widths)


class FeedForward(nn.Sequential):
    """Hidden layers with activation and dropout, then a linear output layer.

    With ``activation="selu"`` this is a self-normalising network (Klambauer et al.
    2017): alpha dropout, and weights drawn from N(0, 1 / fan_in) with zero bias (LeCun
    normal). The other activations keep torch's initialisation and plain dropout. The
    paper's code drew torch's for SELU too (``init="torch"``).
    """

    def __init__(
        self,
        n_in: int,
        layers: Sequence[int],
        n_out: int,
        *,
        activation: str = "selu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        bias: bool = True,
        init: str = "auto",
    ):
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        lecun = init == "lecun" or (init == "auto" and activation == "selu")
        drop = nn.AlphaDropout if activation == "selu" else nn.Dropout
        widths = [n_in, *layers, n_out]
        if input_dropout:
            self.append(nn.Dropout(input_dropout))
        for fan_in, fan_out in pairwise(widths[:-1]):
            self.append(_linear(fan_in, fan_out, bias=bias, lecun=lecun))
            self.append(ACTIVATIONS[activation]())
            if dropout:
                self.append(drop(dropout))
        self.append(_linear(widths[-2], n_out, bias=bias, lecun=lecun))


def _linear(fan_in: int, fan_out: int, *, bias: bool, lecun: bool) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    if lecun:
        nn.init.normal_(layer.weight, std=fan_in**-0.5)
        if bias:
            nn.init.zeros_(layer.bias)
    return layer
