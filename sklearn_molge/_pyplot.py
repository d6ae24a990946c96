"""matplotlib.pyplot for the Displays, which draw without it on axes that are given."""

from typing import Any

__all__ = ["import_pyplot"]


def import_pyplot(display: str) -> Any:
    """Return matplotlib.pyplot, or say which extra a display needs."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{display}.plot needs matplotlib: pip install "sklearn-molge[plot]"'
        ) from error
    return plt
