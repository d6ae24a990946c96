"""Molecules of a table, or assembled from building blocks, as many as asked for."""

import itertools
import math

import numpy as np
import pandas as pd

from sklearn_molge.molecules import valid_smiles_mask

# Two places each, for substituents that are written as branches.
_SCAFFOLDS = (
    "c1cc({a})ccc1{b}",
    "c1cc({a})cc(c1){b}",
    "c1nc({a})ccc1{b}",
    "c1nc({a})ncc1{b}",
    "c1c({a})[nH]c2ccc(cc12){b}",
    "c1c({a})oc2ccc(cc12){b}",
    "n1c({a})sc2ccc(cc12){b}",
    "c1c({a})nc2ccc(cc2n1){b}",
    "C1CN({a})CCN1{b}",
    "C1CN({a})CCC1{b}",
    "c1c({a})nn(c1){b}",
    "c1c({a})csc1{b}",
)
_LINKERS = (
    "C(=O)N",
    "NC(=O)",
    "CC(=O)N",
    "S(=O)(=O)N",
    "CO",
    "CCN",
    "C(=O)NC",
    "CNC(=O)",
    "CC",
    "CCO",
    "C(=O)C",
    "NC(=O)N",
)
_TAIL_RINGS = (
    "c3ccccc3",
    "c3ccc({s})cc3",
    "c3cccc({s})c3",
    "c3ccc({s})nc3",
    "c3cnc({s})s3",
    "c3ccc({s})o3",
    "C3CCC({s})CC3",
    "N3CCC({s})CC3",
    "N3CCN({s})CC3",
)
_GROUPS = (
    "C",
    "CC",
    "C(C)C",
    "OC",
    "F",
    "Cl",
    "Br",
    "C#N",
    "C(F)(F)F",
    "N(C)C",
    "C(=O)N",
    "C(=O)O",
    "CO",
    "OCC",
    "C(=O)OC",
    "S(=O)(=O)C",
)
# Both places are alike: of (a, b) and (b, a) one is left out.
_SYMMETRIC = {"c1cc({a})ccc1{b}", "c1cc({a})cc(c1){b}", "C1CN({a})CCN1{b}"}
# N-N, N-O and N-halogen bonds and such are no drugs: on a nitrogen only these.
_ON_NITROGEN = ("C", "CC", "C(C)C", "C(=O)N", "CCO", "S(=O)(=O)C")


def _tails():
    tails = []
    for linker, ring in itertools.product(_LINKERS, _TAIL_RINGS):
        if ring.startswith("N") and linker.endswith(("N", "O")):
            continue
        groups = _ON_NITROGEN if "N({s})" in ring else _GROUPS
        fitting = groups if "{s}" in ring else ("",)
        tails += [linker + ring.format(s=group) for group in fitting]
    return tails


def _renumbered(tail):
    return tail.replace("3", "4")


_TAILS = _tails()
# First letter of a tail that must not sit on a nitrogen of the scaffold.
_CARBON_TAILS = [tail for tail in _TAILS if tail.startswith(("C", "S"))]


def _places():
    for scaffold in _SCAFFOLDS:
        first = _CARBON_TAILS if "N({a})" in scaffold else _TAILS
        on_nitrogen = scaffold.endswith(("N1{b}", "nn(c1){b}"))
        second = _CARBON_TAILS if on_nitrogen else _TAILS
        yield scaffold, first, second


def read_molecules(options, n):
    """Return `n` different SMILES of the table in --library, or made-up ones."""
    if options.library is None:
        return np.array(list(assembled_library(n)), dtype=object)
    table = pd.read_csv(options.library, sep="\t", dtype=str)
    texts = table["canonical_smiles"].dropna().unique().astype(object)
    texts = np.random.default_rng(0).permutation(texts)[: n + n // 4]
    texts = texts[valid_smiles_mask(texts)][:n]
    if len(texts) < n:
        raise SystemExit(f"--library has {len(texts)} molecules. Asked for: {n}.")
    return texts


def assembled_library(n, random_state=0):
    """Yield `n` different SMILES, one by one, in an order drawn by `random_state`.

    Molecules are drawn without replacement by a walk over all combinations that never
    comes twice to one: number i is ``(start + i * step) % size``.
    """
    places = list(_places())
    sizes = np.array([len(first) * len(second) for _, first, second in places])
    ends = np.cumsum(sizes)
    size = int(ends[-1])
    n_twice = sum(
        len(first) * (len(first) - 1) // 2
        for scaffold, first, _ in places
        if scaffold in _SYMMETRIC
    )
    if n > size - n_twice:
        raise ValueError(f"n must be at most {size - n_twice:,}. Got {n:,}.")
    rng = np.random.default_rng(random_state)
    step = int(rng.integers(size // 3, size // 2))
    while math.gcd(step, size) != 1:
        step += 1
    number = int(rng.integers(size))
    while n:
        which = int(np.searchsorted(ends, number, side="right"))
        scaffold, first, second = places[which]
        i, j = divmod(number - int(ends[which] - sizes[which]), len(second))
        if i <= j or scaffold not in _SYMMETRIC:
            yield scaffold.format(a=first[i], b=_renumbered(second[j]))
            n -= 1
        number = (number + step) % size
