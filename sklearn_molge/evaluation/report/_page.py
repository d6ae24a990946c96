"""Sections as one HTML page that needs no other file and no network."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template

from sklearn_molge.evaluation.report._sections import ReportFigure, ReportTable, Section
from sklearn_molge.evaluation.report._table_view import Columns, TableView

__all__ = ["render_fragment", "render_page"]

_TEMPLATE = "_page.html.jinja"
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


def render_page(
    sections: Sequence[Section], columns: Columns, about: Mapping[str, object]
) -> str:
    """Return the whole page.

    `about` has the words around the sections: title, description, notes, command,
    settings, versions, and the seconds of each stage.
    """
    numbered = list(_numbered(sections, columns))
    views = [
        item.view for _, items in numbered for item in items if isinstance(item, _Table)
    ]
    marks = {mark for view in views for mark in view.marks}
    shown = {c.name: c for view in views for c in view.columns if c.info.help}
    seconds: Mapping[str, float] = about["seconds"]  # type: ignore[assignment]
    return _template().render(
        page=True,
        report=about,
        sections=numbered,
        marks={mark: text for mark, text in _MARKS.items() if mark in marks},
        columns=list(shown.values()),
        has_intervals=any(view.has_intervals for view in views),
        seconds={stage: duration(value) for stage, value in seconds.items()},
        total=duration(sum(seconds.values())),
    )


def render_fragment(
    sections: Sequence[Section], columns: Columns, about: Mapping[str, object]
) -> str:
    """Return the tables alone, for a notebook."""
    return _template().render(
        page=False, report=about, sections=list(_numbered(sections, columns))
    )


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


def _numbered(
    sections: Sequence[Section], columns: Columns
) -> Iterator[tuple[Section, list[_Table | _Figure]]]:
    """Yield each section with its numbered tables and figures."""
    n_tables = n_figures = 0
    for section in sections:
        items: list[_Table | _Figure] = []
        for name, item in section.items.items():
            if isinstance(item, ReportTable):
                n_tables += 1
                items.append(_table(name, n_tables, item, columns))
            else:
                n_figures += 1
                image = _data_uri("image/svg+xml", item.svg)
                items.append(_Figure(name, n_figures, item, image))
        yield section, items


def _table(name: str, number: int, table: ReportTable, columns: Columns) -> _Table:
    table.check(name)
    view = TableView.from_frame(table.frame, columns, max_rows=_N_ROWS)
    csv = f"data:text/csv;charset=utf-8,{quote(table.to_csv())}"
    caption = table.caption or name.replace("_", " ")
    return _Table(name, number, caption, view, csv)


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
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(sha256=_sha256, minus=_minus)
    source = files("sklearn_molge.evaluation.report").joinpath(_TEMPLATE)
    return environment.from_string(source.read_text(encoding="utf-8"))
