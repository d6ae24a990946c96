"""ConnectivityRetriever: search against measured signatures, as the CMap does."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import Interval, StrOptions, _fit_context
from sklearn_molge._utils.connectivity import CONNECTIVITY_METRICS, connectivity_to
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.messages import first_few_at
from sklearn_molge._utils.rows import draw_rows, is_text, row_batches
from sklearn_molge._utils.typing import Compare
from sklearn_molge.base import (
    TwoViewMixin,
    check_molecules,
    check_profiles,
    check_two_views,
    distinct_drugs,
    molecule_keys,
)
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.metrics import (
    connectivity_tau,
    normalized_connectivity,
    summarize_connectivity,
)

__all__ = ["ConnectivityRetriever", "check_signs"]


class ConnectivityRetriever(TwoViewMixin, BaseEstimator):
    r"""Rank molecules by the connectivity of a query to their measured signatures.

    The query of the Connectivity Map: signatures of molecules in cell lines are
    compared with a profile or a gene set, scores are made comparable within each line,
    and summarised over the lines in which a molecule was measured. No structure is
    looked at, so nothing is known of a molecule that was not measured; see
    :class:`EvidenceRetriever` for a library of which a part was.

    Parameters
    ----------
    metric : {"wtcs", "cosine", "correlation", "spearman"}, default="wtcs"
        The weighted connectivity score, or a similarity of whole profiles; see
        :func:`~sklearn_molge.metrics.pairwise_connectivity`.
    n_genes : int, default=150
        Number of up and of down genes of a query, for "wtcs".
    unit : {"ncs", "tau", "raw"}, default="ncs"
        What `similarity` is summarised from: scores normalised within each cell line,
        scores as they are; "tau" is the percentile of the summarised NCS.
    summary : {"max_quantile", "max", "mean", "median"}, default="max_quantile"
        How a molecule's lines become one number; see
        :func:`~sklearn_molge.metrics.summarize_connectivity`.
    direction : {"mimic", "reverse"}, default="mimic"
        Whether the molecules are sought whose signatures are like the query, or those
        that are like the query with its sign turned, as against a disease.
    n_reference : int, default=200
        Number of fitted signatures that serve as the reference queries of tau; all, if
        there are no more.
    random_state : int, RandomState instance or None, default=None
        Draws these. Pass an int for the same tau in each call.

    Attributes
    ----------
    drugs_ : ndarray of shape (n_drugs,)
        Identities of the measured molecules, sorted: ``drug_ids`` of SMILES, or the
        bytes of a row of features, sparse or dense.
    cell_lines_ : ndarray of shape (n_cell_lines,)
        The cell lines, sorted; without `groups` there are none.
    signatures_ : ndarray of shape (n_samples, n_genes)
        The fitted signatures.
    reference_ : ndarray of shape (n_reference,)
        Rows of the reference queries in `signatures_`.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.

    See Also
    --------
    OracleRetriever : Ranks by the mean profile of each molecule, as a ceiling.
    EvidenceRetriever : Adds structure, for molecules with and without a signature.

    Notes
    -----
    Subramanian et al. 2017, STAR Methods. The scores of a query with all signatures are
    divided by the mean of those with the same sign in their cell line (NCS), averaged
    over the signatures of one molecule in one line (doses, times, plates), and
    summarised over lines. Without `groups` each signature counts as a line of its own,
    and all are normalised together. Tau compares with the same scores of reference
    queries; the CMap's are exemplars of the same line, these are drawn from all lines.

    Profiles must have a sign: z-scores, where 0 is no change, or a gene set by
    :func:`~sklearn_molge.expression.profile_from_genes`.

    Like an oracle it is fitted on the molecules that it is asked for, so scorers do not
    warn of known molecules. A molecule without a signature has similarity minus
    infinity and shares the last ranks with others like it, with a warning. In Pipelines
    route the lines: ``ConnectivityRetriever().set_fit_request(groups=True)``.

    References
    ----------
    A. Subramanian et al., "A next generation Connectivity Map: L1000 platform and the
    first 1,000,000 profiles", Cell 171 (2017) 1437-1452.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.retrieval import ConnectivityRetriever
    >>> X = np.array(["CCO", "CCO", "CCN"], dtype=object)
    >>> y = np.array([[2.0, 0, 0, -1], [1, 0, 0, -2], [-1, 0, 0, 2]])
    >>> groups = [["ethanol", "A375"], ["ethanol", "MCF7"], ["ethylamine", "A375"]]
    >>> cmap = ConnectivityRetriever(random_state=0).fit(X, y, groups)
    >>> cmap.similarity(["CCO", "CCN"], [[1.0, 0.0, 0.0, -1.0]])
    array([[ 1., -1.]])
    >>> table = cmap.query([[1.0, 0.0, 0.0, -1.0]], per="cell_line")
    >>> table[["rank", "molecule", "cell_line", "score", "ncs"]]
       rank molecule cell_line  score  ncs
    0     1      CCO      A375    1.0  1.0
    1     2      CCO      MCF7    1.0  1.0
    2     3      CCN      A375   -1.0 -1.0
    """

    _parameter_constraints: dict = {
        "metric": [StrOptions(set(CONNECTIVITY_METRICS))],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "unit": [StrOptions({"ncs", "tau", "raw"})],
        "summary": [StrOptions({"max_quantile", "max", "mean", "median"})],
        "direction": [StrOptions({"mimic", "reverse"})],
        "n_reference": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _remembers_rows = False

    def __init__(
        self,
        metric="wtcs",
        *,
        n_genes=150,
        unit="ncs",
        summary="max_quantile",
        direction="mimic",
        n_reference=200,
        random_state=None,
    ):
        self.metric = metric
        self.n_genes = n_genes
        self.unit = unit
        self.summary = summary
        self.direction = direction
        self.n_reference = n_reference
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, groups=None) -> Self:
        """Store the signatures, and whose they are.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row: SMILES, or features (equal rows are one molecule).
        y : array-like of shape (n_samples, n_genes)
            Signature of each row.
        groups : array-like of shape (n_samples, 2), default=None
            Drug and cell line of each row. The lines are used; which molecule a row
            is, X says.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `direction` is "reverse" and no value of y is below 0: intensities have
            no sign to be turned.

        Warns
        -----
        DataWarning
            If `direction` is "mimic" and no value of y is below 0.
        """
        X, y = check_two_views(self, X, y, accept_sparse="csr")
        check_signs(y, self.direction)
        lines = None if groups is None else encode_groups(groups, y)[1]
        self.cell_lines_ = np.array([], dtype=object)
        codes, self._lines = np.arange(len(y)), np.zeros(len(y), dtype=np.intp)
        if lines is not None:
            codes = self._lines = lines.codes
            self.cell_lines_ = lines.labels
        self.drugs_, self._first, drugs = distinct_drugs(X)
        self._molecules = X[self._first] if is_text(X) else self._first
        # One row a molecule and line: its place in `drugs_`, and the line's.
        self._conditions, self._condition_of = np.unique(
            np.column_stack([drugs, codes]), axis=0, return_inverse=True
        )
        rng = check_random_state(self.random_state)
        self.reference_ = draw_rows(y, self.n_reference, rng, codes=self._condition_of)
        self.signatures_ = y
        return self

    def knows(self, X) -> NDArray[np.int64]:
        """Say which molecules have a measured signature.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        n_cell_lines : ndarray of int of shape (n_molecules,)
            Number of cell lines in which each was measured (without `groups` of
            signatures); 0 of one that was not.
        """
        place, known = self._find(X)
        sizes = np.bincount(self._conditions[:, 0])
        return np.where(known, sizes[place], 0)

    def _find(self, X):
        """Return the place of each molecule in `drugs_`, and whether it is there."""
        check_is_fitted(self)
        X = check_molecules(self, X, reset=False, accept_sparse="csr")
        keys = molecule_keys(X)
        place = np.searchsorted(self.drugs_, keys).clip(max=len(self.drugs_) - 1)
        return place, self.drugs_[place] == keys

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their
            connectivity to every molecule, summarised over its cell lines: an array of
            shape (n_profiles, n_molecules), in the unit of the parameter `unit`, larger
            meaning closer, or with ``direction="reverse"`` more opposite; minus
            infinity for a molecule without a signature.

        Warns
        -----
        DataWarning
            If molecules have no signature.
        """
        place, known = self._find(X)
        if not known.all():
            unknown = np.flatnonzero(~known)
            rows = X if is_text(X) else np.arange(len(known))
            told = np.asarray(rows, dtype=object).reshape(-1)
            values = told[unknown].tolist()
            warnings.warn(
                f"{len(unknown):,} of the {len(known):,} molecules have no measured "
                "signature, and share the last ranks: "
                f"{first_few_at(unknown, values, n=3)}. EvidenceRetriever ranks these "
                "by structure.",
                DataWarning,
                stacklevel=3,
            )
        to_drugs = self._connectivity_to_drugs()

        def similarity(y):
            y = check_profiles(self, y, reset=False, dtype=self.signatures_.dtype)
            similarities = to_drugs(y)[:, place]
            similarities[:, ~known] = -np.inf
            return similarities

        return similarity

    def _connectivity_to_drugs(self):
        """Return a function of checked profiles: similarities to each of `drugs_`."""
        to_conditions = self._connectivity_to_conditions()

        def summarised(y):
            scores, ncs = to_conditions(y)
            chosen = scores if self.unit == "raw" else ncs
            return self._summarise(chosen)

        known = None
        if self.unit == "tau":
            known = self._in_blocks(summarised, self.signatures_[self.reference_])

        def to_drugs(y):
            found = self._in_blocks(summarised, -y if self._is_reverse() else y)
            return found if known is None else connectivity_tau(found, known)

        return to_drugs

    def _is_reverse(self):
        return self.direction == "reverse"

    def _in_blocks(self, function, y):
        rows = row_batches(len(y), len(self.signatures_))
        return np.concatenate([function(y[part]) for part in rows])

    def _summarise(self, scores):
        drugs = self._conditions[:, 0]
        return summarize_connectivity(scores, drugs, summary=self.summary)

    def _connectivity_to_conditions(self):
        """Return a function of profiles: scores and NCS of each molecule and line."""
        to_signatures = connectivity_to(
            self.signatures_, metric=self.metric, n_genes=self.n_genes
        )
        share = 1 / np.bincount(self._condition_of)[self._condition_of]
        rows = np.arange(len(share)), self._condition_of
        mean = sparse.csr_array((share.astype(self.signatures_.dtype), rows))

        def to_conditions(y):
            scores = to_signatures(y)
            return scores @ mean, normalized_connectivity(scores, self._lines) @ mean

        return to_conditions

    def query(self, y, *, per="molecule", n_answers=None) -> pd.DataFrame:
        """Answer profiles by a table, as the Connectivity Map does.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles, or a gene set of
            :func:`~sklearn_molge.expression.profile_from_genes`.
        per : {"molecule", "cell_line"}, default="molecule"
            Whether a row is a molecule, summarised over its lines, or a molecule in one
            line.
        n_answers : int, default=None
            Number of rows of each query, from the first rank on; None returns all.

        Returns
        -------
        table : DataFrame
            Sorted by rank within each query, with the columns

            - "query": row of `y`;
            - "rank": from 1 on, by "ncs": falling, or with ``direction="reverse"``
              rising; of equal ones in the order of `drugs_`;
            - "molecule": the SMILES, of several the one that sorts first, or the row of
              X in `fit`;
            - "n_cell_lines", or with ``per="cell_line"`` "cell_line" (without `groups`
              there are signatures instead: "n_signatures", "signature");
            - "score": by `metric`, between -1 and 1, summarised as "ncs" is;
            - "ncs": the normalised connectivity score, 1 being the mean of the positive
              ones of a line;
            - "tau": in percent, with the sign of "ncs".

            Signs are those of the query as it came: negative is reversed.
        """
        check_is_fitted(self)
        if per not in ("molecule", "cell_line"):
            raise ValueError(f"per must be 'molecule' or 'cell_line'. Got {per!r}.")
        if n_answers is not None and (
            not isinstance(n_answers, Integral) or n_answers < 1
        ):
            raise ValueError(
                f"n_answers must be an int >= 1 or None. Got {n_answers!r}."
            )
        y = check_profiles(self, y, reset=False, dtype=self.signatures_.dtype)
        to_conditions = self._connectivity_to_conditions()

        def score_and_ncs(y):
            found = to_conditions(y)
            if per == "molecule":
                found = map(self._summarise, found)
            return np.stack(list(found), axis=1)

        known = self._in_blocks(score_and_ncs, self.signatures_[self.reference_])[:, 1]
        found = self._in_blocks(score_and_ncs, y)
        scores, ncs = found[:, 0], found[:, 1]
        tau = connectivity_tau(ncs, known)
        columns = np.argsort(ncs if self._is_reverse() else -ncs, axis=1, kind="stable")
        columns = columns[:, :n_answers]
        rows = np.arange(len(y))[:, None]
        answers = {
            "query": np.repeat(np.arange(len(y)), columns.shape[1]),
            "rank": np.tile(np.arange(1, columns.shape[1] + 1), len(y)),
            **self._names(columns.ravel(), per),
        }
        for name, values in (("score", scores), ("ncs", ncs), ("tau", tau)):
            answers[name] = values[rows, columns].ravel()
        return pd.DataFrame(answers)

    def _names(self, columns, per):
        """Return what the columns of scores stand for, as columns of a table."""
        drugs, lines = self._conditions.T
        named = len(self.cell_lines_) > 0
        if per == "molecule":
            sizes = np.bincount(drugs)
            counts = "n_cell_lines" if named else "n_signatures"
            return {"molecule": self._molecules[columns], counts: sizes[columns]}
        told = {"molecule": self._molecules[drugs[columns]]}
        if named:
            return told | {"cell_line": self.cell_lines_[lines[columns]]}
        return told | {"signature": lines[columns]}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags


def check_signs(y, direction):
    """Refuse profiles without a sign where it is turned, and warn of others."""
    if (np.asarray(y) < 0).any():
        return
    why = (
        "needs profiles with a sign, such as z-scores. No value of y is below 0; "
        "Study.to_level4 and robust_zscore make them."
    )
    if direction == "reverse":
        raise ValueError(f"direction='reverse' {why}")
    warnings.warn(f"Connectivity {why}", DataWarning, stacklevel=5)
