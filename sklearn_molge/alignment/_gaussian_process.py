"""GaussianProcessRetriever: effects predicted from structure, with their variance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import product
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    Kernel,
)
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    _safe_indexing,
)
from sklearn_molge._utils.checks import check_finite, check_same_rows
from sklearn_molge._utils.kernels import fit_kernel
from sklearn_molge._utils.rows import (
    distinct_rows,
    is_text,
    normal_scores,
    rank_blocks,
)
from sklearn_molge._utils.typing import Compare
from sklearn_molge._utils.views import Comparison, drop_repeated
from sklearn_molge.alignment._drug_space import SMALLEST_EFFECT, Replicates
from sklearn_molge.alignment._process import Committee, Effects, ExactProcess
from sklearn_molge.base import (
    EmbedderMixin,
    check_molecules,
    check_profiles,
    identify_drugs,
    one_row_per_drug,
)
from sklearn_molge.exceptions import JointSpaceWarning
from sklearn_molge.molecules import StructureKernel

__all__ = ["GaussianProcessRetriever"]

_HERITABILITIES = (0.3, 0.5, 0.7, 0.85, 1.0)
_COMPONENTS = (30, 60, 100, 150)
_N_FOLDS = 5
# Each of the 25 fits of a choice is a decomposition of as many molecules.
_MOST_CHOOSING = 1500
_N_COHORT = 1000
_BLOCK = 8192
# Of kernels and of scores, at a time.
_BLOCK_VALUES, _STEP = 2**20, 192
_NONE = slice(0)
_INEXACT = 1e-6


class GaussianProcessRetriever(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, EmbedderMixin, BaseEstimator
):
    r"""Predict the effect of a molecule from its structure, and how sure that is.

    Profiles are projected into the space that separates drugs from the noise of their
    replicates. There a Gaussian process over molecules gives each candidate a mean
    effect and its variance, and a query is compared with both: by the likelihood of the
    query with and without the candidate, and by the cosine to the mean.

    Parameters
    ----------
    kernel : kernel or None, default=None
        A kernel of scikit-learn's kind over molecules, with value 1 for a molecule and
        itself: :class:`~sklearn_molge.molecules.TanimotoKernel` (which takes sparse
        features too), ``RBF``, sums of such whose weights add to 1. None is
        :class:`~sklearn_molge.molecules.StructureKernel` for SMILES, and for features
        ``RBF`` with the root of half the median squared distance as its length.
    n_components : int or "auto", default=100
        Largest number of directions, those with the largest ratio of drug effects to
        noise; "auto" takes the best of 30, 60, 100 and 150.
    heritability : float or "auto", default="auto"
        Share of the variance of drug effects that the kernel explains, above 0 and at
        most 1; the rest is a molecule's own. "auto" takes the best of 0.3, 0.5, 0.7,
        0.85 and 1. Both choices are by the mean reciprocal rank in a 5-fold
        cross-validation over at most 1,500 training molecules.
    score_by : {"combined", "log_likelihood_ratio", "cosine"}, default="combined"
        What :meth:`similarity` is: one of the two scores, or the mean of both, each in
        standard deviations over a cohort, see Notes.
    profile_scaling : {"normal_scores", "unit_length"} or None, default="normal_scores"
        What is done to each profile first: its values are replaced by the normal
        scores of their ranks, see
        :class:`~sklearn_molge.expression.RankNormalizer`, or scaled to unit length.
        Choose None or "unit_length" where columns are no genes on one scale, such as
        principal components. A profile that becomes 0 in this way has no direction, and
        is at the origin of the joint space.
    n_pca_components : int, default=250
        Principal components of the profiles that are kept before drugs are separated.
    shrinkage : float, default=0.3
        Share of the noise's covariance that is replaced by a multiple of the identity,
        from 0 to 1.
    max_expert_size : int, default=5000
        Most molecules of one exact process. More are divided into parts of similar
        molecules, at least half as large, with a process each, and the processes'
        predictions are combined by the Bayesian committee machine (Tresp 2000).
    optimizer : {"fmin_l_bfgs_b"} or None, default=None
        Maximise the marginal likelihood over the free parameters of the kernel, as
        ``GaussianProcessRegressor`` does. None keeps them: on real profiles the
        likelihood prefers kernels that rank worse.
    random_state : int, RandomState instance or None, default=None
        Assigns molecules to folds and begins their division into parts; pass an int for
        the same result each time.

    Attributes
    ----------
    kernel_ : kernel
        The kernel used, fitted on the training molecules.
    n_components_ : int
        Number of directions in which drugs differ by more than noise.
    heritability_ : float
        The share used.
    effect_variances_ : ndarray of shape (n_components_,)
        Variance of drug effects in each direction, in units of the noise of a profile
        of weight 1, in descending order.
    calibration_ : ndarray of shape (n_components_,)
        Mean squared error of leave-one-out predictions, in units of their variance: 1
        for a model that holds. Variances of the score are multiplied by it.
    log_marginal_likelihood_ : float
        Of the molecules' mean profiles, over all directions.
    cv_scores_ : dict of (float, int) to float
        Cross-validated mean reciprocal rank of each pair of `heritability` and
        `n_components` tried; empty where both were given.
    n_molecules_ : int
        Number of distinct training molecules.
    n_experts_ : int
        Number of processes; 1 is exact.
    mean_ : ndarray of shape (n_genes_in_,)
        Mean of the profiles, after `profile_scaling`.
    rotations_ : ndarray of shape (n_genes_in_, n_components_)
        Projects profiles into the joint space.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features; only where X held features.

    See Also
    --------
    sklearn.gaussian_process.GaussianProcessRegressor : One output and one noise.
    CCA : Linear, without variances.

    Notes
    -----
    W is the covariance of profiles within drugs, shrunk; B, the total covariance less
    W, that of drug effects. The directions are the generalised eigenvectors of (B, W):
    the noise of a profile of weight w has variance 1/w there, and effects have
    variances :math:`\lambda_k`. This is linear discriminant analysis with random
    classes, known from speaker verification as PLDA (Ioffe 2006). Over molecules, the
    mean of a drug's profiles, n their total weight, has in direction k the covariance

    .. math:: \lambda_k (h^2 K + (1 - h^2) I) + \operatorname{diag}(1 / n).

    One eigendecomposition of :math:`n^{1/2} (h^2 K + (1 - h^2) I) n^{1/2}` serves all
    directions. A candidate with mean :math:`\mu` and variance v there scores a query q

    .. math:: \sum_k \log N(q_k; \mu_k, c_k (v_k + 1)) -
        \log N(q_k; 0, c_k (\lambda_k + 1))

    with the calibration :math:`c_k`. "combined" standardises this and the cosine of q
    and :math:`\mu` by the mean and standard deviation of the query's scores against
    the leave-one-out predictions of the training molecules (T-norm, Auckenthaler et al.
    2000), so it does not depend on the other candidates. A candidate's own effect,
    the share :math:`1 - h^2`, is unknown even where it was in training.

    Without a molecule that has two profiles the noise is taken as the same in all
    directions: half the mean variance of the smaller half of the principal components
    (in the manner of probabilistic PCA, Tipping and Bishop 1999).

    References
    ----------
    S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.

    R. Auckenthaler, M. Carey and H. Lloyd-Thomas, "Score normalization for
    text-independent speaker verification systems", Digital Signal Processing 10 (2000).

    V. Tresp, "A Bayesian committee machine", Neural Computation 12 (2000).

    Examples
    --------
    >>> from sklearn_molge.alignment import GaussianProcessRetriever
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.molecules import MorganFingerprinter, TanimotoKernel
    >>> study = make_perturbation_study(n_molecules=30, level=5, random_state=0)
    >>> kernel = TanimotoKernel(MorganFingerprinter(count=True))
    >>> retriever = GaussianProcessRetriever(kernel, heritability=0.85)
    >>> retriever.fit(study.smiles, study.ge).similarity(
    ...     ["CCO", "c1ccccc1O"], study.ge[:3]
    ... ).shape
    (3, 2)
    >>> mean, std = retriever.predict(["CCO"], return_std=True)
    >>> mean.shape == std.shape == (1, retriever.n_components_)
    True
    """

    metric = "cosine"

    _parameter_constraints: dict = {
        "kernel": [Kernel, None],
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "heritability": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "score_by": [StrOptions({"combined", "log_likelihood_ratio", "cosine"})],
        "profile_scaling": [StrOptions({"normal_scores", "unit_length"}), None],
        "n_pca_components": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "max_expert_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions({"fmin_l_bfgs_b"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        n_components=100,
        heritability="auto",
        score_by="combined",
        profile_scaling="normal_scores",
        n_pca_components=250,
        shrinkage=0.3,
        max_expert_size=5000,
        optimizer=None,
        random_state=None,
    ):
        self.kernel = kernel
        self.n_components = n_components
        self.heritability = heritability
        self.score_by = score_by
        self.profile_scaling = profile_scaling
        self.n_pca_components = n_pca_components
        self.shrinkage = shrinkage
        self.max_expert_size = max_expert_size
        self.optimizer = optimizer
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Separate drugs from noise, and fit the process over the molecules.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row: SMILES, or features where `kernel` takes them.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0: the variance of its noise is 1 / weight.
            Equal to 1 by default; other than in most estimators their size counts.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer than two molecules (10 for "auto"), all profiles are the
            same, a weight is negative, or the kernel does not take the molecules of X,
            is not 1 for a molecule and itself, or not positive semi-definite.
        InvalidSmilesError
            With index and text of every bad SMILES.

        Warns
        -----
        JointSpaceWarning
            If no molecule has two profiles, so that the noise is assumed, or molecules
            differ by no more than noise.
        """
        X = check_molecules(self, X, reset=True, accept_sparse=self._accepted_sparse)
        y = check_profiles(self, y, reset=True, dtype=np.float64)
        check_same_rows(X=X, y=y)
        weights = _check_sample_weight(
            sample_weight, y, dtype=np.float64, ensure_non_negative=True
        )
        used = np.flatnonzero(weights > 0)
        molecules, codes = _distinct_molecules(_safe_indexing(X, used))
        if molecules.shape[0] < 2:
            raise ValueError(
                f"X must hold at least 2 distinct molecules. Got {molecules.shape[0]}, "
                f"n_samples={len(y)}."
            )
        if len(self._choices()) > 1 and molecules.shape[0] < 2 * _N_FOLDS:
            raise ValueError(
                f'heritability="auto" and n_components="auto" need at least '
                f"{2 * _N_FOLDS} distinct molecules for a cross-validation. "
                f"Got {molecules.shape[0]}, n_samples={len(y)}."
            )
        rng = check_random_state(self.random_state)
        replicates = Replicates(self._scaled(y[used]), codes, weights[used])
        if len(codes) == molecules.shape[0]:
            warnings.warn(
                f"None of the {len(codes):,} molecules of X has two profiles: the "
                "noise is assumed to be the same in all directions. Give replicates, "
                "or profiles in several cell lines.",
                JointSpaceWarning,
                stacklevel=3,
            )
        self.kernel_ = self._fit_kernel(molecules)
        if self.optimizer is not None:
            self._optimize_kernel(molecules, replicates)
            _check_kernel(self.kernel_, molecules)
        parts = self._divide(molecules, rng)
        self.cv_scores_ = self._score_choices(molecules, replicates, rng)
        self.heritability_, self.n_components_ = self.heritability, self.n_components
        if self.cv_scores_:
            best = max(self.cv_scores_, key=lambda choice: self.cv_scores_[choice])
            self.heritability_, self.n_components_ = best
        self._fit_process(molecules, replicates, parts)
        return self

    def transform(self, X) -> NDArray:
        """Predict the mean effects of molecules, which are their joint space.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as in `fit`.

        Returns
        -------
        mean : ndarray of shape (n_molecules, n_components_)
            In standard deviations of the noise of one profile.
        """
        return self.predict(X)

    def predict(self, X, return_std=False):
        """Predict the effects of molecules, in the joint space.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as in `fit`.
        return_std : bool, default=False
            Return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_molecules, n_components_)
            Mean effect, in standard deviations of the noise of one profile.
        std : ndarray of shape (n_molecules, n_components_)
            Standard deviation of the effect about its mean, without the noise of a
            profile; only where `return_std` is True.
        """
        check_is_fitted(self)
        X = check_molecules(self, X, reset=False, accept_sparse=self._accepted_sparse)
        if not X.shape[0]:
            raise ValueError("X must hold at least one molecule. Got none.")
        parts = [
            self._predict(_safe_indexing(X, np.arange(start, min(start + _BLOCK, n))))
            for n in [X.shape[0]]
            for start in range(0, n, _BLOCK)
        ]
        mean = np.concatenate([part.mean for part in parts])
        variance = np.concatenate([part.variance for part in parts])
        return (mean, np.sqrt(variance)) if return_std else mean

    def transform_ge(self, y) -> NDArray:
        """Project profiles into the joint space.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        coordinates : ndarray of shape (n_profiles, n_components_)
            In standard deviations of the noise of one profile.
        """
        check_is_fitted(self)
        y = check_profiles(self, y, reset=False, dtype=np.float64)
        scaled = self._scaled(y)
        with np.errstate(over="ignore", invalid="ignore"):
            coordinates = (scaled - self.mean_) @ self.rotations_
        if self.profile_scaling is not None:
            coordinates[~scaled.any(axis=1)] = 0
        return check_finite(coordinates, name="y", of="the projection")

    def compare_to(self, X) -> Compare:
        """Predict a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as in `fit`.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their scores by
            `score_by`: an array of shape (n_profiles, n_molecules), larger meaning
            closer, in nats for "log_likelihood_ratio", in standard deviations over the
            training molecules for "combined".
        """
        mean, std = self.predict(X, return_std=True)
        distinct, codes = drop_repeated(np.hstack([mean, std]))
        mean, std = np.hsplit(distinct, 2)
        candidates = Effects(mean, std**2)
        scores = _Scores(self.effect_variances_, self.calibration_, self.score_by)
        return Comparison(
            self.transform_ge,
            scores.compare_to(candidates, self._cohort),
            codes,
            True,
            X,
        )

    def similarity_space(self) -> _ScoreSpace:
        """Return the space in which one product of vectors is :meth:`similarity`.

        So a library can be kept as vectors, as
        :class:`~sklearn_molge.library.MoleculeIndex` does. A molecule's vector has its
        mean effect, and what the likelihood needs of mean and variance: some three
        times as many numbers as :meth:`transform`.

        Returns
        -------
        space : object
            With ``transform(X)``, ``transform_ge(y)`` and the ``metric`` "dot".

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_molge.alignment import GaussianProcessRetriever
        >>> draw = np.random.default_rng(0)
        >>> X, y = draw.normal(size=(20, 3)), draw.normal(size=(20, 5))
        >>> rows = [*range(20)] * 2  # each molecule twice
        >>> noisy = y[rows] + 0.1 * draw.normal(size=(40, 5))
        >>> process = GaussianProcessRetriever(heritability=0.5).fit(X[rows], noisy)
        >>> space = process.similarity_space()
        >>> product = space.transform_ge(y) @ space.transform(X).T
        >>> np.allclose(product, process.similarity(X, y))
        True
        """
        check_is_fitted(self)
        scores = _Scores(self.effect_variances_, self.calibration_, self.score_by)
        return _ScoreSpace(self, scores, self._cohort)

    def _scaled(self, y):
        """Profiles of equal length, so that the strength of an effect is left out."""
        if self.profile_scaling == "normal_scores":
            y = normal_scores(y)
        return y if self.profile_scaling is None else normalize(y)

    def _fit_kernel(self, molecules):
        if self.kernel is not None:
            kernel = clone(self.kernel)
        elif is_text(molecules):
            kernel = StructureKernel()
        else:
            squares = euclidean_distances(molecules, squared=True)
            apart = squares[squares > 0]
            kernel = RBF(np.sqrt(np.median(apart) / 2), "fixed")
        fit_kernel(kernel, molecules)
        _check_kernel(kernel, molecules)
        return kernel

    def _divide(self, molecules, rng):
        """Divide the molecules into parts of similar ones, one expert each."""
        parts, done = [np.arange(molecules.shape[0])], []
        while parts:
            part = parts.pop()
            if len(part) <= self.max_expert_size:
                done.append(np.sort(part))
                continue
            rows = _safe_indexing(molecules, part)
            pole = rng.randint(len(part))
            near = self.kernel_(rows, _safe_indexing(rows, [pole]))[:, 0]
            far = self.kernel_(rows, _safe_indexing(rows, [np.argmin(near)]))[:, 0]
            order = np.argsort(near - far, kind="stable")
            parts += np.array_split(part[order], 2)
        return done

    def _optimize_kernel(self, molecules, replicates):
        """Maximise the marginal likelihood over the kernel's free parameters.

        Its value for a molecule and itself stays 1, so that weights stay shares.
        """
        share = 0.85 if self.heritability == "auto" else self.heritability
        space = replicates.separate(self.n_pca_components, self.shrinkage)
        counts, means = replicates.means(space)

        def loss(theta):
            self.kernel_.theta = theta
            K, gradients = self.kernel_(molecules, eval_gradient=True)
            scale, slopes = K[0, 0], gradients[0, 0]
            gradients = gradients / scale - K[..., None] * (slopes / scale**2)
            K = K / scale
            process = ExactProcess.fit(K, counts, means, space.variances, share)
            slope = process.likelihood_gradient(counts, means)
            return (
                -process.log_likelihood,
                -share * np.einsum("ij,ijp->p", slope, gradients),
            )

        if len(self.kernel_.theta):
            best = optimize.minimize(
                loss, self.kernel_.theta, jac=True, bounds=self.kernel_.bounds
            )
            self.kernel_.theta = best.x
            scale = self.kernel_.diag(_safe_indexing(molecules, [0]))[0]
            if abs(scale - 1) > _INEXACT:
                self.kernel_ = ConstantKernel(1 / scale, "fixed") * self.kernel_

    def _choices(self):
        """Pairs of heritability and number of components to choose from."""
        shares = _HERITABILITIES if self.heritability == "auto" else [self.heritability]
        sizes = _COMPONENTS if self.n_components == "auto" else [self.n_components]
        return list(product(shares, sizes))

    def _score_choices(self, molecules, replicates, rng):
        """Mean reciprocal rank of each choice on molecules left out in turn."""
        choices = self._choices()
        if len(choices) == 1:
            return {}
        n = molecules.shape[0]
        taken = np.sort(rng.permutation(n)[:_MOST_CHOOSING])
        part = replicates.of_molecules(taken)
        K = self.kernel_(_safe_indexing(molecules, taken))
        fold = rng.permutation(len(taken)) % _N_FOLDS
        totals = dict.fromkeys(choices, 0.0)
        for left_out in range(_N_FOLDS):
            held = fold == left_out
            for choice, total in self._score_fold(K, part, held, choices).items():
                totals[choice] += total / part.weights.sum()
        return totals

    def _score_fold(self, K, replicates, held, choices):
        """Weighted sum of the reciprocal ranks of the profiles of molecules `held`."""
        train = replicates.of_molecules(np.flatnonzero(~held))
        test = replicates.of_molecules(np.flatnonzero(held))
        space = train.separate(self.n_pca_components, self.shrinkage)
        if not len(space.variances):  # of no use: each molecule is as near
            return dict.fromkeys(choices, test.weights.sum() * 2 / (held.sum() + 1))
        counts, means = train.means(space)
        queries, totals = space.project(test.profiles), {}
        among, across = K[np.ix_(~held, ~held)], K[np.ix_(held, ~held)]
        everything = np.arange(len(among))
        for share in dict.fromkeys(share for share, _ in choices):
            process = Committee.fit(
                [among], [everything], counts, means, space.variances, share
            )
            candidates = process.predict([across], np.diag(K)[held])
            for size in (size for s, size in choices if s == share):
                scores = _Scores.fit(process, counts, means, self.score_by, size)
                compare = scores.compare_to(candidates.first(size), process.left_out)
                blocks = iter([(slice(None), compare(queries[:, :size]))])
                ranks = rank_blocks(blocks, test.codes, np.ones(held.sum()))
                totals[share, size] = np.sum(test.weights / ranks)
        return totals

    def _fit_process(self, molecules, replicates, parts):
        space = replicates.separate(self.n_pca_components, self.shrinkage)
        space = space.first(self.n_components_)
        if not len(space.variances):
            raise ValueError(
                "y must hold profiles that differ. "
                f"All {len(replicates.codes):,} rows with a weight are the same."
            )
        if space.variances[0] <= SMALLEST_EFFECT:
            warnings.warn(
                f"The {molecules.shape[0]:,} molecules of X differ by no more than the "
                f"noise of the {len(replicates.codes):,} profiles in y: what is "
                "predicted says nothing.",
                JointSpaceWarning,
                stacklevel=4,
            )
        counts, means = replicates.means(space)
        self._process = Committee.fit(
            (self.kernel_(_safe_indexing(molecules, part)) for part in parts),
            parts,
            counts,
            means,
            space.variances,
            self.heritability_,
        )
        self.calibration_ = _Scores.fit(self._process, counts, means).calibration
        step = -(-molecules.shape[0] // _N_COHORT)
        self._cohort = self._process.left_out.rows(slice(None, None, step))
        self._process = replace(
            self._process, left_out=self._process.left_out.rows(_NONE)
        )
        self._molecules = molecules
        self.log_marginal_likelihood_ = self._process.log_likelihood
        self.n_components_ = len(space.variances)
        self.n_experts_ = len(parts)
        self.n_molecules_ = molecules.shape[0]
        self.effect_variances_ = space.variances
        self.mean_, self.rotations_ = space.mean, space.rotations

    def _predict(self, X):
        parts = self._process.parts
        kernels = [self.kernel_(X, _safe_indexing(self._molecules, p)) for p in parts]
        kernel = kernels[0] if len(parts) == 1 else np.hstack(kernels)
        del kernels
        first, codes = distinct_rows(kernel)
        diagonal = np.empty(len(first))
        diagonal[codes] = self.kernel_.diag(X)
        ends = np.cumsum([len(part) for part in parts])
        effects = [
            self._process.predict(
                np.split(kernel[first[rows]], ends[:-1], axis=1), diagonal[rows]
            )
            for rows in gen_batches(len(first), _block_rows(kernel.shape[1]))
        ]
        mean = np.concatenate([part.mean for part in effects])
        variance = np.concatenate([part.variance for part in effects])
        return Effects(mean, variance).rows(codes)

    @property
    def _accepted_sparse(self):
        return "csr" if self.kernel is not None else False

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.sparse = self.kernel is not None
        tags.transformer_tags.preserves_dtype = []
        return tags


def _distinct_molecules(X):
    """Return a row for each distinct molecule of X, and which of them each row is."""
    first, codes = distinct_rows(X)
    if not is_text(X):
        return _safe_indexing(X, first), codes
    drugs = identify_drugs(X, None, codes)
    gallery, rows = one_row_per_drug(drugs, codes, None)
    return _safe_indexing(X, rows), np.searchsorted(gallery, drugs)


def _check_kernel(kernel, molecules):
    """Refuse a kernel that takes other molecules, or whose scale is another."""
    few = _safe_indexing(molecules, np.arange(min(2, molecules.shape[0])))
    try:
        kernel(few)
    except TypeError as error:
        kind = "SMILES" if is_text(molecules) else "features"
        raise ValueError(
            f"kernel must take the molecules of X, which are {kind}. Got "
            f"{type(kernel).__name__}, which fails on them: {error}"
        ) from error
    diagonal = kernel.diag(molecules)
    off = np.abs(diagonal - 1)
    if off.max() > _INEXACT:
        raise ValueError(
            "kernel must have the value 1 for a molecule and itself: weights of a sum "
            "must add to 1. Got values from "
            f"{diagonal.min():.6g} to {diagonal.max():.6g}."
        )


# -- scores ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scores:
    """How near queries are to effects: by likelihood, by cosine or by both.

    Each is the product of a vector of the query and one of the effect.
    """

    variances: NDArray
    calibration: NDArray
    score_by: str

    @classmethod
    def fit(cls, process, counts, means, score_by="combined", k=None) -> _Scores:
        left_out = process.left_out
        errors = (means - left_out.mean) ** 2
        expected = left_out.variance + 1 / counts[:, None]
        # A molecule whose mean is noise says little about the calibration.
        calibration = np.average(
            errors / expected, axis=0, weights=np.minimum(counts, 1)
        )
        calibration = np.maximum(calibration, SMALLEST_EFFECT)
        variances = process.experts[0].variances
        return cls(variances[:k], calibration[:k], score_by)

    def compare_to(self, candidates: Effects, cohort: Effects):
        """Prepare the candidates; the function returned scores queries (rows)."""
        cohort = cohort.first(len(self.variances))
        kinds = [
            (of_queries, of_effects(candidates).T, of_effects(cohort).T)
            for of_queries, of_effects in self.kinds()
        ]
        n = len(candidates.mean)

        def score(queries: NDArray) -> NDArray:
            if not self.is_combined:
                [(of_queries, vectors, _)] = kinds
                return of_queries(queries) @ vectors
            total: NDArray = np.zeros((len(queries), n))
            for of_queries, vectors, of_cohort in kinds:
                own = of_queries(queries)
                among = own @ of_cohort
                scores = own @ vectors
                scores -= among.mean(axis=1, keepdims=True)
                scores /= len(kinds) * _spread(among)
                total += scores
            return total

        def compare(queries: NDArray) -> NDArray:
            scores = np.empty((len(queries), n))
            for rows in gen_batches(len(queries), _block_rows(n)):
                scores[rows] = score(queries[rows])
            return scores

        return compare

    @property
    def is_combined(self) -> bool:
        return self.score_by == "combined"

    def kinds(self):
        """Return pairs of functions: what makes vectors of queries, and of effects."""
        kinds = {
            "cosine": (normalize, lambda effects: normalize(effects.mean)),
            "log_likelihood_ratio": (self._ratio_of_queries, self._ratio_of_effects),
        }
        return [kinds[self.score_by]] if self.score_by in kinds else [*kinds.values()]

    def _ratio_of_queries(self, queries):
        prior = self.calibration * (self.variances + 1)
        squares = queries**2
        without = squares @ (1 / prior) + np.log(prior).sum()
        one = np.ones((len(queries), 1))
        return np.hstack([-squares / 2, queries, -one / 2, without[:, None] / 2])

    def _ratio_of_effects(self, effects):
        variance = self.calibration * (effects.variance + 1)
        constant = np.sum(effects.mean**2 / variance + np.log(variance), axis=1)
        one = np.ones((len(constant), 1))
        return np.hstack(
            [1 / variance, effects.mean / variance, constant[:, None], one]
        )


def _spread(scores: NDArray) -> NDArray:
    """Return the standard deviation of each query's scores; 1 where they are equal."""
    spread = scores.std(axis=1, keepdims=True)
    spread[spread == 0] = 1
    return spread


class _ScoreSpace:
    """Vectors of molecules and of profiles, whose product is the process's score.

    Those of molecules are standardised over the cohort, so that they can be kept in few
    bytes. The score's own mean over the cohort, which "combined" subtracts, is 0 then.
    """

    metric = "dot"
    # A low likelihood is no sign of the opposite effect.
    reverses_by_sign = True

    def __init__(self, retriever, scores: _Scores, cohort: Effects):
        self._retriever = retriever
        self._is_combined = scores.is_combined
        self._kinds = []
        for of_queries, of_effects in scores.kinds():
            vectors = of_effects(cohort)
            centre, scale = vectors.mean(axis=0), vectors.std(axis=0)
            scale[scale == 0] = 1
            of_cohort = (vectors - centre) / scale
            self._kinds.append((of_queries, of_effects, centre, scale, of_cohort))

    def transform(self, X) -> NDArray:
        """Place molecules."""
        mean, std = self._retriever.predict(X, return_std=True)
        effects = Effects(mean, std**2)
        blocks = [
            (of_effects(effects) - centre) / scale
            for _, of_effects, centre, scale, _ in self._kinds
        ]
        if not self._is_combined:
            blocks.append(np.ones((len(mean), 1)))
        return np.hstack(blocks)

    def transform_ge(self, y) -> NDArray:
        """Place profiles."""
        queries = self._retriever.transform_ge(y)
        blocks = []
        for of_queries, _, centre, scale, of_cohort in self._kinds:
            own = of_queries(queries)
            blocks.append(own * scale)
            if self._is_combined:
                blocks[-1] /= len(self._kinds) * _spread(blocks[-1] @ of_cohort.T)
            else:
                blocks.append((own @ centre)[:, None])
        return np.hstack(blocks)


def _block_rows(n_columns: int) -> int:
    """Rows of a block, in whole steps of BLAS: each row as in a product of all."""
    return max(1, _BLOCK_VALUES // n_columns // _STEP) * _STEP
