"""What a report is made of: tables and figures with their words, in sections."""

import io
import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, XMLParser

import pandas as pd

from sklearn_molge._utils.optional import import_optional
from sklearn_molge.evaluation.report._table_files import frame_to_csv, keeps_index

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ReportFigure", "ReportTable", "Section", "new_figure"]

# What runs, or shows a page, in an SVG that a browser opens.
_ACTIVE = frozenset(
    "script handler listener set animate animatetransform animatemotion discard "
    "foreignobject iframe embed object".split()
)
_PAGES = ("http://www.w3.org/1999/xhtml", "http://www.w3.org/1998/Math/MathML")
_INSIDE = re.compile(r"#|data:image/(png|jpeg|gif|webp);base64,")
_CSS_OUTSIDE = re.compile(
    r"@import|image(-set)?\(|src\(|expression\(|\\|url\((?!\s*[\"']?#)", re.I
)
# More points of one axes than this are drawn as an image inside the SVG.
_N_VECTOR_POINTS = 1000


@dataclass(frozen=True, eq=False)
class ReportTable:
    """A table of a report: tidy, numeric, with all digits.

    Columns ``s``, ``s_low`` and ``s_high`` are shown as one, a number with its
    interval. Where there is a column ``label``, it is shown in place of the index.
    Rows are marked that are chance (the index is "chance"), published (``source`` is
    not "this run"), failed (``error`` is not empty) or controls (``control``, which
    says why, is not empty); these are shown last, below a line.

    Parameters
    ----------
    frame : DataFrame
        The table.
    caption : str, default=""
        What it shows, in a sentence.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.evaluation import ReportTable
    >>> frame = pd.DataFrame({"mrr": [0.25]}, index=["CCA"])
    >>> print(ReportTable(frame, "One method.").to_csv())
    ,mrr
    CCA,0.25
    <BLANKLINE>
    """

    frame: pd.DataFrame
    caption: str = ""

    def check(self, name: str) -> None:
        """Refuse what cannot be written as a table.

        Parameters
        ----------
        name : str
            Name of the table, for the message.

        Raises
        ------
        TypeError, ValueError
            If `frame` is no DataFrame, has no column, or names two columns alike or
            by anything but a str.
        """
        frame = self.frame
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"tables[{name!r}] must be a DataFrame. Got {type(frame)}.")
        if not all(isinstance(column, str) for column in frame.columns):
            raise ValueError(
                f"tables[{name!r}] must have columns named by str. Got "
                f"{list(frame.columns)!r}."
            )
        if not len(frame.columns):
            raise ValueError(
                f"tables[{name!r}] must have at least one column. Got none."
            )
        names = [*frame.index.names, *frame.columns] if keeps_index(frame) else []
        twice = {str(each) for each in names if names.count(each) > 1}
        if twice or not frame.columns.is_unique:
            raise ValueError(
                f"tables[{name!r}] must have distinct names of index and columns. Got "
                f"{names or list(frame.columns)!r}."
            )

    def to_csv(self) -> str:
        """Return the text of a CSV file, which a spreadsheet opens as it is.

        Returns
        -------
        text : str
            Without the index where that is a mere count of rows. A text that would be
            a formula (that begins with ``=``, ``+``, ``-``, ``@``, a tab or an end of a
            line) has a single quote before it; numbers are as they are.
        """
        return frame_to_csv(self.frame)


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
        The picture, as the text of an SVG file. What would run a script or load
        another file is refused: scripts, handlers of events, animations, pages inside
        the picture, references to anything but its own parts and embedded images.
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
        try:
            parser = XMLParser(target=_PictureOnly())
            parser.feed(self.svg)
            parser.close()
        except (ParseError, ValueError) as error:
            raise ValueError(
                f"svg must be a picture and nothing more: {error}."
            ) from error

    @classmethod
    def from_figure(
        cls, figure: "Figure", *, title: str, caption: str, alt: str, dpi: float = 200.0
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

        svg, png = io.BytesIO(), io.BytesIO()
        draw = partial(figure.savefig, bbox_inches="tight", dpi=dpi)
        # The salt and the missing date make equal figures equal files.
        with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "sklearn_molge"}):
            with _rasterized_scatters(figure):
                draw(svg, format="svg", metadata={"Date": None, "Creator": None})
            draw(png, format="png", metadata={"Software": None})
        text = svg.getvalue().decode("utf-8")
        # The lines before <svg> name a file on the web.
        return cls(title, caption, alt, text[text.index("<svg") :], png.getvalue())


class _PictureOnly:
    """What a parser of XML tells of an SVG, refused where it is more than a picture."""

    def __init__(self):
        self.open: list[str] = []
        self.style = ""

    def start(self, tag, attributes):
        space, _, name = tag.rpartition("}")
        name = name.lower()
        self.open.append(name)
        if name in _ACTIVE or space.lstrip("{") in _PAGES:
            raise ValueError(f"it holds <{name}>")
        for key, value in attributes.items():
            key = key.rpartition("}")[2].lower()
            is_link = key in ("href", "src", "base")
            if key.startswith("on"):
                raise ValueError(f"it holds {key}=")
            if is_link and not _INSIDE.match(value.strip()):
                raise ValueError(f"it refers to {value!r:.100}")
            if "(" in value or key == "style":
                self._check_css(value)

    def data(self, text):
        if "style" in self.open:
            self.style += text  # it comes in pieces

    def end(self, tag):
        if self.open.pop() == "style":
            self._check_css(self.style)

    def pi(self, target, data=None):
        raise ValueError(f"it holds <?{target}>")

    def close(self):
        return None

    def _check_css(self, text):
        found = _CSS_OUTSIDE.search(text)
        if found:
            raise ValueError(f"its style holds {found[0]!r}")


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure that needs no screen and no pyplot; sizes in inches."""
    plot = import_optional(
        "matplotlib.figure", extra="plot", needed_by="A figure of a report"
    )
    figure: Figure = plot.Figure(figsize=(width, height), layout="constrained")
    return figure


@dataclass(frozen=True, eq=False)
class Section:
    """A section of a report.

    Parameters
    ----------
    title : str
        Its heading.
    items : mapping of str to ReportTable or ReportFigure
        What it holds, by name, in the order of the page. Names become names of files:
        letters, digits and any of ``_ . @ + -``, each once in a report.
    text : str, default=""
        A paragraph above them.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.evaluation import ReportTable, Section
    >>> table = ReportTable(pd.DataFrame({"mrr": [0.25]}, index=["CCA"]))
    >>> Section("Results", {"scores": table}).title
    'Results'
    """

    title: str
    items: Mapping[str, ReportTable | ReportFigure]
    text: str = ""


@contextmanager
def _rasterized_scatters(figure):
    """Draw large scatters as images within the context."""
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

    large = []
    for ax in figure.axes:
        scatters = ax.findobj(PathCollection)
        if sum(len(each.get_offsets()) for each in scatters) > _N_VECTOR_POINTS:
            large += scatters
    for line in figure.findobj(Line2D):
        marked = line.get_marker() not in ("None", None, "", " ")
        if marked and len(line.get_xdata()) > _N_VECTOR_POINTS:
            large.append(line)
    before = [artist.get_rasterized() for artist in large]
    for artist in large:
        artist.set_rasterized(True)
    try:
        yield
    finally:
        for artist, value in zip(large, before, strict=True):
            artist.set_rasterized(value)
