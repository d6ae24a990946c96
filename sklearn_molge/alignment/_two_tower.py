"""The network: a molecule tower and an expression tower that end in one space."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from torch import Tensor, nn

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch, PairBatch
from sklearn_molge.alignment._cca import CCA
from sklearn_molge.alignment._dataset import MoleculeInputs
from sklearn_molge.alignment._plain import (
    EXTRA_STATE,
    from_tensor,
    is_plain,
    to_tensor,
)
from sklearn_molge.exceptions import CorruptFileError, JointSpaceWarning
from sklearn_molge.molecules import GraphBatch

__all__ = ["TwoTower"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "selu": nn.SELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}
# Columns that hardly vary (a rare fingerprint bit) must not explode.
_SMALLEST_SCALE = 0.1
_ROUNDING = 1e-13  # of a mean in double precision; a value of float32 has 6e-8
# Of 0, 1 and 2 the best for CCA with joined fingerprints, see docs/benchmarks.md.
_CORRELATION_POWER = 2
# Profiles that are scaled at once.
_CHUNK_SIZE = 8192
# Attributes of modules that do not change what a trained network computes.
_OF_TRAINING = {"training", "p", "inplace", "scaling", "start"}
# Of the size of the linear start at CCA: outputs of 0 in both towers would stay so.
_SMALL_START = 0.01

_LAYERS = ["array-like"]
_SHARE = [Interval(Real, 0, 1, closed="left")]
_CONSTRAINTS: dict = {
    "embedding_size": [Interval(Integral, 1, None, closed="left")],
    "expression_layers": _LAYERS,
    "head_layers": _LAYERS,
    "dropout": _SHARE,
    "head_dropout": _SHARE,
    "input_dropout": _SHARE,
    "head_input_dropout": _SHARE,
    "activation": [StrOptions(set(ACTIVATIONS))],
    "bias": ["boolean"],
    "init": [StrOptions({"auto", "lecun", "torch"})],
    "scaling": [StrOptions({"column", "view", "none"})],
    "unit_profiles": ["boolean"],
    "normalize": ["boolean"],
    "start": [StrOptions({"random", "cca"})],
}


# -- parts of a tower ----------------------------------------------------------------


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


class WithLinearPath(nn.Module):
    """A network with a linear path beside it, both added up.

    The network's own last layer starts at zero, so that training starts from the
    linear path alone.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.linear = nn.Linear(network.n_in, network.n_out)
        for parameter in network[-1].parameters():
            nn.init.zeros_(parameter)

    def set_linear(self, mean: NDArray, rotations: NDArray) -> None:
        """Let the linear path be ``(x - mean) @ rotations``; unused outputs are 0."""
        n_used = rotations.shape[1]
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.zero_()
            self.linear.weight[:n_used] = torch.as_tensor(rotations.T)
            self.linear.bias[:n_used] = torch.as_tensor(-mean @ rotations)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both paths."""
        return self.network(x) + self.linear(x)


class Scaling(nn.Module):
    """Subtract a mean and divide by a scale that were learnt from the training set."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def learn(self, x: Tensor, how: str, weights: Tensor | None = None) -> None:
        """Take mean and scale from the rows of `x`: by column, or one for the view."""
        if how == "none":
            return
        if weights is None:
            weights = torch.ones(len(x), dtype=torch.float64)
        # In parts: the rows of a large study are not copied in double precision.
        parts = x.split(_CHUNK_SIZE), weights.to(x.device).split(_CHUNK_SIZE)
        pairs, total = list(zip(*parts, strict=True)), weights.sum()
        mean = sum(w @ part.double() for part, w in pairs) / total
        squares = sum(w @ (part.double() - mean).square() for part, w in pairs)
        # Less is rounding: weighted rows that are equal have a mean beside them.
        varies = squares > total * (_ROUNDING * mean).square()
        variance = torch.where(varies, squares / total, 0.0)
        whole = variance.mean().sqrt()
        if how == "column":
            scale = variance.sqrt().clamp(min=_SMALLEST_SCALE * whole)
        else:
            scale = whole.expand_as(variance)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Take what a file has; dividing by 0 is what no training learns."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not bool((self.scale >= torch.finfo(self.scale.dtype).tiny).all()):
            args[-1].append(f"{prefix}scale must be positive")

    def forward(self, x: Tensor) -> Tensor:
        """Scale the rows of `x`."""
        return (x - self.mean) / self.scale


# -- towers --------------------------------------------------------------------------


class Encoder(Protocol):
    """A graph network: any module that maps a GraphBatch to one row a molecule."""

    output_size: int

    def __call__(self, graphs: GraphBatch, /) -> Tensor: ...


class MoleculeTower(nn.Module):
    """Graph network and features of a molecule, joined before the head."""

    head: FeedForward | WithLinearPath

    def __init__(self, encoder, n_features: int, **head):
        super().__init__()
        self.encoder = encoder
        width = 0 if encoder is None else encoder.output_size
        self.scale_graph = Scaling(width)
        self.scale_features = Scaling(n_features)
        self.head = FeedForward(width + n_features, **head)

    def learn_scaling(
        self, molecules: MoleculeInputs, chunks: Sequence[NDArray], how: str
    ) -> None:
        """Learn the scales of both parts; a chunk is encoded at once."""
        if molecules.features is not None:
            chosen = torch.from_numpy(np.concatenate(chunks))
            self.scale_features.learn(molecules.features[chosen], how)
        if self.encoder is not None:
            vectors = [self.encoder(self._take(molecules, c)[0]) for c in chunks]
            self.scale_graph.learn(torch.cat(vectors), how)

    def join_some(self, molecules: MoleculeInputs, chunk: NDArray) -> Tensor:
        """Return what the head is given of some molecules."""
        return self.join(*self._take(molecules, chunk))

    def _take(self, molecules, chunk):
        device = self.scale_graph.mean.device
        parts = molecules.take(chunk)
        return tuple(None if part is None else part.to(device) for part in parts)

    def join(self, graphs: GraphBatch | None, features: Tensor | None) -> Tensor:
        """Return what the head is given: graph vector and features, scaled."""
        parts = []
        if self.encoder is not None:
            parts.append(self.scale_graph(self.encoder(graphs)))
        if features is not None:
            parts.append(self.scale_features(features))
        return torch.cat(parts, dim=1)

    def forward(self, graphs: GraphBatch | None, features: Tensor | None) -> Tensor:
        """Embed molecules."""
        return self.head(self.join(graphs, features))


class ExpressionTower(nn.Module):
    """Feed-forward network of a profile."""

    network: FeedForward | WithLinearPath

    def __init__(self, n_genes: int, *, unit_profiles: bool, **network):
        super().__init__()
        self.unit_profiles = unit_profiles
        self.scale = Scaling(n_genes)
        self.network = FeedForward(n_genes, **network)

    def prepare(self, profiles: Tensor) -> Tensor:
        """Return profiles of unit length, if that was asked for."""
        if self.unit_profiles:
            return nn.functional.normalize(profiles, dim=1)
        return profiles

    def forward(self, prepared: Tensor) -> Tensor:
        """Embed prepared profiles."""
        return self.network(self.scale(prepared))


def _mean_square(
    rows: NDArray, mean: NDArray, columns: NDArray, counts: NDArray
) -> float:
    """Return the mean square of the projections of rows, each so many times; 1 of none.

    A part of the rows at a time: centred, they would be a copy in double precision.
    """
    if not columns.size:
        return 1.0
    squares = 0.0
    for part in gen_batches(len(rows), _CHUNK_SIZE):
        projected = (rows[part] - mean) @ columns
        squares += float(counts[part] @ np.square(projected).sum(axis=1))
    return squares / (counts.sum() * columns.shape[1])


class _AnyNumberCCA(CCA):
    """CCA whose `n_components` is an upper limit, not a demand."""

    def _check_n_components(self, ranks, x_shape, y_shape):
        pass


def _what_it_computes(network: nn.Module) -> dict[str, str]:
    """Kinds and settings of all parts, but for what matters in training only."""
    found = {}
    for name, part in network.named_modules():
        found[name] = type(part).__name__
        for key, value in vars(part).items():
            if not key.startswith("_") and key not in _OF_TRAINING and is_plain(value):
                found[f"{name}.{key}"] = repr(value)
    return found


class TwoTower(nn.Module):
    """A molecule tower and an expression tower that end in one space.

    :class:`CoordinatedEmbedder` builds it; its parameters are set there, with the
    prefix ``module__``.

    Parameters
    ----------
    n_genes : int
        Width of a profile. Set by the estimator.
    n_features : int
        Number of molecule features, 0 for none. Set by the estimator.
    encoder : nn.Module or None
        Graph network with an `output_size`. Set by the estimator.
    embedding_size : int, default=128
        Dimension of the joint space.
    expression_layers : sequence of int, default=(1024, 512)
        Widths of the hidden layers of the expression tower.
    head_layers : sequence of int, default=()
        Widths of the hidden layers of the molecule tower, after the graph network.
    activation : {"selu", "relu", "tanh", "sigmoid", "silu"}, default="selu"
        With "selu" both towers are self-normalising networks.
    dropout, head_dropout : float, default=0.0
        Share of hidden units dropped, in the expression tower and in the head.
    input_dropout, head_input_dropout : float, default=0.0
        Share of genes, and of the molecule vector, dropped in training.
    bias : bool, default=True
        Whether the linear layers have a bias.
    init : {"auto", "lecun", "torch"}, default="auto"
        Initial weights: LeCun normal, torch's, or "auto": LeCun's with "selu".
    scaling : {"view", "column", "none"}, default="view"
        How profiles, features and graph vectors are scaled before the first layer,
        learnt from the training set: centred and divided by one number for the view,
        or by each column's standard deviation (at least a tenth of the view's).
    unit_profiles : bool, default=False
        Scale each profile to unit length first: its direction counts, not its
        strength.
    normalize : bool, default=True
        Scale the embeddings to unit length, as the margins of the losses suppose.
    start : {"random", "cca"}, default="random"
        With "cca" each tower has a linear path beside its layers, which starts at the
        :class:`~sklearn_molge.alignment.CCA` of the training set, and the layers'
        output starts at zero: training starts from the best linear alignment. Where
        `embedding_size` is more than the training set has canonical directions, the
        other outputs start at small random weights, with a warning.

    Examples
    --------
    >>> from sklearn_molge.alignment import TwoTower
    >>> TwoTower(978, n_features=200, embedding_size=64).molecule_tower.head
    FeedForward(
      (0): Linear(in_features=200, out_features=64, bias=True)
    )
    """

    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def __init__(
        self,
        n_genes: int,
        n_features: int = 0,
        encoder: Encoder | None = None,
        *,
        embedding_size: int = 128,
        expression_layers: Sequence[int] = (1024, 512),
        head_layers: Sequence[int] = (),
        activation: str = "selu",
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        input_dropout: float = 0.0,
        head_input_dropout: float = 0.0,
        bias: bool = True,
        init: str = "auto",
        scaling: str = "view",
        unit_profiles: bool = False,
        normalize: bool = True,
        start: str = "random",
    ):
        super().__init__()
        shared = {
            "n_out": embedding_size,
            "activation": activation,
            "bias": bias,
            "init": init,
        }
        self.molecule_tower = MoleculeTower(
            encoder,
            n_features,
            layers=check_layers("head_layers", head_layers),
            dropout=head_dropout,
            input_dropout=head_input_dropout,
            **shared,
        )
        self.expression_tower = ExpressionTower(
            n_genes,
            unit_profiles=unit_profiles,
            layers=check_layers("expression_layers", expression_layers),
            dropout=dropout,
            input_dropout=input_dropout,
            **shared,
        )
        self.embedding_size = embedding_size
        self.scaling = scaling
        self.normalize = normalize
        self.start = start
        # What else an embedding depends on; the estimator writes it down.
        self._preparation: dict = {}
        if start == "cca":
            head, network = self.molecule_tower.head, self.expression_tower.network
            self.molecule_tower.head = WithLinearPath(head)
            self.expression_tower.network = WithLinearPath(network)

    def get_extra_state(self) -> Tensor:
        """Return what a file of weights says of the network beside its weights."""
        return to_tensor(self._preparation | {"network": _what_it_computes(self)})

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the weights of a network that computes something else."""
        preparation = from_tensor(state)
        theirs, own = preparation.pop("network", None), _what_it_computes(self)
        if not isinstance(theirs, dict):
            raise CorruptFileError(EXTRA_STATE, "", "they do not name their network")
        names = sorted(theirs.keys() | own.keys())
        other = [name for name in names if theirs.get(name) != own.get(name)]
        if other:
            here = {name: own.get(name) for name in other}
            raise ValueError(
                "The weights are of a network with other settings than this one. "
                f"Theirs: { {name: theirs.get(name) for name in other} }, here: {here}."
            )
        self._preparation = preparation

    @torch.no_grad()
    def learn(
        self,
        molecules: MoleculeInputs,
        molecule_of: NDArray[np.intp],
        profiles: Tensor,
        *,
        batch_size: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Learn the scales, and the linear start, from the training set.

        Parameters
        ----------
        molecules : MoleculeInputs
            Distinct molecules.
        molecule_of : ndarray of shape (n_profiles,)
            The molecule of each training profile; others are not looked at.
        profiles : Tensor of shape (n_profiles, n_genes)
            The training profiles.
        batch_size : int
            Molecules to encode at once.
        seed : int
            Chooses the ridge of ``start="cca"``, together with the data.
        weights : ndarray of shape (n_profiles,), default=None
            Weight of each training profile; equal by default.
        """
        was_training = self.training
        self.eval()
        chosen, rows = np.unique(molecule_of, return_inverse=True)
        chunks = np.array_split(chosen, -(-len(chosen) // batch_size))
        prepared = self.prepare_profiles(profiles)
        if self.scaling != "none":
            of_rows = None if weights is None else torch.from_numpy(weights)
            self.expression_tower.scale.learn(prepared, self.scaling, of_rows)
            self.molecule_tower.learn_scaling(molecules, chunks, self.scaling)
        if self.start == "cca":
            joined = [self.molecule_tower.join_some(molecules, c) for c in chunks]
            scale = self.expression_tower.scale
            parts = prepared.split(_CHUNK_SIZE)
            scaled = torch.cat([scale(p.to(scale.mean.device)) for p in parts])
            self._start_at_cca(torch.cat(joined), scaled, rows, seed, weights)
        self.train(was_training)

    def _start_at_cca(
        self, x: Tensor, y: Tensor, rows: NDArray, seed: int, weights: NDArray | None
    ) -> None:
        """Set the linear paths of both towers to the CCA of what they are given."""
        X, Y = x.cpu().numpy(), y.cpu().numpy()
        cca = self._directions(X, rows, Y, weights, seed=seed)
        power = cca.correlations_**cca.correlation_power
        head, network = self.molecule_tower.head, self.expression_tower.network
        of_x, of_y = np.bincount(rows, minlength=len(X)), np.ones(len(Y))
        for path, mean, rotations, view, counts in (
            (head, cca.x_mean_, cca.x_rotations_, X, of_x),
            (network, cca.y_mean_, cca.y_rotations_, Y, of_y),
        ):
            assert isinstance(path, WithLinearPath)
            drawn = path.linear.weight[cca.n_components_ :].cpu().numpy().T
            parts = []
            for columns, size in ((rotations * power, 1.0), (drawn, _SMALL_START)):
                found = _mean_square(view, mean, columns, counts)
                parts.append(columns * (size / np.sqrt(found)))
            path.set_linear(mean, np.hstack(parts))

    def _directions(self, X, rows, Y, weights, *, seed: int) -> CCA:
        """Return the CCA of X[rows] and Y, with as many components as there are."""
        # So many that a fold of those that choose the ridge has them, too.
        most = max(1, len(X) * 4 // 5 - 1)
        cca = _AnyNumberCCA(
            min(self.embedding_size, most),
            correlation_power=_CORRELATION_POWER,
            random_state=seed,
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", JointSpaceWarning)
                weights = np.ones(len(Y)) if weights is None else np.asarray(weights)
                cca._fit_rows(X, rows, Y, weights.astype(np.float64))
        except ValueError as error:
            raise ValueError(
                "module__start='cca' needs a CCA of the training set (X: what the head "
                f"of the molecule tower is given, y: the profiles). {error}"
            ) from error
        n_drawn = self.embedding_size - cca.n_components_
        if n_drawn:
            warnings.warn(
                f"module__start='cca' found {cca.n_components_} canonical directions "
                "in the training set, and module__embedding_size is "
                f"{self.embedding_size}: the other {n_drawn} outputs start at small "
                "random weights.",
                JointSpaceWarning,
                stacklevel=2,
            )
        return cca

    def embed_molecules(
        self, graphs: GraphBatch | None, features: Tensor | None
    ) -> Tensor:
        """Project molecules into the joint space: (n_molecules, embedding_size)."""
        return self._finish(self.molecule_tower(graphs, features))

    def prepare_profiles(self, profiles: Tensor) -> Tensor:
        """Return profiles of unit length with `unit_profiles`, else as they are."""
        return self.expression_tower.prepare(profiles)

    def embed_profiles(self, prepared: Tensor) -> Tensor:
        """Project what `prepare_profiles` returned: (n_profiles, embedding_size).

        Apart, for gradients: unit length is no function of a path from 0.
        """
        return self._finish(self.expression_tower(prepared))

    def _finish(self, embeddings: Tensor) -> Tensor:
        if self.normalize:
            return nn.functional.normalize(embeddings, dim=1)
        return embeddings

    def forward(self, batch: PairBatch) -> EmbeddedBatch:
        """Embed both views of a batch."""
        return EmbeddedBatch(
            molecules=self.embed_molecules(batch.graphs, batch.features),
            profiles=self.embed_profiles(self.prepare_profiles(batch.profiles)),
            molecule_index=batch.molecule_index,
            molecule_drugs=batch.molecule_drugs,
            inputs=batch.profiles,
            triplets=batch.triplets,
        )
