"""Downloading the public LINCS L1000 releases."""

import gzip
import json
import os
import re
import warnings
import zlib
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path

from sklearn.datasets import get_data_home
from tqdm.utils import CallbackIOWrapper

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import alone_in, replace_bytes, replacing
from sklearn_molge._utils.optional import import_optional
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge.datasets._lincs._release_files import (
    RELEASES,
    LincsFile,
    Release,
    select_files,
)
from sklearn_molge.datasets._lincs._resumable import ResumableDownloader

__all__ = ["fetch_lincs"]

RECORD = "verified.json"
# The list of a release has a few KB; matrices of floats shrink to a half, or a third.
_MOST_OF_SUMS = 1 << 20
_MOST_UNPACKED = 50
_SMALL = 1 << 26  # a file that unpacks to less is no bomb
CHECKED_BY = {
    "size": "only its length was compared",
    "none": "the server tells nothing to compare with",
}


@validate_params(
    {
        "release": [StrOptions(set(RELEASES))],
        "level": [Interval(Integral, 3, 5, closed="both")],
        "controls": ["boolean"],
        "data_home": [str, os.PathLike, None],
        "base_url": [str, None],
        "n_retries": [Interval(Integral, 0, None, closed="left")],
        "delay": [Interval(Real, 0, None, closed="left")],
        "progress": ["boolean"],
        "verify": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_lincs(
    release: str,
    *,
    level: int = 5,
    controls: bool = True,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    progress: bool = True,
    verify: bool = True,
) -> Path:
    """Download one level of a public LINCS L1000 release, resume and check it.

    The checksum list comes first, then the small tables, then the matrices (up to
    83 GiB; see :func:`list_lincs_files` for names, sizes and addresses). Matrices are
    unpacked, for HDF5 cannot seek in gzip, which needs room for both forms until the
    packed one is deleted; tables stay as they are published.

    A file appears under its own name only when it is whole and checked. Until then
    its bytes are in the same folder under the name with ``.part`` at the end; they
    survive a broken connection, Ctrl-C and a killed process, and the same call goes on
    from there, unless the file changed on the server (by its ETag or date). Run one
    download of a file at a time.

    Needs ``pip install "sklearn-molge[fetch]"``.

    Parameters
    ----------
    release : {"GSE92742", "GSE70138", "LINCS2020"}
        LINCS phase I and phase II as deposited in GEO, or the beta release of 2020
        of the Connectivity Map (CLUE), which takes in both. CLUE may ask for an
        account; a file that was got in another way is used where it lies in the
        folder under its public name.
    level : {3, 4, 5}, default=5
        3: normalised log2 intensities of wells, 4: z-scores of wells, 5: moderated
        z-scores of signatures (replicates merged).
    controls : bool, default=True
        Download the matrix of controls too, where it is a file of its own
        ("LINCS2020"). The matrices of GEO always hold treated and control wells.
    data_home : path-like, default=None
        Root of scikit-learn's data folders; None takes
        :func:`sklearn.datasets.get_data_home`, that is the environment variable
        ``SCIKIT_LEARN_DATA`` or ``~/scikit_learn_data``.
    base_url : str, default=None
        Address of a mirror of the release; None takes the release's own.
    n_retries : int, default=3
        Times in a row that a broken connection which brought no new byte is tried
        again.
    delay : float, default=1.0
        Seconds before the first retry; doubled after each failure, at most 60.
    progress : bool, default=True
        Show a progress bar a file.
    verify : bool, default=True
        Check every file. "GSE92742" and "GSE70138" have a list of SHA-512 sums;
        "LINCS2020" has none, but its download page shows MD5 sums, of which those of
        the tables and of Level 5 are known here. For the other matrices of
        "LINCS2020" there is only what the server tells: its ETag where that is a
        plain MD5, else the length; a warning says so.

    Returns
    -------
    folder : Path
        ``data_home/lincs/release``, as :func:`load_lincs` reads it. Checked files
        are noted in ``verified.json`` there with their size; a later call compares
        only the size and downloads what is missing.

    Raises
    ------
    ConnectionError
        If the server cannot be reached or the connection keeps breaking. What has
        come is kept.
    OSError
        If a file is refused by the server, came corrupt twice, is larger than the
        disk's free space or what was announced, or redirected to an address without
        encryption; or the disk is full.
    BlockingIOError
        If another process is fetching the same release into `data_home`.
    CorruptFileError
        If ``verified.json`` is damaged.
    ValueError
        If `base_url` is not an address of HTTP.
    ImportError
        If pooch or requests is not installed.

    Warns
    -----
    UserWarning
        If a file came corrupt and is downloaded again, or cannot be checked; if the
        note beside unfinished bytes is damaged, so that they are not built upon.

    See Also
    --------
    list_lincs_files : Names, sizes and addresses, without a network.
    load_lincs : Read the folder.

    Examples
    --------
    >>> from sklearn_molge.datasets import fetch_lincs, load_lincs
    >>> folder = fetch_lincs("GSE70138", level=5)  # doctest: +SKIP
    >>> study = load_lincs(folder, level=5)  # doctest: +SKIP
    """
    for module in ("pooch", "requests"):
        import_optional(module, extra="fetch", needed_by="fetch_lincs")
    source = RELEASES[release]
    base_url = base_url or source.base_url
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(
            f'base_url must start with "http://" or "https://". Got {base_url!r}.'
        )
    path = Path(get_data_home(data_home)) / "lincs" / release
    path.mkdir(parents=True, exist_ok=True)
    folder = _LincsFolder(
        path,
        base_url,
        verify=verify,
        progress=progress,
        n_retries=n_retries,
        delay=delay,
    )
    with alone_in(path):
        folder.fetch(source, select_files(release, level, controls))
    if folder.unchecked:
        names = "; ".join(folder.unchecked)
        warnings.warn(
            f"No checksum is published, or known here, for {names}.", stacklevel=3
        )
    return path


@dataclass
class _LincsFolder:
    """Folder of one release, filled from `base_url` and noted in ``verified.json``.

    `unchecked` are files for which no checksum is known, and what was compared instead.
    """

    folder: Path
    base_url: str
    verify: bool
    progress: bool
    n_retries: int
    delay: float
    unchecked: list[str] = field(default_factory=list)

    def fetch(self, source: Release, files: list[LincsFile]) -> None:
        """Bring in the checksums, then `files` in their order."""
        sums = {f.name: f"md5:{f.md5}" for f in files if f.md5}
        if source.checksums is not None and self.verify:
            self._fetch_one(source.checksums, None)
            sums |= _read_checksums(self.folder / source.checksums.name)
        self.unchecked.clear()  # the list is checked by being read
        for file in files:
            self._fetch_one(file, sums.get(file.name))

    def _fetch_one(self, file: LincsFile, known_hash: str | None) -> None:
        if not self._is_here(file.saved_as, None if file.is_packed else known_hash):
            if not self._is_here(file.name, known_hash):
                self._download(file, known_hash)
            if file.is_packed:
                self._unpack(file)
        # What a run leaves that is killed when the file has just got its name.
        left = [f"{file.name}.part", f"{file.name}.part.json"]
        for name in [*left, file.name] if file.is_packed else left:
            (self.folder / name).unlink(missing_ok=True)

    def _is_here(self, name: str, known_hash: str | None) -> bool:
        """Whether a finished file is there; a damaged one is removed."""
        path = self.folder / name
        if not path.exists():
            return False
        noted = self._read_record().get(name)
        if noted is not None and noted["size"] != path.stat().st_size:
            return self._remove(path, f"is not of {noted['size']:,} bytes any more")
        if not self.verify or (noted is not None and noted["check"] != "none"):
            return True
        if known_hash is None:
            self.unchecked.append(f"{name} (it was there already)")
            return True
        found = _hash_like(path, known_hash)
        if found != known_hash:
            return self._remove(path, f"should have {known_hash} but has {found}")
        self._note(name, path.stat().st_size, known_hash)
        return True

    def _remove(self, path: Path, why: str) -> bool:
        warnings.warn(f"{path} {why}; it is downloaded again.", stacklevel=2)
        path.unlink()
        return False

    def _download(self, file: LincsFile, known_hash: str | None) -> None:
        path = self.folder / file.name
        downloader = ResumableDownloader(
            path.with_name(f"{path.name}.part"),
            known_hash,
            n_retries=self.n_retries,
            delay=self.delay,
            progress=self.progress,
            verify=self.verify,
        )
        downloader.download(file.url(self.base_url), path)
        self._note(file.name, path.stat().st_size, downloader.check_)
        if self.verify and known_hash is None:
            by = CHECKED_BY.get(
                downloader.check_, "the MD5 of the server's ETag agreed"
            )
            self.unchecked.append(f"{file.name} ({by})")

    def _unpack(self, file: LincsFile) -> None:
        packed = self.folder / file.name
        try:
            with replacing(self.folder / file.saved_as) as draft:
                _gunzip(packed, draft, self.progress)
                check = self._read_record().get(file.name, {"check": "none"})["check"]
                self._note(file.saved_as, draft.stat().st_size, check)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            packed.unlink()
            raise OSError(
                f"{packed} could not be unpacked ({error}) and was deleted; call "
                "again to download it."
            ) from error

    def _read_record(self) -> dict[str, dict]:
        path = self.folder / RECORD
        if not path.exists():
            return {}
        with reading(path, "what is known of the files; without it they are checked"):
            record = json.loads(path.read_text(encoding="utf-8"))
            for name, entry in record.items():
                size, check = entry["size"], entry["check"]
                if type(size) is not int or not isinstance(check, str):
                    raise ValueError(f"{name!r} is {entry!r}")
        return record

    def _note(self, name: str, size: int, check: str) -> None:
        record = self._read_record() | {name: {"size": size, "check": check}}
        replace_bytes(self.folder / RECORD, json.dumps(record, indent=1).encode())


def _hash_like(path: Path, known_hash: str) -> str:
    from pooch import file_hash

    algorithm = known_hash.partition(":")[0]
    return f"{algorithm}:{file_hash(str(path), alg=algorithm)}"


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            text = file.read(_MOST_OF_SUMS + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError):
        text = ""
    lines = text.splitlines() if len(text) <= _MOST_OF_SUMS else []
    found = [re.match(r"([0-9a-fA-F]{128}) [ *](.+)", line) for line in lines]
    sums = {m[2].strip(): f"sha512:{m[1].lower()}" for m in found if m}
    if not sums:
        path.unlink()
        raise OSError(
            f"{path} is not a packed list of SHA-512 sums and was deleted; call again, "
            "or pass verify=False."
        )
    return sums


def _gunzip(packed: Path, target: Path, progress: bool) -> None:
    with (
        open(packed, "rb") as raw,
        progress_bar(
            shown=progress,
            total=packed.stat().st_size,
            desc=f"unpacking {packed.name}",
            unit="B",
            unit_scale=True,
        ) as bar,
        gzip.open(CallbackIOWrapper(bar.update, raw, "read")) as source,
        open(target, "wb") as out,
    ):
        most = _MOST_UNPACKED * packed.stat().st_size + _SMALL
        while chunk := source.read(2**20):
            most -= len(chunk)
            if most < 0:
                raise gzip.BadGzipFile(
                    f"it unpacks to more than {_MOST_UNPACKED} times its size"
                )
            out.write(chunk)
