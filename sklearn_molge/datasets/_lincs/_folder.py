"""The folder of a LINCS release: what is there, what was checked, what is missing."""

import gzip
import json
import os
import re
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sklearn_molge.datasets._lincs._files import LincsFile, Release
from sklearn_molge.datasets._lincs._resumable import ResumableDownloader

__all__ = ["LincsFolder"]

_RECORD = "verified.json"
_CHECKED_BY = {
    "size": "only its length was compared",
    "none": "the server tells nothing to compare with",
}


class LincsFolder:
    """Folder of one release, filled from `base_url` and noted in ``verified.json``.

    Parameters
    ----------
    folder : Path
        An existing folder.
    base_url : str
        Address below which the files of the release lie.
    verify : bool
        Check the files.
    progress : bool
        Show progress bars.
    **options
        `n_retries` and `delay` of :class:`ResumableDownloader`.

    Attributes
    ----------
    unchecked : list of str
        Files for which no checksum is known, and what was compared instead.
    """

    def __init__(
        self,
        folder: Path,
        base_url: str,
        *,
        verify: bool,
        progress: bool,
        **options: Any,
    ):
        self.folder = folder
        self.base_url = base_url
        self.verify = verify
        self.progress = progress
        self.options = options
        self.unchecked: list[str] = []

    def fetch(self, source: Release, files: list[LincsFile]) -> None:
        """Bring in the checksums, then `files` in their order."""
        self._sweep()
        sums = {f.name: f"md5:{f.md5}" for f in files if f.md5}
        if source.checksums is not None and self.verify:
            self._fetch_one(source.checksums, None)
            sums |= _read_checksums(self.folder / source.checksums.name)
        self.unchecked.clear()  # the list is checked by being read
        for file in files:
            self._fetch_one(file, sums.get(file.name))

    def _sweep(self) -> None:
        """Remove pooch's empty temporary files, which a killed process leaves."""
        for path in self.folder.glob("tmp*"):
            if path.is_file() and path.stat().st_size == 0:
                path.unlink()

    def _fetch_one(self, file: LincsFile, known_hash: str | None) -> None:
        if self._is_here(file.saved_as, None if file.is_packed else known_hash):
            return
        if not self._is_here(file.name, known_hash):
            self._download(file, known_hash)
        if file.is_packed:
            self._unpack(file)

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
        import pooch

        downloader = ResumableDownloader(
            self.folder / f"{file.name}.part",
            known_hash,
            progress=self.progress,
            verify=self.verify,
            **self.options,
        )
        store = pooch.create(
            path=self.folder,
            base_url=self.base_url,
            # The downloader checks, so that an unchecked file never leaves `.part`.
            registry={file.name: None},
            urls={file.name: file.url(self.base_url)},
        )
        path = Path(store.fetch(file.name, downloader=downloader))
        self._note(file.name, path.stat().st_size, downloader.check_)
        if self.verify and known_hash is None:
            by = _CHECKED_BY.get(
                downloader.check_, "the MD5 of the server's ETag agreed"
            )
            self.unchecked.append(f"{file.name} ({by})")

    def _unpack(self, file: LincsFile) -> None:
        packed = self.folder / file.name
        target = self.folder / file.saved_as
        partial = self.folder / f"{file.saved_as}.unpacking"
        try:
            _gunzip(packed, partial, self.progress)
            record = self._read_record()
            check = record.get(file.name, {"check": "none"})["check"]
            self._note(file.saved_as, partial.stat().st_size, check)
            os.replace(partial, target)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            packed.unlink()
            raise OSError(
                f"{packed} could not be unpacked ({error}) and was deleted; call "
                "again to download it."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        packed.unlink()

    def _read_record(self) -> dict[str, Any]:
        path = self.folder / _RECORD
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _note(self, name: str, size: int, check: str) -> None:
        record = self._read_record() | {name: {"size": size, "check": check}}
        new = self.folder / f"{_RECORD}.new"
        new.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(new, self.folder / _RECORD)


def _hash_like(path: Path, known_hash: str) -> str:
    from pooch import file_hash

    algorithm = known_hash.partition(":")[0]
    return f"{algorithm}:{file_hash(str(path), alg=algorithm)}"


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found = [re.match(r"([0-9a-fA-F]{128}) [ *](.+)", line) for line in lines]
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError):
        found = []
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
        tqdm.wrapattr(
            raw,
            "read",
            total=packed.stat().st_size,
            desc=f"unpacking {packed.name}",
            disable=not progress,
        ) as counted,
        gzip.open(counted) as source,
        open(target, "wb") as out,
    ):
        shutil.copyfileobj(source, out, 2**20)
