"""A report as one HTML page that needs no other file and no network."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, StrictUndefined, Template

from sklearn_molge.evaluation._report_figure import ReportFigure
from sklearn_molge.evaluation._report_tables import (
    TableView,
    check_frame,
    keeps_index,
)

if TYPE_CHECKING:
    from sklearn_molge.evaluation._report import StudyReport

__all__ = ["ordered_sections", "render_fragment", "render_page"]

_TEMPLATE = "_report.html.jinja"
_UNPLACED = "Other results"
# More rows than this are left to the file of the table.
_N_ROWS = 100
# More rows than this scroll inside their own box on a screen.
_N_TALL = 40
# More intervals than this in a row go below their numbers.
_N_BESIDE = 2
# Figures of more points (1/72 inch) than this do not fit a telephone.
_N_WIDE = 560
_MARKS = {
    "chance": "what a random ranking scores",
    "published": "not computed in this run; the source is named below the table",
    "failed": "the method raised an error, shown below the table",
}


@dataclass(frozen=True)
class _Table:
    """A table as the template needs it."""

    name: str
    number: int
    caption: str
    view: TableView
    csv: str  # a data URI
    kind: str = "table"

    @property
    def tall(self) -> bool:
        return len(self.view.rows) > _N_TALL

    @property
    def stacked(self) -> bool:
        """Whether intervals go below their numbers, for want of width."""
        return sum(c.has_interval for c in self.view.columns) > _N_BESIDE


@dataclass(frozen=True)
class _Figure:
    """A figure as the template needs it."""

    name: str
    number: int
    figure: ReportFigure
    image: str  # a data URI
    kind: str = "figure"

    @property
    def wide(self) -> bool:
        """Whether it scrolls on a telephone, where it would be too small to read."""
        size = re.search(r'viewBox="\S+ \S+ ([\d.]+)', self.figure.svg)
        return size is not None and float(size[1]) > _N_WIDE


def ordered_sections(report: "StudyReport") -> list[tuple[str, list[str]]]:
    """Return titles and names in the order of the page; no result is left out."""
    sections = [(title, list(names)) for title, names in report.sections.items()]
    placed = {name for _, names in sections for name in names}
    rest = [n for n in [*report.tables, *report.figures] if n not in placed]
    if rest:
        sections.append((_UNPLACED if sections else "Results", rest))
    return sections


def render_page(report: "StudyReport") -> str:
    """Return the whole page."""
    sections = _sections(report)
    views = [i.view for _, items in sections for i in items if isinstance(i, _Table)]
    marks = {mark for view in views for mark in view.marks}
    columns = {c.name: c for view in views for c in view.columns if c.help}
    return _template().render(
        page=True,
        report=report,
        sections=sections,
        marks={mark: text for mark, text in _MARKS.items() if mark in marks},
        columns=list(columns.values()),
        has_intervals=any(view.has_intervals for view in views),
        seconds={stage: duration(value) for stage, value in report.seconds.items()},
        total=duration(sum(report.seconds.values())),
    )


def render_fragment(report: "StudyReport") -> str:
    """Return the tables alone, for a notebook."""
    return _template().render(page=False, report=report, sections=_sections(report))


def duration(seconds: float) -> str:
    """Return a run time in the units that one would say it in."""
    if not seconds >= 0:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _sections(report: "StudyReport") -> list[tuple[str, list[Any]]]:
    """Return titles and numbered tables and figures, in the order of the page."""
    n_tables = n_figures = 0
    sections: list[tuple[str, list[Any]]] = []
    for title, names in ordered_sections(report):
        items: list[Any] = []
        for name in names:
            if name in report.tables:
                n_tables += 1
                caption = report.captions.get(name) or name.replace("_", " ")
                items.append(_table(name, n_tables, caption, report.tables[name]))
            else:
                n_figures += 1
                figure = report.figures[name]
                image = _data_uri("image/svg+xml", figure.svg)
                items.append(_Figure(name, n_figures, figure, image))
        sections.append((title, items))
    return sections


def _table(name: str, number: int, caption: str, frame: pd.DataFrame) -> _Table:
    check_frame(name, frame)
    csv = frame.to_csv(index=keeps_index(frame), lineterminator="\n")
    view = TableView.from_frame(frame, max_rows=_N_ROWS)
    uri = f"data:text/csv;charset=utf-8,{quote(csv)}"
    return _Table(name, number, caption, view, uri)


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _sha256(text: str) -> str:
    """Return what a content security policy knows a script by."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _minus(text: str) -> str:
    """Set the minus signs of a number."""
    return re.sub(r"(?<![\w.])-(?=\d)|(?<=e)-(?=\d)", "\N{MINUS SIGN}", text)


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(sha256=_sha256, minus=_minus)
    source = files("sklearn_molge.evaluation").joinpath(_TEMPLATE)
    return environment.from_string(source.read_text(encoding="utf-8"))
