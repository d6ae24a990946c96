"""Integrated gradients through the towers of a CoordinatedEmbedder."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional

from sklearn_molge.alignment._coordinated import CoordinatedEmbedder
from sklearn_molge.alignment._inputs import molecule_inputs
from sklearn_molge.molecules import GraphBatch

# Of the similarities at both ends of the path; more and the sum says little.
_TOLERANCE = 0.02


def check_embedder(model: Any, *, needs_graph: bool = False) -> None:
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

    Parameters
    ----------
    function : callable
        Takes one tensor of shape (n_steps, ...) for each input and returns one number
        for each step.
    starts, ends : sequence of Tensor
        Baseline and input; several tensors are one input.
    n_steps : int
        Points of the Gauss-Legendre quadrature.

    Returns
    -------
    attributions : list of ndarray
        One array for each input tensor, of its shape.
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
    model: Any, X: Any, start: NDArray, end: NDArray, n_steps: int
) -> NDArray[np.float64]:
    """Integrated gradients of the columns that the expression tower reads."""
    molecule = torch.from_numpy(np.asarray(model.transform(X))[0])
    towers, device = model._towers.eval(), model._module_device
    tower, molecule = towers.expression_tower, molecule.to(device)

    def similarities(prepared: Tensor) -> Tensor:
        # The path lies behind `prepare`: unit length is no function of a path from 0.
        embedded = towers._finish(tower.network(tower.scale(prepared)))
        return _similarity(embedded, molecule, model.metric)

    ends = [
        tower.prepare(torch.as_tensor(row[None], dtype=torch.float32, device=device))[0]
        for row in (start, end)
    ]
    (values,) = integrate(similarities, ends[:1], ends[1:], n_steps=n_steps)
    return values


def atom_gradients(
    model: Any, X: Any, y: Any, n_steps: int
) -> tuple[NDArray[np.float64], float]:
    """Integrated gradients of the atoms, and the similarity at the baseline.

    The baseline is the same graph with all features of atoms and bonds 0. Half of what
    a bond gets is counted to each of its atoms.
    """
    molecules, _ = molecule_inputs(model, X)
    towers, device = model._towers.eval(), model._module_device
    profile = torch.from_numpy(np.asarray(model.transform_ge(y))[0]).to(device)

    def similarities(atoms: Tensor, bonds: Tensor) -> Tensor:
        many, features = molecules.take(np.zeros(len(atoms), dtype=np.intp))
        batch = GraphBatch(
            atoms.flatten(0, 1),
            bonds.flatten(0, 1),
            many.bonds.to(device),
            many.n_atoms.to(device),
        )
        features = None if features is None else features.to(device)
        embedded = towers.embed_molecules(batch, features)
        return _similarity(embedded, profile, model.metric)

    graph, _ = molecules.take(np.zeros(1, dtype=np.intp))
    ends = [graph.V.to(device), graph.bond_features.to(device)]
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
            stacklevel=3,
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
