"""Packages of the extras: imported where they are used, or named with their extra."""

from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_optional", "import_pyplot"]


def import_optional(module: str, *, extra: str, needed_by: str) -> Any:
    """Import a module of an extra.

    Parameters
    ----------
    module : str
        Name of the module, as "matplotlib.pyplot".
    extra : str
        The extra of sklearn-molge that brings it.
    needed_by : str
        What the user called, for the message.

    Raises
    ------
    ImportError
        If the module cannot be imported; the message says how to install it.
    """
    try:
        imported: ModuleType = import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{needed_by} needs {package}: pip install "sklearn-molge[{extra}]"'
        ) from error
    return imported


def import_pyplot(display: str) -> Any:
    """Return matplotlib.pyplot for a Display that was given no axes."""
    return import_optional(
        "matplotlib.pyplot", extra="plot", needed_by=f"{display}.plot"
    )
