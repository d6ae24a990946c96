"""L1000Featurizer: expression profiles to the features of the paper."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import StrOptions, _fit_context
from sklearn_molge._utils.checks import check_finite
from sklearn_molge._utils.rows import distinct_rows, take_distinct
from sklearn_molge.base import check_features

__all__ = ["L1000Featurizer"]

_BLOCKS = ("control", "treated", "difference", "log2_fold_change")
_EPSILON = 1e-6
# Correlation of the mean treated and control well; 0.98 and more for intensities.
_ALIKE = 0.8
# Below these, the values say little.
_FEW_GENES, _FEW_WELLS = 10, 3


# The mixin checks `input_features`; the names themselves are made here.
class L1000Featurizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Blocks of standardised expression, with or without the plate's controls.

    An ordinary transformer for the expression view; pass it to
    :class:`~sklearn_molge.retrieval.TransformedTargetRetriever`.

    Parameters
    ----------
    blocks : tuple of str or None, default=None
        Blocks of the output, in this order; each has one column per gene. With r the
        raw values, z the standardised ones, t the treated and c the control well:

        - "treated": :math:`z_t`;
        - "control": :math:`z_c`;
        - "difference": :math:`z_t - z_c`;
        - "log2_fold_change": of the raw values, see `fold_change`.

        None takes ("treated",), and with ``paired=True`` ("control", "treated",
        "log2_fold_change"), which the paper's reported results used.
    paired : bool or "auto", default="auto"
        Whether the columns of X are [treated | control], the genes of the treated
        well followed by the same genes of its control (``Study.paired_ge``), or the
        treated well alone. "auto" decides by `blocks`: paired if any of them needs the
        control, that is any but "treated"; then X must show that it is paired, see
        Notes. With True, a UserWarning says so where it does not.
    fold_change : {"difference", "paper"}, default="difference"
        "difference" is :math:`r_t - r_c`, the log2 fold change of values that are
        log2 intensities, as those of Level 3 are. "paper" is what the paper's code
        computes, the log2 of a ratio of logs,
        :math:`\log_2((r_t + \epsilon) / (r_c + \epsilon))` with
        :math:`\epsilon = 10^{-6}`; it needs values that are not negative.
    standardize : bool, default=True
        Subtract the mean and divide by the standard deviation of each gene. False
        leaves values that are z-scores already (Level 5) as they are.
    rank_transform : bool, default=False
        Replace the standardised values of each profile by
        :math:`(\mathrm{rank} - 1) / (n_\mathrm{genes} - 1)`, ties at their mean rank,
        in the treated and the control well alike. "log2_fold_change" stays as it is.
    normalize : bool, default=False
        Scale each output row, all blocks together, to unit Euclidean length; a row of
        zeros stays one.
    genes : array-like of shape (n_genes,) or None, default=None
        Names of the genes in the output's feature names, in place of the column names
        of X.

    Attributes
    ----------
    blocks_ : tuple of str
        The blocks of the output.
    mean_ : ndarray of shape (n_genes,) or None
        Mean of each gene over the training wells; None without `standardize`.
    scale_ : ndarray of shape (n_genes,) or None
        Standard deviation of each gene over the training wells (with n - 1), 1 for a
        constant gene; None without `standardize`.
    n_genes_ : int
        Number of genes, columns per block.
    paired_ : bool
        Whether X is [treated | control].
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names of X, where it has names that are all strings.

    See Also
    --------
    match_controls : Finds the control of each treated well.

    Notes
    -----
    The training wells are the treated wells of X and, where it is paired, its
    controls, each distinct control profile once: the paper's code standardises by
    treated and control wells together (the paper says "training set"). With plate
    means as controls, a plate counts as one control well.

    Half of a profile is no control, and 978 genes can be halved. Paired columns show
    it by their names, "treated_A" or "A" before "control_A" for each gene A
    (``Study.paired_ge(as_frame=True)``); without names, by their values: fewer wells
    differ in the second half than in the first, as wells of a plate share controls, or
    the means of 10 genes or more correlate between the halves (0.8 or more), as those
    of intensities do.

    References
    ----------
    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Appendix (pre-processing).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.expression import L1000Featurizer
    >>> treated = np.array([[8.0, 5.0], [6.0, 5.0]])
    >>> control = np.array([[7.0, 4.0], [7.0, 6.0]])
    >>> featurizer = L1000Featurizer(
    ...     ("treated", "log2_fold_change"), paired=True, genes=["AARS", "ABL1"]
    ... )
    >>> featurizer.fit_transform(np.hstack([treated, control])).round(2)
    array([[ 1.22,  0.  ,  1.  ,  1.  ],
           [-1.22,  0.  , -1.  , -1.  ]])
    >>> featurizer.get_feature_names_out()[:2]
    array(['treated_AARS', 'treated_ABL1'], dtype=object)
    """

    _parameter_constraints: dict = {
        "blocks": [tuple, list, None],
        "paired": ["boolean", StrOptions({"auto"})],
        "fold_change": [StrOptions({"difference", "paper"})],
        "standardize": ["boolean"],
        "rank_transform": ["boolean"],
        "normalize": ["boolean"],
        "genes": ["array-like", None],
    }

    def __init__(
        self,
        blocks=None,
        *,
        paired="auto",
        fold_change="difference",
        standardize=True,
        rank_transform=False,
        normalize=False,
        genes=None,
    ):
        self.blocks = blocks
        self.paired = paired
        self.fold_change = fold_change
        self.standardize = standardize
        self.rank_transform = rank_transform
        self.normalize = normalize
        self.genes = genes

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Learn the mean and the standard deviation of each gene.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_genes) or (n_samples, 2 * n_genes)
            Training profiles, paired as `paired` says.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        ValueError
            If a block is unknown or repeated, or needs a control that X lacks or does
            not show with ``paired="auto"``; if the columns cannot be halved; or if
            `genes` has the wrong length.

        Warns
        -----
        UserWarning
            If nothing in X but ``paired=True`` says that it is paired.
        """
        blocks, self.paired_ = self._check_blocks()
        X = check_features(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_min_samples=2 if self.standardize else 1,
        )
        self._check_columns(X.shape[1])
        if self.paired_:
            self._check_pairs(X)
        self.blocks_ = blocks
        self.n_genes_ = X.shape[1] // 2 if self.paired_ else X.shape[1]
        wells = self._wells(X)
        if self.standardize:
            self.mean_, self.scale_ = _moments(**wells)
        else:
            self.mean_ = self.scale_ = None
        return self

    def transform(self, X) -> NDArray:
        """Compute the blocks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_in_)
            Profiles, paired as `paired` says.

        Returns
        -------
        features : ndarray of shape (n_samples, len(blocks_) * n_genes_)
            In the precision of X.

        Raises
        ------
        ValueError
            If X has a negative value and ``fold_change="paper"``.
        """
        check_is_fitted(self)
        X = check_features(self, X, dtype=[np.float64, np.float32], reset=False)
        with np.errstate(over="ignore", invalid="ignore"):
            features = check_finite(self._blocks(X), name="X", of="the block")
            return normalize(features, copy=False) if self.normalize else features

    def _blocks(self, X):
        wells = self._wells(X)
        needed = wells if "difference" in self.blocks_ else self.blocks_
        parts = {name: self._scale(wells[name]) for name in wells if name in needed}
        if "difference" in self.blocks_:
            parts["difference"] = parts["treated"] - parts["control"]
        if "log2_fold_change" in self.blocks_:
            parts["log2_fold_change"] = self._log2_fold_change(**wells)
        return np.hstack([parts[block] for block in self.blocks_])

    def get_feature_names_out(self, input_features=None) -> NDArray[np.object_]:
        """Names of the output columns: block and gene, as in "treated_AARS".

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of X; those seen in `fit` by default, or "x0", "x1", ....

        Returns
        -------
        names : ndarray of shape (len(blocks_) * n_genes_,), dtype=object
            Genes are named by `genes`, or by the columns of the treated well.
        """
        columns = super().get_feature_names_out(input_features)
        genes = columns[: self.n_genes_] if self.genes is None else self.genes
        return np.array([f"{b}_{g}" for b in self.blocks_ for g in genes], dtype=object)

    def _check_blocks(self):
        blocks = self.blocks
        if blocks is None:
            authors = ("control", "treated", "log2_fold_change")
            blocks = ("treated",) if self.paired in ("auto", False) else authors
        known = all(block in _BLOCKS for block in blocks)
        if not blocks or not known or len(set(blocks)) < len(blocks):
            raise ValueError(
                f"blocks must name some of {_BLOCKS}, each once. Got {self.blocks!r}."
            )
        needs_control = tuple(blocks) != ("treated",)
        if needs_control and not self.paired:
            raise ValueError(
                f"blocks={self.blocks!r} needs the control of each well: give X as "
                "[treated | control] columns, and leave paired at its default."
            )
        paired = needs_control if self.paired == "auto" else bool(self.paired)
        return tuple(blocks), paired

    def _check_columns(self, n_columns):
        if self.paired_ and n_columns % 2:
            raise ValueError(
                "Paired X is [treated | control], an even number of columns. "
                f"Got {n_columns}."
            )
        n_genes = n_columns // 2 if self.paired_ else n_columns
        if self.genes is not None and len(self.genes) != n_genes:
            raise ValueError(
                f"genes must name each of the {n_genes} genes of X. "
                f"Got {len(self.genes)} names."
            )

    def _check_pairs(self, X):
        """Refuse X that shows no sign of controls in its second half."""
        names = getattr(self, "feature_names_in_", None)
        n_genes = X.shape[1] // 2
        paired = _values_show_pairs(X) if names is None else _names_show_pairs(names)
        if paired:
            return
        text = (
            f"X does not look like [treated | control] of {n_genes} genes: by its "
            f"{'values' if names is None else 'column names'}, the second half of its "
            f"{X.shape[1]} columns is not the controls of the first"
        )
        if self.paired == "auto":
            raise ValueError(
                f"blocks={self.blocks!r} needs the control of each well. {text}. Give "
                "study.paired_ge(), or paired=True if X is paired all the same."
            )
        if n_genes >= _FEW_GENES and len(X) >= _FEW_WELLS:
            warnings.warn(f"{text}; paired=True takes it for that.", stacklevel=4)

    def _wells(self, X):
        """Columns of each kind of well, checked for the fold change."""
        if not self.paired_:
            return {"treated": X}
        wells = {"treated": X[:, : self.n_genes_], "control": X[:, self.n_genes_ :]}
        wanted = self.fold_change == "paper" and "log2_fold_change" in self.blocks_
        if wanted and X.min() < 0:
            row, column = np.argwhere(X < 0)[0]
            raise ValueError(
                'fold_change="paper" takes a logarithm of the values of X, which must '
                f"not be negative. Got {X[row, column]} at row {row}, column {column}."
            )
        return wells

    def _scale(self, profiles):
        dtype = profiles.dtype
        if self.standardize:
            profiles = profiles - self.mean_.astype(dtype)
            profiles /= self.scale_.astype(dtype)
        if self.rank_transform:
            ranks = rankdata(profiles, axis=1)
            profiles = (ranks - 1) / max(self.n_genes_ - 1, 1)
        return profiles.astype(dtype, copy=False)

    def _log2_fold_change(self, treated, control):
        if self.fold_change == "difference":
            return treated - control
        return np.log2((treated + _EPSILON) / (control + _EPSILON))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _names_show_pairs(names):
    """Whether columns are named "treated_A" or "A", then "control_A", ...."""
    treated, control = np.split(np.asarray(names, dtype=object), 2)
    return all(
        c == f"control_{t.removeprefix('treated_')}"
        for t, c in zip(treated, control, strict=True)
    )


def _values_show_pairs(X):
    """Whether wells share controls, or the genes of both halves have equal means."""
    treated, control = np.hsplit(X, 2)
    n_treated, n_control = (len(distinct_rows(part)[0]) for part in (treated, control))
    if n_control < n_treated:
        return True
    means = np.vstack([treated.mean(axis=0), control.mean(axis=0)])
    if means.shape[1] < _FEW_GENES or not means.std(axis=1).all():
        return False
    return np.corrcoef(means)[0, 1] >= _ALIKE


def _moments(treated, control=None):
    """Mean and standard deviation (n - 1) of each gene over the distinct wells."""
    scaler = StandardScaler().partial_fit(treated)
    if control is not None:
        scaler.partial_fit(take_distinct(control)[0])
    n_wells = scaler.n_samples_seen_
    deviation = np.sqrt(scaler.var_ * n_wells / (n_wells - 1))
    # StandardScaler puts 1 for a gene that is constant up to rounding.
    varies = scaler.scale_ == np.sqrt(scaler.var_)
    return scaler.mean_, np.where(varies, deviation, 1.0)
