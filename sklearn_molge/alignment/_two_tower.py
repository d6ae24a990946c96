"""The network: a molecule tower and an expression tower that end in one space."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment._feedforward import (
    ACTIVATIONS,
    FeedForward,
    check_layers,
    layer_widths,
)
from sklearn_molge.alignment._linear_start import WithLinearPath, start_at_cca
from sklearn_molge.alignment._pairs import MoleculeInputs, PairBatch, PairDataset

_WIDTH = [Interval(Real, 0, None, closed="neither")]
_DEPTH = [Interval(Integral, 0, None, closed="left")]
_SHARE = [Interval(Real, 0, 1, closed="left")]
_CONSTRAINTS: dict = {
    "embedding_size": [Interval(Integral, 1, None, closed="left")],
    "expression_layers": ["array-like", None],
    "expression_width": _WIDTH,
    "expression_growth": _WIDTH,
    "expression_depth": _DEPTH,
    "head_layers": ["array-like", None],
    "head_width": _WIDTH,
    "head_growth": _WIDTH,
    "head_depth": _DEPTH,
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
# Columns that hardly vary (a rare fingerprint bit) must not explode.
_SMALLEST_SCALE = 0.1


class Scaling(nn.Module):
    """Subtract a mean and divide by a scale that were learnt from the training set."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def learn(self, x: Tensor, how: str) -> None:
        """Take mean and scale from the rows of `x`: by column, or one for the view."""
        if how == "none":
            return
        variance, mean = torch.var_mean(x.double(), dim=0, correction=0)
        whole = variance.mean().sqrt()
        if how == "column":
            scale = variance.sqrt().clamp(min=_SMALLEST_SCALE * whole)
        else:
            scale = whole.expand_as(variance)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the rows of `x`."""
        return (x - self.mean) / self.scale


class MoleculeTower(nn.Module):
    """Graph network and features of a molecule, joined before the head."""

    def __init__(self, encoder: nn.Module | None, n_features: int, head: dict):
        super().__init__()
        self.encoder = encoder
        width: Any = 0 if encoder is None else encoder.output_size
        sizes = [width, n_features]
        self.scale_graph = Scaling(sizes[0])
        self.scale_features = Scaling(sizes[1])
        self.head: nn.Module = FeedForward(n_in=sum(sizes), **head)

    def join(self, graphs: Any, features: Tensor | None) -> Tensor:
        """Return what the head is given: graph vector and features, scaled."""
        parts = []
        if self.encoder is not None:
            parts.append(self.scale_graph(self.encoder(graphs)))
        if features is not None:
            parts.append(self.scale_features(features))
        return torch.cat(parts, dim=1)

    def forward(self, graphs: Any, features: Tensor | None) -> Tensor:
        """Embed molecules."""
        return self.head(self.join(graphs, features))


class ExpressionTower(nn.Module):
    """Feed-forward network of a profile."""

    def __init__(self, *, unit_profiles: bool, **network: Any):
        super().__init__()
        self.unit_profiles = unit_profiles
        self.scale = Scaling(network["n_in"])
        self.network: nn.Module = FeedForward(**network)

    def prepare(self, profiles: Tensor) -> Tensor:
        """Return profiles of unit length, if that was asked for."""
        if self.unit_profiles:
            return nn.functional.normalize(profiles, dim=1)
        return profiles

    def forward(self, prepared: Tensor) -> Tensor:
        """Embed prepared profiles."""
        return self.network(self.scale(prepared))


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
    expression_layers : sequence of int or None, default=None
        Widths of the hidden layers of the expression tower. None takes them from the
        next three, which are handier to search over.
    expression_width, expression_growth, expression_depth : default=1024, 0.5, 2
        Width of the first hidden layer, by how much each next one is wider, and how
        many there are.
    head_layers : sequence of int or None, default=None
        Widths of the hidden layers of the molecule tower, after the graph network.
    head_width, head_growth, head_depth : default=512, 1.0, 0
        The same as for the expression tower.
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
        output starts at zero: training starts from the best linear alignment.

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
        encoder: nn.Module | None = None,
        *,
        embedding_size: int = 128,
        expression_layers: Sequence[int] | None = None,
        expression_width: float = 1024,
        expression_growth: float = 0.5,
        expression_depth: int = 2,
        head_layers: Sequence[int] | None = None,
        head_width: float = 512,
        head_growth: float = 1.0,
        head_depth: int = 0,
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
        if expression_layers is None:
            expression_layers = layer_widths(
                expression_width, expression_growth, expression_depth
            )
        if head_layers is None:
            head_layers = layer_widths(head_width, head_growth, head_depth)
        shared = {
            "n_out": embedding_size,
            "activation": activation,
            "bias": bias,
            "init": init,
        }
        self.scaling = scaling
        self.normalize = normalize
        head = {
            "layers": check_layers("head_layers", head_layers),
            "dropout": head_dropout,
            "input_dropout": head_input_dropout,
            **shared,
        }
        self.molecule_tower = MoleculeTower(encoder, n_features, head)
        self.expression_tower = ExpressionTower(
            unit_profiles=unit_profiles,
            n_in=n_genes,
            layers=check_layers("expression_layers", expression_layers),
            dropout=dropout,
            input_dropout=input_dropout,
            **shared,
        )
        self.embedding_size = embedding_size
        self.start = start
        if start == "cca":
            self.molecule_tower.head = WithLinearPath(self.molecule_tower.head)
            self.expression_tower.network = WithLinearPath(
                self.expression_tower.network
            )

    @torch.no_grad()
    def learn_scaling(
        self, molecules: MoleculeInputs, profiles: Tensor, chunks: Sequence[NDArray]
    ) -> None:
        """Learn the scales from the training set.

        Parameters
        ----------
        molecules : MoleculeInputs
            The distinct molecules.
        profiles : Tensor of shape (n_profiles, n_genes)
            All training profiles.
        chunks : sequence of array of int
            The training molecules, as many as are encoded at once in each array.
        """
        if self.scaling == "none":
            return
        tower = self.molecule_tower
        self.expression_tower.scale.learn(
            self.expression_tower.prepare(profiles), self.scaling
        )
        if molecules.features is not None:
            chosen = torch.from_numpy(np.concatenate(chunks))
            tower.scale_features.learn(molecules.features[chosen], self.scaling)
        if tower.encoder is not None:
            was_training = tower.encoder.training
            tower.encoder.eval()
            vectors = [tower.encoder(molecules.take(chunk)[0]) for chunk in chunks]
            tower.encoder.train(was_training)
            tower.scale_graph.learn(torch.cat(vectors), self.scaling)

    @torch.no_grad()
    def learn_start(self, dataset: PairDataset, rows: NDArray, chunks: Sequence, seed):
        """Set the linear paths, after the scales, where ``start="cca"``.

        Parameters
        ----------
        dataset : PairDataset
            The training set.
        rows : ndarray of int
            The rows to learn from.
        chunks : sequence of array of int
            Their molecules in ascending order, those to encode at once in one array.
        seed : int
            Chooses CCA's ridge together with the data.
        """
        if self.start == "random":
            return
        was_training = self.training
        self.eval()
        molecules, profiles = self.molecule_tower, self.expression_tower
        start_at_cca(
            molecules.head,
            profiles.network,
            torch.cat([molecules.join(*dataset.molecules.take(c)) for c in chunks]),
            profiles.scale(profiles.prepare(dataset.profiles[torch.from_numpy(rows)])),
            np.searchsorted(np.concatenate(chunks), dataset.molecule_of[rows]),
            seed,
        )
        self.train(was_training)

    def embed_molecules(self, graphs: Any, features: Tensor | None) -> Tensor:
        """Project molecules into the joint space.

        Parameters
        ----------
        graphs : GraphBatch or None
            Their graphs, of a tower with a graph network.
        features : Tensor of shape (n_molecules, n_features) or None
            Their features, of a tower with features.

        Returns
        -------
        embeddings : Tensor of shape (n_molecules, embedding_size)
        """
        return self._finish(self.molecule_tower(graphs, features))

    def prepare_profiles(self, profiles: Tensor) -> Tensor:
        """Return profiles of unit length with `unit_profiles`, else as they are."""
        return self.expression_tower.prepare(profiles)

    def embed_profiles(self, prepared: Tensor) -> Tensor:
        """Project prepared profiles into the joint space.

        Parameters
        ----------
        prepared : Tensor of shape (n_profiles, n_genes)
            What :meth:`prepare_profiles` returned: gradients along a path from 0 are
            those of the network, since unit length is no function of such a path.

        Returns
        -------
        embeddings : Tensor of shape (n_profiles, embedding_size)
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
            anchors=batch.anchors,
            partners=batch.partners,
            negatives=batch.negatives,
        )
