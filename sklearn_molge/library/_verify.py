"""verify_index: whether what lies in the folder of an index is what was written."""

import os
from pathlib import Path

from sklearn_molge.library._faiss import read_description
from sklearn_molge.library._folder import check_embedder
from sklearn_molge.library._store import VectorStore

__all__ = ["verify_index"]


def verify_index(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Compare all that an index has stored with its checksums.

    Nothing in the folder is run, and the embedder is not unpickled. Everything is read
    once, with about the speed of the disk; a process that writes to the index may have
    to wait.
    ``python -m sklearn_molge verify FOLDER`` calls this.

    Parameters
    ----------
    folder : path-like
        The folder of a :class:`MoleculeIndex`.

    Returns
    -------
    checked : dict of str to int
        What was compared, and how many rows it has.

    Raises
    ------
    FileNotFoundError
        If it is not the folder of an index.
    CorruptFileError
        With the file, and the part of it, that is damaged.
    ValueError
        If another release wrote it.

    See Also
    --------
    MoleculeIndex.open : Does so with ``verify=True``, but for the index of faiss.

    Notes
    -----
    Rows are compared in the segments in which they were added, each with its own
    checksum (the first half of a SHA-256), so what is told is where the damage lies.
    Checksums find what disks and transfers do, not what somebody does who can write to
    the folder and computes them again.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.library import MoleculeIndex, verify_index
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> X = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CC=O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(5, 5))
    >>> embedder = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = MoleculeIndex(embedder.fit(X, y), folder=folder).fit(X)
    ...     verify_index(folder)["molecules"]
    5
    """
    checked = VectorStore.open(folder).verify()
    check_embedder(Path(folder))
    checked["embedder"] = 1
    described, _ = read_description(Path(folder))
    checked["rows of the index of faiss"] = described["n_rows"] if described else 0
    return checked
