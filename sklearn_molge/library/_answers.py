"""The answer to a query as a table, and what answers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from scipy.spatial.distance import cdist
from scipy.stats import false_discovery_control

from sklearn_molge._files.reading import reading
from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.library._query_answer import QueryAnswer
from sklearn_molge.library._rerank import MOST_SAMPLED, sampled_rows
from sklearn_molge.library._store import VectorStore
from sklearn_molge.molecules import MorganFingerprinter, check_smiles, drug_ids

__all__ = [
    "Background",
    "Null",
    "answer_table",
    "molecule_table",
    "scores_in_space",
    "skipped_table",
]

# Scores of the background that are held at a time, and molecules whose bits are.
_BLOCK_SCORES = 4 * 2**20
_BLOCK_MOLECULES = 2048
_WORDS = 32  # of 64 bits, of a fingerprint
# Products of single precision agree to a few units in the last place.
_ROUNDING = 16 * np.finfo(np.float32).eps
# Pixels of a picture, and its look: no bond is longer than this, no letter smaller.
_SIZE = (300, 200)
_OPTIONS = {"fixedBondLength": 26.0, "minFontSize": 8, "clearBackground": False}


def answer_table(
    store: VectorStore,
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    *,
    candidate_scores: NDArray[np.float32] | None = None,
    labels: ArrayLike | None = None,
    background: Background | None = None,
    percentiles: NDArray[np.float64] | None = None,
    null: Null | None = None,
    sets: Mapping[str, ArrayLike] | None = None,
    reverse: bool = False,
    is_own_score: bool = False,
    ids_are_drugs: bool = True,
    pictures: bool = False,
) -> QueryAnswer:
    """Make a table of what `top_k` returned, one row an answer.

    `candidate_scores` are those in the joint space, where `scores` are others; `sets`
    are columns of ``Searcher.conformal_sets``. With `is_own_score` the score is the
    estimator's own, and no place in a joint space. Where
    `ids_are_drugs`, the store's ids are identities, which are computed
    otherwise. The columns are those of ``MoleculeIndex.query``; what is not known is no
    column. ``attrs`` of the table hold "metric", "reverse", "n_molecules" and
    "n_skipped".
    """
    n_queries, n_answers = rows.shape
    labels = np.arange(n_queries) if labels is None else np.asarray(labels)
    flat = rows.reshape(-1)
    molecules, names, ids, libraries, library_rows = store.molecules(flat)
    read = "table molecules, column smiles"
    with reading(store.path, read):
        drugs = ids if ids_are_drugs else drug_ids(molecules)
    columns: dict[str, ArrayLike] = {
        "query": np.repeat(labels, n_answers),
        "rank": np.tile(np.arange(1, n_answers + 1), n_queries),
        "molecule": molecules,
        "name": names,
        "drug": drugs,
        "score": scores.reshape(-1),
    }
    if candidate_scores is not None:
        columns["candidate_score"] = candidate_scores.reshape(-1)
    if null is not None:
        columns |= {"p_value": null.p_values.reshape(-1)}
        columns |= {
            name if name == "better_than_noise" else f"query_{name}": np.repeat(
                null.table[name].to_numpy(), n_answers
            )
            for name in null.table
        }
    if percentiles is not None:
        columns["percentile"] = percentiles.reshape(-1)
    columns |= sets or {}
    if background is not None and background.knows_training:
        with reading(store.path, read):
            columns |= _training_columns(background, molecules, drugs)
    columns |= {"library": libraries, "library_row": library_rows, "index_row": flat}
    if pictures:
        with reading(store.path, read):
            columns["structure"] = _structures(molecules)
    columns |= _further_columns(store, flat, taken=columns)
    table = QueryAnswer(columns)
    metric = "similarity" if is_own_score else store.metric
    table.attrs |= {"metric": metric, "reverse": reverse}
    table.attrs |= {"n_molecules": store.n_active, "n_skipped": store.n_skipped}
    return table


def molecule_table(
    store: VectorStore, rows: NDArray[np.intp], ids_are_drugs: bool
) -> pd.DataFrame:
    """Make the table of ``MoleculeIndex.get_molecules``, one row an entry of `rows`."""
    smiles, names, ids, libraries, library_rows = store.molecules(rows)
    columns: dict[str, ArrayLike] = {"smiles": smiles, "name": names}
    if ids_are_drugs:
        columns["drug"] = ids
    columns |= {"library": libraries, "library_row": library_rows}
    columns |= _further_columns(store, rows, taken=columns)
    table = pd.DataFrame(columns)
    return table.set_index(pd.Index(rows, name="index_row"))


def skipped_table(store: VectorStore) -> pd.DataFrame:
    """Make the table ``skipped_`` of a MoleculeIndex."""
    columns = ["library", "library_row", "entry", "reason", "same_as"]
    table = pd.DataFrame(store.skipped(), columns=columns)
    kinds = {"library": "int64", "library_row": "int64", "same_as": "Int64"}
    return table.astype(kinds)


def _further_columns(
    store: VectorStore, rows: NDArray[np.intp], *, taken: Collection[str]
) -> dict[str, pd.Series]:
    """Return the libraries' own columns; "_library" is put behind names that are taken.

    Numbers are numbers again, also where some are missing.
    """
    columns = {}
    for name, values in store.further_columns(rows).items():
        while name in taken or name in columns:
            name += "_library"
        columns[name] = pd.Series(values.tolist(), dtype=None)
    return columns


def _training_columns(
    background: Background, molecules: NDArray[np.object_], drugs: NDArray[np.object_]
) -> dict[str, NDArray]:
    similarity, nearest = background.nearest_training(molecules)
    return {
        "nearest_training": background.smiles[nearest],
        "nearest_similarity": similarity,
        "in_training": np.isin(drugs, background.drugs),
    }


def _structures(molecules: NDArray[np.object_]) -> NDArray[np.object_]:
    """Draw each distinct molecule once, as SVG."""
    drawn = {
        smiles: draw_molecule(
            Chem.MolFromSmiles(smiles), size=_SIZE, form="svg", options=_OPTIONS
        )
        for smiles in dict.fromkeys(molecules.tolist())
    }
    out = np.empty(len(molecules), dtype=object)
    out[:] = [drawn[smiles] for smiles in molecules]
    return out


@dataclass(frozen=True, eq=False)
class Background:
    """Queries and molecules that were known before, to judge answers by.

    Attributes
    ----------
    profiles : ndarray of shape (n_background, n), dtype=float32, or None
        Profiles of the background: in the joint space, or as they are where the
        estimator scores candidates.
    smiles : ndarray of shape (n_training,), dtype=object
        The distinct molecules of the training set, sorted; none where it is not known.
    drugs : ndarray of shape (n_training,), dtype=object
        Their identities, see :func:`~sklearn_molge.molecules.drug_ids`.
    bits : ndarray of shape (n_training, 32), dtype=uint64
        Their Morgan fingerprints (radius 2, 2048 bits), packed.
    """

    profiles: NDArray[np.float32] | None
    smiles: NDArray[np.object_]
    drugs: NDArray[np.object_]
    bits: NDArray[np.uint64]

    @classmethod
    def make(
        cls,
        profiles: ArrayLike | None = None,
        smiles: ArrayLike | None = None,
    ) -> Background:
        """Prepare profiles, the SMILES of the training set, or both."""
        if profiles is None and smiles is None:
            raise ValueError("X, y or both must be given. Got None for both.")
        known = check_smiles([] if smiles is None else smiles)
        if profiles is None and not len(known):
            raise ValueError("X must hold a molecule where y is None. Got none.")
        distinct = np.unique(known)
        if profiles is not None:
            profiles = np.ascontiguousarray(profiles, dtype=np.float32)
        return cls(profiles, distinct, drug_ids(distinct), _packed_bits(distinct))

    @property
    def knows_profiles(self) -> bool:
        """Whether there are profiles."""
        return self.profiles is not None

    @property
    def knows_training(self) -> bool:
        """Whether there are training molecules."""
        return len(self.smiles) > 0

    def percentiles(
        self,
        compare: Callable[[NDArray[np.float32], NDArray[np.intp]], NDArray],
        scores: NDArray,
        rows: NDArray[np.intp],
    ) -> NDArray[np.float64]:
        """Say how unusual each score is for its molecule.

        Percent of the background whose score with this molecule is lower, equal ones
        counting half; `scores` and `rows` as `top_k` returns them, `compare` gives the
        scores of profiles with rows.

        The tau of CMap (Subramanian et al. 2017, "A Next Generation Connectivity Map",
        Cell 171) compares a connectivity score with those of the same perturbagen
        against the reference signatures of Touchstone, of the same cell line and kind,
        and carries a sign. Here the reference is any set of profiles, of all lines
        together, and there is no sign. As an order of molecules
        percentiles were worse than the scores on real data
        (docs/benchmarks.md).
        """
        if self.profiles is None:
            raise ValueError("A percentile needs profiles in the background.")
        distinct, codes = np.unique(rows, return_inverse=True)
        codes = codes.reshape(-1)
        asked = np.asarray(scores).reshape(-1)
        out = np.empty(len(asked))
        order = np.argsort(codes, kind="stable")
        step = max(1, _BLOCK_SCORES // len(self.profiles))
        for first in range(0, len(distinct), step):
            known = compare(self.profiles, distinct[first : first + step])
            begin, end = np.searchsorted(codes[order], [first, first + step])
            for place in range(begin, end, step):
                chosen = order[place : min(place + step, end)]
                columns = known[:, codes[chosen] - first]
                out[chosen] = _percent_below(columns, asked[chosen])
        return out.reshape(np.shape(scores))

    def nearest_training(
        self, smiles: NDArray[np.object_]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the training molecule that is most like each molecule.

        Returns its Tanimoto similarity (of Morgan fingerprints), and which of `smiles`
        of the background it is; of equally near ones the first.
        """
        texts, codes = np.unique(smiles, return_inverse=True)
        sizes = np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64)
        similarity = np.empty(len(texts))
        nearest = np.empty(len(texts), dtype=np.intp)
        for i, bits in enumerate(_packed_bits(texts)):
            shared = np.bitwise_count(self.bits & bits).sum(axis=1, dtype=np.int64)
            union = sizes + np.bitwise_count(bits).sum(dtype=np.int64) - shared
            tanimoto = shared / union  # a molecule has at least one bit
            nearest[i] = np.argmax(tanimoto)
            similarity[i] = tanimoto[nearest[i]]
        return similarity[codes], nearest[codes]

    def save(self, store: VectorStore) -> None:
        """Write it to a store, in the place of what was there."""
        texts = self.smiles.tolist(), self.drugs.tolist()
        store.write_background(self.profiles, *texts, self.bits)

    @classmethod
    def load(cls, store: VectorStore) -> Background | None:
        """Read what :meth:`save` wrote; None if nothing."""
        background = cls(*store.read_background())
        found = background.bits.shape
        if background.knows_training and found != (len(background.smiles), _WORDS):
            why = f"fingerprints of shape {found} are not ours"
            raise CorruptFileError(store.path, "table training", why)
        known = background.knows_profiles or background.knows_training
        return background if known else None


def _packed_bits(smiles: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return Morgan fingerprints (radius 2, 2048 bits), 64 bits a number."""
    packed = np.empty((len(smiles), 256), dtype=np.uint8)
    for first in range(0, len(smiles), _BLOCK_MOLECULES):
        part = slice(first, first + _BLOCK_MOLECULES)
        packed[part] = np.packbits(
            MorganFingerprinter().transform(smiles[part]), axis=1
        )
    return packed.view(np.uint64)


def _percent_below(known: NDArray, asked: NDArray) -> NDArray[np.float64]:
    """Percent of the rows of `known` that are below each of `asked`."""
    # Minus infinity is a score: of an oracle with what it does not know.
    sizes = np.abs(np.vstack([known, asked]))
    tolerance = _ROUNDING * np.where(np.isfinite(sizes), sizes, 0).max(axis=0)
    below = np.count_nonzero(known < asked - tolerance, axis=0)
    not_above = np.count_nonzero(known <= asked + tolerance, axis=0)
    return 50 * (below + not_above) / len(known)


# What a query of noise would get


@dataclass(frozen=True, eq=False)
class Null:
    """Queries and answers beside those of the same profiles with permuted genes.

    Attributes
    ----------
    table : DataFrame of shape (n_queries, 3)
        ``p_value``, ``q_value`` and ``better_than_noise``.
    p_values : ndarray of shape (n_queries, n_answers)
        That of each answer, against the permuted queries with the same molecule.
    """

    table: pd.DataFrame
    p_values: NDArray[np.float64]

    @classmethod
    def make(
        cls,
        scores: Iterable[tuple[NDArray, NDArray]],
        *,
        n_queries: int,
        level: float,
        reverse: bool,
    ) -> Null:
        """Compare the scores of queries with those of their permutations.

        `scores` yields, of each query, those with molecules of the library and those
        with its answers: (1 + n_permutations, n_molecules), the query itself first.
        """
        p_queries, p_answers = np.empty(n_queries), []
        for i, (with_library, with_answers) in enumerate(scores):
            p_queries[i] = _share_as_good(_best_of_each(with_library, reverse))[0]
            p_answers.append(_share_as_good(-with_answers if reverse else with_answers))
        q_values = false_discovery_control(p_queries) if n_queries else p_queries
        table = pd.DataFrame(
            {
                "p_value": p_queries,
                "q_value": q_values,
                "better_than_noise": q_values <= level,
            }
        )
        return cls(table, np.array(p_answers))


def scores_in_space(
    store: VectorStore, points: Iterable[NDArray[np.float32]], rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray, NDArray]]:
    """Compare embedded queries and their permutations, as :meth:`Null.make` asks.

    `points` yields, of each query, an array of shape (1 + n_permutations,
    n_components); `rows` of shape (n_queries, n_answers) are the answers.
    """
    sample = sampled_rows(store, MOST_SAMPLED)
    gallery = store.stored(sample).astype(np.float32)
    are_good = np.logical_and.reduce(np.isfinite(gallery), axis=1)
    store.check_vectors(are_good, sample)
    for vectors, own in zip(points, rows, strict=True):
        stored = store.to_stored(vectors)
        answers = store.stored(own).astype(np.float32)
        yield (
            _similarities(store.metric, stored, gallery),
            _similarities(store.metric, stored, answers),
        )


def _similarities(
    metric: str, points: NDArray[np.float32], gallery: NDArray[np.float32]
) -> NDArray:
    return -cdist(points, gallery) if metric == "euclidean" else points @ gallery.T


def _best_of_each(scores: NDArray, reverse: bool) -> NDArray:
    """Mean of the best 1 % of each row, after each molecule's scores are standardised.

    Some molecules are near everything: without that they would be all the best ones.
    A molecule whose scores are not all finite says nothing, as one that an oracle does
    not know.
    """
    scores = np.where(np.isfinite(scores).all(axis=0), scores, 0)
    spread = scores.std(axis=0)
    scores = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1)
    if reverse:
        np.negative(scores, out=scores)
    n_best = -(-scores.shape[1] // 100)
    best = np.partition(scores, scores.shape[1] - n_best, axis=1)[:, -n_best:]
    return best.mean(axis=1)[:, None]


def _share_as_good(statistics: NDArray) -> NDArray[np.float64]:
    """Share of the rows that are at least as large as the first, which counts."""
    sizes = np.where(np.isfinite(statistics), np.abs(statistics), 0)
    tolerance = 1e-6 * sizes.max(axis=0)
    return (statistics >= statistics[0] - tolerance).mean(axis=0)
