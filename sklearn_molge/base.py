"""The two-view contract: what an estimator of molecules and profiles offers."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from functools import partial, wraps
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    validate_data,
)

from sklearn_molge._utils.checks import check_named, check_same_rows
from sklearn_molge._utils.genes import check_gene_names
from sklearn_molge._utils.groups import encode_labels, label_text
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.rows import distinct_rows, has_text, is_text, row_bytes
from sklearn_molge._utils.trained_rows import TRAINED_ROWS, TrainedRows
from sklearn_molge._utils.typing import Compare, Rows
from sklearn_molge._utils.views import compare_embedded, prepare_molecules
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import drug_ids

__all__ = ["EmbedderMixin", "TwoViewMixin", "check_profiles"]

_FLOATS = [np.float64, np.float32]


def check_molecules(estimator, X, *, reset, accept_sparse=False):
    """Check the molecules of an estimator that takes SMILES as well as features."""
    if is_text(X):
        return np.asarray(X, dtype=object).reshape(len(X))
    return check_features(
        estimator, X, reset=reset, accept_sparse=accept_sparse, dtype=_FLOATS
    )


def check_features(estimator, X, **options):
    """Check features by ``validate_data``, with errors that name X."""
    return check_named(partial(validate_data, estimator), X, name="X", **options)


def check_profiles(estimator, y, *, reset, dtype=None, as_frame=False, allow_nan=False):
    """Check profiles and their genes, as scikit-learn's ``validate_data`` does X.

    Parameters
    ----------
    estimator : estimator
        With `reset`, gets ``n_genes_in_``, and ``gene_names_in_`` where `y` has names.
    y : array-like of shape (n_profiles, n_genes) or (n_profiles,), or AnnData
        Finite numbers; one gene may come as a 1-D array. Names are columns that are
        all text, or whole numbers that do more than count, or ``var_names``.
    reset : bool
        Whether this is `fit`. Otherwise genes must be those of `fit`.
    dtype : dtype, default=None
        None keeps float32 and float64.
    as_frame : bool, default=False
        Whether to put the names of `fit`, where there are any, on the result: for
        estimators inside, which check them again.
    allow_nan : bool, default=False
        Whether genes may be missing: for estimators inside that take or refuse them.

    Returns
    -------
    y : ndarray or DataFrame of shape (n_profiles, n_genes)

    Raises
    ------
    ValueError
        If `y` is missing, empty or not finite, or has other genes than those of `fit`,
        or the same in another order.

    Warns
    -----
    DataWarning
        If `y` seems to be of another scale than the profiles of `fit`: all above 0
        where those had values of both signs (log intensities or counts instead of
        z-scores), or the other way round; told from 20 genes on.
    UserWarning
        If `y` has names and the profiles of `fit` had none, or the other way round.

    See Also
    --------
    sklearn_molge.expression.align_profiles : Puts genes in the order of an estimator.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.base import check_profiles
    >>> cca = CCA()
    >>> check_profiles(cca, pd.DataFrame({"MYC": [0.5], "TP53": [2.0]}), reset=True)
    array([[0.5, 2. ]])
    >>> cca.gene_names_in_
    array(['MYC', 'TP53'], dtype=object)
    """
    name = type(estimator).__name__
    if y is None:
        raise ValueError(
            f"This {name} estimator requires y to be passed, but the target y is None."
        )
    y = check_gene_names(estimator, y, reset=reset)
    y = check_named(
        check_array,
        y,
        name="y",
        ensure_2d=False,
        dtype=dtype or _FLOATS,
        ensure_all_finite="allow-nan" if allow_nan else True,
        input_name="y",
    )
    if y.ndim == 1 and not reset and len(y) == estimator.n_genes_in_ > 1:
        raise ValueError(
            f"y must have one profile a row. Got {len(y):,} numbers, as many as {name} "
            "has genes: one profile is y.reshape(1, -1)."
        )
    y = y.reshape(len(y), -1)
    if reset:
        estimator.n_genes_in_ = y.shape[1]
    elif y.shape[1] != estimator.n_genes_in_:
        raise ValueError(
            f"y has {counted(y.shape[1], 'gene')}, but {name} was fitted on "
            f"{estimator.n_genes_in_}."
        )
    trained = None if reset else getattr(estimator, TRAINED_ROWS, None)
    if trained is not None and trained.scale_differs(y):
        was, now = "had no", "are below 0 for many genes"
        if trained.signed:
            was, now = "had", "are all above 0"
        warnings.warn(
            f"Values of y {now}, and the profiles that {name} was fitted on {was} "
            "values below 0: z-scores and log intensities are two scales. "
            "Study.to_level4 and robust_zscore make z-scores.",
            DataWarning,
            stacklevel=3,
        )
    if as_frame and hasattr(estimator, "gene_names_in_"):
        return pd.DataFrame(y, columns=estimator.gene_names_in_)
    return y


def check_two_views(estimator, X, y, *, accept_sparse=False):
    """Check both views in `fit`, and that they have the same number of rows."""
    X = check_molecules(estimator, X, reset=True, accept_sparse=accept_sparse)
    y = check_profiles(estimator, y, reset=True)
    check_same_rows(X=X, y=y)
    return X, y


def identify_drugs(X, drugs, codes: NDArray) -> NDArray:
    """Identity of each row's molecule: as given, from SMILES, or equal features."""
    if drugs is None and not is_text(X) and has_text(X):
        raise ValueError(
            "X has text in several columns or beside numbers, and its rows of one drug "
            "may differ: say by `drugs` which row is which drug, as "
            "RetrievalScorer('mrr', drugs=drugs) or retrieval_ranks(..., drugs=drugs)."
        )
    if drugs is None:
        return drug_ids(X) if is_text(X) else codes
    places, labels = encode_labels(drugs, name="drugs")
    check_consistent_length(X, places)
    texts = np.array([label_text(label) for label in labels], dtype=object)
    return texts[places]


def molecule_keys(X) -> NDArray[np.object_]:
    """Keys by which two arrays of molecules can be compared.

    A key is the drug's identity for SMILES and the bytes of the row for features, the
    same whether the array is sparse or dense.
    """
    if is_text(X):
        return drug_ids(X)
    if not sparse.issparse(X):
        X = sparse.csr_array(np.asarray(X, dtype=np.float64))
    return row_bytes(X)


def distinct_drugs(X) -> tuple[NDArray[np.object_], NDArray, NDArray]:
    """Return the distinct keys of molecules, sorted, and where they are.

    For each key the row that stands for it, which SMILES it has not depending on the
    order of the rows; and for each row the place of its key.
    """
    keys = molecule_keys(X)
    distinct, rows = one_row_per_drug(keys, distinct_rows(X)[1], None)
    return distinct, rows, np.searchsorted(distinct, keys)


def trained_molecules(X: Rows) -> Rows:
    """Return molecules as the rows of a training are remembered: SMILES by identity.

    So that a salt of a training molecule is known. Texts that are no SMILES, which only
    estimators of other kinds take, stand for themselves.
    """
    if not is_text(X):
        return X
    try:
        return drug_ids(X)
    except InvalidSmilesError:
        return X


def one_row_per_drug(drugs, texts, candidates) -> tuple[NDArray, NDArray]:
    """Return the distinct drugs, sorted, and for each the row that stands for it."""
    order = np.lexsort((texts, np.unique(drugs, return_inverse=True)[1]))
    gallery, start = np.unique(drugs[order], return_index=True)
    rows = order[start]
    if candidates is None:
        return gallery, rows
    names = np.asarray(candidates, dtype=object).ravel()
    if gallery.dtype == object:
        names = np.array([label_text(name) for name in names], dtype=object)
    wanted = np.unique(names.astype(gallery.dtype))
    unknown = wanted[~np.isin(wanted, gallery)]
    if unknown.size:
        raise ValueError(
            "candidates must be drugs of X. "
            f"Got {unknown.size} that are not: {first_few(unknown)}."
        )
    keep = np.isin(gallery, wanted)
    return gallery[keep], rows[keep]


def _remembering(fit: Callable, *, adds: bool) -> Callable:
    """Let a method that learns from X and y remember which rows it has seen.

    A scorer sees test rows only: by these it knows that their molecules are not new.
    """

    @wraps(fit)
    def fit_and_remember(self, X, y=None, *args, **params):
        result = fit(self, X, y, *args, **params)
        if self._remembers_rows:
            known = getattr(self, TRAINED_ROWS, None) if adds else None
            X = trained_molecules(X)
            rows = known.extended(X, y) if known else TrainedRows.of(X, y)
            setattr(self, TRAINED_ROWS, rows)
        return result

    return fit_and_remember


class TwoViewMixin(metaclass=ABCMeta):
    """Mixin of estimators that compare molecules with profiles.

    A subclass has ``fit(X, y)``, X the molecules and y the profiles, row by row, and
    :meth:`compare_to`; both hand y to :func:`check_profiles`, which knows genes by
    name. It gets ``similarity`` and ``score``, composes with Pipelines and
    :class:`~sklearn_molge.retrieval.TransformedTargetRetriever`, and is ranked and
    scored by :mod:`sklearn_molge.metrics`.

    See Also
    --------
    EmbedderMixin : For estimators with a joint space.

    Examples
    --------
    A retriever that ranks the longest SMILES first, whatever the profile:

    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_molge.base import TwoViewMixin
    >>> class LongestFirst(TwoViewMixin, BaseEstimator):
    ...     def fit(self, X, y):
    ...         return self
    ...     def compare_to(self, X):
    ...         lengths = np.array([float(len(smiles)) for smiles in X])
    ...         return lambda y: np.tile(lengths, (len(y), 1))
    >>> LongestFirst().fit(["C"], [[0.0]]).similarity(["CCO", "CC"], [[0.5], [1.0]])
    array([[3., 2.],
           [3., 2.]])
    """

    # Not an oracle: it is fitted on the molecules that it is tested on.
    _remembers_rows: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs):
        """Let `fit` remember its rows, as scikit-learn wraps ``transform``."""
        super().__init_subclass__(**kwargs)
        for name in {"fit", "partial_fit"} & vars(cls).keys():
            setattr(cls, name, _remembering(vars(cls)[name], adds=name != "fit"))

    @abstractmethod
    def compare_to(self, X: Rows) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as the estimator was fitted on them.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns what
            :meth:`similarity` returns for them: an array of shape
            (n_profiles, n_molecules), larger meaning closer.
        """

    def similarity(self, X: ArrayLike, y: ArrayLike) -> NDArray:
        """Similarity of every profile to every molecule.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as the estimator was fitted on them.
        y : array-like of shape (n_profiles, n_genes)
            Profiles, as the estimator was fitted on them.

        Returns
        -------
        similarity : ndarray of shape (n_profiles, n_molecules)
            Larger means closer; the class says in which unit.
        """
        return prepare_molecules(self, X)(y)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Mean reciprocal rank of each profile's molecule among those of X.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.

        Returns
        -------
        score : float
            Mean reciprocal rank, between 0 and 1; NaN where X holds one molecule. For
            the warnings see :class:`~sklearn_molge.metrics.RetrievalScorer`.
        """
        # Here, as in scikit-learn's mixins: metrics stands above the contract.
        from sklearn_molge.metrics import RetrievalScorer

        return RetrievalScorer("mrr")(self, X, y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


class EmbedderMixin(TwoViewMixin):
    """Mixin of two-view estimators with a joint space.

    A subclass has ``fit(X, y)``, ``transform(X)`` and ``transform_ge(y)``, which
    project molecules and profiles into the joint space, and `metric`, an attribute or
    a parameter, which compares them there (see
    :func:`~sklearn_molge.metrics.pairwise_similarity`). Similarities, ranks and
    averages of a drug's profiles follow from these.

    See Also
    --------
    sklearn_molge.alignment.CCA : An embedder.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_molge.base import EmbedderMixin
    >>> class FirstTwo(EmbedderMixin, BaseEstimator):
    ...     metric = "dot"
    ...     def fit(self, X, y):
    ...         return self
    ...     def transform(self, X):
    ...         return np.asarray(X, dtype=float)[:, :2]
    ...     transform_ge = transform
    >>> FirstTwo().similarity([[1, 2, 9], [0, 1, 9]], [[1, 1, 0]])
    array([[3., 1.]])
    """

    transform: Callable
    transform_ge: Callable
    metric: str

    def compare_to(self, X: Rows) -> Compare:
        """Project a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as the estimator was fitted on them.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their
            similarities in the joint space by the parameter `metric`: an array of
            shape (n_profiles, n_molecules), larger meaning closer.
        """
        return compare_embedded(self, X)
