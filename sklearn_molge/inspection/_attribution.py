"""Which atoms of a molecule, and which genes of a profile, drive their match."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_array, column_or_1d

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.genes import as_frame, gene_names
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.views import resolve_views
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import check_smiles, parse_smiles
from sklearn_molge.retrieval import VotingRetriever

__all__ = ["AtomAttribution", "GeneAttribution", "atom_attribution", "gene_attribution"]

# 1,024 profiles of 978 genes are 8 MB.
_BLOCK_SIZE = 1024


@dataclass(frozen=True)
class AtomAttribution:
    """What each atom of a molecule adds to its similarity to a profile.

    Attributes
    ----------
    smiles : str
        The molecule.
    values : ndarray of shape (n_atoms,)
        Change of similarity that each atom stands for, in the order of the atoms of
        ``Chem.MolFromSmiles(smiles)``; positive where the atom supports the match.
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


@dataclass(frozen=True)
class GeneAttribution:
    """What each gene of a profile adds to its similarity to a molecule.

    Attributes
    ----------
    smiles : str
        The molecule.
    genes : ndarray of shape (n_genes,)
        Names of the genes; the numbers of the columns, where none were given.
    values : ndarray of shape (n_genes,)
        Change of similarity that each gene stands for; positive where the gene
        supports the match.
    expression : ndarray of shape (n_genes,)
        The profile; of a paired one, the treated well.
    similarity : float
        Similarity of the profile to the molecule.
    baseline_similarity : float
        Of the profile with every gene at its baseline.
    method : {"occlusion", "gradient"}
        How `values` were computed.
    """

    smiles: str
    genes: NDArray
    values: NDArray[np.float64]
    expression: NDArray
    similarity: float
    baseline_similarity: float
    method: str

    @property
    def table(self) -> pd.DataFrame:
        """The genes, those with the largest absolute value first.

        The columns are gene, attribution and expression; the index is the position in
        `genes`.
        """
        order = np.argsort(-np.abs(self.values), kind="stable")
        columns = {"gene": self.genes, "attribution": self.values}
        table = pd.DataFrame({**columns, "expression": self.expression})
        return table.iloc[order]


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
    estimator: object,
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
    gallery = _check_gallery(estimator, smiles, candidates)
    query = _QueryProfile(profile)
    rows = query.rows(query.values)
    if method == "gradient":
        result = _integrate_atoms(estimator, smiles, rows, n_steps)
    else:
        result = _occlude_atoms(estimator, smiles, rows, gallery)
    values, whole, nothing = result
    return AtomAttribution(smiles, values, whole, nothing, method)


@validate_params(
    {
        "smiles": [str],
        "profile": ["array-like"],
        "method": [StrOptions({"occlusion", "gradient"})],
        "baseline": [StrOptions({"zero", "mean"}), "array-like"],
        "gene_names": ["array-like", None],
        "candidates": ["array-like", None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def gene_attribution(
    estimator: object,
    smiles: str,
    profile: ArrayLike,
    *,
    method: str = "occlusion",
    baseline: str | ArrayLike = "zero",
    gene_names: ArrayLike | None = None,
    candidates: ArrayLike | None = None,
    n_steps: int = 64,
) -> GeneAttribution:
    r"""Attribute the similarity of a molecule and a profile to the profile's genes.

    Parameters
    ----------
    estimator, smiles, candidates, n_steps
        As in :func:`atom_attribution`.
    profile : array-like of shape (n_columns,) or (1, n_columns)
        The query, as `estimator` was fitted on profiles.
    method : {"occlusion", "gradient"}, default="occlusion"
        - "occlusion": the change of similarity when the gene is set to its baseline.
          For any estimator.
        - "gradient": integrated gradients through the expression tower of a
          :class:`~sklearn_molge.alignment.CoordinatedEmbedder`.
    baseline : {"zero", "mean"} or array-like of shape (n_columns,), default="zero"
        What a gene is set to: 0, no change in Level 4 and 5 z-scores; the mean of
        `profile` over its columns; or a profile, such as the mean of the training
        profiles. For [treated | control] intensities of Level 3, [control | control]
        asks what the treatment changed.
    gene_names : array-like of shape (n_genes,), default=None
        One name for each column, the column names of `profile` if it has any; or, of
        profiles that hold several blocks of the same genes, such as
        ``Study.paired_ge``, one for each gene: a gene's columns are then taken
        together.

    Returns
    -------
    attribution : GeneAttribution
        Has the attributes `values` of shape (n_genes,), `genes`, `expression`,
        `similarity`, `baseline_similarity`, `smiles` and `method`, and the property
        `table`, a DataFrame sorted by absolute value.

    Raises
    ------
    InvalidSmilesError
        As :func:`atom_attribution`.
    TypeError
        If `method` is "gradient", and `estimator` holds no CoordinatedEmbedder.
    ValueError
        If `profile` is not one profile, `baseline` or `gene_names` do not fit it, or
        `candidates` are missing; with "gradient", if a transformer of the profiles
        mixes genes.

    Warns
    -----
    ConvergenceWarning
        As :func:`atom_attribution`.

    See Also
    --------
    atom_attribution : The same for the atoms of the molecule.
    GeneAttributionDisplay : Draws it.

    Notes
    -----
    With the similarity s of the profile y, and :math:`y_{\setminus i}` with gene i at
    its baseline b, occlusion is :math:`a_i = s(y) - s(y_{\setminus i})`. Values need
    not sum to anything: of two genes that say the same, each seems dispensable.

    Integrated gradients (see :func:`atom_attribution`) are

    .. math::

        a_i = (y_i - b_i) \int_0^1
            \frac{\partial s}{\partial y_i}(b + \alpha (y - b))\, d\alpha

    and sum to ``similarity - baseline_similarity``. The path lies where the tower
    starts: behind the transformer of a TransformedTargetRetriever, which must keep
    genes apart (a factor for the whole profile aside), and behind ``unit_profiles``.

    Neither shows a cause in biology: they say what the fitted model looks at.

    Examples
    --------
    The similarity is here a weighted sum of the genes:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_molge.inspection import gene_attribution
    >>> class Weights(BaseEstimator):
    ...     def similarity(self, X, y):
    ...         return y @ np.outer([1.0, 0.5, 0.0], np.ones(len(X)))
    >>> result = gene_attribution(
    ...     Weights(), "CCO", [2.0, -6.0, 1.0], gene_names=["TP53", "MYC", "EGFR"]
    ... )
    >>> result.similarity, result.baseline_similarity
    (-1.0, 0.0)
    >>> result.table
       gene  attribution  expression
    1   MYC         -3.0        -6.0
    0  TP53          2.0         2.0
    2  EGFR          0.0         1.0
    """
    gallery = _check_gallery(estimator, smiles, candidates)
    query = _QueryProfile(profile)
    start = _baseline_profile(baseline, query.values)
    genes = _check_names(gene_names, query)
    n = len(genes)
    if method == "gradient":
        result = _integrate_genes(estimator, smiles, query, start, n, n_steps)
    else:
        result = _occlude_genes(estimator, smiles, query, start, n, gallery)
    values, whole, nothing = result
    expression = query.values[:n]
    return GeneAttribution(smiles, genes, values, expression, whole, nothing, method)


class _QueryProfile:
    """One profile, and how rows like it are given to the estimator."""

    def __init__(self, profile: Any):
        profile = as_frame(profile)
        named = isinstance(profile, pd.Series)
        # The names of its genes, where it came with names.
        names = profile.index if named else gene_names(profile)
        choices = getattr(profile, "gene_name_choices", ())  # of a GeneQuery
        self.query = profile if choices else None
        names = choices[-1] if choices else names
        self.columns: pd.Index | None = None if names is None else pd.Index(names)
        array = np.array(profile)  # a copy: it is returned as `expression`
        rows = check_array(
            array[None] if array.ndim == 1 else array,
            dtype=[np.float64, np.float32],
            input_name="profile",
        )
        if len(rows) != 1:
            raise ValueError(
                "profile must be one profile, of shape (n_genes,) or (1, n_genes). "
                f"Got shape {rows.shape}."
            )
        self.values: NDArray = rows[0]

    def rows(self, values: NDArray) -> Any:
        """Return profiles as the estimator takes them, with the names if any."""
        values = np.atleast_2d(values)
        if self.query is not None:
            return replace(self.query, profile=values)
        if self.columns is None:
            return values
        return pd.DataFrame(values, columns=self.columns)


def _check_gallery(estimator, smiles, candidates) -> NDArray[np.object_]:
    """Check the molecules; return those that stand beside the one that is explained.

    The similarities of a vote are standardised over all molecules that are compared,
    and of one molecule alone, that is 0 whatever the profile.
    """
    check_smiles([smiles], wildcards=True)
    if candidates is not None:
        return check_smiles(candidates)
    model = resolve_views(estimator, None, None)[0]
    if isinstance(model, VotingRetriever) and model.standardize:
        raise ValueError(
            "candidates must be given for a VotingRetriever with standardize=True: it "
            "measures a similarity by its spread over the molecules that are ranked. "
            "Got None."
        )
    return np.empty(0, dtype=object)


def _similarities(estimator, smiles: list[str], profiles, gallery) -> NDArray:
    """Similarities of profiles to some molecules, of shape (n_profiles, n_smiles)."""
    X = np.concatenate([np.array(smiles, dtype=object), gallery])
    values = np.asarray(similarity(estimator, X, profiles), dtype=np.float64)
    return values[:, : len(smiles)]


# The four ways to attribute: each returns the values, and the similarities at the
# input and at the baseline.


def _occlude_atoms(estimator, smiles, rows, gallery):
    molecules = [smiles, *_occluded(smiles)]
    whole, *others, nothing = _similarities(estimator, molecules, rows, gallery)[0]
    return whole - np.array(others), float(whole), float(nothing)


def _occluded(smiles: str) -> list[str]:
    """SMILES of the molecule with a dummy for each atom in turn, and for all."""
    mol = parse_smiles(smiles)
    assert mol is not None  # it has been checked
    atoms = range(mol.GetNumAtoms())
    return [*(_with_dummies(mol, [i]) for i in atoms), _with_dummies(mol, atoms)]


def _with_dummies(mol: Chem.Mol, atoms: Iterable[int]) -> str:
    # Not sanitised again: the written text keeps the aromatic bonds of the dummies.
    changed = Chem.RWMol(mol)
    for i in atoms:
        changed.ReplaceAtom(i, Chem.Atom(0))
    return Chem.MolToSmiles(changed)


def _integrate_atoms(estimator, smiles, rows, n_steps):
    # torch takes seconds to import, and occlusion does not need it.
    from sklearn_molge.inspection import _integrated_gradients as gradients

    gradients.check_embedder(resolve_views(estimator, None, None)[0], needs_graph=True)
    model, X, y = resolve_views(estimator, np.array([smiles], dtype=object), rows)
    values, nothing = gradients.atom_gradients(model, X, y, n_steps)
    whole = float(model.similarity(X, y)[0, 0])
    gradients.warn_if_incomplete(float(values.sum()), whole, nothing)
    return values, whole, nothing


def _occlude_genes(estimator, smiles, query, start, n_genes, gallery):
    def compare(values):
        rows = query.rows(values)
        return _similarities(estimator, [smiles], rows, gallery)[:, 0]

    whole, nothing = compare(np.stack([query.values, start])).tolist()
    others = [
        compare(_occluded_rows(query.values, start, np.arange(n_genes)[block], n_genes))
        for block in gen_batches(n_genes, _BLOCK_SIZE)
    ]
    return whole - np.concatenate(others), whole, nothing


def _occluded_rows(profile, start, genes, n_genes) -> NDArray:
    """Return one row for each of `genes`, with its columns set to the baseline."""
    own = np.arange(len(profile)) % n_genes == genes[:, None]
    return np.where(own, start, profile)


def _integrate_genes(estimator, smiles, query, start, n_genes, n_steps):
    from sklearn_molge.inspection import _integrated_gradients as gradients

    gradients.check_embedder(resolve_views(estimator, None, None)[0])
    molecule = np.array([smiles], dtype=object)
    values = np.stack([query.values, start])
    model, X, ends = resolve_views(estimator, molecule, query.rows(values))
    end, _ = np.asarray(ends)
    _check_genes_apart(estimator, query, start, end, n_genes)
    of_columns = gradients.profile_gradients(model, X, ends, n_steps)
    whole, nothing = np.asarray(model.similarity(X, ends))[:, 0].tolist()
    gradients.warn_if_incomplete(float(of_columns.sum()), whole, nothing)
    return of_columns.reshape(-1, n_genes).sum(axis=0), whole, nothing


def _check_genes_apart(estimator, query, start, transformed, n_genes):
    """Refuse a transformer that lets one gene change the columns of another."""
    n_columns = len(transformed)
    apart = n_columns % n_genes == 0
    for block in gen_batches(n_genes, _BLOCK_SIZE) if apart else ():
        genes = np.arange(n_genes)[block]
        rows = query.rows(_occluded_rows(query.values, start, genes, n_genes))
        rows = np.asarray(resolve_views(estimator, None, rows)[2])
        others = np.arange(n_columns) % n_genes != genes[:, None]
        before, after = transformed * others, rows * others
        # Profiles of unit length: all columns have a factor in common.
        squares = np.maximum((before**2).sum(axis=1), np.finfo(float).tiny)
        factors = (before * after).sum(axis=1) / squares
        error = np.abs(after - factors[:, None] * before).max()
        apart = apart and error <= 1e-4 * np.abs(transformed).max()
    if not apart:
        raise ValueError(
            "method='gradient' needs profiles whose genes stay apart on their way to "
            "the expression tower. The tower reads "
            f"{n_columns} columns, that {n_genes} genes have in common or that mix "
            "them. Use method='occlusion', or pass gene_names for profiles of several "
            "blocks."
        )


def _baseline_profile(baseline: str | ArrayLike, profile: NDArray) -> NDArray:
    if isinstance(baseline, str):
        level = 0.0 if baseline == "zero" else profile.mean()
        return np.full_like(profile, level)
    array = check_array(
        np.ravel(baseline), ensure_2d=False, dtype=profile.dtype, input_name="baseline"
    )
    if len(array) != len(profile):
        raise ValueError(
            f"baseline must have one entry for each of the {len(profile)} columns of "
            f"profile. Got {len(array)}."
        )
    return array


def _check_names(gene_names: ArrayLike | None, query: _QueryProfile) -> NDArray:
    n_columns = len(query.values)
    if gene_names is None:
        return np.arange(n_columns) if query.columns is None else query.columns.values
    names = column_or_1d(gene_names, dtype=object)
    if len(names) == 0 or n_columns % len(names):
        raise ValueError(
            "gene_names must have one entry for each column of profile, or for each "
            f"gene of its blocks. Got {len(names)} names for {n_columns} columns."
        )
    missing = np.flatnonzero(pd.isna(names))
    if missing.size:
        raise ValueError(
            "gene_names must not be missing. "
            f"{missing.size} are, at indices {first_few(missing.tolist())}."
        )
    return names
