"""atom_attribution: which atoms of a molecule drive its match with a profile."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.views import resolve_views
from sklearn_molge.inspection._attribution import (
    QueryProfile,
    check_gallery,
    similarity_to_each,
)
from sklearn_molge.molecules import parse_smiles

__all__ = ["AtomAttribution", "atom_attribution"]


@dataclass(frozen=True)
class AtomAttribution:
    """What each atom of a molecule adds to its similarity to a profile.

    Attributes
    ----------
    smiles : str
        The molecule.
    values : ndarray of shape (n_atoms,)
        Change of similarity that each atom stands for, in the order of the atoms of
        ``Chem.MolFromSmiles(smiles)``; positive atoms speak for the match.
    similarity : float
        Similarity of the molecule to the profile.
    baseline_similarity : float
        Of the molecule without its atoms: all of them dummies ("occlusion"), or all
        features of atoms and bonds 0 ("gradient").
    method : {"occlusion", "gradient"}
        How `values` were computed.
    """

    smiles: str
    values: NDArray[np.float64]
    similarity: float
    baseline_similarity: float
    method: str


@validate_params(
    {
        "smiles": [str],
        "profile": ["array-like"],
        "method": [StrOptions({"occlusion", "gradient"})],
        "candidates": ["array-like", None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def atom_attribution(
    estimator: Any,
    smiles: str,
    profile: ArrayLike,
    *,
    method: str = "occlusion",
    candidates: ArrayLike | None = None,
    n_steps: int = 64,
) -> AtomAttribution:
    r"""Attribute the similarity of a molecule and a profile to the molecule's atoms.

    Parameters
    ----------
    estimator : estimator
        A fitted two-view estimator of SMILES, or a Pipeline, search or wrapper around
        one.
    smiles : str
        The molecule.
    profile : array-like of shape (n_genes,) or (1, n_genes)
        The query, as `estimator` was fitted on profiles.
    method : {"occlusion", "gradient"}, default="occlusion"
        - "occlusion": the change of similarity when the atom is replaced by a dummy
          atom (``*``), which keeps its bonds and has neither element nor charge nor
          hydrogens. For any estimator.
        - "gradient": integrated gradients of the features of atoms and bonds. For a
          :class:`~sklearn_molge.alignment.CoordinatedEmbedder` with a graph network.
    candidates : array-like of shape (n_candidates,), default=None
        SMILES of the molecules that are ranked beside this one, with "occlusion".
        Needed by a :class:`~sklearn_molge.retrieval.VotingRetriever` that standardises
        similarities over the candidates; others do not depend on them.
    n_steps : int, default=64
        Points of the quadrature, with "gradient".

    Returns
    -------
    attribution : AtomAttribution
        Has the attributes `values` of shape (n_atoms,), `similarity`,
        `baseline_similarity`, `smiles` and `method`.

    Raises
    ------
    InvalidSmilesError
        If `smiles` or one of the `candidates` is not a molecule.
    TypeError
        If `method` is "gradient", and `estimator` has no graph network.
    ValueError
        If `profile` is not one profile, or `candidates` are missing.

    Warns
    -----
    ConvergenceWarning
        If integrated gradients miss the difference that they should sum to by more
        than 2 % of the similarities: increase `n_steps`.

    See Also
    --------
    gene_attribution : The same for the genes of the profile.
    AtomAttributionDisplay : Draws it.

    Notes
    -----
    With the similarity s of the molecule m, and :math:`m_{\setminus i}` with a dummy
    in place of atom i, occlusion is :math:`a_i = s(m) - s(m_{\setminus i})`, after
    the similarity maps of Riniker and Landrum 2013, who remove the atom's bits from a
    fingerprint instead. Values need not sum to anything, and a fingerprint of the
    dummy may set bits of its own. Where the dummy breaks an aromatic ring (1 atom in
    200 of drug-like molecules), its neighbours change too.

    Integrated gradients (Sundararajan et al. 2017) of the features x of atoms and
    bonds, on the straight path from features of 0, are

    .. math::

        a_j = x_j \int_0^1 \frac{\partial s}{\partial x_j}(\alpha x)\, d\alpha

    An atom is given the sum over its own features and half of that of its bonds. The
    values sum to ``similarity - baseline_similarity``. Molecule features beside the
    graph (`molecule_features`) are held fixed, and their share is not shown.

    Neither shows a cause in biology: they say what the fitted model looks at.

    References
    ----------
    S. Riniker and G. A. Landrum, "Similarity maps - a visualization strategy for
    molecular fingerprints and machine-learning methods", Journal of Cheminformatics 5
    (2013).

    M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks",
    ICML (2017).

    Examples
    --------
    The similarity to the profile [1] is here the number of chlorine atoms:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_molge.inspection import atom_attribution
    >>> class Chlorine(BaseEstimator):
    ...     def similarity(self, X, y):
    ...         return np.outer(y[:, 0], [text.count("Cl") for text in X])
    >>> atom_attribution(Chlorine(), "ClCCCl", [1.0]).values
    array([1., 0., 0., 1.])
    """
    gallery = check_gallery(estimator, smiles, candidates)
    query = QueryProfile(profile)
    rows = query.rows(query.values)
    if method == "gradient":
        return _integrate(estimator, smiles, rows, n_steps)
    molecules = [smiles, *_occluded(smiles)]
    similarities = similarity_to_each(estimator, molecules, rows, gallery)[0]
    whole, *others, nothing = similarities.tolist()
    return AtomAttribution(smiles, whole - np.array(others), whole, nothing, method)


def _occluded(smiles: str) -> list[str]:
    """SMILES of the molecule with a dummy for each atom in turn, and for all."""
    mol = parse_smiles(smiles)
    assert mol is not None  # it has been checked
    n_atoms = mol.GetNumAtoms()
    return [_with_dummies(mol, [i]) for i in range(n_atoms)] + [
        _with_dummies(mol, range(n_atoms))
    ]


def _with_dummies(mol: Chem.Mol, atoms: Any) -> str:
    # Not sanitised again: the written text keeps the aromatic bonds of the dummies.
    changed = Chem.RWMol(mol)
    for i in atoms:
        changed.ReplaceAtom(i, Chem.Atom(0))
    return Chem.MolToSmiles(changed)


def _integrate(estimator: Any, smiles: str, rows: Any, n_steps: int) -> AtomAttribution:
    # torch takes seconds to import, and occlusion does not need it.
    from sklearn_molge.inspection._integrated_gradients import (
        atom_gradients,
        check_embedder,
        warn_if_incomplete,
    )

    check_embedder(resolve_views(estimator, None, None)[0], needs_graph=True)
    model, X, y = resolve_views(estimator, np.array([smiles], dtype=object), rows)
    values, baseline = atom_gradients(model, X, y, n_steps)
    whole = float(model.similarity(X, y)[0, 0])
    warn_if_incomplete(float(values.sum()), whole, baseline)
    return AtomAttribution(smiles, values, whole, baseline, "gradient")
