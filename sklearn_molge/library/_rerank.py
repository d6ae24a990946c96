"""Retrievers whose similarity is more than the metric of one joint space.

An index finds candidates by vectors. Those of a vote of embedders are the members'
vectors side by side, of which one product is the whole vote, exactly. Any other
retriever needs an embedder that finds the candidates, which it then scores again,
from their SMILES.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._compat import _safe_indexing
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.views import (
    is_embedder,
    prepare_molecules,
    resolve_views,
    takes_reference,
)
from sklearn_molge.base import EmbedderMixin
from sklearn_molge.library._queries import Queries
from sklearn_molge.library._search import slices
from sklearn_molge.library._store import STORED_METRICS, VectorStore
from sklearn_molge.library._vectors import prepare
from sklearn_molge.molecules import parsed_once
from sklearn_molge.retrieval import VotingRetriever

__all__ = [
    "MOST_SAMPLED",
    "Cascade",
    "VoteSpace",
    "joint_space",
    "reranked",
    "sampled_rows",
]

# Molecules that stand for a larger library: where vectors give moments, and where
# similarities are standardised or compared with noise.
_MOST_VECTORS, MOST_SAMPLED = 2**17, 2048
_ROUNDING = 10 * float(np.finfo(np.float32).eps)
_BLOCK_ROWS = 4096
# Molecules that are scored at a time, by all queries that ask for one of them.
_MOST_SCORED = 20_000


# Where candidates are found


def has_own_similarity(model) -> bool:
    """Whether an embedder's similarity is more than the metric of its embeddings."""
    own = getattr(type(model), "compare_to", EmbedderMixin.compare_to)
    return own is not EmbedderMixin.compare_to


def _space_of(embedder):
    """Return where an embedder's similarity is a metric, if it says so, or itself."""
    own = getattr(embedder, "similarity_space", None)
    return embedder if own is None else own()


def _reverses_by_sign(space) -> bool:
    """Whether a low similarity in a space is no sign of the opposite effect."""
    return bool(getattr(space, "reverses_by_sign", False))


def joint_space(estimator):
    """Return what projects molecules and profiles of a two-view estimator.

    Of an embedder whose similarity is more than the metric of its embeddings, but has
    a space where it is one, that space.

    Raises
    ------
    TypeError
        If it has no joint space: no ``transform`` of molecules or ``transform_ge``.
    """
    inner = resolve_views(estimator, None, None)[0]
    if isinstance(inner, VotingRetriever):
        space = VoteSpace(inner)
        if space.parts:
            return space
    elif is_embedder(inner):
        return _space_of(inner)
    raise TypeError(
        "estimator must embed molecules and profiles in one space (`transform` and "
        "`transform_ge`), as CCA does, or be a VotingRetriever with such an estimator "
        f"in it. Got {inner!r}: its similarities cannot be prepared for a library. "
        "MoleculeIndex(..., candidates_by=embedder) finds candidates by a fitted "
        "embedder, which the estimator then ranks; or rank a few molecules with "
        "sklearn_molge.metrics.similarity."
    )


class VoteSpace:
    r"""The joint spaces of a vote's embedders, side by side.

    For each member k with unit vectors (or whatever its metric multiplies), a molecule
    is :math:`(x_1, \ldots, x_K, 1)` and a profile
    :math:`(v_1 q_1, \ldots, v_K q_K, -c)`, so that their product is the vote: with
    :math:`v_k = w_k / \sigma_k(q)` and :math:`c = \sum_k v_k \mu_k(q)` the
    standardised one. Mean and variance of :math:`\langle x_k, q_k \rangle` over a
    library follow from the mean and the covariance of its vectors.

    Attributes
    ----------
    parts : list of (float, estimator, str)
        Weight, member and metric of those that have a joint space.
    is_exact : bool
        Whether the product is the vote: all members are here, and none is more than a
        product.
    reverses_by_sign : bool
        Whether that is so of a member: what mimics the opposite is then what reverses.
    """

    metric = "dot"

    def __init__(self, vote: VotingRetriever):
        self.standardize = vote.standardize
        self.parts, self.is_exact, self.reverses_by_sign = [], True, False
        for weight, member in zip(vote.weights_, vote.estimators_, strict=True):
            inner = resolve_views(member, None, None)[0]
            if weight == 0:
                continue
            space = _space_of(inner) if is_embedder(inner) else None
            metric = getattr(space, "metric", None)
            if metric in STORED_METRICS:
                self.parts.append((float(weight), member, metric))
                self.is_exact &= metric != "euclidean" and not has_own_similarity(space)
                self.reverses_by_sign |= _reverses_by_sign(space)
            else:
                self.is_exact = False

    def transform(self, X) -> NDArray[np.float32]:
        """Project molecules."""
        blocks = []
        for _, member, metric in self.parts:
            inner, molecules, _ = resolve_views(member, X, None)
            rows = prepare(np.asarray(_space_of(inner).transform(molecules)), metric)
            if metric == "euclidean":  # -|a - b|^2 is 2ab - |b|^2, but for |a|^2
                squares = np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True)
                rows = np.hstack([rows, squares.astype(np.float32)])
            blocks.append(rows)
        return np.hstack([*blocks, np.ones((len(blocks[0]), 1), np.float32)])

    def _blocks(self, y) -> Iterator[NDArray[np.float32]]:
        for weight, member, metric in self.parts:
            inner, _, profiles = resolve_views(member, None, y)
            placed = _space_of(inner).transform_ge(profiles)
            rows = prepare(np.asarray(placed), metric)
            if metric == "euclidean":
                rows = np.hstack([2 * rows, np.full((len(rows), 1), -1, np.float32)])
            yield np.float32(weight) * rows

    def transform_ge(self, y) -> NDArray[np.float32]:
        """Project profiles, as they are weighted before any library is known."""
        blocks = list(self._blocks(y))
        return np.hstack([*blocks, np.zeros((len(blocks[0]), 1), np.float32)])

    def standardized(self, y, store: VectorStore) -> NDArray[np.float32]:
        """Project profiles as the vote standardises them over the library."""
        blocks = list(self._blocks(y))
        if not (self.standardize and store.n_active):
            return self.transform_ge(y)
        mean, covariance = _moments(store)
        shift = np.zeros((len(blocks[0]), 1))
        first = 0
        for k, ((weight, *_), block) in enumerate(zip(self.parts, blocks, strict=True)):
            alone = np.zeros((len(block), store.n_components), np.float32)
            alone[:, first : first + block.shape[1]] = block
            first += block.shape[1]
            points = store.to_stored(alone).astype(np.float64)
            centre = points @ mean
            variance = np.maximum(np.sum(points @ covariance * points, axis=1), 0)
            size = np.sqrt(variance + centre**2)
            spread = np.sqrt(variance)
            constant = spread <= _ROUNDING * size
            scale = np.where(constant, 0, weight / np.where(constant, 1, spread))
            blocks[k] = (block * scale[:, None]).astype(np.float32)
            shift[:, 0] -= scale * centre
        return np.hstack([*blocks, shift.astype(np.float32)])


def sampled_rows(store: VectorStore, most: int) -> NDArray[np.intp]:
    """Return rows that stand for all that are not removed, always the same ones."""
    rows = np.arange(store.n_rows)
    rows = rows if store.active is None else rows[store.active]
    if len(rows) > most:
        rows = np.random.default_rng(0).choice(rows, most, replace=False)
    return np.sort(rows)


_KNOWN: WeakKeyDictionary[VectorStore, tuple] = WeakKeyDictionary()
_PREPARED: WeakKeyDictionary[VectorStore, tuple] = WeakKeyDictionary()


def _moments(store: VectorStore) -> tuple[NDArray, NDArray]:
    """Return the mean and the covariance of the rows of a store, as they are stored."""
    state = store.n_rows, store.n_active  # rows are appended and removed, never changed
    known = _KNOWN.get(store)
    if known is not None and known[0] == state:
        return known[1]
    rows = sampled_rows(store, _MOST_VECTORS)
    mean = np.zeros(store.n_components)
    product = np.zeros((store.n_components,) * 2)
    for part in slices(len(rows), _BLOCK_ROWS):
        vectors = store.stored(rows[part]).astype(np.float64)
        are_good = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        store.check_vectors(are_good, rows[part])
        mean += vectors.sum(axis=0) / len(rows)
        product += vectors.T @ vectors / len(rows)
    moments = mean, product - np.outer(mean, mean)
    _KNOWN[store] = state, moments
    return moments


# Who scores them


@dataclass(frozen=True, eq=False)
class Cascade:
    """A retriever, and the embedder that finds what it scores.

    Attributes
    ----------
    estimator : estimator
        The fitted retriever.
    candidates_by : estimator or None
        A fitted embedder; None where the retriever has a joint space of its own.
    """

    estimator: object
    candidates_by: object = None

    @property
    def embedder(self):
        """What places molecules and profiles."""
        return self.estimator if self.candidates_by is None else self.candidates_by

    @property
    def reranks(self) -> bool:
        """Whether candidates are scored again: places are not the whole answer."""
        space = joint_space(self.embedder)
        if self.candidates_by is not None:
            return True
        if isinstance(space, VoteSpace):
            return not space.is_exact
        return has_own_similarity(space)

    @property
    def reverses_by_sign(self) -> bool:
        """Whether what reverses a profile is what mimics its opposite."""
        return self.reranks or _reverses_by_sign(joint_space(self.embedder))

    def similarity(self, smiles: NDArray[np.object_], y) -> NDArray[np.float64]:
        """Return the retriever's own similarity of profiles and molecules."""
        inner, molecules, profiles = resolve_views(self.estimator, smiles, y)
        return np.asarray(prepare_molecules(inner, molecules)(profiles), np.float64)

    def score(
        self, store: VectorStore, queries: Queries, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Score the molecules in some rows, others for each query, from their SMILES.

        A query of several profiles has their mean. A vote is standardised over a sample
        of the library, so that a score depends on its query and molecule alone.

        Raises
        ------
        ValueError
            If a score is NaN.
        """
        scores = np.empty(rows.shape)
        step = max(1, _MOST_SCORED // max(1, rows.shape[1]))
        prepare = self._preparation(store)
        for part in slices(len(rows), step):
            distinct, places = np.unique(rows[part], return_inverse=True)
            compare = prepare(distinct)
            columns = places.reshape(rows[part].shape)
            for i, own in enumerate(columns, start=part.start):
                y = _safe_indexing(queries.profiles, queries.members[i])
                scores[i] = compare(y)[:, own].mean(axis=0)
        return _check_numbers(scores, "queries")

    def compare(self, store: VectorStore, y, rows: NDArray[np.intp]) -> NDArray:
        """Score some rows, the same ones for all profiles of a background."""
        scores = self._preparation(store)(rows)(y)
        return _check_numbers(scores, "profiles of the background")

    def with_permuted(
        self,
        store: VectorStore,
        permuted: Iterable[list],
        rows: NDArray[np.intp],
    ) -> Iterator[tuple[NDArray, NDArray]]:
        """Score queries and their permutations with the library and their answers.

        `permuted` yields the profiles of each query, as ``Queries.permuted`` does, and
        `rows` of shape (n_queries, n_answers) are the answers.
        """
        prepare = self._preparation(store)
        to_library = self._to_sample(store, prepare)
        step = max(1, MOST_SAMPLED // max(1, rows.shape[1]))
        members = iter(permuted)
        for part in slices(len(rows), step):
            distinct, places = np.unique(rows[part], return_inverse=True)
            to_answers = prepare(distinct) if distinct.size else None
            for own in places.reshape(rows[part].shape):
                profiles = next(members)
                library = np.mean([to_library(y) for y in profiles], axis=0)
                answers = library[:, :0]
                if to_answers is not None:
                    answers = np.mean([to_answers(y)[:, own] for y in profiles], axis=0)
                yield (
                    _check_numbers(library, "permuted queries"),
                    _check_numbers(answers, "permuted queries"),
                )

    def _to_sample(self, store: VectorStore, prepare):
        """Prepare the molecules that stand for the library, once for all queries.

        An index is never asked with an estimator that has changed: it checks that.
        """
        state = store.n_rows, store.n_active
        known = _PREPARED.get(store)
        if known is None or known[0] != state or known[1] is not self.estimator:
            known = state, self.estimator, prepare(sampled_rows(store, MOST_SAMPLED))
            _PREPARED[store] = known
        return known[2]

    def _preparation(self, store: VectorStore):
        """Return what prepares rows of the store, to be compared with profiles."""
        inner = resolve_views(self.estimator, None, None)[0]
        options = {}
        if takes_reference(inner):
            sample = store.molecules(sampled_rows(store, MOST_SAMPLED))[0]
            options["reference"] = resolve_views(self.estimator, sample, None)[1]

        def prepare(rows):
            smiles = store.molecules(rows)[0]
            with parsed_once():
                molecules = resolve_views(self.estimator, smiles, None)[1]
                if options:
                    compare = inner.compare_to(molecules, **options)
                else:
                    compare = prepare_molecules(inner, molecules)

            def scores(y):
                profiles = resolve_views(self.estimator, None, y)[2]
                return np.asarray(compare(profiles), dtype=np.float64)

            return scores

        return prepare


def _check_numbers(scores: NDArray, what: str) -> NDArray:
    """Refuse NaN; minus infinity is a score."""
    bad = np.flatnonzero(np.isnan(scores).any(axis=1))
    if bad.size:
        raise ValueError(
            f"estimator: the similarities of {bad.size} {what} are NaN, {what} "
            f"[{first_few(bad.tolist())}]; an order needs numbers."
        )
    return scores


def reranked(
    ranks: NDArray[np.float64],
    keys: NDArray[np.float64],
    rows: NDArray[np.intp],
    own: list[NDArray[np.intp]],
) -> NDArray[np.float64]:
    """Rank each query's own rows: among the candidates, or else behind them.

    `ranks` are those in the joint space, `keys` and `rows` the candidates', larger keys
    meaning better; a query's other own rows do not count.
    """
    out = np.maximum(ranks, rows.shape[1] + 1)
    for i, mine in enumerate(own):
        is_own = np.isin(rows[i], mine)
        if is_own.any():
            best, others = keys[i][is_own].max(), keys[i][~is_own]
            n_tied = np.count_nonzero(others == best)
            out[i] = 1 + np.count_nonzero(others > best) + n_tied / 2
    return out
