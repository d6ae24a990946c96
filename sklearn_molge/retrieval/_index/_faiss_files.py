"""An index of faiss in a file beside a store, and what it was built from."""

import json
import os
from pathlib import Path
from typing import Any

from sklearn_molge.retrieval._index._manifest import replace_file

__all__ = ["import_faiss", "load", "save"]

_INDEX = "index.faiss"
_DESCRIPTION = "index.faiss.json"


def import_faiss() -> Any:
    """Return the module.

    Raises
    ------
    ImportError
        That names the extra.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "backend='faiss' needs the package faiss-cpu: "
            'pip install "sklearn-molge[faiss]".'
        ) from error
    return faiss


def save(folder: Path, index: Any, description: dict[str, Any]) -> None:
    """Put an index in the place of another; a kill leaves one of both, or none."""
    partial = folder / f"{_INDEX}.{os.getpid()}.partial"
    import_faiss().write_index(index, str(partial))
    # Without its description a file does not count.
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    os.replace(partial, folder / _INDEX)
    content = {**description, "n_bytes": (folder / _INDEX).stat().st_size}
    replace_file(folder / _DESCRIPTION, json.dumps(content).encode())


def load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read an index and its description; None where it is not there whole."""
    path = folder / _INDEX
    try:
        description = json.loads((folder / _DESCRIPTION).read_bytes())
        whole = path.stat().st_size == description.pop("n_bytes")
    except (FileNotFoundError, ValueError, KeyError):
        return None, {}
    if not whole:
        return None, {}
    return import_faiss().read_index(str(path)), description
