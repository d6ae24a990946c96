"""Sums over bags of rows: all that the layers of a D-MPNN need besides products."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Bags(NamedTuple):
    """Which rows of a matrix are summed: a matrix of zeros and ones, by its rows.

    Attributes
    ----------
    rows : Tensor
        The rows of the first bag, of the second, ...
    starts : Tensor of shape (n_bags,) or None
        Where in `rows` each bag begins; None if each bag is one row.
    """

    rows: Tensor
    starts: Tensor | None = None

    def to(self, device: str | torch.device) -> "Bags":
        """Return the bags on a device."""
        starts = self.starts
        return Bags(
            self.rows.to(device, non_blocking=True),
            None if starts is None else starts.to(device, non_blocking=True),
        )

    def sum(self, x: Tensor) -> Tensor:
        """Sum of the rows of each bag; zeros for an empty one."""
        if self.starts is None:
            return x.index_select(0, self.rows)
        return functional.embedding_bag(self.rows, x, self.starts, mode="sum")


class BagSum(torch.autograd.Function):
    """Sum over bags whose gradient is a sum over the transposed bags.

    PyTorch's own gradient would scatter: slower, and on a GPU in no fixed order.
    """

    @staticmethod
    def forward(ctx, x, bags, transposed):
        ctx.transposed = transposed
        return bags.sum(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return ctx.transposed.sum(gradient.contiguous()), None, None


class GraphBags(NamedTuple):
    """The sums of message passing, each with its transpose.

    Attributes
    ----------
    sources : pair of Bags
        To each directed bond the atom that it leaves.
    messages : pair of Bags
        To each directed bond those that arrive at the atom it leaves, but its reverse.
    arrivals : pair of Bags
        To each atom the directed bonds that arrive.
    molecules : pair of Bags
        To each molecule its atoms.
    """

    sources: tuple[Bags, Bags]
    messages: tuple[Bags, Bags]
    arrivals: tuple[Bags, Bags]
    molecules: tuple[Bags, Bags]

    def to(self, device: str | torch.device) -> "GraphBags":
        """Return the bags on a device."""
        sources, messages, arrivals, molecules = (
            (one.to(device), other.to(device)) for one, other in self
        )
        return GraphBags(sources, messages, arrivals, molecules)

    @classmethod
    def of_graph(
        cls, edge_index: Tensor, n_atoms: Tensor, batch: Tensor
    ) -> "GraphBags":
        """Find the bags of a graph whose directed bonds 2i and 2i + 1 are one bond."""
        source, target = edge_index
        degrees = torch.bincount(target, minlength=len(batch))
        starts = degrees.cumsum(0) - degrees
        arriving = torch.argsort(target, stable=True)
        leaving = arriving ^ 1
        return cls(
            (Bags(source), Bags(leaving, starts)),
            (
                _other_bonds(source, arriving, starts, degrees),
                _other_bonds(target, leaving, starts, degrees),
            ),
            (Bags(arriving, starts), Bags(target)),
            (
                Bags(torch.arange(len(batch), device=batch.device), _starts(n_atoms)),
                Bags(batch),
            ),
        )


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Join arange(start, start + length) of each start and length."""
    shifts = (starts - _starts(lengths)).repeat_interleave(lengths)
    return shifts + torch.arange(len(shifts), device=shifts.device)


def _starts(lengths):
    return lengths.cumsum(0) - lengths


def _other_bonds(atoms, bonds_by_atom, starts, degrees):
    """Of each bond, the bonds listed at its atom in `atoms` but its own reverse."""
    lengths = degrees[atoms]
    rows = bonds_by_atom[ranges(starts[atoms], lengths)]
    bonds = torch.arange(len(atoms), device=atoms.device)
    others = rows != (bonds ^ 1).repeat_interleave(lengths)
    return Bags(rows[others], _starts(lengths - 1))
