"""CCA: canonical correlation analysis in closed form, with a ridge."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import (
    check_is_fitted,
)

from sklearn_molge._compat import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
)
from sklearn_molge._utils.checks import check_finite, check_same_rows
from sklearn_molge._utils.rows import distinct_rows
from sklearn_molge._utils.similarity import METRICS, says_nothing
from sklearn_molge.base import EmbedderMixin, check_features, check_profiles
from sklearn_molge.exceptions import JointSpaceWarning
from sklearn_molge.metrics import rank_embeddings

__all__ = ["CCA"]

_RIDGES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
_N_FOLDS = 5
_MOST_COMPONENTS = 100
# Of the largest: below it a correlation is rounding in the square root of its square.
_SMALLEST_CORRELATION = 1e-6
_EPS = np.finfo(np.float64).eps
_LARGEST = 1e140
# Of the variance: so much more than is left, and its rounding is too much for a ridge.
_MOST_LOST = 100
_BLOCK_BYTES = 32 * 2**20
# Kept as they come, and made float64 a block at a time.
_KEPT_DTYPES = [np.float64, np.float32, np.uint8, np.int8, np.bool_]


class CCA(
    EmbedderMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Canonical correlation analysis of molecules and profiles, with a ridge.

    Finds the directions of both views along which paired rows correlate most, in
    closed form: stable for more features than rows and for constant columns, where
    scikit-learn's iterative ``CCA`` is undefined.

    Parameters
    ----------
    n_components : int or "auto", default=50
        Dimension of the joint space; the paper chose 50 from 5 to 125. "auto" is 100,
        or the smaller rank of the views where that is less. Components whose
        correlation is 0 within rounding have no direction and are left out, with a
        warning where their number was given.
    ridge : float or "auto", default="auto"
        Ridge added to the variances of each view, as a multiple of the view's mean
        feature variance. "auto" takes the one of 0.01, 0.03, ..., 10 with the best
        mean reciprocal rank in a 5-fold cross-validation over the training
        molecules. With 0, and fewer rows than features, the training correlations
        are all 1 and mean nothing.
    correlation_power : float, default=0.0
        Each variate is multiplied by its canonical correlation to this power, so that
        with 1 or 2 the better-supported directions weigh more in the similarity.
    balance_molecules : bool, default=False
        Give each molecule (equal rows of X) the same total weight, however many
        profiles it has.
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Similarity in the joint space; see
        :func:`~sklearn_molge.metrics.pairwise_similarity`.
    random_state : int, RandomState instance or None, default=None
        Assigns molecules to the folds of ``ridge="auto"``; pass an int for the same
        result each time.

    Attributes
    ----------
    n_components_ : int
        Number of components with a correlation, at most those asked for.
    correlations_ : ndarray of shape (n_components_,)
        Canonical correlations of the training rows, regularised by the ridge.
    ridge_ : float
        The ridge used.
    ridge_scores_ : dict of float to float
        Cross-validated mean reciprocal rank of each ridge tried; empty for a ridge
        given by the caller.
    x_mean_, y_mean_ : ndarray
        Weighted means, subtracted from each view.
    x_rotations_ : ndarray of shape (n_features_in_, n_components_)
        Projects molecules into the joint space.
    y_rotations_ : ndarray of shape (n_genes_in_, n_components_)
        Projects profiles into the joint space.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features.

    See Also
    --------
    sklearn.cross_decomposition.CCA : Iterative, without a ridge.
    DoubleNNRetriever : The paper's other baseline.

    Notes
    -----
    The rotations maximise

    .. math:: \operatorname{tr}(A^\top C_{xy} B) \quad \text{subject to} \quad
        A^\top (C_{xx} + \lambda_x I) A = B^\top (C_{yy} + \lambda_y I) B = I

    with :math:`\lambda_x = \text{ridge} \cdot \operatorname{tr}(C_{xx}) / p`
    (Vinod 1976). Each covariance is diagonalised once, on the smaller of its two
    sides and with every distinct molecule as one row; a ridge then costs one small
    eigenproblem. The covariances of a fold are those of all rows less those of the rows
    left out, or, where these hold more than 99 % of the variance, summed anew: to
    choose the ridge, variates are exact to about 1e-9 of their size. The variates have
    unit variance for ridge 0. Those of scikit-learn have unit-norm weights instead, so
    that its Pearson similarities, which the paper used (Section 3.2), differ by that
    scaling; the correlations are the same.

    References
    ----------
    H. D. Vinod, "Canonical ridge and econometrics of joint production",
    Journal of Econometrics 4 (1976).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment import CCA
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.normal(size=(200, 3))
    >>> X = hidden @ rng.normal(size=(3, 10)) + 0.1 * rng.normal(size=(200, 10))
    >>> y = hidden @ rng.normal(size=(3, 30)) + 0.1 * rng.normal(size=(200, 30))
    >>> cca = CCA(n_components=3, ridge=0.01).fit(X[:150], y[:150])
    >>> cca.correlations_.round(1)
    array([1., 1., 1.])
    >>> cca.similarity(X[150:], y[150:]).shape
    (50, 50)
    """

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "correlation_power": [Interval(Real, 0, None, closed="left")],
        "balance_molecules": ["boolean"],
        "metric": [StrOptions(METRICS - {"jaccard", "tanimoto"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components=50,
        *,
        ridge="auto",
        correlation_power=0.0,
        balance_molecules=False,
        metric="correlation",
        random_state=None,
    ):
        self.n_components = n_components
        self.ridge = ridge
        self.correlation_power = correlation_power
        self.balance_molecules = balance_molecules
        self.metric = metric
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Find the directions along which molecules and profiles correlate.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Molecule features of each row. Bits may come as uint8 or bool: nothing of
            the size of `X` is copied, but for its distinct rows.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0; equal by default.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If a view does not vary, nothing in one correlates with the other,
            `n_components` is more than the data support, a weight is negative, or
            ``ridge="auto"`` meets fewer than 10 distinct molecules.

        Warns
        -----
        JointSpaceWarning
            If components are left out since their correlation is 0, columns vary too
            little beside others to count, ``ridge=0`` makes correlations of 1 out of
            any rows, or ``metric="correlation"`` has fewer than 3 components, where
            it is 0, 1 or -1 whatever the data.
        """
        X = check_features(
            self, X, accept_sparse="csr", dtype=_KEPT_DTYPES, ensure_min_samples=2
        )
        y = check_profiles(self, y, reset=True)
        check_same_rows(X=X, y=y)
        weights = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        return self._fit_rows(X, np.arange(X.shape[0]), y, weights)

    def _fit_rows(self, X, rows, y, weights):
        """Fit on rows of X, of which one may stand for many profiles."""
        used = weights > 0
        if not used.all():
            rows, y, weights = rows[used], y[used], weights[used]
        taken, rows = np.unique(rows, return_inverse=True)
        molecules, codes = _distinct_molecules(
            X if len(taken) == X.shape[0] else X[taken]
        )
        codes = codes[rows]
        if self.balance_molecules:
            weights = weights / np.bincount(codes)[codes]
        for name, view in (("X", molecules), ("y", y)):
            if max(float(view.max()), -float(view.min())) > _LARGEST:
                raise ValueError(f"{name} is too large for its squares; scale it.")
        pairs = _Pairs(molecules, y, codes, weights)
        moments = pairs.moments()
        views = pairs.decompose(moments)
        self._check_views(views, (len(y), X.shape[1]), y.shape)
        self.ridge_scores_ = {}
        self.ridge_ = self.ridge
        if self.ridge == "auto":
            self.ridge_scores_ = self._score_ridges(pairs, moments)
            # Of equally good ridges the largest, the smoothest.
            self.ridge_ = max(
                self.ridge_scores_, key=lambda r: (self.ridge_scores_[r], r)
            )
        self.correlations_, self.x_rotations_, self.y_rotations_ = views.solve(
            self.ridge_, self._n_asked
        )
        self.n_components_ = len(self.correlations_)
        self._check_components()
        self.x_mean_, self.y_mean_ = views.x.mean, views.y.mean
        return self

    def transform(self, X) -> NDArray:
        """Project molecules into the joint space.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_molecules, n_features)
            Molecule features.

        Returns
        -------
        variates : ndarray of shape (n_molecules, n_components)
            In the precision of X, in float64 for bits and counts.
        """
        check_is_fitted(self)
        X = check_features(
            self, X, accept_sparse="csr", dtype=_KEPT_DTYPES, reset=False
        )
        return self._project(X, self.x_mean_, self.x_rotations_, "X")

    def transform_ge(self, y) -> NDArray:
        """Project profiles into the joint space.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        variates : ndarray of shape (n_profiles, n_components)
            In the precision of y.
        """
        check_is_fitted(self)
        y = check_profiles(self, y, reset=False)
        return self._project(y, self.y_mean_, self.y_rotations_, "y")

    def _project(self, rows, mean, rotations, name):
        dtype = np.float32 if rows.dtype == np.float32 else np.float64
        scaled = rotations * self.correlations_**self.correlation_power
        with np.errstate(over="ignore", invalid="ignore"):
            result = _project(rows, None, mean.astype(dtype), scaled.astype(dtype))
        return check_finite(result, name=name, of="the projection")

    def _score_ridges(self, pairs, moments):
        """Mean reciprocal rank of each ridge on molecules left out in turn."""
        n = len(pairs.x.values)
        if n < 2 * _N_FOLDS:
            raise ValueError(
                f'ridge="auto" needs at least {2 * _N_FOLDS} distinct molecules to '
                f"choose a ridge by cross-validation. Got {n}, "
                f"n_samples={len(pairs.codes)}."
            )
        fold = check_random_state(self.random_state).permutation(n) % _N_FOLDS
        parts = [pairs.part(fold == k) for k in range(_N_FOLDS)]
        totals = dict.fromkeys(_RIDGES.tolist(), 0.0)
        for part in parts:
            others = [other for other in parts if other is not part]
            views = pairs.decompose_others(part, others, moments)
            found = [views.solve(ridge, self._n_asked) for ridge in totals]
            for ridge, total in zip(
                totals, self._reciprocal_ranks(pairs, part, views, found), strict=True
            ):
                totals[ridge] += total / len(pairs.codes)
        return totals

    def _reciprocal_ranks(self, pairs, part, views, found):
        """Yield the sum of a part's reciprocal ranks for each of some rotations."""
        powers = [correlations**self.correlation_power for correlations, _, _ in found]
        a = np.hstack([a * c for (_, a, _), c in zip(found, powers, strict=True)])
        b = np.hstack([b * c for (_, _, b), c in zip(found, powers, strict=True)])
        molecules = _project(pairs.x.values, part.molecules, views.x.mean, a)
        profiles = _project(pairs.y.values, part.rows, views.y.mean, b)
        match = np.searchsorted(part.molecules, pairs.codes[part.rows])
        end = 0
        for power in powers:
            begin, end = end, end + len(power)
            if begin == end:  # of no use: each molecule is as near
                yield len(match) * 2 / (len(part.molecules) + 1)
                continue
            ranks = rank_embeddings(
                profiles[:, begin:end],
                molecules[:, begin:end],
                match,
                metric=self.metric,
            )
            yield np.sum(1 / ranks)

    def _check_views(self, views, x_shape, y_shape):
        """Refuse what has no components, and say what means nothing."""
        for name, view in (("X", views.x), ("y", views.y)):
            if view.n_varying == 0:
                raise ValueError(
                    f"{name} must vary: its {len(view.mean)} column(s) are constant in "
                    f"the {x_shape[0]} row(s) with a weight, so that nothing "
                    "correlates with them."
                )
            if view.variances.size == 0:
                raise ValueError(f"{name} is too small for its squares; scale it.")
            if view.n_lost:
                _warn(
                    f"{view.n_lost} of the {view.n_varying} varying columns of {name} "
                    "vary less than the rounding of the others and do not count; bring "
                    "the columns to one scale, for instance by StandardScaler."
                )
        self._check_n_components(views.cross.shape, x_shape, y_shape)
        n_free = x_shape[0] - 1
        if self.ridge == 0 and sum(views.cross.shape) > n_free:
            _warn(
                f"With ridge=0 views of rank {views.cross.shape[0]} and "
                f"{views.cross.shape[1]} have "
                f"{min(sum(views.cross.shape) - n_free, *views.cross.shape)} "
                f"correlations of 1 in any {x_shape[0]} rows, which mean nothing; give "
                "a ridge."
            )

    def _check_n_components(self, ranks, x_shape, y_shape):
        if self.n_components != "auto" and self.n_components > min(ranks):
            raise ValueError(
                f"n_components must be at most {min(ranks)}, the smaller rank of the "
                f"centred views of shapes {x_shape} and {y_shape}. "
                f"Got {self.n_components}."
            )

    def _check_components(self):
        """Refuse none; say how many there are, and where they are too few."""
        n, asked = self.n_components_, self.n_components
        if n == 0:
            raise ValueError(
                "Nothing in X correlates with anything in y: every canonical "
                "correlation is 0 within rounding."
            )
        if asked != "auto" and n < asked:
            _warn(
                f"Only {n} canonical correlation(s) differ from 0, and n_components is "
                f"{asked}: the joint space has {n} dimension(s)."
            )
        if fault := says_nothing(n, self.metric):
            _warn(f"{fault} Their length is n_components.")

    @property
    def _n_asked(self):
        return _MOST_COMPONENTS if self.n_components == "auto" else self.n_components

    @property
    def _n_features_out(self):
        return self.x_rotations_.shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _warn(message):
    # The caller's line: above are a check, `fit` and its context.
    warnings.warn(message, JointSpaceWarning, stacklevel=5)


# -- rows: distinct molecules, and both views a block at a time ------------------------


def _distinct_molecules(X) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the distinct rows of X, and for each row its place among them.

    They come in the order of their bytes in float64, whatever X is: the folds of a
    seed go by it. Bits, which have the same order in any precision, stay small.
    """
    first, codes = distinct_rows(X)
    molecules = X[first]
    bits = _are_bits(molecules)
    molecules = molecules.astype(np.uint8 if bits else np.float64, copy=False)
    if sparse.issparse(molecules):
        molecules = molecules.toarray()
    elif bits or X.dtype == np.float64:  # in order as they are
        return molecules, codes
    first, places = distinct_rows(molecules)
    return molecules[first], places[codes]


def _are_bits(X) -> bool:
    values = X
    if sparse.issparse(X):
        X.sum_duplicates()
        values = X.data
    if values.size and not 0 <= values.min() <= values.max() <= 1:
        return False
    return values.dtype.kind in "bu" or np.array_equal(values, values.astype(bool))


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    return gen_batches(n_rows, max(1, _BLOCK_BYTES // (8 * max(1, n_columns))))


def _project(rows, chosen: NDArray | None, mean: NDArray, rotations: NDArray):
    """Return some of the rows, centred, times the rotations, in their precision."""
    n_rows = rows.shape[0] if chosen is None else len(chosen)
    result = np.empty((n_rows, rotations.shape[1]), rotations.dtype)
    for part in _blocks(n_rows, rows.shape[1]):
        block = rows[part if chosen is None else chosen[part]]
        block = block.toarray() if sparse.issparse(block) else block
        np.matmul(block - mean, rotations, out=result[part])
    return result


@dataclass(frozen=True)
class _Part:
    """Some molecules, their profiles in the order of these, and ranges of columns."""

    molecules: NDArray[np.intp]
    rows: NDArray[np.intp]
    x_range: NDArray
    y_range: NDArray


@dataclass(frozen=True)
class _Moments:
    """Weighted sums of products of rows about the mean of all rows.

    Of each view on the smaller of its sides, see `_Rows`.
    """

    weight: float
    x_sum: NDArray
    y_sum: NDArray
    xx: NDArray
    xy: NDArray
    yy: NDArray


class _Rows:
    """The rows of a view: centred, times their root weights, on its smaller side.

    With more columns than rows, these are coordinates along the principal axes. With
    fewer, the columns, which are made of the values a block at a time: the values of a
    large study may be bits or float32, and are not copied.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns)
    roots : ndarray of shape (n_rows,)
        Roots of the weights, which have a sum of 1.
    mean : ndarray of shape (n_columns,)
    varies : ndarray of shape (n_columns,)
        Which columns do.
    axes : ndarray of shape (n_columns, rank) or None
        Principal axes, where the coordinates are along them.
    """

    def __init__(self, values: NDArray, weights: NDArray):
        self.values, self.roots = values, np.sqrt(weights)
        n, p = values.shape
        mean = np.zeros(p)
        for part in _blocks(n, p):
            mean += weights[part] @ values[part].astype(np.float64, copy=False)
        low, high = self.range_of(np.arange(n))
        self.varies = _varies(low, high, mean)
        # The mean of equal numbers is not always that number.
        self.mean = np.where(self.varies, mean, low)
        self.axes: NDArray | None = None
        if p > n:
            centred = self._centred(np.arange(n))
            variances, vectors = _eigh(centred @ centred.T, p)
            self._coordinates = vectors * np.sqrt(variances)
            self.axes = centred.T @ (vectors / np.sqrt(variances))

    def __getitem__(self, chosen: NDArray[np.intp]) -> NDArray:
        if self.axes is not None:
            return self._coordinates[chosen]
        return self._centred(chosen)

    def _centred(self, chosen):
        rows = self.values[chosen] - self.mean
        rows[:, ~self.varies] = 0.0
        rows *= self.roots[chosen][:, None]
        return rows

    @property
    def n_coordinates(self) -> int:
        return len(self.mean) if self.axes is None else self.axes.shape[1]

    def range_of(self, chosen: NDArray[np.intp]) -> NDArray:
        """Return the least and the largest value of each column in some rows."""
        parts = [
            [rows.min(axis=0), rows.max(axis=0)]
            for rows in (
                self.values[chosen[part]]
                for part in _blocks(len(chosen), self.values.shape[1])
            )
        ]
        low, high = zip(*parts, strict=True)
        return np.array([np.min(low, axis=0), np.max(high, axis=0)], dtype=np.float64)

    def in_columns(self, rotations: NDArray) -> NDArray:
        """Return what is given along the coordinates along the columns."""
        return rotations if self.axes is None else self.axes @ rotations


class _Pairs:
    """Molecules and their profiles, whose products are summed over any of them.

    Parameters
    ----------
    X : ndarray of shape (n_molecules, n_features)
        Features of each distinct molecule.
    y : ndarray of shape (n_samples, n_genes)
        Profiles.
    codes : ndarray of shape (n_samples,)
        Row of X that is the molecule of each profile.
    weights : ndarray of shape (n_samples,)
        Positive weight of each profile.
    """

    def __init__(self, X: NDArray, y: NDArray, codes: NDArray, weights: NDArray):
        self.codes = codes
        self.weights = weights / weights.sum()
        of_molecules = np.bincount(codes, weights=self.weights, minlength=len(X))
        self.x, self.y = _Rows(X, of_molecules), _Rows(y, self.weights)
        # Profiles of one molecule lie together.
        self._order = np.argsort(codes, kind="stable")

    def part(self, chosen: NDArray[np.bool_]) -> _Part:
        molecules = np.flatnonzero(chosen)
        rows = self._order[chosen[self.codes[self._order]]]
        return _Part(molecules, rows, self.x.range_of(molecules), self.y.range_of(rows))

    def moments(self, part: _Part | None = None) -> _Moments:
        """Sum the products of some molecules and their profiles, or of all."""
        x, y = self.x, self.y
        molecules = np.arange(len(x.values)) if part is None else part.molecules
        rows = self._order if part is None else part.rows
        p, q = x.n_coordinates, y.n_coordinates
        x_sum, y_sum = np.zeros(p), np.zeros(q)
        xx, xy, yy = np.zeros((p, p)), np.zeros((p, q)), np.zeros((q, q))
        for block in _blocks(len(molecules), p):
            found = x[molecules[block]]
            x_sum += x.roots[molecules[block]] @ found
            xx += found.T @ found
        for block in _blocks(len(rows), q):
            found = y[rows[block]]
            y_sum += y.roots[rows[block]] @ found
            yy += found.T @ found
            # A molecule is one row: its profiles are summed before they meet it.
            codes = self.codes[rows[block]]
            own, places = np.unique(codes, return_inverse=True)
            shares = y.roots[rows[block]] / x.roots[codes]
            sums = sparse.csr_array((shares, (places, np.arange(len(codes))))) @ found
            xy += x[own].T @ sums
        return _Moments(float(self.weights[rows].sum()), x_sum, y_sum, xx, xy, yy)

    def decompose(self, moments: _Moments) -> ViewPair:
        """Decompose both views, given the moments of all rows."""
        return ViewPair.of(
            View.of(self.x, self.x.mean, self.x.varies, moments.xx),
            View.of(self.y, self.y.mean, self.y.varies, moments.yy),
            moments.xy,
        )

    def decompose_others(
        self, part: _Part, others: list[_Part], whole: _Moments
    ) -> ViewPair:
        """Decompose the views of the other parts alone.

        Their covariances are those of all rows less those of the part, which has the
        rounding errors of all rows. Where that is much against what is left, since the
        part holds outliers, the products of the other parts are summed by themselves.
        """
        less = self.moments(part)
        weight = whole.weight - less.weight
        # The mean of the rest lies off that of all rows.
        x_shift, y_shift = -less.x_sum / weight, -less.y_sum / weight
        xx = (whole.xx - less.xx) / weight - np.outer(x_shift, x_shift)
        yy = (whole.yy - less.yy) / weight - np.outer(y_shift, y_shift)
        if any(
            np.trace(rest) * _MOST_LOST < np.trace(all_rows)
            for rest, all_rows in ((xx, whole.xx), (yy, whole.yy))
        ):
            alone = self._only(others)
            return alone.decompose(alone.moments())
        x_ranges = [other.x_range for other in others]
        y_ranges = [other.y_range for other in others]
        xy = (whole.xy - less.xy) / weight - np.outer(x_shift, y_shift)
        return ViewPair.of(
            View.of_some(self.x, x_shift, x_ranges, xx),
            View.of_some(self.y, y_shift, y_ranges, yy),
            xy,
        )

    def _only(self, parts: list[_Part]) -> _Pairs:
        molecules = np.sort(np.concatenate([part.molecules for part in parts]))
        rows = np.sort(np.concatenate([part.rows for part in parts]))
        return _Pairs(
            self.x.values[molecules],
            self.y.values[rows],
            np.searchsorted(molecules, self.codes[rows]),
            self.weights[rows],
        )


def _varies(low: NDArray, high: NDArray, mean: NDArray) -> NDArray[np.bool_]:
    return high - low > 4 * _EPS * np.abs(mean)


# -- linear algebra: decompose both views once, solve for any ridge --------------------


def _eigh(products: NDArray, n: int) -> tuple[NDArray, NDArray]:
    """Return the eigenvalues above the rounding of sums of n, and eigenvectors."""
    values, vectors = linalg.eigh(products, driver="evd", check_finite=False)
    kept = values > values.max(initial=0.0) * n * _EPS
    return values[kept], vectors[:, kept]


@dataclass(frozen=True)
class View:
    """Covariance of one view, as eigenvectors and eigenvalues.

    Attributes
    ----------
    rows : _Rows
        Along whose coordinates the eigenvectors are.
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    varies : ndarray of shape (n_features,)
        Which columns do.
    axes : ndarray of shape (n_coordinates, rank)
        Eigenvectors of the covariance with an eigenvalue above rounding.
    variances : ndarray of shape (rank,)
        Their eigenvalues.
    """

    rows: _Rows
    mean: NDArray
    varies: NDArray
    axes: NDArray
    variances: NDArray

    @classmethod
    def of(cls, rows: _Rows, mean: NDArray, varies: NDArray, products: NDArray) -> View:
        """Decompose the covariance along the coordinates of the rows."""
        variances, axes = _eigh(products, max(rows.values.shape))
        return cls(rows, mean, varies, axes, variances)

    @classmethod
    def of_some(cls, rows: _Rows, shift: NDArray, ranges, products: NDArray) -> View:
        """Decompose that of some of the rows: parts with these ranges of columns."""
        mean = rows.mean + rows.in_columns(shift)
        low, high = np.min(ranges, axis=0)[0], np.max(ranges, axis=0)[1]
        return cls.of(rows, mean, _varies(low, high, mean), products)

    @property
    def n_varying(self) -> int:
        return int(np.count_nonzero(self.varies))

    @property
    def n_lost(self) -> int:
        """How many columns vary too little beside the others to count."""
        along_columns = self.rows.in_columns(self.axes * np.sqrt(self.variances))
        of_columns = np.einsum("ij,ij->i", along_columns, along_columns)[self.varies]
        largest = self.variances.max(initial=0.0)
        return int(np.sum(of_columns <= largest * max(self.rows.values.shape) * _EPS))

    @property
    def unit(self) -> float:
        """Mean variance of a feature that varies: a ridge of 1 is this much."""
        return self.variances.sum() / max(1, self.n_varying)

    def whitening(self, ridge: float) -> NDArray:
        """Return the square roots of the inverse regularised variances."""
        return 1 / np.sqrt(self.variances + ridge * self.unit)

    def rotations(self, whitened: NDArray) -> NDArray:
        """Return the weights of the columns, given those of the axes."""
        found = self.rows.in_columns(self.axes @ whitened)
        # Not what rounding left of columns that only other rows tell apart.
        found[~self.varies] = 0.0
        return found


@dataclass(frozen=True)
class ViewPair:
    """Both views decomposed, and their covariance along the axes of each."""

    x: View
    y: View
    cross: NDArray

    @classmethod
    def of(cls, x: View, y: View, products: NDArray) -> ViewPair:
        return cls(x, y, x.axes.T @ products @ y.axes)

    def solve(
        self, ridge: float, n_components: int
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return correlations and the rotations of X and y for one ridge.

        Components whose correlation is 0 within rounding have no direction in one of
        the views, and are left out.
        """
        x_white, y_white = self.x.whitening(ridge), self.y.whitening(ridge)
        matrix = x_white[:, None] * self.cross * y_white
        left, correlations, right = _leading_svd(matrix, n_components)
        if not correlations.size:  # a view does not vary
            return correlations, self.x.rotations(left), self.y.rotations(right)
        # The product of the views is rounded at the scale of two that are the same.
        roots = [np.sqrt(view.variances) for view in (self.x, self.y)]
        same = np.max(x_white * roots[0]) * np.max(y_white * roots[1])
        rounding = same * sum(matrix.shape) * _EPS
        kept = correlations > max(correlations[0] * _SMALLEST_CORRELATION, rounding)
        left, correlations, right = left[:, kept], correlations[kept], right[:, kept]
        x_rotations = self.x.rotations(x_white[:, None] * left)
        y_rotations = self.y.rotations(y_white[:, None] * right)
        largest = np.argmax(np.abs(x_rotations), axis=0)
        signs = np.sign(x_rotations[largest, np.arange(len(correlations))])
        return correlations, x_rotations * signs, y_rotations * signs


def _leading_svd(matrix: NDArray, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return the k leading singular triplets, by the eigenvectors of the Gram matrix.

    Canonical correlations are at most 1, so that the square in the Gram matrix costs
    a correlation c no more than eps / c.
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, values, left = _leading_svd(matrix.T, k)
        return left, values, right
    m = len(matrix)
    k = min(k, m)
    if k == 0:
        return np.empty((m, 0)), np.empty(0), np.empty((matrix.shape[1], 0))
    # Many of them take longer than all do.
    few = {"subset_by_index": [m - k, m - 1]} if m > 5 * k else {"driver": "evd"}
    squares, left = linalg.eigh(
        (matrix @ matrix.T).T,  # symmetric: in the order of LAPACK, without a copy
        overwrite_a=True,
        check_finite=False,
        **few,
    )
    squares, left = squares[: -k - 1 : -1], left[:, : -k - 1 : -1]
    values = np.sqrt(np.maximum(squares, 0))
    right = (matrix.T @ left) / np.where(values > 0, values, 1.0)
    return left, values, right
