"""Progress bars: one rule for when they are shown."""

from typing import Any

from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(*, shown: bool | int | str, **options: Any) -> tqdm:
    """Return a tqdm bar.

    Parameters
    ----------
    shown : bool, int or "auto"
        A parameter `verbose` or `progress`. "auto" shows the bar on a terminal, after
        two seconds; True and numbers above 0 always show it.
    **options : dict
        Passed to tqdm, such as `total`, `initial`, `desc` and `unit`.
    """
    if isinstance(shown, str):
        return tqdm(disable=None, delay=2, **options)
    return tqdm(disable=not shown, **options)
