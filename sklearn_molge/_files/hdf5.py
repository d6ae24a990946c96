"""HDF5 files, whose metadata are checked before the library of HDF5 sees them.

That library trusts what it reads: damaged object headers, B-trees and heaps end in
crashes and endless loops, and links lead out of the file. So the parts to be read are
walked here first, in Python: every structure lies inside the file and is its own, every
size fits what holds it, every chunk is there. What no writer of profiles uses, is
refused.

The layout is that of "HDF5 File Format Specification Version 3.0", by The HDF Group.
"""

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.hdf5_seal import (
    RUN,
    SEAL_ATTRIBUTE,
    check_runs,
    read_at,
    read_seal,
    runs_of,
    write_seal,
)
from sklearn_molge._files.reading import reading

__all__ = ["Hdf5File", "Stored", "inflate", "open_hdf5", "seal"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1  # the address of what was never written

# HDF5 ends at 4 GiB; writers make chunks of about 1 MiB, since each is held whole.
MAX_CHUNK_BYTES = 2**30
# A byte of deflate stands for 1032 at most; its header is small change.
MAX_RATIO = 1040
# A text of fixed length: ids, SMILES and lists of wells have far less than 64 KiB.
MAX_ITEM_BYTES = 2**16
# AnnData nests five levels; a walk that goes deeper would end Python's stack.
MAX_DEPTH = 32
# Of a B-tree: with two children a node it would hold more chunks than any disk.
MAX_LEVELS = 48

FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}

# What a message of an object header says.
SPACE, LINK_INFO, TYPE, OLD_FILL, FILL, LINK, EXTERNAL, LAYOUT = range(1, 9)
PIPELINE, ATTRIBUTE, CONTINUATION, TABLE, ATTRIBUTE_INFO = 0xB, 0xC, 0x10, 0x11, 0x15
# Of the extension of the superblock: those that do not change how a file is read.
HARMLESS = {0x00, CONTINUATION, 0x13, 0x16, 0x17}

ELSEWHERE, LISTED = -1, "/"  # the address of other links; a name that none can have

HEAP_BLOCK = 2**12  # collections of texts that are looked at together
COLLECTION = int.from_bytes(b"GCOL\x01\0\0\0", "little")
TEXT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])


@dataclass
class Stored:
    """A dataset: what it is, and where its bytes are.

    `places` has a row for each stretch of it (address, bytes, mask of the filters left
    out): one, or one a chunk, in the order of the matrix.
    """

    shape: tuple[int, ...]
    itemsize: int
    chunks: tuple[int, ...] | None
    filters: tuple[str, ...]
    places: NDArray[np.uint64]

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks or self.shape) * self.itemsize


class Hdf5File(h5py.File):
    """A file that is open for reading, and what the walk found in it.

    `names` are those in the root, `parts` those asked for that are there, and `stored`
    has the datasets in these, by their names.
    """

    names: set[str]
    parts: set[str]
    stored: dict[str, Stored]
    runs: NDArray  # of the seal, none where there is no seal

    @property
    def is_sealed(self) -> bool:
        return len(self.runs) > 0

    def check_values(self, part: str) -> None:
        """Unpack the chunks of all datasets in a part, and see whether they fit.

        The library would read past the end of a chunk that is too short, and give all
        the memory to one that is too long.
        """
        with io.FileIO(self.filename) as raw:
            for name, stored in self.stored.items():
                if stored.filters and f"{name}/".startswith(f"{part}/"):
                    with reading(self.filename, f"dataset {name!r}"):
                        for _ in _contents(raw, self.userblock_size, stored):
                            pass

    def check_matrix(self) -> None:
        """Compare the matrix with the seal of the file, where it has one."""
        with io.FileIO(self.filename) as raw, reading(self.filename, "the matrix"):
            check_runs(raw, self.runs, is_matrix=True)


@contextmanager
def open_hdf5(
    path: str | os.PathLike[str], *parts: str, attributes: bool = True
) -> Iterator[Hdf5File]:
    """Open a file for reading, once the parts that will be read are known to be sound.

    Parameters
    ----------
    path : path-like
        The file.
    *parts : str
        The groups and datasets that will be read, with all that is in them. Those that
        are not there are left out.
    attributes : bool, default=True
        Whether their attributes will be read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If it is no HDF5, was cut or changed since it was sealed, or a part is damaged,
        not complete, leads out of the file, or is stored in a way that no known writer
        of profiles uses.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
    with reading(path), io.FileIO(path) as raw:
        runs = read_seal(raw)
        if runs is not None:
            check_runs(raw, runs, is_matrix=False)
        walk = _Walk(raw, attributes)
        walk.open()
        if runs is None and SEAL_ATTRIBUTE in walk.root_attributes:
            raise ValueError(
                "its seal is missing: it was cut, or another program has opened it for "
                "writing, or copied it, since. Where that was you, write it anew (as "
                "by anndata.read_h5ad and write_h5ad), or delete the attribute "
                f"{SEAL_ATTRIBUTE!r} of its root"
            )
        file = Hdf5File(path, "r")
    with file:
        with reading(path), io.FileIO(path) as raw:
            walk.go_on(raw, file)
            file.parts = {part for part in parts if walk.visit(part)}
            walk.finish()
        file.names, file.stored = walk.names, walk.stored
        file.runs = np.empty(0, RUN) if runs is None else runs
        yield file


def seal(path: str | os.PathLike[str], matrix: str) -> None:
    """End a file with checksums of its matrix, and of all else; HDF5 ignores them.

    The file is closed, and has `SEAL_ATTRIBUTE` in its root. Other programs that change
    it cut the seal off.
    """
    with open(path, "r+b") as file:
        with io.FileIO(path) as raw:
            walk = _Walk(raw, attributes=False)
            walk.open()
            walk.visit(matrix)
            places = walk.stored[matrix].places[:, :2].astype(np.int64)
            runs = runs_of(raw, places)
        write_seal(file, runs)


# ------------------------------------------------------------------------ the walk


class _Walk:
    """The walk through a file, and what it has seen so far."""

    def __init__(self, raw: io.FileIO, attributes: bool):
        self.raw, self.attributes = raw, attributes
        self.file: h5py.File | None = None
        self.base, self.end = 0, os.fstat(raw.fileno()).st_size
        self.stored: dict[str, Stored] = {}
        self.root_attributes: set[str] = set()
        self._objects: set[int] = set()
        self._links: dict[str, dict[str, int]] = {}
        self._cached: dict[int, bytes] = {}  # what links say of old groups
        self._claimed: dict[int, int] = {}  # where structures begin and end
        self._values: list[NDArray[np.uint64]] = []  # and the values of datasets
        self._texts: list[NDArray] = []  # where texts are said to be
        self._references: set[int] = set()

    def at(self, address: int, n: int) -> bytes:
        """Read bytes that must lie in the file."""
        begin = self.base + address
        if begin + n > self.end:
            raise ValueError(
                f"a structure of {n:,} bytes at byte {begin:,} ends behind the file"
            )
        return read_at(self.raw, begin, n)

    def claim(self, address: int, n: int) -> bytes:
        """Read a structure that nothing else may be part of."""
        content = self.at(address, n)
        if address in self._claimed:
            raise ValueError(
                f"two structures share byte {self.base + address:,}, or lead in a ring"
            )
        self._claimed[address] = address + n
        return content

    # ---- the beginning and the end

    def open(self) -> None:
        """Read the superblock, and the links of the root."""
        start = self._find_signature()
        head = self.at(start, min(120, self.end - start)).ljust(120, b"\0")
        version, cached = head[8], b""
        extension = driver = NOWHERE
        if version in (0, 1):
            sizes, at = head[13:15], 24 + 4 * version
            base, _, end, driver = struct.unpack_from("<4Q", head, at)
            _, root, kind = struct.unpack_from("<2QI", head, at + 32)
            cached = head[at + 56 : at + 72] if kind == 1 else b""
        elif version in (2, 3):
            sizes, at = head[9:11], -24
            base, extension, end, root = struct.unpack_from("<4Q", head, 12)
        else:
            raise ValueError(f"its superblock has the unknown version {version}")
        if sizes != b"\x08\x08":
            raise ValueError("its addresses do not have 8 bytes")
        if base != start or driver != NOWHERE:
            raise ValueError("it is a part of a file in several pieces")
        if end > self.end:
            raise ValueError(f"it has {self.end:,} of {end:,} bytes: it was cut")
        self.base, self.end = start, end
        self.claim(0, at + 72)
        if extension != NOWHERE:
            strange = {kind for kind, _ in self._messages(extension)} - HARMLESS
            if strange:
                raise ValueError(f"its superblock has messages of kind {strange}")
        if cached:
            self._cached[root] = cached
        messages = self._object(root)
        self.root_attributes = {
            _attribute_name(data) for kind, data in messages if kind == ATTRIBUTE
        }
        self._links[""] = self._read_links(messages, "")

    def _find_signature(self) -> int:
        start = 0
        while start + 8 <= self.end:
            if self.at(start, 8) == SIGNATURE:
                return start
            start = max(2 * start, 512)
        raise ValueError("it is no HDF5 file, or its first bytes are damaged")

    def go_on(self, raw: io.FileIO, file: h5py.File) -> None:
        """Go on with the file open, which lists links that have checksums."""
        self.raw, self.file = raw, file
        if LISTED in self._links[""]:
            self._links[""] = self._listed_links("")

    def finish(self) -> None:
        """Check texts and references, and that all that was seen lies apart."""
        self._check_texts()
        strange = self._references - self._objects
        if strange:
            raise ValueError(f"a reference leads to byte {min(strange):,}, no object")
        own = np.array(list(self._claimed.items()), dtype=np.uint64).reshape(-1, 2)
        areas = np.concatenate([own, *self._values])
        areas = areas[np.lexsort(areas.T[::-1])]
        shared = np.flatnonzero(areas[:-1, 1] > areas[1:, 0])
        if len(shared):
            raise ValueError(f"two parts share byte {areas[shared[0] + 1, 0]:,}")

    # ---- objects

    @property
    def names(self) -> set[str]:
        return set(self._links[""])

    def visit(self, name: str) -> bool:
        """Walk through a group or dataset and all in it; say whether it is there."""
        address = self._find(name)
        if address is not None:
            self._visit(address, name)
        return address is not None

    def _find(self, name: str) -> int | None:
        parent, _, own = name.rpartition("/")
        if parent not in self._links:
            address = self._find(parent)
            self._links[parent] = {}
            if address is not None:
                with reading(self.raw.name, f"group {parent!r}"):
                    messages = self._object(address)
                    if not _is_dataset(messages):
                        self._links[parent] = self._read_links(messages, parent)
        return self._links[parent].get(own)

    def _visit(self, address: int, name: str) -> None:
        with reading(self.raw.name, repr(name[:200])):
            if name.count("/") > MAX_DEPTH:
                raise ValueError(f"it lies more than {MAX_DEPTH} groups deep")
            messages = self._object(address)
            if _is_dataset(messages):
                self._read_dataset(messages, name)
                return
            links = self._links[name] = self._read_links(messages, name)
        for own, child in links.items():
            self._visit(child, f"{name}/{own}")

    def _object(self, address: int) -> list[tuple[int, bytes]]:
        """Return the messages of an object, its attributes checked."""
        if address == ELSEWHERE:
            raise ValueError(
                "it is a soft, external or user-defined link, which is not followed"
            )
        messages = self._messages(address)
        self._objects.add(address)
        tables = [data[:16] for kind, data in messages if kind == TABLE]
        if address in self._cached and tables not in ([], [self._cached[address]]):
            raise ValueError("a link to it says something else of where its links are")
        if self.attributes:
            for kind, data in messages:
                if kind == ATTRIBUTE:
                    self._check_attribute(data)
                elif (
                    kind == ATTRIBUTE_INFO
                    and _u64(data, 2 + 2 * (data[1] & 1)) != NOWHERE
                ):
                    raise ValueError(
                        "it has too many attributes: its header has no room"
                    )
        return messages

    def _messages(self, address: int) -> list[tuple[int, bytes]]:
        """Return the messages of an object header, of all its blocks."""
        start = self.at(address, min(40, self.end - self.base - address))
        is_new = start[:4] == b"OHDR"
        if is_new:
            flags = start[5]
            at = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            width = 1 << (flags & 3)
            n = int.from_bytes(start[at : at + width], "little")
            block = self.claim(address, at + width + n + 4)[at + width : -4]
            blocks = [block]
        elif start[:1] == b"\x01":
            flags = 0
            blocks = [self.claim(address, 16 + _u32(start, 8))[16:]]
        else:
            raise ValueError(f"there is no object at byte {self.base + address:,}")
        messages = []
        for block in blocks:
            for kind, data in _split_messages(block, is_new, bool(flags & 4)):
                if kind == CONTINUATION:
                    more = self.claim(*struct.unpack_from("<2Q", data))
                    if is_new and more[:4] != b"OCHK":
                        raise ValueError("its header does not go on where it says")
                    blocks.append(more[4:-4] if is_new else more)
                messages.append((kind, data))
        if not is_new and _u16(start, 2) != len(messages):
            raise ValueError(
                f"its header has {len(messages)} instead of {_u16(start, 2)} messages"
            )
        return messages

    def _check_attribute(self, data: bytes) -> None:
        name, kind, space, values = _attribute_parts(data)
        shape = _shape(space)
        n = math.prod(shape) * kind.size if shape is not None else 0
        if len(values) < n:
            raise ValueError(f"its attribute {name!r} is cut")
        self._check_items(kind, values[:n])

    def _check_items(self, kind: "_Type", content: bytes) -> None:
        """Note where the texts and references in these items lead."""
        if not (kind.texts or kind.references) or not content:
            return
        items = np.frombuffer(content, np.uint8).reshape(-1, kind.size)
        for at in kind.texts:
            self._texts.append(_column(items, at, TEXT))
        for at in kind.references:
            found = _column(items, at, np.dtype("<u8"))
            self._references.update(found[found != 0].tolist())

    # ---- links

    def _read_links(self, messages, name: str) -> dict[str, int]:
        """Return where each name of a group leads to."""
        links: dict[str, int] = {}
        is_group = False
        for kind, data in messages:
            if kind == TABLE:
                is_group = True
                links |= self._table_links(*struct.unpack_from("<2Q", data))
            elif kind == LINK:
                links |= dict([_link(data)])
            elif kind == LINK_INFO:
                is_group = True
                if _u64(data, 2 + 8 * (data[1] & 1)) != NOWHERE:
                    links |= self._listed_links(name)
        if not is_group:
            raise ValueError("it is neither a group nor a dataset")
        return links

    def _listed_links(self, name: str) -> dict[str, int]:
        """Ask HDF5 for the links of a large new group: their heap has checksums."""
        if self.file is None:
            return {LISTED: ELSEWHERE}
        group = self.file[name or "/"].id
        links = group.links
        names: list[bytes] = []
        links.iterate(names.append)
        found = {}
        for own in names:
            info = links.get_info(own)
            is_hard = info.type == h5py.h5l.TYPE_HARD
            found[own.decode()] = info.u if is_hard else ELSEWHERE
        return found

    def _table_links(self, tree: int, heap: int) -> dict[str, int]:
        """Read the links of an old group: a B-tree of tables, with names in a heap."""
        names = self._local_heap(heap)
        links: dict[str, int] = {}
        for places, nodes in self._tree(tree, 0, np.dtype("<u8")):
            if places.max() >= len(names):
                raise ValueError("the names of its links are damaged")
            for node in nodes.tolist():
                self._read_table(node, names, links)
        return links

    def _read_table(self, node: int, names: bytes, links: dict[str, int]) -> None:
        head = self.at(node, 8)
        if head[:5] != b"SNOD\x01":
            raise ValueError(f"there are no links at byte {self.base + node:,}")
        table = self.claim(node, 8 + 40 * _u16(head, 6))
        for at in range(8, len(table), 40):
            place, address, kind = struct.unpack_from("<2QI", table, at)
            own = names[place : names.index(b"\0", place)].decode()
            if not own or "/" in own or own in links or kind > 2:
                raise ValueError(f"its link {own!r} is damaged, or stands twice")
            links[own] = ELSEWHERE if kind == 2 else address
            if kind == 1:
                self._cached[address] = table[at + 24 : at + 40]

    def _local_heap(self, address: int) -> bytes:
        head = self.claim(address, 32)
        n, free, place = struct.unpack_from("<3Q", head, 8)
        names = self.claim(place, n)
        seen = set()
        while free not in (1, NOWHERE) and free not in seen and free + 16 <= n:
            seen.add(free)
            free, size = struct.unpack_from("<2Q", names, free)
            if size > n:
                break
        if head[:5] != b"HEAP\0" or free not in (1, NOWHERE) or names[-1:] != b"\0":
            raise ValueError("the heap of its names is damaged")
        return names

    def _tree(
        self, address: int, kind: int, key: np.dtype
    ) -> list[tuple[NDArray, NDArray[np.uint64]]]:
        """Return keys and children of the leaves of a B-tree, in order.

        A leaf of n children has n + 1 keys.
        """
        entry = np.dtype([("key", key), ("child", "<u8")])
        head = self.at(address, 24)
        level = head[5]
        if level > MAX_LEVELS:
            raise ValueError(f"a B-tree of {level} levels, more than {MAX_LEVELS}")
        bounds: list[tuple] = []
        nodes = [address]
        for depth in range(level, -1, -1):
            found = []
            for node in nodes:
                head = self.at(node, 24)
                n = _u16(head, 6)
                if head[:6] != b"TREE" + bytes([kind, depth]) or (n == 0 and level):
                    raise ValueError(f"there is no B-tree at byte {self.base + node:,}")
                body = self.claim(node, 24 + n * entry.itemsize + key.itemsize)[24:]
                whole = np.frombuffer(body + bytes(8), entry)
                found.append((whole["key"], whole["child"][:-1]))
            if kind == 1:
                _check_order(bounds, found)
            if depth:
                bounds = [
                    (keys[i], keys[i + 1])
                    for keys, _ in found
                    for i in range(len(keys) - 1)
                ]
                nodes = [child for _, children in found for child in children.tolist()]
        return found

    # ---- datasets

    def _read_dataset(self, messages, name: str) -> None:
        by_kind = dict(messages)
        if EXTERNAL in by_kind:
            raise ValueError("its values are in another file, which is not read")
        if not {SPACE, TYPE} <= by_kind.keys():
            raise ValueError("it has no shape, or no type")
        kind, shape = _Type.read(by_kind[TYPE]), _shape(by_kind[SPACE])
        _check_fill(by_kind, kind)
        filters = _filters(by_kind.get(PIPELINE), kind)
        none = np.empty((0, 3), np.uint64)
        stored = Stored(shape or (), kind.size, None, filters, none)
        self.stored[name] = stored
        n = math.prod(shape) * kind.size if shape is not None else 0
        self._read_layout(stored, by_kind[LAYOUT], n, kind, name)
        if kind.texts or kind.references:
            for content in _contents(self.raw, self.base, stored):
                self._check_items(kind, content)

    def _read_layout(
        self, stored: Stored, layout: bytes, n: int, kind: "_Type", name: str
    ) -> None:
        version, storage = layout[0], layout[1]
        if version not in (3, 4, 5) or storage > 3:
            raise ValueError(f"its layout has the unknown version {version}.{storage}")
        if storage == 3:
            raise ValueError("it is virtual: its values are those of other datasets")
        if storage == 2:
            self._read_chunked(stored, layout, name)
        elif stored.filters:
            raise ValueError("it has filters, but no chunks")
        elif storage == 1:
            self._read_contiguous(stored, layout, n)
        elif _u16(layout, 2) != n or len(layout) < 4 + n:
            raise ValueError(f"it has {_u16(layout, 2):,} bytes instead of {n:,}")
        else:
            self._check_items(kind, layout[4 : 4 + n])

    def _read_contiguous(self, stored: Stored, layout: bytes, n: int) -> None:
        address, size = struct.unpack_from("<2Q", layout, 2)
        if not n:
            return
        if address == NOWHERE:
            raise ValueError(f"its {n:,} bytes were never written")
        if size != n:
            raise ValueError(f"it has {size:,} bytes instead of {n:,}")
        self._place(stored, [[address, n, 0]])

    def _read_chunked(self, stored: Stored, layout: bytes, name: str) -> None:
        rank = len(stored.shape)
        if layout[0] == 3:
            dims = struct.unpack_from(f"<{rank + 1}I", layout, 11)
            n_dims = layout[2]
        else:
            n_dims, width = layout[3], layout[4]
            dims = tuple(
                int.from_bytes(layout[5 + i * width : 5 + (i + 1) * width], "little")
                for i in range(rank + 1)
            )
        if n_dims != rank + 1 or rank == 0 or 0 in dims or dims[-1] != stored.itemsize:
            raise ValueError("its chunks are of another shape or type than itself")
        stored.chunks = dims[:-1]
        if stored.chunk_bytes > MAX_CHUNK_BYTES:
            raise ValueError(
                f"a chunk has {stored.chunk_bytes:,} bytes, more than the "
                f"{MAX_CHUNK_BYTES:,} that are read at a time"
            )
        grid = [-(-n // m) for n, m in zip(stored.shape, stored.chunks, strict=True)]
        expected = math.prod(grid)
        if expected > self.end // 8:
            raise ValueError(
                f"it has shape {stored.shape} and {expected:,} chunks, more than a "
                f"file of {self.end:,} bytes can hold"
            )
        if layout[0] == 3:
            found = self._chunks_of_tree(_u64(layout, 3), stored.chunks, grid)
        else:
            found = self._listed_chunks(name)
        if len(found) != expected:
            raise ValueError(
                f"{expected - len(found):,} of {expected:,} chunks are missing"
            )
        self._place(stored, found)
        _check_chunk_sizes(stored)

    def _chunks_of_tree(self, tree: int, chunks, grid) -> NDArray[np.uint64]:
        """Return the places of chunks, once their order and number are right."""
        none = np.empty((0, 3), np.uint64)
        if tree == NOWHERE or 0 in grid:
            return none
        key = np.dtype(
            [("size", "<u4"), ("mask", "<u4"), ("at", "<u8", (len(chunks) + 1,))]
        )
        leaves = self._tree(tree, 1, key)
        keys = np.concatenate([keys[:-1] for keys, _ in leaves])
        corners, steps = keys["at"][:, :-1], np.array(chunks, dtype=np.uint64)
        number = corners // steps
        if (
            (corners % steps).any()
            or keys["at"][:, -1].any()
            or (number >= np.array(grid, dtype=np.uint64)).any()
        ):
            raise ValueError("a chunk lies at a place where none can be")
        order = np.ravel_multi_index(number.T.astype(np.int64), grid)
        if (np.diff(order) <= 0).any():
            raise ValueError("its chunks are not in order, or one stands twice")
        children = np.concatenate([children for _, children in leaves])
        return np.column_stack([children, keys["size"], keys["mask"]])

    def _listed_chunks(self, name: str) -> NDArray[np.uint64]:
        """Ask HDF5 for the chunks of a new layout, whose index has checksums."""
        if self.file is None:
            raise ValueError("its chunks have an index of a new kind")
        found: list[tuple[int, ...]] = []
        dataset = self.file[name]
        dataset.id.chunk_iter(
            lambda c: found.append(
                (*c.chunk_offset, c.byte_offset - self.base, c.size, c.filter_mask)
            )
        )
        whole = np.array(sorted(found), dtype=np.uint64)
        rank = len(dataset.shape)
        corners = whole[:, :rank] if len(whole) else np.empty((0, rank), np.uint64)
        if len(np.unique(corners, axis=0)) < len(corners):
            raise ValueError("one of its chunks stands twice")
        return whole[:, rank:] if len(whole) else np.empty((0, 3), np.uint64)

    def _place(self, stored: Stored, places) -> None:
        stored.places = np.array(places, dtype=np.uint64).reshape(-1, 3)
        begins, sizes = stored.places[:, 0], stored.places[:, 1]
        room = np.uint64(self.end - self.base)
        if ((begins > room) | (sizes > room - np.minimum(begins, room))).any():
            raise ValueError("its values end behind the file")
        self._values.append(np.column_stack([begins, begins + sizes]))

    # ---- texts of any length

    def _check_texts(self) -> None:
        """Check that each text is where its dataset or attribute says.

        They lie in collections, one behind the other: one of length 0 would hold the
        library up for ever, and one longer than was said would overflow.
        """
        if not self._texts:
            return
        texts = np.concatenate(self._texts)
        texts = texts[(texts["heap"] != 0) & (texts["heap"] != NOWHERE)]
        heaps, which = np.unique(texts["heap"], return_inverse=True)
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(heaps) + 1))
        for first in range(0, len(heaps), HEAP_BLOCK):
            last = min(first + HEAP_BLOCK, len(heaps))
            own = order[bounds[first] : bounds[last]]
            keys, lengths = self._read_collections(heaps[first:last].tolist())
            wanted = (which[own] - first) * 2**16 + texts["index"][own]
            at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
            bad = texts["index"][own] >= 2**16
            bad |= (keys[at] != wanted) | (lengths[at] != texts["length"][own])
            if bad.any():
                raise ValueError(f"{bad.sum():,} texts are not where they should be")

    def _read_collections(
        self, heaps: list[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Return 65536 * collection + index of each text, sorted; and its length."""
        found: list[int] = []
        sizes: list[int] = []
        for number, heap in enumerate(heaps):
            size = _u64(self.at(heap, 16), 8)
            words = memoryview(self.claim(heap, size // 8 * 8)).cast("Q")
            at, end, first = 2, len(words), number * 2**16
            if size % 8 or size < 32 or words[0] != COLLECTION:
                raise ValueError(f"there are no texts at byte {self.base + heap:,}")
            while at < end - 1:
                index, size = words[at] & 0xFFFF, words[at + 1]
                if index:
                    found.append(first + index)
                    sizes.append(size)
                    size = (size + 23) & ~7
                elif size % 8:  # of free space, which counts its own header
                    size = 0
                at += size // 8
                if size < 16 or at > end:
                    raise ValueError("a collection of texts is damaged")
        keys, lengths = np.array(found, np.int64), np.array(sizes, np.uint64)
        order = np.argsort(keys, kind="stable")
        keys, lengths = keys[order], lengths[order]
        if not len(keys) or (np.diff(keys) == 0).any():
            raise ValueError("a collection of texts is empty, or has one twice")
        return keys, lengths


# --------------------------------------------------------------------- small parts


def _u16(data: bytes, at: int) -> int:
    return struct.unpack_from("<H", data, at)[0]


def _u32(data: bytes, at: int) -> int:
    return struct.unpack_from("<I", data, at)[0]


def _u64(data: bytes, at: int) -> int:
    return struct.unpack_from("<Q", data, at)[0]


def _padded(n: int) -> int:
    return -(-n // 8) * 8


def _is_dataset(messages) -> bool:
    return any(kind == LAYOUT for kind, _ in messages)


def _column(items: NDArray[np.uint8], at: int, kind: np.dtype) -> NDArray:
    part = np.ascontiguousarray(items[:, at : at + kind.itemsize])
    return part.view(kind).ravel()


def _split_messages(
    block: bytes, is_new: bool, is_ordered: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each message in a block of an object header."""
    at, head = 0, 4 + 2 * is_ordered if is_new else 8
    while at + head <= len(block):
        if is_new:
            kind, n, flags = struct.unpack_from("<BHB", block, at)
        else:
            kind, n, flags = struct.unpack_from("<HHB", block, at)
        at += head
        if at + n > len(block):
            raise ValueError("a message of its header is cut")
        if flags & 2 and kind:
            raise ValueError("its type or shape is shared with others")
        yield kind, block[at : at + n]
        at += n


def _link(data: bytes) -> tuple[str, int]:
    """Return name and address of a link message."""
    flags, at = data[1], 2
    kind = data[at] if flags & 8 else 0
    at += (flags >> 3 & 1) + 8 * (flags >> 2 & 1) + (flags >> 4 & 1)
    width = 1 << (flags & 3)
    n = int.from_bytes(data[at : at + width], "little")
    at += width
    own = data[at : at + n].decode()
    return own, _u64(data, at + n) if kind == 0 else ELSEWHERE


def _shape(data: bytes) -> tuple[int, ...] | None:
    """Return the shape that a message says; None where there are no values at all."""
    version, rank = data[0], data[1]
    if version not in (1, 2) or rank > 32:
        raise ValueError("its shape is damaged")
    if version == 2 and data[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", data, 8 if version == 1 else 4)


@dataclass
class _Type:
    """The type of values: bytes of one, and where texts and references are in it."""

    size: int
    texts: list[int] = field(default_factory=list)
    references: list[int] = field(default_factory=list)
    end: int = 0  # where the message goes on

    @classmethod
    def read(cls, data: bytes, at: int = 0, depth: int = 0) -> "_Type":
        """Read a type from a message, and check it."""
        version, kind = data[at] >> 4, data[at] & 15
        bits, size = int.from_bytes(data[at + 1 : at + 4], "little"), _u32(data, at + 4)
        new = cls(size, end=at + 8)
        if not 1 <= version <= 5 or not 0 < size <= MAX_ITEM_BYTES or depth > 3:
            raise ValueError(
                f"its type is damaged, or has more than {MAX_ITEM_BYTES:,} bytes"
            )
        if kind in (0, 1):
            new._read_number(data, kind)
        elif kind == 6:
            new._read_members(data, version, bits & 0xFFFF, depth)
        elif kind == 7 and bits & 15 == 0 and size == 8:
            new.references = [0]
        elif kind == 8:
            new._read_names(data, version, bits & 0xFFFF, depth)
        elif kind == 9 and bits & 15 == 1 and size == 16:
            base = cls.read(data, new.end, depth + 1)
            if base.size != 1:
                raise ValueError("its texts are not of bytes")
            new.texts, new.end = [0], base.end
        elif kind != 3:
            raise ValueError(f"it has a type of class {kind}, which is not read")
        return new

    def _read_number(self, data: bytes, kind: int) -> None:
        shift, precision = struct.unpack_from("<2H", data, self.end)
        bits = 8 * self.size
        if self.size > 16 or not precision or shift + precision > bits:
            raise ValueError("its type of numbers is damaged")
        self.end += 4
        if kind == 1:
            places = struct.unpack_from("<4B", data, self.end)
            self.end += 8
            if any(
                first + n > bits or n == 0
                for first, n in zip(places[::2], places[1::2], strict=True)
            ):
                raise ValueError("its type of numbers is damaged")

    def _read_members(self, data: bytes, version: int, n: int, depth: int) -> None:
        done = 0
        for _ in range(n):
            length = data.index(b"\0", self.end) + 1 - self.end
            self.end += _padded(length) if version < 3 else length
            width = 4 if version < 3 else (self.size.bit_length() + 7) // 8
            first = int.from_bytes(data[self.end : self.end + width], "little")
            self.end += width
            if version == 1:
                if data[self.end]:
                    raise ValueError("it has arrays as values")
                self.end += 28
            member = _Type.read(data, self.end, depth + 1)
            if first < done or first + member.size > self.size:
                raise ValueError("the fields of its type overlap")
            done, self.end = first + member.size, member.end
            self.texts += [first + at for at in member.texts]
            self.references += [first + at for at in member.references]

    def _read_names(self, data: bytes, version: int, n: int, depth: int) -> None:
        base = _Type.read(data, self.end, depth + 1)
        self.end = base.end
        for _ in range(n):
            length = data.index(b"\0", self.end) + 1 - self.end
            self.end += _padded(length) if version < 3 else length
        self.end += n * base.size
        if base.size != self.size or self.end > len(data) or base.texts or not n:
            raise ValueError("its type of named values is damaged")


def _attribute_name(data: bytes) -> str:
    at = 9 if data[0] == 3 else 8
    return data[at : data.index(b"\0", at)].decode(errors="replace")


def _attribute_parts(data: bytes) -> tuple[str, _Type, bytes, bytes]:
    """Return name, type, shape and values of an attribute."""
    version, flags = data[0], data[1]
    sizes = struct.unpack_from("<3H", data, 2)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise ValueError("one of its attributes is damaged, or shares its type")
    at, parts = 9 if version == 3 else 8, []
    for n in sizes:
        parts.append(data[at : at + n])
        at += _padded(n) if version == 1 else n
    name, kind, space = parts
    if at > len(data) or name[-1:] != b"\0":
        raise ValueError("one of its attributes is cut")
    return name[:-1].decode(), _Type.read(kind), space, data[at:]


def _check_fill(by_kind: dict[int, bytes], kind: _Type) -> None:
    """Check that the value of what was not written has the size of all others."""
    size = 0
    if FILL in by_kind:
        data = by_kind[FILL]
        if data[0] in (1, 2) and (data[0] == 1 or data[3]):
            size = struct.unpack_from("<i", data, 4)[0]
            rest = len(data) - 8
        elif data[0] == 3:
            size = struct.unpack_from("<i", data, 2)[0] if data[1] & 0x20 else 0
            rest = len(data) - 6
        elif data[0] != 2:
            raise ValueError("its fill value is damaged")
    elif OLD_FILL in by_kind:
        size, rest = _u32(by_kind[OLD_FILL], 0), len(by_kind[OLD_FILL]) - 4
    if size > 0 and (size != kind.size or rest < size or kind.texts):
        raise ValueError("its fill value is not of its type")


def _filters(data: bytes | None, kind: _Type) -> tuple[str, ...]:
    """Return the names of the filters of a dataset; raise for those not known."""
    if data is None:
        return ()
    version, n = data[0], data[1]
    at = 8 if version == 1 else 2
    names: list[str] = []
    for _ in range(n):
        code = _u16(data, at)
        at += 2
        has_name = version == 1 or code >= 256
        length = _u16(data, at) if has_name else 0
        at += 2 * has_name
        _, n_values = struct.unpack_from("<2H", data, at)
        at += 4 + (_padded(length) if version == 1 else length)
        values = struct.unpack_from(f"<{n_values}I", data, at)
        at += 4 * (n_values + (n_values % 2 if version == 1 else 0))
        if code not in FILTERS:
            raise ValueError(
                f"it is packed by filter {code}, of which there are only "
                f"{', '.join(FILTERS.values())} here"
            )
        names.append(FILTERS[code])
        # HDF5 leaves it out of each chunk of texts, and does not note their size.
        known = () if kind.texts else (kind.size,)
        if names[-1] == "shuffle" and values not in (known, (kind.size,)):
            raise ValueError("its bytes are shuffled as of another type")
    if version not in (1, 2) or len(set(names)) < n or {"gzip", "lzf"} <= set(names):
        raise ValueError(f"its filters are damaged: {names}")
    return tuple(names)


def _check_order(bounds: list[tuple], nodes) -> None:
    """Check that the keys of each node of a B-tree ascend, within those of its parent.

    The library finds a chunk by them; one that it does not find is all zeros to it.
    """
    for i, (keys, _) in enumerate(nodes):
        corners = keys["at"].tolist()
        if bounds:
            low, high = (key["at"].tolist() for key in bounds[i])
            if corners[0] < low or corners[-2] >= high:
                raise ValueError("its chunks are not in order")
        if any(a >= b for a, b in pairwise(corners)):
            raise ValueError("its chunks are not in order")


def _check_chunk_sizes(stored: Stored) -> None:
    """Check that chunks of these sizes can unpack to what they should."""
    size = stored.chunk_bytes
    sizes = stored.places[:, 1]
    extra = 4 if "fletcher32" in stored.filters else 0
    if {"gzip", "lzf"} & set(stored.filters):
        # What does not shrink grows a little, and what is left out keeps its size.
        bad = (sizes > size + size // 64 + 64) | (sizes * np.uint64(MAX_RATIO) < size)
    else:
        bad = (sizes != size) & (sizes != size + extra)
    if bad.any():
        raise ValueError(
            f"a chunk has {sizes[bad][0]:,} bytes in the file, which cannot be the "
            f"{size:,} of its shape"
        )


# -------------------------------------------------------------------- what is packed


def _contents(raw: io.FileIO, base: int, stored: Stored) -> Iterator[bytes]:
    """Yield the unpacked bytes of each stretch or chunk."""
    size = stored.chunk_bytes
    for address, n, mask in stored.places.tolist():
        content = read_at(raw, base + address, n)
        for i, name in reversed(list(enumerate(stored.filters))):
            if mask >> i & 1:
                continue
            if name == "gzip":
                content = inflate(content, size + 4)
            elif name == "lzf":
                content = _unpack_lzf(content, size + 4)
            elif name == "fletcher32":
                content = content[:-4]
            elif len(content) == size:
                planes = np.frombuffer(content, np.uint8).reshape(stored.itemsize, -1)
                content = planes.T.tobytes()
        if len(content) != size:
            raise ValueError(f"a chunk has {len(content):,} bytes instead of {size:,}")
        yield content


def inflate(packed, most: int) -> bytes:
    """Undo gzip of what has at most so many bytes."""
    machine = zlib.decompressobj()
    content = machine.decompress(packed, most + 1)
    if len(content) > most:
        raise ValueError(f"a chunk unpacks to more than {most:,} bytes")
    if not machine.eof:
        raise ValueError("a packed chunk is cut")
    return content


def _unpack_lzf(packed: bytes, most: int) -> bytes:
    out, at, end = bytearray(), 0, len(packed)
    while at < end:
        control = packed[at]
        at += 1
        if control < 32:
            out += packed[at : at + control + 1]
            at += control + 1
        else:
            n = control >> 5
            if n == 7:
                n += packed[at]
                at += 1
            back = ((control & 31) << 8 | packed[at]) + 1
            at += 1
            if back > len(out):
                raise ValueError("a packed chunk is damaged")
            start, n = len(out) - back, n + 2
            piece = out[start : start + n]
            out += (piece * (-(-n // back)))[:n]
        if len(out) > most:
            raise ValueError(f"a chunk unpacks to more than {most:,} bytes")
    if at != end:
        raise ValueError("a packed chunk is cut")
    return bytes(out)
