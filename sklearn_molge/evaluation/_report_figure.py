"""ReportFigure: a picture with words, drawn from a matplotlib figure."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ReportFigure"]

# More points of one axes than this are drawn as an image inside the SVG.
_N_VECTOR_POINTS = 1000


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a report: a picture, with a title, a caption and words for it.

    Make one from a matplotlib figure with :meth:`from_figure`.

    Parameters
    ----------
    title : str
        A few words, above the figure and in the table of contents.
    caption : str
        What the figure shows, and how to read it.
    alt : str
        What a reader who cannot see the figure should know of it.
    svg : str
        The picture, as the text of an SVG file.
    png : bytes, default=b""
        The same picture as a PNG file; empty for none.

    See Also
    --------
    StudyReport : The report that the figure goes into.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn_molge.evaluation import ReportFigure
    >>> picture = Figure(figsize=(2, 2))
    >>> _ = picture.subplots().plot([1, 10, 100], [0.0, 0.1, 0.7])
    >>> figure = ReportFigure.from_figure(
    ...     picture, title="Recall", caption="Recall at k.", alt="A rising curve."
    ... )
    >>> figure.svg[:4]
    '<svg'
    """

    title: str
    caption: str
    alt: str
    svg: str
    png: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        for name in ("title", "caption", "alt"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} must be a str with words. Got {value!r}.")
        if not isinstance(self.svg, str) or not self.svg.lstrip().startswith("<svg"):
            shown = repr(self.svg)[:60]
            raise ValueError(f"svg must be a str that starts with '<svg'. Got {shown}.")

    @classmethod
    def from_figure(
        cls, figure: Any, *, title: str, caption: str, alt: str, dpi: float = 200.0
    ) -> "ReportFigure":
        """Draw a matplotlib figure as SVG and PNG; the figure is left as it was.

        Letters become outlines, so that the figure looks the same everywhere.
        Scatters become images inside the SVG where an axes has more than 1,000 points.

        Parameters
        ----------
        figure : matplotlib Figure
            The figure. It is not closed.
        title, caption, alt : str
            See :class:`ReportFigure`.
        dpi : float, default=200.0
            Resolution of the PNG and of images inside the SVG, in dots per inch.

        Returns
        -------
        figure : ReportFigure
        """
        import matplotlib as mpl

        options: dict[str, Any] = {"bbox_inches": "tight", "dpi": dpi}
        svg, png = io.BytesIO(), io.BytesIO()
        # The salt and the missing date make equal figures equal files.
        settings: Any = {"svg.fonttype": "path", "svg.hashsalt": "sklearn_molge"}
        with mpl.rc_context(settings):
            with _rasterized_scatters(figure):
                metadata = {"Date": None, "Creator": None}
                figure.savefig(svg, format="svg", metadata=metadata, **options)
            figure.savefig(png, format="png", metadata={"Software": None}, **options)
        text = svg.getvalue().decode("utf-8")
        # The lines before <svg> name a file on the web.
        return cls(title, caption, alt, text[text.index("<svg") :], png.getvalue())


@contextmanager
def _rasterized_scatters(figure: Any) -> Iterator[None]:
    """Draw large scatters as images within the context."""
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

    scatters = [ax.findobj(PathCollection) for ax in figure.axes]
    large = [
        artist
        for group in scatters
        if sum(len(each.get_offsets()) for each in group) > _N_VECTOR_POINTS
        for artist in group
    ]
    large += [
        artist
        for artist in figure.findobj(Line2D)
        if artist.get_marker() not in ("None", None, "", " ")
        and len(artist.get_xdata()) > _N_VECTOR_POINTS
    ]
    before = [artist.get_rasterized() for artist in large]
    for artist in large:
        artist.set_rasterized(True)
    try:
        yield
    finally:
        for artist, value in zip(large, before, strict=True):
            artist.set_rasterized(value)
