"""The answer to a query as a table, and what answers are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge.library._search import scores_of
from sklearn_molge.library._store import VectorStore
from sklearn_molge.molecules import MorganFingerprinter, check_smiles, drug_ids

__all__ = ["Background", "answer_table"]

# Scores of the background that are held at a time, and molecules whose bits are.
_BLOCK_SCORES = 4 * 2**20
_BLOCK_MOLECULES = 2048
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
    labels: ArrayLike | None = None,
    background: Background | None = None,
    reverse: bool = False,
    ids_are_drugs: bool = True,
    pictures: bool = False,
) -> pd.DataFrame:
    """Make a table of what `top_k` returned, one row an answer.

    Where `ids_are_drugs`, the store's ids are identities, which are computed
    otherwise. The columns are those of ``MoleculeIndex.query``; what is not known is no
    column. ``attrs`` of the table hold "metric" and "reverse".
    """
    n_queries, n_answers = rows.shape
    labels = np.arange(n_queries) if labels is None else np.asarray(labels)
    flat = rows.reshape(-1)
    molecules, names, ids, libraries, library_rows = store.molecules(flat)
    drugs = ids if ids_are_drugs else drug_ids(molecules)
    columns = {
        "query": np.repeat(labels, n_answers),
        "rank": np.tile(np.arange(1, n_answers + 1), n_queries),
        "molecule": molecules,
        "name": names,
        "drug": drugs,
        "score": scores.reshape(-1),
    }
    if background is not None and background.knows_profiles:
        percentiles = background.percentiles(store, scores, rows, reverse=reverse)
        columns["percentile"] = percentiles.reshape(-1)
    if background is not None and background.knows_training:
        columns |= _training_columns(background, molecules, drugs)
    columns |= {"library": libraries, "library_row": library_rows, "index_row": flat}
    if pictures:
        columns["structure"] = _structures(molecules)
    table = pd.DataFrame(columns)
    table.attrs |= {"metric": store.metric, "reverse": reverse}
    return table


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
    embedded : ndarray of shape (n_background, n_components), dtype=float32, or None
        Profiles of the background in the joint space.
    smiles : ndarray of shape (n_training,), dtype=object
        The distinct molecules of the training set, sorted; none where it is not known.
    drugs : ndarray of shape (n_training,), dtype=object
        Their identities, see :func:`~sklearn_molge.molecules.drug_ids`.
    bits : ndarray of shape (n_training, 32), dtype=uint64
        Their Morgan fingerprints (radius 2, 2048 bits), packed.
    """

    embedded: NDArray[np.float32] | None
    smiles: NDArray[np.object_]
    drugs: NDArray[np.object_]
    bits: NDArray[np.uint64]

    @classmethod
    def make(
        cls,
        embedded: NDArray[np.float32] | None = None,
        smiles: ArrayLike | None = None,
    ) -> Background:
        """Prepare embedded profiles, the SMILES of the training set, or both."""
        if embedded is None and smiles is None:
            raise ValueError("X, y or both must be given. Got None for both.")
        known = check_smiles([] if smiles is None else smiles)
        distinct = np.unique(known)
        if embedded is not None:
            embedded = np.ascontiguousarray(embedded, dtype=np.float32)
        return cls(embedded, distinct, drug_ids(distinct), _packed_bits(distinct))

    @property
    def knows_profiles(self) -> bool:
        """Whether there are profiles."""
        return self.embedded is not None

    @property
    def knows_training(self) -> bool:
        """Whether there are training molecules."""
        return len(self.smiles) > 0

    def percentiles(
        self,
        store: VectorStore,
        scores: NDArray[np.float32],
        rows: NDArray[np.intp],
        *,
        reverse: bool = False,
    ) -> NDArray[np.float64]:
        """Say how unusual each score is for its molecule.

        Percent of the background whose score with this molecule is lower (with
        `reverse`: higher), equal ones counting half; `scores` and `rows` as `top_k`
        returns them.

        The tau of CMap (Subramanian et al. 2017, "A Next Generation Connectivity Map",
        Cell 171) compares a connectivity score with those of the same perturbagen
        against the reference signatures of Touchstone, of the same cell line and kind,
        and carries a sign. Here the reference is any set of profiles, of all lines
        together, in the joint space, and there is no sign. As an order of molecules
        percentiles were worse than the scores on real data
        (``benchmarks/bench_queries.py``).
        """
        if self.embedded is None:
            raise ValueError("A percentile needs profiles in the background.")
        distinct, codes = np.unique(rows, return_inverse=True)
        codes = codes.reshape(-1)
        asked = np.asarray(scores, dtype=np.float32).reshape(-1)
        out = np.empty(len(asked))
        order = np.argsort(codes, kind="stable")
        step = max(1, _BLOCK_SCORES // len(self.embedded))
        for first in range(0, len(distinct), step):
            known = scores_of(store, self.embedded, distinct[first : first + step])
            begin, end = np.searchsorted(codes[order], [first, first + step])
            for place in range(begin, end, step):
                chosen = order[place : min(place + step, end)]
                columns = known[:, codes[chosen] - first]
                out[chosen] = _percent_passed(columns, asked[chosen], reverse)
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
        store.write_background(self.embedded, *texts, self.bits)

    @classmethod
    def load(cls, store: VectorStore) -> Background | None:
        """Read what :meth:`save` wrote; None if nothing."""
        background = cls(*store.read_background())
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


def _percent_passed(
    known: NDArray[np.float32], asked: NDArray[np.float32], reverse: bool
) -> NDArray[np.float64]:
    """Percent of the rows of `known` that are below (above) each of `asked`."""
    scale = np.maximum(np.abs(known).max(axis=0), np.abs(asked))
    difference = known - asked
    if reverse:
        np.negative(difference, out=difference)
    tolerance = _ROUNDING * scale
    passed = np.count_nonzero(difference < -tolerance, axis=0)
    not_above = np.count_nonzero(difference <= tolerance, axis=0)
    return 50 * (passed + not_above) / len(known)
