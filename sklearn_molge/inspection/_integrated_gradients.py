"""Integrated gradients through the towers of a CoordinatedEmbedder."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional

from sklearn_molge.alignment import CoordinatedEmbedder

# Of the similarities at both ends of the path; more and the sum says little.
_TOLERANCE = 0.02


def check_embedder(model: object, *, needs_graph: bool = False) -> None:
    """Refuse two-view estimators that have no gradient."""
    if not isinstance(model, CoordinatedEmbedder):
        raise TypeError(
            "method='gradient' needs a CoordinatedEmbedder, alone or in a Pipeline, "
            "search or TransformedTargetRetriever. Got a "
            f"{type(model).__name__}. Use method='occlusion'."
        )
    check_is_fitted(model)
    if needs_graph and model.encoder_mode_ is None:
        raise TypeError(
            "method='gradient' goes through the graph network, and this "
            "CoordinatedEmbedder has none (encoder=None). Use method='occlusion'."
        )


def integrate(
    function: Callable[..., Tensor],
    starts: Sequence[Tensor],
    ends: Sequence[Tensor],
    *,
    n_steps: int,
) -> list[NDArray[np.float64]]:
    """Integrate the gradient of `function` on the straight path between two inputs.

    Each has one tensor or several; `function` takes a row of each for every step and
    returns a number for it. The quadrature is Gauss-Legendre's.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    points = []
    for start, end in zip(starts, ends, strict=True):
        shape = (-1, *(1 for _ in start.shape))
        position = torch.as_tensor((nodes + 1) / 2, dtype=start.dtype).reshape(shape)
        on_path = start + position.to(start.device) * (end - start)
        points.append(on_path.detach().requires_grad_())
    with torch.enable_grad():
        total = function(*points).sum()
        gradients = torch.autograd.grad(total, points, materialize_grads=True)
    return [
        np.tensordot(weights / 2, gradient.cpu().numpy().astype(np.float64), axes=1)
        * (end - start).cpu().numpy()
        for gradient, start, end in zip(gradients, starts, ends, strict=True)
    ]


def profile_gradients(
    model: CoordinatedEmbedder, X, ends, n_steps: int
) -> NDArray[np.float64]:
    """Integrated gradients of the columns that the expression tower reads.

    `ends` are the profile and its baseline.
    """
    ends = model.profile_tensor(ends).flip(0)
    molecule = torch.from_numpy(np.asarray(model.transform(X))[0]).to(ends.device)

    def similarities(profiles: Tensor) -> Tensor:
        return _similarity(model.embed_profiles(profiles), molecule, model.metric)

    (values,) = integrate(similarities, ends[:1], ends[1:], n_steps=n_steps)
    return values


def atom_gradients(
    model: CoordinatedEmbedder, X, y, n_steps: int
) -> tuple[NDArray[np.float64], float]:
    """Integrated gradients of the atoms, and the similarity at the baseline.

    The baseline is the same graph with all features of atoms and bonds 0. Half of what
    a bond gets is counted to each of its atoms.
    """
    molecule = np.asarray(X)
    graph, _ = model.molecule_tensors(molecule)
    profile = torch.from_numpy(np.asarray(model.transform_ge(y))[0]).to(graph.V.device)

    def similarities(atoms: Tensor, bonds: Tensor) -> Tensor:
        many, features = model.molecule_tensors(molecule.repeat(len(atoms)))
        changed = type(many)(
            atoms.flatten(0, 1), bonds.flatten(0, 1), many.bonds, many.n_atoms
        )
        embedded = model.embed_molecules(changed, features)
        return _similarity(embedded, profile, model.metric)

    ends = [graph.V, graph.bond_features]
    starts = [torch.zeros_like(end) for end in ends]
    with torch.no_grad():
        baseline = similarities(*(start[None] for start in starts)).item()
    of_atoms, of_bonds = integrate(similarities, starts, ends, n_steps=n_steps)
    values = of_atoms.sum(axis=1)
    # add.at counts every bond of an atom, where += would count one
    np.add.at(values, graph.bonds.cpu().numpy(), of_bonds.sum(axis=1)[:, None] / 2)
    return values, baseline


def warn_if_incomplete(total: float, similarity: float, baseline: float) -> None:
    """Warn if the attributions do not sum up to what they should explain."""
    scale = abs(similarity) + abs(baseline)
    error = abs(total - (similarity - baseline))
    if error > _TOLERANCE * scale:
        warnings.warn(
            f"The integrated gradients sum to {total:.3g}, and the similarity changes "
            f"by {similarity - baseline:.3g}. Increase n_steps.",
            ConvergenceWarning,
            stacklevel=5,  # of the call to the public function
        )


def _similarity(embedded: Tensor, other: Tensor, metric: str) -> Tensor:
    """Similarity of each row to one vector, as `pairwise_similarity` defines it."""
    if metric == "dot":
        return embedded @ other
    if metric == "euclidean":
        return -torch.linalg.vector_norm(embedded - other, dim=1)
    if metric == "correlation":
        embedded = embedded - embedded.mean(dim=1, keepdim=True)
        other = other - other.mean()
    return functional.cosine_similarity(embedded, other[None], dim=1)
