"""Graphs of molecules: computed once, kept small, drawn in batches, summed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from chemprop.featurizers import CuikmolmakerMolGraphFeaturizer
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.rdBase import BlockLogs
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from torch import Tensor
from torch.nn import functional

from sklearn_molge._utils.messages import N_SHOWN
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules._smiles import (
    check_smiles,
    may_be_tangled,
    refuse_invalid,
    text_fault,
    valid_smiles_mask,
)

__all__ = ["MODES", "BagSum", "GraphBatch", "MoleculeGraphs"]

# chemprop's featuriser modes: number of atom features and of bond features.
MODES = {"V1": (133, 14), "V2": (72, 14), "ORGANIC": (44, 14), "RIGR": (52, 2)}
# Fixed, so that the result cannot depend on n_jobs.
_CHUNK_SIZE = 512


@dataclass(eq=False)
class GraphBatch:
    """The graphs of some molecules side by side, as one graph.

    It has the attributes of chemprop's ``BatchMolGraph``, so chemprop's modules take it
    too: bond i of the molecules is the directed bonds 2i and 2i + 1.

    Parameters
    ----------
    V : Tensor of shape (n_atoms, n_atom_features), float32
        Features of the atoms, molecule by molecule.
    bond_features : Tensor of shape (n_bonds, n_bond_features), float32
        Features of the bonds.
    bonds : Tensor of shape (n_bonds, 2), int64
        First and second atom of each bond, as rows of `V`.
    n_atoms : Tensor of shape (n_molecules,), int64
        Number of atoms of each molecule.

    Attributes
    ----------
    E : Tensor of shape (2 * n_bonds, n_bond_features)
        Features of the directed bonds.
    edge_index : Tensor of shape (2, 2 * n_bonds)
        Atom that each directed bond leaves, and the one that it goes to.
    rev_edge_index : Tensor of shape (2 * n_bonds,)
        The directed bond the other way.
    batch : Tensor of shape (n_atoms,)
        The molecule of each atom.
    bags : GraphBags
        Which rows the layers of a :class:`DMPNN` sum over.

    See Also
    --------
    MoleculeGraphs : Makes batches.

    Examples
    --------
    A network of your own for ``encoder=``: the sum of each molecule's atom features.

    >>> import torch
    >>> from sklearn_molge.molecules import MoleculeGraphs
    >>> class AtomSum(torch.nn.Module):
    ...     def forward(self, graphs):
    ...         sums = graphs.V.new_zeros(len(graphs), graphs.V.shape[1])
    ...         return sums.index_add(0, graphs.batch, graphs.V)
    >>> AtomSum()(MoleculeGraphs.from_smiles(["CCO", "C"]).take([0, 1])).shape
    torch.Size([2, 72])
    """

    V: Tensor
    bond_features: Tensor
    bonds: Tensor
    n_atoms: Tensor

    def __len__(self) -> int:
        return len(self.n_atoms)

    def to(self, device: str | torch.device) -> GraphBatch:
        """Return the batch on a device.

        Its bags are found where it is: on the CPU, no GPU is waited for.
        """
        parts = self.V, self.bond_features, self.bonds, self.n_atoms
        moved = GraphBatch(*(part.to(device, non_blocking=True) for part in parts))
        moved.bags = self.bags.to(device)
        return moved

    @cached_property
    def E(self) -> Tensor:  # noqa: N802
        return self.bond_features.repeat_interleave(2, dim=0)

    @cached_property
    def edge_index(self) -> Tensor:
        return torch.stack((self.bonds.flatten(), self.bonds.flip(1).flatten()))

    @cached_property
    def rev_edge_index(self) -> Tensor:
        return torch.arange(self.bonds.numel(), device=self.bonds.device) ^ 1

    @cached_property
    def batch(self) -> Tensor:
        molecules = torch.arange(len(self), device=self.n_atoms.device)
        return molecules.repeat_interleave(self.n_atoms, output_size=len(self.V))

    @cached_property
    def bags(self) -> GraphBags:
        return GraphBags.of_graph(self.edge_index, self.n_atoms, self.batch)


@dataclass(eq=False)
class MoleculeGraphs:
    """The graphs of many molecules, to take batches from.

    Atom and bond features are bit-equal to those of chemprop's
    ``SimpleMoleculeMolGraphFeaturizer``, in about a fifth of its time. All but the mass
    are 0 or 1 and kept as bytes: about 3 kB a molecule of drug size.

    Parameters
    ----------
    atom_bits : Tensor of shape (n_atoms, n_atom_features - 1), uint8
        Features of the atoms of all molecules, without the mass.
    atom_masses : Tensor of shape (n_atoms,), float32
        Mass of the atoms, in 100 Da.
    bond_bits : Tensor of shape (n_bonds, n_bond_features), uint8
        Features of the bonds of all molecules.
    bonds : Tensor of shape (n_bonds, 2), int32
        First and second atom of each bond, counted within the molecule.
    n_atoms, n_bonds : Tensor of shape (n_molecules,), int64
        Number of atoms and bonds of each molecule.

    Examples
    --------
    >>> from sklearn_molge.molecules import MoleculeGraphs
    >>> graphs = MoleculeGraphs.from_smiles(["CCO", "C", "c1ccccc1"])
    >>> batch = graphs.take([2, 0])
    >>> len(batch), tuple(batch.V.shape), tuple(batch.E.shape)
    (2, (9, 72), (16, 14))
    """

    atom_bits: Tensor
    atom_masses: Tensor
    bond_bits: Tensor
    bonds: Tensor
    n_atoms: Tensor
    n_bonds: Tensor

    @classmethod
    def from_smiles(
        cls, smiles: ArrayLike, *, n_jobs: int | None = None, mode: str = "V2"
    ) -> MoleculeGraphs:
        """Compute the graph of each molecule.

        Parameters
        ----------
        smiles : array-like of shape (n_molecules,)
            SMILES. Each entry is read: pass distinct ones.
        n_jobs : int or None, default=None
            Number of processes; None is 1 unless ``joblib.parallel_config`` says
            otherwise, -1 takes all cores. The result does not depend on it.
        mode : {"V1", "V2", "ORGANIC", "RIGR"}, default="V2"
            Atom features, by chemprop's name: 133, 72, 44 or 52 of them.

        Returns
        -------
        graphs : MoleculeGraphs
            In the order of `smiles`.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        ValueError
            If there are no molecules, or `mode` is unknown.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {list(MODES)}. Got {mode!r}.")
        texts = as_smiles_array(smiles)
        if len(texts) == 0:
            raise ValueError("smiles must hold at least 1 molecule. Got 0.")
        if not all(map(_is_plain, texts)):
            check_smiles(texts, wildcards=True)
        chunks = Parallel(n_jobs=n_jobs)(
            delayed(_featurize)(texts[rows].tolist(), mode)
            for rows in gen_batches(len(texts), _CHUNK_SIZE)
        )
        if any(chunk is None for chunk in chunks):
            check_smiles(texts, wildcards=True)
            refused = np.array([_featurize([text], mode) is None for text in texts])
            raise InvalidSmilesError(
                np.flatnonzero(refused).tolist(),
                texts[refused].tolist(),
                ["chemprop refuses what RDKit reads"] * N_SHOWN,
            )
        odd = np.concatenate([_may_be_no_drug(*chunk[3:]) for chunk in chunks])
        valid = ~odd
        valid[odd] = valid_smiles_mask(texts[odd], wildcards=True)
        refuse_invalid(texts, valid, wildcards=True)
        parts = (np.concatenate(part) for part in zip(*chunks, strict=True))
        return cls(*map(torch.from_numpy, parts))

    def __len__(self) -> int:
        return len(self.n_atoms)

    @property
    def nbytes(self) -> int:
        """Size of the graphs, in bytes."""
        return sum(part.nbytes for part in vars(self).values())

    def to(self, device: str | torch.device) -> MoleculeGraphs:
        """Return the graphs on a device: batches are then made there."""
        return MoleculeGraphs(*(part.to(device) for part in vars(self).values()))

    def take(self, indices: Sequence[int] | NDArray) -> GraphBatch:
        """Make a batch of some molecules.

        Parameters
        ----------
        indices : sequence of int, or ndarray of shape (n_molecules,)
            Positions of the molecules, in any order and as often as you like.

        Returns
        -------
        batch : GraphBatch
            Their graphs, in that order.
        """
        chosen = torch.from_numpy(np.arange(len(self))[indices]).to(self.n_atoms.device)
        n_atoms, n_bonds = self.n_atoms[chosen], self.n_bonds[chosen]
        atoms = _ranges((self.n_atoms.cumsum(0) - self.n_atoms)[chosen], n_atoms)
        rows = _ranges((self.n_bonds.cumsum(0) - self.n_bonds)[chosen], n_bonds)
        first_atom = (n_atoms.cumsum(0) - n_atoms).repeat_interleave(n_bonds)
        masses = self.atom_masses[atoms, None]
        return GraphBatch(
            torch.cat((self.atom_bits[atoms].float(), masses), dim=1),
            self.bond_bits[rows].float(),
            self.bonds[rows] + first_atom[:, None],
            n_atoms,
        )


def _is_plain(text: object) -> bool:
    """Whether a text is one word, as chemprop would take "CCO CCN" for "CCO"."""
    return isinstance(text, str) and len(text.split()) == 1 and text_fault(text) is None


def _may_be_no_drug(bonds: NDArray, n_atoms: NDArray, n_bonds: NDArray) -> NDArray:
    """Which molecules may have too many atoms, or be too tangled."""
    first = np.cumsum(n_atoms) - n_atoms
    ends = np.repeat(first, n_bonds)[:, None] + bonds
    n_neighbours = np.bincount(ends.ravel(), minlength=n_atoms.sum())
    most = np.maximum.reduceat(n_neighbours, first)
    return may_be_tangled(n_atoms, n_bonds) | (most > 4)


def _featurize(texts: list[str], mode: str) -> tuple[NDArray, ...] | None:
    """Arrays of :class:`MoleculeGraphs`, or None if a text is not a molecule."""
    with BlockLogs():  # RDKit prints each parse error; the caller reports them all
        try:
            graph = CuikmolmakerMolGraphFeaturizer(mode)(texts)
        except (IndexError, RuntimeError):  # a text that is no molecule
            return None
    molecules = graph.batch.numpy()
    n_atoms = np.bincount(molecules, minlength=len(texts))
    if not n_atoms.all():
        return None
    atom_features = graph.V.numpy()
    first, second = graph.edge_index[:, ::2].numpy()
    n_bonds = np.bincount(molecules[first], minlength=len(texts))
    first_atom = np.repeat(np.cumsum(n_atoms) - n_atoms, n_bonds)
    bonds = np.stack((first - first_atom, second - first_atom), axis=1)
    return (
        atom_features[:, :-1].astype(np.uint8),
        _exact_masses(atom_features[:, -1], texts, n_atoms),
        _exact_bonds(graph.E[::2].numpy().astype(np.uint8), texts, n_bonds),
        bonds.astype(np.int32),
        n_atoms,
        n_bonds,
    )


# Texts that may have a bond other than single, double, triple and aromatic: written so,
# or of a metal, to which RDKit makes dative bonds of too many.
_MAY_HAVE_ODD_BONDS = re.compile(
    r"[~$<>|]|\[\d*(?!(?:[bcnops]|[BCNOPSFIH](?![a-z])|Cl|Br|Si|Se|se)[^a-z])"
)
_PLAIN = (
    Chem.BondType.SINGLE,
    Chem.BondType.DOUBLE,
    Chem.BondType.TRIPLE,
    Chem.BondType.AROMATIC,
)
_AROMATIC_BIT = 4


def _exact_bonds(bits, texts, n_bonds):
    """Give odd bonds no type, as chemprop does: cuik's calls them aromatic."""
    if bits.shape[1] <= _AROMATIC_BIT:  # a mode without types of bonds
        return bits
    first = np.cumsum(n_bonds) - n_bonds
    for i, text in enumerate(texts):
        if _MAY_HAVE_ODD_BONDS.search(text):
            with BlockLogs():
                mol = Chem.MolFromSmiles(text)
            odd = [b.GetIdx() for b in mol.GetBonds() if b.GetBondType() not in _PLAIN]
            bits[first[i] + np.array(odd, dtype=np.intp), _AROMATIC_BIT] = 0
    return bits


_WEIGHTS = np.array(
    sorted({Chem.GetPeriodicTable().GetAtomicWeight(z) for z in range(119)})
)
_CUIK_MASSES = _WEIGHTS.astype(np.float32) / np.float32(100)
_MASSES = (0.01 * _WEIGHTS).astype(np.float32)


def _exact_masses(masses, texts, n_atoms):
    """Round the masses as chemprop's own featuriser does: cuik's are 1 ulp off."""
    places = np.searchsorted(_CUIK_MASSES, masses).clip(max=len(_MASSES) - 1)
    exact = _MASSES[places]
    other = _CUIK_MASSES[places] != masses
    molecules = np.repeat(np.arange(len(texts)), n_atoms)
    for i in np.unique(molecules[other]):  # isotopes: their masses are not in the table
        with BlockLogs():
            mol = Chem.MolFromSmiles(texts[i])
        exact[molecules == i] = [0.01 * atom.GetMass() for atom in mol.GetAtoms()]
    return exact


# What the layers of a D-MPNN need besides products: sums over bags of rows.


class Bags(NamedTuple):
    """Which rows of a matrix are summed: a matrix of zeros and ones, by its rows."""

    rows: Tensor  # the rows of the first bag, of the second, ...
    starts: Tensor | None = None  # where each bag begins; None if each is one row

    def to(self, device: str | torch.device) -> Bags:
        """Return the bags on a device."""
        starts = self.starts
        if starts is not None:
            starts = starts.to(device, non_blocking=True)
        return Bags(self.rows.to(device, non_blocking=True), starts)

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
    """The sums of message passing, each with its transpose."""

    sources: tuple[Bags, Bags]  # to each directed bond the atom that it leaves
    # To each directed bond those that arrive at the atom it leaves, but its reverse.
    messages: tuple[Bags, Bags]
    arrivals: tuple[Bags, Bags]  # to each atom the directed bonds that arrive
    molecules: tuple[Bags, Bags]  # to each molecule its atoms

    def to(self, device: str | torch.device) -> GraphBags:
        """Return the bags on a device."""
        return GraphBags(*((bags.to(device), other.to(device)) for bags, other in self))

    @classmethod
    def of_graph(cls, edge_index, n_atoms, batch) -> GraphBags:
        """Find the bags of a graph whose directed bonds 2i and 2i + 1 are one bond."""
        source, target = edge_index
        degrees = torch.bincount(target, minlength=len(batch))
        starts = degrees.cumsum(0) - degrees
        arriving = torch.argsort(target, stable=True)
        leaving = arriving ^ 1
        messages = (
            _other_bonds(source, arriving, starts, degrees),
            _other_bonds(target, leaving, starts, degrees),
        )
        atoms = torch.arange(len(batch), device=batch.device)
        return cls(
            sources=(Bags(source), Bags(leaving, starts)),
            messages=messages,
            arrivals=(Bags(arriving, starts), Bags(target)),
            molecules=(Bags(atoms, _starts(n_atoms)), Bags(batch)),
        )


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Join arange(start, start + length) of each start and length."""
    shifts = (starts - _starts(lengths)).repeat_interleave(lengths)
    return shifts + torch.arange(len(shifts), device=shifts.device)


def _starts(lengths):
    return lengths.cumsum(0) - lengths


def _other_bonds(atoms, bonds_by_atom, starts, degrees):
    """Of each bond, the bonds listed at its atom in `atoms` but its own reverse."""
    lengths = degrees[atoms]
    rows = bonds_by_atom[_ranges(starts[atoms], lengths)]
    bonds = torch.arange(len(atoms), device=atoms.device)
    others = rows != (bonds ^ 1).repeat_interleave(lengths)
    return Bags(rows[others], _starts(lengths - 1))
