"""Progress bars: one rule for when they are shown."""

import sys
import warnings
from typing import Any

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # A notebook without ipywidgets gets a bar of text, which needs no advice.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(*, shown: bool | int | str, **options: Any) -> tqdm:
    """Return a tqdm bar; in a notebook a widget, where ipywidgets is installed.

    Parameters
    ----------
    shown : bool, int or "auto"
        A parameter `verbose` or `progress`. "auto" shows the bar on a terminal and in
        a notebook, after two seconds; True and numbers above 0 always show it.
    **options : dict
        Passed to tqdm, such as `total`, `initial`, `desc` and `unit`.
    """
    if isinstance(shown, str):
        # None hides it where the output is no terminal, as a notebook's is not.
        return tqdm(disable=False if _in_notebook() else None, delay=2, **options)
    return tqdm(disable=not shown, **options)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
