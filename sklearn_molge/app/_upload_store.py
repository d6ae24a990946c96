"""UploadStore: the last uploads, in memory and in a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import warnings
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sklearn_molge._files.folders import make_folder
from sklearn_molge._files.replacing import is_draft, remove_drafts, replace_bytes
from sklearn_molge._utils.messages import counted
from sklearn_molge.app._uploads import Upload
from sklearn_molge.exceptions import DataWarning

__all__ = ["UploadStore"]

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{12}\.upload")
_MARKS = ["entry", "column", "symbol", "status"]


class UploadStore:
    """The last uploads by a digest of their content, within some bytes.

    A file holds what was read, not what was sent: a checksum, a line of JSON, and the
    profiles. Several servers may share a folder.

    Parameters
    ----------
    max_bytes : int
        Of memory, and of the folder. The newest upload is kept in any case.
    genes : DataFrame, array-like of str or None
        The genes of the model, whose profiles are kept: files of others are not read.
    folder : path-like or None
        Where uploads are kept as well; it is made if it is not there, for this user
        alone.

    Raises
    ------
    OSError
        If the folder cannot be written to.

    Warns
    -----
    DataWarning
        If files there are damaged, or of another model, which are not read.
    """

    def __init__(
        self,
        max_bytes: int,
        genes: Any = None,
        folder: str | os.PathLike[str] | None = None,
    ):
        self._most = max_bytes
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()
        self._n_genes = 0 if genes is None else len(genes)
        text = pd.DataFrame(genes).to_csv(index=False)
        self._model = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            if not self._folder.exists():
                self._folder.mkdir(mode=0o700, parents=True)
            make_folder(self._folder)
            self._load()

    @staticmethod
    def key(content: bytes) -> str:
        """Return what an upload is called in an address."""
        return hashlib.sha256(content).hexdigest()[:32]

    def put(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        self._remember(key, upload)
        if self._folder is None:
            return
        try:
            replace_bytes(self._path(key), _packed(upload))
        except OSError:
            _LOG.exception("An upload is kept in memory only.")
        n_bytes = 0
        for path in self._files():  # the newest first
            with suppress(OSError):
                size = path.stat().st_size
                if n_bytes and n_bytes + size > self._most:
                    path.unlink(missing_ok=True)
                n_bytes += size

    def get(self, key: str) -> Upload:
        """Return an upload.

        Raises
        ------
        KeyError
            If it is not kept any more.
        """
        with self._lock:
            upload = self._kept.get(key)
            if upload is not None:
                self._kept.move_to_end(key)
        if upload is None:
            if self._folder is None:
                raise KeyError(key)
            try:  # of another server
                upload = self._read(self._path(key))
            except (OSError, ValueError) as error:
                raise KeyError(key) from error
            self._remember(key, upload)
        if self._folder is not None:
            with suppress(OSError):  # the least recently used ones are removed
                os.utime(self._path(key))
        return upload

    def __contains__(self, key: str) -> bool:
        try:
            self.get(key)
        except KeyError:
            return False
        return True

    def _remember(self, key: str, upload: Upload) -> None:
        with self._lock:
            self._kept[key] = upload
            self._kept.move_to_end(key)
            n_bytes = sum(each.nbytes for each in self._kept.values())
            while len(self._kept) > 1 and n_bytes > self._most:
                n_bytes -= self._kept.popitem(last=False)[1].nbytes

    # Files

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}-{self._model}.upload"

    def _files(self) -> list[Path]:
        """Return our files, the one that was used last first."""
        assert self._folder is not None
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):  # one that another server has removed
                    is_file = entry.is_file(follow_symlinks=False)
                    if is_file and _NAME.fullmatch(entry.name):
                        found.append((entry.stat().st_mtime_ns, Path(entry.path)))
        return [path for _, path in sorted(found, reverse=True)]

    def _load(self) -> None:
        """Read what is there, and say what is not read."""
        assert self._folder is not None
        for path in list(self._folder.iterdir()):
            if is_draft(path):  # of a server that was killed
                remove_drafts(path.with_name(path.name[1:].rsplit(".", 2)[0]))
        read, n_damaged, n_others, n_bytes = [], 0, 0, 0
        for path in self._files():
            if not path.stem.endswith(self._model):
                n_others += 1
            elif n_bytes < self._most:
                try:
                    upload = self._read(path)
                except (OSError, ValueError):
                    n_damaged += 1
                else:
                    read.append((path.name[:32], upload))
                    n_bytes += upload.nbytes
        for key, upload in reversed(read):
            self._remember(key, upload)
        told = [
            f"{counted(n, 'file')} of uploads in {self._folder} {why}"
            for n, why in [
                (n_damaged, "cannot be read and will be removed as the oldest are"),
                (n_others, "of another model, whose genes are others"),
            ]
            if n
        ]
        if told:
            warnings.warn(f"Left out: {'; '.join(told)}.", DataWarning, stacklevel=4)

    def _read(self, path: Path) -> Upload:
        """Read a file.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        checksum, _, rest = path.read_bytes().partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != checksum:
            raise ValueError("The checksum is another one.")
        head, _, data = rest.partition(b"\n")
        try:
            known = json.loads(head)
            marks = pd.DataFrame({name: known["marks"][name] for name in _MARKS})
            profiles = np.frombuffer(data, "<f4").reshape(-1, self._n_genes)
            notes = tuple(map(str, known["notes"]))
            return Upload(str(known["name"]), profiles, marks, notes)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"It is no upload: {error}") from error


def _packed(upload: Upload) -> bytes:
    marks = upload.marks[_MARKS].astype(object)
    marks = marks.where(marks.notna(), None)
    head = {
        "name": upload.name,
        "notes": upload.notes,
        "marks": {name: marks[name].tolist() for name in _MARKS},
    }
    rest = json.dumps(head).encode() + b"\n" + upload.profiles.astype("<f4").tobytes()
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
