"""What an answer is compared with: scores of other queries, and the training set."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.molecules import MorganFingerprinter, check_smiles, drug_ids
from sklearn_molge.retrieval._index._search import scores_of

if TYPE_CHECKING:
    from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["Background"]

_FILE = "background.npz"
# Scores of the background that are held at a time, and molecules whose bits are.
_BLOCK_SCORES = 4 * 2**20
_BLOCK_MOLECULES = 2048
# Products of single precision agree to a few units in the last place.
_ROUNDING = 16 * np.finfo(np.float32).eps


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
        cls, embedded: NDArray[np.float32] | None = None, smiles: Any = None
    ) -> Background:
        """Prepare embedded profiles, the SMILES of the training set, or both.

        Raises
        ------
        ValueError
            If both are None.
        InvalidSmilesError
            With index and text of every bad entry of `smiles`.
        """
        if embedded is None and smiles is None:
            raise ValueError("X, y or both must be given. Got None for both.")
        known = check_smiles([] if smiles is None else smiles)
        distinct = np.unique(known)
        if embedded is not None:
            embedded = np.ascontiguousarray(embedded, dtype=np.float32)
        return cls(embedded, distinct, drug_ids(distinct), packed_bits(distinct))

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
        """Say how unusual a score is for its molecule.

        Parameters
        ----------
        store : VectorStore
        scores, rows : ndarray of shape (n_queries, n_answers)
            Answers, as `top_k` returns them.
        reverse : bool, default=False
            Whether low scores were asked for.

        Returns
        -------
        percentiles : ndarray of shape (n_queries, n_answers)
            Percent of the background whose score with this molecule is lower (with
            `reverse`: higher), equal ones counting half.

        Notes
        -----
        The tau of CMap (Subramanian et al. 2017, "A Next Generation Connectivity Map",
        Cell 171) compares a connectivity score with those of the same perturbagen
        against the reference signatures of Touchstone, of the same cell line and kind,
        and carries a sign. Here the reference is any set of profiles, of all lines
        together, in the joint space, and there is no sign. Percentiles say how unusual
        a score is; as an order of molecules they were worse than the scores on real
        data (``benchmarks/bench_queries.py``).
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

        Returns
        -------
        similarity : ndarray of shape (n_molecules,)
            Tanimoto similarity of Morgan fingerprints.
        nearest : ndarray of int of shape (n_molecules,)
            Which of `smiles` of the background; of equally near ones the first.
        """
        texts, codes = np.unique(smiles, return_inverse=True)
        sizes = np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64)
        similarity = np.empty(len(texts))
        nearest = np.empty(len(texts), dtype=np.intp)
        for i, bits in enumerate(packed_bits(texts)):
            shared = np.bitwise_count(self.bits & bits).sum(axis=1, dtype=np.int64)
            union = sizes + np.bitwise_count(bits).sum(dtype=np.int64) - shared
            tanimoto = shared / union  # a molecule has at least one bit
            nearest[i] = np.argmax(tanimoto)
            similarity[i] = tanimoto[nearest[i]]
        return similarity[codes], nearest[codes]

    def save(self, folder: Path) -> None:
        """Write a file in `folder`, complete or not at all."""
        arrays: dict[str, NDArray] = {
            "smiles": _to_bytes(self.smiles),
            "drugs": _to_bytes(self.drugs),
            "bits": self.bits,
        }
        if self.embedded is not None:
            arrays["embedded"] = self.embedded
        unfinished = folder / f"{_FILE}.part"
        with open(unfinished, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> Background | None:
        """Read what :meth:`save` wrote in `folder`; None if nothing.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            return None
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                smiles, drugs = (_from_bytes(arrays[k]) for k in ("smiles", "drugs"))
                return cls(arrays.get("embedded"), smiles, drugs, arrays["bits"])
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} is damaged; call calibrate again. It could not be read: "
                f"{error}"
            ) from error


def packed_bits(smiles: NDArray[np.object_]) -> NDArray[np.uint64]:
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


def _to_bytes(texts: NDArray[np.object_]) -> NDArray[np.uint8]:
    """Join texts, each ended by a NUL, which no SMILES holds."""
    joined = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(joined.encode(), dtype=np.uint8)


def _from_bytes(array: NDArray[np.uint8]) -> NDArray[np.object_]:
    texts = array.tobytes().decode().split("\0")[:-1]
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    return out
