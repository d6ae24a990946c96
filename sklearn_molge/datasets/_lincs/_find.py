"""Finding the matrices and tables of the public L1000 releases by their names."""

import re
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

__all__ = ["FoundFiles", "find_files"]

TABLE = r".*\.(txt|tsv|csv)(\.gz)?$"


@dataclass
class FoundFiles:
    """The files of one or more releases, by what they hold."""

    where: str
    matrices: list[Path] = field(default_factory=list)
    profiles: list[Path] = field(default_factory=list)
    compounds: list[Path] = field(default_factory=list)
    genes: list[Path] = field(default_factory=list)


def find_files(source: object, level: int) -> FoundFiles:
    """Find the matrices of a level, and the tables that go with them.

    Parameters
    ----------
    source : path or iterable of paths
        Folders (their own files, not those of sub-folders) and single files. A matrix
        that is given by its own path need not have the level in its name.
    level : int
        Level of the data.

    Returns
    -------
    files : FoundFiles
        In the order of `source`, by name within a folder. Where both ``x`` and
        ``x.gz`` are there, ``x`` is taken.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or there is no matrix of the level.
    ValueError
        If a matrix is packed, or is given by its own path and of another level.
    """
    roots = _as_paths(source)
    kinds = {
        "matrices": rf"level_?{level}(?!\d).*\.gctx?(\.gz)?$",
        "profiles": ("sig_?info" if level == 5 else "inst_?info") + TABLE,
        "compounds": "(pert|compound)_?info" + TABLE,
        "genes": "gene_?info" + TABLE,
    }
    files = FoundFiles(where=", ".join(repr(str(root)) for root in roots))
    seen: list[str] = []
    for root in roots:
        paths = sorted(root.iterdir()) if root.is_dir() else [root]
        names = {path.name for path in paths}
        for path in paths:
            if path.suffix == ".gz" and path.stem in names:
                continue
            seen.append(path.name)
            for kind, pattern in kinds.items():
                if re.search(pattern, path.name, re.IGNORECASE):
                    getattr(files, kind).append(path)
        if _is_unnamed_matrix(root, level):
            files.matrices.append(root)
    if not files.matrices:
        shown = ", ".join(seen[:20]) + (", ..." if len(seen) > 20 else "")
        raise FileNotFoundError(
            f"No matrix of level {level} in {files.where}: looked for names that match "
            f"{kinds['matrices']!r}, found {shown or 'no file'}."
        )
    packed = [
        path.name for path in files.matrices if path.name.lower().endswith(".gctx.gz")
    ]
    if packed:
        raise ValueError(
            f"A packed matrix cannot be read in parts: unpack {', '.join(packed)} in "
            f"{files.where} first (gunzip)."
        )
    return files


def _as_paths(source: object) -> list[Path]:
    entries = source if isinstance(source, (list, tuple)) else [source]
    roots = []
    for entry in entries:
        if not isinstance(entry, (str, PathLike)):
            raise TypeError(
                "folder must be a path or a list of paths. "
                f"Got an entry of type {type(entry).__name__}."
            )
        roots.append(Path(entry))
        if not roots[-1].exists():
            raise FileNotFoundError(f"No such file or folder: {str(entry)!r}.")
    return roots


def _is_unnamed_matrix(path: Path, level: int) -> bool:
    if path.is_dir() or not re.search(r"\.gctx?(\.gz)?$", path.name, re.IGNORECASE):
        return False
    named = re.search(r"level_?(\d)", path.name, re.IGNORECASE)
    if named and int(named[1]) != level:
        raise ValueError(f"{str(path)!r} is of level {named[1]}. Got level={level}.")
    return named is None
