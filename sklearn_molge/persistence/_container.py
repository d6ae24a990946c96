"""The zip file of a model: named parts, each with its checksum, and a manifest."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.messages import printable
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["BACKGROUND_ABOUT", "BACKGROUND_PROFILES", "FORMAT", "FORMAT_VERSION",
           "MANIFEST", "SCHEMA", "TENSORS", "of_model", "read_manifest",
           "read_model_file", "write_model_file"]  # fmt: skip

FORMAT, FORMAT_VERSION = "sklearn_molge model", 1
MANIFEST, SCHEMA, TENSORS = "manifest.json", "schema.json", "tensors.safetensors"
BACKGROUND_ABOUT = "background/about.json"
BACKGROUND_PROFILES = "background/profiles.npy"
_TEXTS = (MANIFEST, SCHEMA, BACKGROUND_ABOUT)
_OTHERS = (TENSORS, BACKGROUND_PROFILES)
_ARRAY = re.compile(r"arrays/\d{1,7}\.npy")
_MOST_MEMBERS = 1_000_000
_MOST_JSON = 1 << 28  # bytes that schema or manifest may unpack to
# A date that says nothing, so that equal models make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)
_SEAL_BYTES = 64  # the SHA-256 of all bytes before it, as the comment of the zip
_WHOLE = "the zip file"


def write_model_file(
    path: str | os.PathLike, manifest: Mapping[str, Any], parts: Mapping[str, bytes]
) -> None:
    """Write a manifest and parts, with checksums; the file is whole or not there."""
    sums = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": _identity(sums),
        **manifest,
        "parts": sums,
    }
    text = json.dumps(about, indent=1, allow_nan=False).encode()
    with replacing(path) as draft, open(draft, "r+b") as file:
        with ZipFile(file, "w") as archive:
            archive.comment = bytes(_SEAL_BYTES)
            for name, content in {MANIFEST: text, **parts}.items():
                member = ZipInfo(name, _DATE)
                is_text = name in (SCHEMA, BACKGROUND_ABOUT)
                member.compress_type = ZIP_DEFLATED if is_text else ZIP_STORED
                archive.writestr(member, content)
        file.seek(0)
        seal = _digest(file, os.path.getsize(draft) - _SEAL_BYTES)
        file.seek(-_SEAL_BYTES, os.SEEK_END)
        file.write(seal)


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Read what a file says of itself; the parts are not looked at."""
    with reading(path), open(path, "rb") as file:
        return _Members(path, file).manifest()


def read_model_file(
    path: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, bytes], BytesIO]:
    """Read and check a file.

    Returns
    -------
    manifest : dict
    parts : dict of bytes
    file : BytesIO
        The zip itself, as it was checked.

    Raises
    ------
    CorruptFileError
        If it is cut, a byte of it was changed, or it has other parts than it says.
    """
    with reading(path):
        content = Path(path).read_bytes()
    members = _Members(path, BytesIO(content))
    manifest = members.manifest()
    sums = manifest["parts"]
    found = members.names - {MANIFEST}
    if found != sums.keys() or SCHEMA not in found:
        other = sorted(found ^ sums.keys()) or [SCHEMA]
        raise CorruptFileError(
            path, other[0], "it is not among the parts that the manifest names"
        )
    parts = {}
    for name, told in sums.items():
        parts[name] = members.read(name)
        if hashlib.sha256(parts[name]).hexdigest() != told["sha256"]:
            raise CorruptFileError(path, name, "it was changed: its checksum differs")
        if _ARRAY.fullmatch(name) or name == BACKGROUND_PROFILES:
            with reading(path, name):
                _check_array(parts[name])
    if _identity(sums) != manifest["identity"]:
        raise CorruptFileError(path, MANIFEST, "the identity of the model differs")
    file = BytesIO(content)
    if _digest(file, len(content) - _SEAL_BYTES) != members.archive.comment:
        raise CorruptFileError(path, _WHOLE, "it was changed: its checksum differs")
    return manifest, parts, file


class _Members:
    """The members of a zip file; none unpacks to more than is stored, but JSON."""

    def __init__(self, path, file):
        self.path = path
        try:
            self.archive = ZipFile(file)
        except (BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise CorruptFileError(path, "", _not_a_zip(file, error)) from error
        infos = self.archive.infolist()
        self.infos = {info.filename: info for info in infos}
        self.names = set(self.infos)
        if len(infos) > _MOST_MEMBERS:
            self._refuse(_WHOLE, f"it has more than {_MOST_MEMBERS:,} parts")
        if len(self.names) < len(infos):
            self._refuse(_WHOLE, "two of its parts have one name")
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            name = info.filename
            is_text = name in _TEXTS
            if not (is_text or name in _OTHERS or _ARRAY.fullmatch(name)):
                self._refuse(printable(name[:200]), "a model file has no such part")
            if info.flag_bits & 1 or info.compress_type not in (
                (ZIP_STORED, ZIP_DEFLATED) if is_text else (ZIP_STORED,)
            ):
                self._refuse(name, "it is packed or encrypted")
            if info.compress_type == ZIP_STORED and (
                info.file_size != info.compress_size
            ):
                self._refuse(name, "its size differs from what is stored")
            if is_text and info.file_size > _MOST_JSON:
                self._refuse(name, f"it unpacks to more than {_MOST_JSON:,} bytes")
            if info.header_offset < end:
                self._refuse(name, "it overlaps another part")
            end = info.header_offset + info.compress_size

    def _refuse(self, part: str, why: str) -> None:
        raise CorruptFileError(self.path, part, why)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member."""
        if name not in self.infos:
            self._refuse(name, "it is missing")
        with reading(self.path, name):
            content = self.archive.read(self.infos[name])
        return content

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, whose form is checked."""
        if MANIFEST not in self.names:
            self._refuse("", "it is a zip file, but no model file: no manifest.json")
        content = self.read(MANIFEST)
        with reading(self.path, MANIFEST):
            manifest = json.loads(content)
            _check_manifest(manifest)
        return manifest


def _check_manifest(manifest: Any) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"it does not say that the format is {FORMAT!r}")
    version = manifest.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"the version of the format is {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"the version of the format is {version}, and this release of "
            f"sklearn_molge reads up to {FORMAT_VERSION}: update it"
        )
    parts = manifest.get("parts")
    if not isinstance(parts, dict) or not isinstance(manifest.get("identity"), str):
        raise ValueError("it names no parts, or no identity")
    if not all(isinstance(told, dict) and "sha256" in told for told in parts.values()):
        raise ValueError("a part has no checksum")


def _check_array(content: bytes) -> None:
    """Refuse an array whose header promises more than there is, or objects."""
    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"the version of its format is {version}")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it is an array of objects, which are pickled")
    n = 1
    for length in shape:
        n *= length
    is_there = n * dtype.itemsize == len(content) - file.tell()
    if not is_there or min(shape, default=0) < 0:
        raise ValueError(f"shape {shape} is not what is stored for it")


def of_model(names: Iterable[str]) -> set[str]:
    """Return the parts that the model consists of, and not its background."""
    return set(names) - {BACKGROUND_ABOUT, BACKGROUND_PROFILES}


def _identity(sums: Mapping[str, Mapping[str, Any]]) -> str:
    """Hash the contents: equal for equal models, whatever is said of them."""
    told = json.dumps({name: sums[name]["sha256"] for name in sorted(of_model(sums))})
    return hashlib.sha256(told.encode()).hexdigest()


def _digest(file, n_bytes: int) -> bytes:
    found = hashlib.sha256()
    while n_bytes > 0 and (piece := file.read(min(n_bytes, 1 << 20))):
        found.update(piece)
        n_bytes -= len(piece)
    file.seek(0)
    return found.hexdigest().encode()


def _not_a_zip(file, error: Exception) -> str:
    file.seek(0)
    start = file.read(4)
    if start[:1] == b"\x80":
        return (
            "it is a pickle, which runs code when it is opened. If you trust whoever "
            "wrote it, joblib.load opens it, and save_model makes a model file of it"
        )
    if start != b"PK\x03\x04":
        return f"it is no model file ({error})"
    return f"it is cut or damaged ({error})"
