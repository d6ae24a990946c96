"""CCA: canonical correlation analysis in closed form, with a ridge."""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
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
    eigenproblem. The variates have unit variance for ridge 0. Those of scikit-learn
    have unit-norm weights instead, so that its Pearson similarities, which the paper
    used (Section 3.2), differ by that scaling; the correlations are the same.

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
    def fit(self, X, y, sample_weight=None):
        """Find the directions along which molecules and profiles correlate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Molecule features of each row.
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
        X = check_features(self, X, dtype=np.float64, ensure_min_samples=2)
        y = check_profiles(self, y, reset=True, dtype=np.float64)
        check_same_rows(X=X, y=y)
        weights = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        used = weights > 0
        X, y, weights = X[used], y[used], weights[used]
        first, codes = distinct_rows(X)
        if self.balance_molecules:
            weights = weights / np.bincount(codes)[codes]
        molecules = X[first]
        for name, view in (("X", molecules), ("y", y)):
            if np.abs(view).max() > _LARGEST:
                raise ValueError(f"{name} is too large for its squares; scale it.")
        views = decompose(molecules, y, codes, weights)
        self._check_views(views, X.shape, y.shape)
        self.ridge_scores_ = {}
        self.ridge_ = self.ridge
        if self.ridge == "auto":
            self.ridge_scores_ = self._score_ridges(molecules, y, codes, weights)
            # Of equally good ridges the largest, the smoothest.
            self.ridge_ = max(
                self.ridge_scores_, key=lambda r: (self.ridge_scores_[r], r)
            )
        self.correlations_, self.x_rotations_, self.y_rotations_ = solve(
            views, self.ridge_, self._n_asked
        )
        self.n_components_ = len(self.correlations_)
        self._check_components()
        self.x_mean_, self.y_mean_ = views.x.mean, views.y.mean
        return self

    def transform(self, X):
        """Project molecules into the joint space.

        Parameters
        ----------
        X : array-like of shape (n_molecules, n_features)
            Molecule features.

        Returns
        -------
        variates : ndarray of shape (n_molecules, n_components)
            In the precision of X.
        """
        check_is_fitted(self)
        X = check_features(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._project(X, self.x_mean_, self.x_rotations_, "X")

    def transform_ge(self, y):
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
        scaled = rotations * self.correlations_**self.correlation_power
        with np.errstate(over="ignore", invalid="ignore"):
            result = (rows - mean.astype(rows.dtype)) @ scaled.astype(rows.dtype)
        return check_finite(result, name=name, of="the projection")

    def _score_ridges(self, X, y, codes, weights):
        """Mean reciprocal rank of each ridge on molecules left out in turn."""
        if len(X) < 2 * _N_FOLDS:
            raise ValueError(
                f'ridge="auto" needs at least {2 * _N_FOLDS} distinct molecules to '
                f"choose a ridge by cross-validation. Got {len(X)}, n_samples={len(y)}."
            )
        fold = check_random_state(self.random_state).permutation(len(X)) % _N_FOLDS
        totals = dict.fromkeys(_RIDGES.tolist(), 0.0)
        for left_out in range(_N_FOLDS):
            held = fold == left_out
            rows = held[codes]
            position = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1
            views = decompose(
                X[~held], y[~rows], position[codes[~rows]], weights[~rows]
            )
            for ridge in totals:
                correlations, a, b = solve(views, ridge, self._n_asked)
                if not len(correlations):  # of no use: each molecule is as near
                    totals[ridge] += rows.sum() * 2 / (held.sum() + 1) / len(y)
                    continue
                power = correlations**self.correlation_power
                ranks = rank_embeddings(
                    (y[rows] - views.y.mean) @ (b * power),
                    (X[held] - views.x.mean) @ (a * power),
                    position[codes[rows]],
                    metric=self.metric,
                )
                totals[ridge] += np.sum(1 / ranks) / len(y)
        return totals

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
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


# -- linear algebra: decompose both views once, solve for any ridge --------------------


@dataclass(frozen=True)
class View:
    """Covariance of one view, as eigenvectors and eigenvalues.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    axes : ndarray of shape (n_features, rank)
        Eigenvectors of the covariance with an eigenvalue above rounding.
    variances : ndarray of shape (rank,)
        Their eigenvalues.
    unit : float
        Mean variance of a feature that varies: a ridge of 1 is this much.
    n_varying : int
        Number of columns that vary.
    n_lost : int
        How many of them vary too little beside the others to count.
    """

    mean: NDArray
    axes: NDArray
    variances: NDArray
    unit: float
    n_varying: int
    n_lost: int

    def whitening(self, ridge: float) -> NDArray:
        """Return the square roots of the inverse regularised variances."""
        return 1 / np.sqrt(self.variances + ridge * self.unit)


@dataclass(frozen=True)
class ViewPair:
    """Both views decomposed, and their covariance along the axes of each."""

    x: View
    y: View
    cross: NDArray


def decompose(X: NDArray, y: NDArray, codes: NDArray, weights: NDArray) -> ViewPair:
    """Decompose two views whose rows have `weights`.

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
    weights = weights / weights.sum()
    molecule_weights = np.bincount(codes, weights=weights, minlength=len(X))
    x_view, x_rows = _decompose_view(X, molecule_weights)
    y_view, y_rows = _decompose_view(y, weights)
    # A molecule is one row: its profiles are summed before they meet its features.
    shares = np.sqrt(weights / molecule_weights[codes])
    sums = sparse.csr_array((shares, (codes, np.arange(len(y))))) @ y_rows
    cross = x_view.axes.T @ (x_rows.T @ sums) @ y_view.axes
    return ViewPair(x_view, y_view, cross)


def _warn(message):
    # The caller's line: above are a check, `fit` and its context.
    warnings.warn(message, JointSpaceWarning, stacklevel=5)


def _decompose_view(rows: NDArray, weights: NDArray) -> tuple[View, NDArray]:
    """Return the decomposition, and the centred rows times their root weights."""
    mean = weights @ rows
    # The mean of equal numbers is not always that number.
    spread = np.ptp(rows, axis=0)
    varies = spread > 4 * _EPS * np.abs(mean)
    mean = np.where(varies, mean, rows[0])
    centred = (rows - mean) * np.sqrt(weights)[:, None]
    centred[:, ~varies] = 0.0
    n, p = centred.shape
    variances, axes = linalg.eigh(
        centred.T @ centred if p <= n else centred @ centred.T
    )
    smallest = variances[-1] * max(n, p) * _EPS
    kept = variances > smallest
    variances, axes = variances[kept], axes[:, kept]
    if p > n:
        axes = centred.T @ (axes / np.sqrt(variances))
    n_varying = int(np.count_nonzero(varies))
    n_lost = int(np.sum(np.square(centred).sum(0)[varies] <= smallest))
    unit = variances.sum() / max(1, n_varying)
    return View(mean, axes, variances, unit, n_varying, n_lost), centred


def solve(
    views: ViewPair, ridge: float, n_components: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return correlations and the rotations of X and y for one ridge.

    Components whose correlation is 0 within rounding have no direction in one of the
    views, and are left out.
    """
    x_white, y_white = views.x.whitening(ridge), views.y.whitening(ridge)
    matrix = x_white[:, None] * views.cross * y_white
    left, correlations, right = _leading_svd(matrix, n_components)
    if not correlations.size:  # a view does not vary
        return correlations, views.x.axes[:, :0], views.y.axes[:, :0]
    # The product of the views is rounded at the scale of two that are the same.
    roots = [np.sqrt(view.variances) for view in (views.x, views.y)]
    same = np.max(x_white * roots[0]) * np.max(y_white * roots[1])
    rounding = same * sum(matrix.shape) * _EPS
    kept = correlations > max(correlations[0] * _SMALLEST_CORRELATION, rounding)
    left, correlations, right = left[:, kept], correlations[kept], right[:, kept]
    x_rotations = views.x.axes @ (x_white[:, None] * left)
    y_rotations = views.y.axes @ (y_white[:, None] * right)
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
    squares, left = linalg.eigh(matrix @ matrix.T, subset_by_index=[m - k, m - 1])
    squares, left = squares[::-1], left[:, ::-1]
    values = np.sqrt(np.maximum(squares, 0))
    right = (matrix.T @ left) / np.where(values > 0, values, 1.0)
    return left, values, right
