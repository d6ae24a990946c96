"""DistanceWeightedSampler: negatives by how far their drug is from the anchor's."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.utils.validation import check_array

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.rows import is_text, row_batches
from sklearn_molge._utils.similarity import similarity_to
from sklearn_molge.alignment.samplers._base import (
    Indices,
    ProfileIndex,
    TripletSampler,
)
from sklearn_molge.molecules import MorganFingerprinter

__all__ = ["DistanceWeightedSampler"]

_FLOATS = [np.float32, np.float64]
# Equal drugs are at distance 0, and tied, whatever the rounding of the product.
_ROUNDING = 10 * np.finfo(np.float32).eps


class DistanceWeightedSampler(TripletSampler):
    r"""Triplets whose negative drug is chosen by its distance from the anchor's.

    Near drugs are few and make hard negatives; uniform sampling hardly ever meets
    them. The distances are between drugs, and fixed before training. The negative is
    one of the drug's profiles, with equal probability.

    Parameters
    ----------
    batch_size : int, default=417
        Triplets of a batch; the last one of an epoch holds the rest. The default is
        the paper's (Table A2).
    distance : {"expression", "structure"}, default="expression"
        Correlation distance (0 to 2) between the means of the drugs' profiles, over
        all profiles alike; or between the drugs' molecules: one minus the Tanimoto
        similarity of Morgan fingerprints (radius 2, 2048 bits) of SMILES, and
        correlation distance of features.
    weighting : {"uniform", "wu"}, default="uniform"
        Uniform in distance, as in the paper's code, or as Wu et al. (2017); see Notes.
    dimension : int, default=32
        For "wu": dimension n of the sphere. Wu's embeddings have 128, but the drugs of
        L1000 lie as in about 40: with 128 half the anchors have hardly more than two
        negative drugs, always the same.
    cutoff : float, default=0.5
        For "wu": chord on the unit sphere (0 to 2) that gives the largest weight,
        :math:`\lambda = 1 / q(\text{cutoff})`.
    max_distance : float, default=1.4
        For "wu": chord beyond which a drug is no negative, since uncorrelated ones
        (1.41) have no loss; as in Wu's code. 2 leaves none out, as in the article.
    max_candidates : int, default=10_000
        With up to so many drugs all are candidates: the probabilities of all pairs are
        computed once and take 4 n_drugs^2 bytes (400 MB for 10,000). With more drugs
        each batch draws its own pool of candidates and memory grows with n_drugs.
    pool_size : int, default=1024
        Candidates of a batch with more than `max_candidates` drugs, drawn uniformly.
        The nearest drugs are then mostly not among them.
    partners : bool, default=False
        Draw for each anchor another profile of its drug too, for losses that compare
        two profiles: one from another cell line where the drug has one, else any
        other, else the anchor itself.
    epoch_over : {"profiles", "drugs"}, default="profiles"
        In an epoch each profile is an anchor once, or each drug is, with one of its
        profiles at random; in random order.

    Attributes
    ----------
    n_batches_ : int
        Batches of an epoch.

    See Also
    --------
    UniformSampler : Any other drug with equal probability.

    Notes
    -----
    "uniform" is what the paper's code does under the name of Wu et al.: a distance t
    is drawn uniformly between the smallest and the largest of the whole matrix, its
    diagonal of zeros included; the drug whose distance from the anchor's is nearest to
    t is taken, the first of equal ones, and another t drawn while it is the anchor's
    own. A drug's probability is thus proportional to the length of its cell of [0, max]
    and computed as such. Farther than the farthest drug, t adds to that one's. In a
    pool the largest distance is that of the batch.

    "wu" takes the drug at chord :math:`d = \sqrt{2 c}`, with c the distance, with

    .. math:: p \propto \min(\lambda, q(d)^{-1}), \quad
        q(d) \propto d^{n-2} \left(1 - d^2 / 4\right)^{(n-3)/2}

    (Section 4; q is the density of chords between uniform points of the sphere). They
    use the embeddings' distances in the batch instead, which change in training.
    :math:`1 / E[(1 - c)^2]`, the dimension of a sphere with the same spread, was 37
    for the expression of 840 drugs. The larger n, the more weight is on each anchor's
    nearest drugs.

    An anchor without any candidate of positive weight has a uniform negative.

    References
    ----------
    C.-Y. Wu, R. Manmatha, A. J. Smola and P. Krähenbühl, "Sampling matters in deep
    embedding learning", ICCV (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment.samplers import DistanceWeightedSampler
    >>> drugs = np.array([0, 0, 1, 2, 2])
    >>> profiles = np.array([[0, 1, 2], [0, 1, 3], [3, 2, 0], [1, 0, 1], [2, 0, 1.0]])
    >>> sampler = DistanceWeightedSampler(batch_size=5)
    >>> sampler.prepare(drugs, profiles=profiles).n_batches_
    1
    >>> (batch,) = sampler.epoch(np.random.default_rng(0))
    >>> anchors, negatives, _ = batch.triplets
    >>> of_batch = drugs[batch.profiles]
    >>> bool((of_batch[negatives] != of_batch[anchors]).all())
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **TripletSampler._parameter_constraints,
        "distance": [StrOptions({"expression", "structure"})],
        "weighting": [StrOptions({"uniform", "wu"})],
        "dimension": [Interval(Integral, 2, None, closed="left")],
        "cutoff": [Interval(Real, 0, 2, closed="neither")],
        "max_distance": [Interval(Real, 0, 2, closed="right")],
        "max_candidates": [Interval(Integral, 2, None, closed="left")],
        "pool_size": [Interval(Integral, 2, None, closed="left")],
    }

    _cumulative: NDArray[np.float32] | None
    _distances: "DrugDistances"

    def __init__(
        self,
        *,
        batch_size=417,
        distance="expression",
        weighting="uniform",
        dimension=32,
        cutoff=0.5,
        max_distance=1.4,
        max_candidates=10_000,
        pool_size=1024,
        partners=False,
        epoch_over="profiles",
    ):
        self.batch_size = batch_size
        self.distance = distance
        self.weighting = weighting
        self.dimension = dimension
        self.cutoff = cutoff
        self.max_distance = max_distance
        self.max_candidates = max_candidates
        self.pool_size = pool_size
        self.partners = partners
        self.epoch_over = epoch_over

    def _prepare(self, profiles, molecules) -> None:
        if self.distance == "expression":
            distances = DrugDistances.from_expression(profiles, self._index)
        else:
            distances = DrugDistances.from_structure(molecules, self._index)
        self._cumulative = None
        if self._index.n_drugs <= self.max_candidates:
            self._cumulative = self._all_probabilities(distances)
        else:
            self._distances = distances

    def _all_probabilities(self, distances: "DrugDistances") -> NDArray[np.float32]:
        matrix = distances.all_pairs()
        largest = matrix.max()
        drugs = np.arange(len(matrix))
        for part in row_batches(*matrix.shape):  # in place: there is only one matrix
            own = drugs[part, None] == drugs
            matrix[part] = self._probabilities(matrix[part], own, largest)
        return matrix

    def _probabilities(
        self, distances: NDArray, own: NDArray[np.bool_], largest: float
    ) -> NDArray[np.float32]:
        if self.weighting == "uniform":
            weights = uniform_weights(distances, own, largest=largest)
        else:
            weights = wu_weights(
                distances,
                own,
                dimension=self.dimension,
                cutoff=self.cutoff,
                max_distance=self.max_distance,
            )
        return cumulative_probabilities(weights, own)

    def _negative_drugs(self, drugs: Indices, rng: np.random.Generator) -> Indices:
        if self._cumulative is not None:
            return draw_columns(self._cumulative, drugs, rng)
        return self._negatives_of_pool(drugs, rng)

    def _negatives_of_pool(self, drugs: Indices, rng: np.random.Generator) -> Indices:
        n_drugs = self._index.n_drugs
        size = min(self.pool_size, n_drugs)
        pool = rng.choice(n_drugs, size, replace=False, shuffle=False)
        distances = self._distances.between(drugs, pool)
        # The anchor's drug comes first, in the pool or not, as it has a cell as well.
        distances = np.insert(distances, 0, 0.0, axis=1)
        own = np.insert(drugs[:, None] == pool, 0, True, axis=1)
        cumulative = self._probabilities(distances, own, distances.max())
        return pool[draw_columns(cumulative, np.arange(len(drugs)), rng) - 1]


# -- distances between drugs ---------------------------------------------------------


class DrugDistances:
    """Distances, 1 - similarity, computed for the drugs that are asked for.

    Parameters
    ----------
    features : ndarray or sparse matrix of shape (n_drugs, n_features)
        One row for each drug.
    metric : {"correlation", "jaccard"}
        The similarity.
    """

    def __init__(self, features, metric: str):
        self.features = features
        self.metric = metric

    @classmethod
    def from_expression(cls, profiles, index: ProfileIndex) -> "DrugDistances":
        if profiles is None:
            raise ValueError(
                "distance='expression' compares the drugs' mean profiles. "
                "The 'profiles' parameter of prepare is None."
            )
        profiles = check_array(profiles, dtype=_FLOATS, input_name="profiles")
        _check_length("profiles", profiles, "profile", index.n_profiles)
        means = index.drug_means(profiles)
        return cls(means.astype(np.float32, copy=False), "correlation")

    @classmethod
    def from_structure(cls, molecules, index: ProfileIndex) -> "DrugDistances":
        if molecules is None:
            raise ValueError(
                "distance='structure' compares the drugs' molecules. "
                "The 'molecules' parameter of prepare is None."
            )
        if is_text(molecules):
            _check_length("molecules", molecules, "drug", index.n_drugs)
            fingerprints = MorganFingerprinter(sparse_output=True).transform(molecules)
            return cls(fingerprints, "jaccard")
        molecules = check_array(molecules, dtype=_FLOATS, input_name="molecules")
        _check_length("molecules", molecules, "drug", index.n_drugs)
        return cls(molecules.astype(np.float32, copy=False), "correlation")

    def between(self, rows: Indices, columns: Indices) -> NDArray[np.float32]:
        """Return the distances from some drugs to others; a drug's own is 0."""
        similarity = similarity_to(self.features[columns], metric=self.metric)
        distances = _to_distances(similarity(self.features[rows]))
        distances[rows[:, None] == columns] = 0.0
        return distances

    def all_pairs(self) -> NDArray[np.float32]:
        """Return the matrix of all distances, with zeros in the diagonal."""
        n_drugs = self.features.shape[0]
        similarity = similarity_to(self.features, metric=self.metric)
        distances = np.empty((n_drugs, n_drugs), dtype=np.float32)
        # By blocks of the one product, so that only the result takes n_drugs^2.
        for part in row_batches(n_drugs, n_drugs):
            distances[part] = _to_distances(similarity(self.features[part]))
        np.fill_diagonal(distances, 0.0)
        return distances


def _to_distances(similarities: NDArray) -> NDArray:
    distances = np.minimum(1 - similarities, 2.0)
    distances[distances < _ROUNDING] = 0.0
    return distances


def _check_length(name: str, values, what: str, expected: int) -> None:
    if len(values) != expected:
        raise ValueError(
            f"{name} must have one row for each {what}. Got {len(values)} for "
            f"{expected} {what}s."
        )


# -- weights of negatives ------------------------------------------------------------
# By blocks: distances of shape (n_rows, n_columns) from each row's drug to the drugs of
# the columns, and `own`, a mask of where that is the same drug.


def uniform_weights(
    distances: NDArray, own: NDArray[np.bool_], *, largest: float
) -> NDArray:
    """Weigh each column by the distances t in [0, largest] that it is nearest to.

    Of columns at the same distance the first has the whole weight.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    ranked = np.take_along_axis(distances, order, axis=1).astype(np.float64)
    left = np.empty((len(distances), distances.shape[1] + 1))
    left[:, 0] = 0.0
    left[:, -1] = largest
    left[:, 1:-1] = (ranked[:, 1:] + ranked[:, :-1]) / 2
    # A tied column begins where the next distance does: its weight is zero.
    left[:, 1:-1][ranked[:, 1:] == ranked[:, :-1]] = np.inf
    left = np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1]
    weights = np.empty_like(ranked)
    np.put_along_axis(weights, order, np.diff(left, axis=1), axis=1)
    weights[own] = 0.0
    return weights


def wu_weights(
    distances: NDArray,
    own: NDArray[np.bool_],
    *,
    dimension: int,
    cutoff: float,
    max_distance: float,
) -> NDArray:
    """Weigh each column by min(1 / q(cutoff), 1 / q(d)), relative to the row's largest.

    With d = sqrt(2 * distance), the chord between unit vectors with cosine
    1 - distance.
    """
    chords = np.sqrt(2 * distances.astype(np.float64))
    limit = _log_density(np.array(cutoff), dimension)
    log_weights = -np.maximum(_log_density(chords, dimension), limit)
    log_weights[own | (chords > max_distance)] = -np.inf
    largest = log_weights.max(axis=1, keepdims=True)
    largest[np.isneginf(largest)] = 0.0
    return np.exp(log_weights - largest)


def _log_density(chords: NDArray, dimension: int) -> NDArray:
    """Log of q(d) ~ d^(n - 2) (1 - d^2 / 4)^((n - 3) / 2), on the unit sphere."""
    return xlogy(dimension - 2, chords) + xlogy(
        (dimension - 3) / 2, np.maximum(1 - chords**2 / 4, 0)
    )


def cumulative_probabilities(
    weights: NDArray, own: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Cumulate each row to 1; rows without any weight become uniform but for `own`."""
    empty = ~weights.any(axis=1)
    weights[empty] = ~own[empty]
    cumulative = np.cumsum(weights, axis=1)
    return (cumulative / cumulative[:, -1:]).astype(np.float32)


def draw_columns(
    cumulative: NDArray[np.float32], rows: Indices, rng: np.random.Generator
) -> Indices:
    """Draw a column from each of the rows, by bisection of all at once."""
    targets = rng.random(len(rows))
    low = np.zeros(len(rows), dtype=np.intp)
    high = np.full(len(rows), cumulative.shape[1] - 1)
    for _ in range((cumulative.shape[1] - 1).bit_length()):
        middle = (low + high) // 2
        beyond = cumulative[rows, middle] <= targets
        low = np.where(beyond, middle + 1, low)
        high = np.where(beyond, high, middle)
    return low
