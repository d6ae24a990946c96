"""StudyReport: sections of tables and figures, as files, HTML and text."""

import base64
import hashlib
import json
import math
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from pandas.io.json import build_table_schema

from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge.evaluation.report._sections import (
    ReportFigure,
    ReportTable,
    Section,
    keeps_index,
)
from sklearn_molge.evaluation.report._table_view import (
    ColumnInfo,
    TableView,
    score_columns,
    text_table,
)

__all__ = ["StudyReport"]

_WIDTH = 100
_FORMAT = 2
_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]*", re.ASCII)
_ABOUT = "title description settings versions seconds command notes".split()
_DTYPES = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}
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
    "undefined": "there is nothing that the score could be of; the reason is below",
}


@dataclass(eq=False, repr=False)
class StudyReport:
    """What a study found: tables, figures, and what is needed to repeat them.

    :func:`~sklearn_molge.evaluation.evaluate_study` makes one. ``str(report)`` has the
    tables as text for a terminal, a notebook shows them as HTML, and :meth:`save`
    writes a page that needs no other file and no network, and the numbers as files.

    Parameters
    ----------
    title : str
        Title of the report.
    sections : list of Section
        Tables and figures, in the order of the page.
    description : dict of str to str, default={}
        The data: profiles, drugs, cell lines, genes, level.
    settings : dict of str to str, default={}
        How the study was run: split, seeds, number of repeats.
    versions : dict of str to str, default={}
        Versions of the software.
    seconds : dict of str to float, default={}
        Run time of each stage, in s.
    command : str, default=""
        What repeats the study.
    notes : list of str, default=[]
        Caveats, shown before the results.
    ranks : DataFrame, default=DataFrame()
        One row a query: repeat, drug, row of the query, n_candidates, and the rank
        that each method gave to the true molecule. Saved, not shown.
    columns : dict of str to ColumnInfo, default=None
        Labels, meaning and direction of the columns of all tables; the scores of
        :func:`~sklearn_molge.metrics.retrieval_scores` by default.

    See Also
    --------
    evaluate_study : Makes a report from a study.
    ReportFigure : A figure of a report.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.evaluation import ReportTable, Section, StudyReport
    >>> scores = pd.DataFrame(
    ...     {"mrr": [0.215, 0.04], "mrr_low": [0.178, None], "mrr_high": [0.255, None]},
    ...     index=pd.Index(["CCA", "chance"], name="method"),
    ... )
    >>> table = ReportTable(scores, "All methods.")
    >>> report = StudyReport("A study", [Section("Results", {"scores": table})])
    >>> print(report)
    A study
    <BLANKLINE>
    All methods. (scores)
    method                   MRR
    CCA     0.215 [0.178, 0.255]
    chance                 0.040
    """

    title: str
    sections: list[Section]
    description: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    command: str = ""
    notes: list[str] = field(default_factory=list)
    ranks: pd.DataFrame = field(default_factory=pd.DataFrame)
    columns: dict[str, ColumnInfo] = field(default_factory=score_columns)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {name: item.frame for name, item in self._of_kind(ReportTable)}

    @property
    def figures(self) -> dict[str, ReportFigure]:
        """The figures by name."""
        return dict(self._of_kind(ReportFigure))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report and all of its numbers.

        The page is ``report.html``. Each table is ``tables/NAME.csv`` and
        ``tables/NAME.json`` (Table Schema, with all digits), each figure
        ``figures/NAME.svg`` and ``.png``; the ranks are ``ranks.csv``, and all else is
        in ``report.json``, which is written last. Each file appears whole or not at
        all; older files of the same name are replaced, other files are left alone.

        Parameters
        ----------
        folder : str or path-like
            Folder to write into; made where it is missing.

        Returns
        -------
        path : Path
            The page, ``folder/report.html``.

        Raises
        ------
        TypeError, ValueError
            If a name cannot be that of a file or is there twice, or a table cannot be
            written. Nothing is written then.
        """
        self._check()
        # All texts first: what cannot be written leaves no half of a report.
        contents: dict[str, str | bytes] = {"report.html": self._render(page=True)}
        for name, table in self._of_kind(ReportTable):
            contents[f"tables/{name}.csv"] = table.to_csv()
            contents[f"tables/{name}.json"] = _table_to_json(table.frame)
        for name, figure in self.figures.items():
            contents[f"figures/{name}.svg"] = figure.svg
            if figure.png:
                contents[f"figures/{name}.png"] = figure.png
        contents["ranks.csv"] = self.ranks.to_csv(index=False, lineterminator="\n")
        contents["report.json"] = self._metadata_to_json()
        folder = Path(folder)
        for path, content in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            data = content.encode("utf-8") if isinstance(content, str) else content
            replace_bytes(folder / path, data)
        return folder / "report.html"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "StudyReport":
        """Read a report that :meth:`save` wrote.

        Parameters
        ----------
        folder : str or path-like
            The folder given to :meth:`save`.

        Returns
        -------
        report : StudyReport

        Raises
        ------
        FileNotFoundError
            If `folder` has no report, or a file of it is missing.
        ValueError
            If ``report.json`` was not written by :meth:`save`.
        """
        folder = Path(folder)
        path = folder / "report.json"
        metadata = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} must be a report of format {_FORMAT}. It is not.")
        sections = []
        for section in metadata["sections"]:
            items = {
                name: _read_item(folder, name, **words)
                for name, words in section["items"].items()
            }
            sections.append(Section(section["title"], items, section["text"]))
        ranks = pd.DataFrame()
        if metadata["has_ranks"]:
            ranks = pd.read_csv(folder / "ranks.csv", float_precision="round_trip")
        columns = {k: ColumnInfo(**info) for k, info in metadata["columns"].items()}
        about = {name: metadata[name] for name in _ABOUT}
        return cls(sections=sections, ranks=ranks, columns=columns, **about)

    def __str__(self) -> str:
        parts = [_wrap(self.title), *(_wrap(f"Note: {note}") for note in self.notes)]
        for section in self.sections:
            parts += [_wrap(section.text)] if section.text else []
            for name, item in section.items.items():
                if isinstance(item, ReportTable):
                    head = _wrap(f"{item.caption} ({name})" if item.caption else name)
                    table = text_table(item.frame, self.columns, width=_WIDTH)
                    parts.append(f"{head}\n{table}")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return (
            f"StudyReport(title={self.title!r}, tables={list(self.tables)}, "
            f"figures={list(self.figures)})"
        )

    def _repr_html_(self) -> str:
        return self._render(page=False)

    def _render(self, *, page: bool) -> str:
        """Return the whole page, or the tables alone, for a notebook."""
        sections = list(self._numbered())
        tables = [i for _, items in sections for i in items if isinstance(i, _Table)]
        marks = {mark for table in tables for mark in table.view.marks}
        shown = {c.name: c for t in tables for c in t.view.columns if c.info.help}
        return _template().render(
            page=page,
            report=self,
            sections=sections,
            marks={mark: text for mark, text in _MARKS.items() if mark in marks},
            columns=list(shown.values()),
            has_intervals=any(table.view.has_intervals for table in tables),
            seconds={stage: _duration(s) for stage, s in self.seconds.items()},
            total=_duration(sum(self.seconds.values())),
        )

    def _numbered(self) -> Iterator[tuple[Section, list["_Table | _Figure"]]]:
        """Yield each section with its numbered tables and figures."""
        n_tables = n_figures = 0
        for section in self.sections:
            items: list[_Table | _Figure] = []
            for name, item in section.items.items():
                if isinstance(item, ReportTable):
                    n_tables += 1
                    items.append(_numbered_table(name, n_tables, item, self.columns))
                else:
                    n_figures += 1
                    image = _data_uri("image/svg+xml", item.svg)
                    items.append(_Figure(name, n_figures, item, image))
            yield section, items

    def _of_kind(self, kind: type) -> Iterator[tuple[str, Any]]:
        for section in self.sections:
            for name, item in section.items.items():
                if isinstance(item, kind):
                    yield name, item

    def _check(self) -> None:
        """Refuse names that are no file's or there twice, and items of another kind."""
        items = [pair for section in self.sections for pair in section.items.items()]
        for name, item in items:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise ValueError(
                    "tables and figures must have names of letters, digits and any of "
                    f"'_.@+-', with a letter or digit first. Got {name!r}."
                )
            if isinstance(item, ReportTable):
                item.check(name)
            elif not isinstance(item, ReportFigure):
                raise TypeError(
                    f"Sections must hold ReportTable and ReportFigure. Got {item!r} "
                    f"for {name!r}."
                )
        twice = [
            name for name, n in Counter(name for name, _ in items).items() if n > 1
        ]
        if twice:
            raise ValueError(
                f"sections must hold each name once. Got {twice} more than once."
            )

    def _metadata_to_json(self) -> str:
        sections = [
            {
                "title": section.title,
                "text": section.text,
                "items": {name: _words(item) for name, item in section.items.items()},
            }
            for section in self.sections
        ]
        metadata = {
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _ABOUT},
            "sections": sections,
            "columns": {name: asdict(info) for name, info in self.columns.items()},
            "has_ranks": bool(len(self.ranks.columns)),
        }
        return json.dumps(metadata, indent=1, allow_nan=False, ensure_ascii=False)


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


def _numbered_table(name, number, table, columns):
    table.check(name)
    view = TableView.from_frame(table.frame, columns, max_rows=_N_ROWS)
    csv = f"data:text/csv;charset=utf-8,{quote(table.to_csv())}"
    caption = table.caption or name.replace("_", " ")
    return _Table(name, number, caption, view, csv)


def _duration(seconds: float) -> str:
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


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH)


def _words(item: ReportTable | ReportFigure) -> dict[str, Any]:
    """Return what the other files of a table or a figure do not hold."""
    if isinstance(item, ReportTable):
        return {"kind": "table", "caption": item.caption}
    words = {"title": item.title, "caption": item.caption, "alt": item.alt}
    return {"kind": "figure", **words, "png": bool(item.png)}


def _read_item(
    folder: Path, name: str, kind: str, **words: Any
) -> ReportTable | ReportFigure:
    if kind == "table":
        text = (folder / f"tables/{name}.json").read_text(encoding="utf-8")
        return ReportTable(_table_from_json(text), **words)
    svg = (folder / f"figures/{name}.svg").read_text(encoding="utf-8")
    png = (folder / f"figures/{name}.png").read_bytes() if words.pop("png") else b""
    return ReportFigure(**words, svg=svg, png=png)


def _table_to_json(frame: pd.DataFrame) -> str:
    """Return Table Schema, as pandas' ``orient="table"`` but with all digits."""
    index: Any = None
    flat = frame
    if keeps_index(frame):
        index = [name or "index" for name in frame.index.names]
        flat = frame.rename_axis(index=index).reset_index()
    schema = build_table_schema(flat, index=False, primary_key=index)
    names = list(flat.columns)
    columns = [[_plain(value) for value in flat[name]] for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps(
        {"schema": schema, "data": rows}, indent=1, allow_nan=False, ensure_ascii=False
    )


def _table_from_json(text: str) -> pd.DataFrame:
    table = json.loads(text)
    fields = table["schema"]["fields"]
    frame = pd.DataFrame(
        {
            each["name"]: pd.Series(
                [row[each["name"]] for row in table["data"]], dtype=object
            ).astype(each.get("extDtype") or _DTYPES.get(each["type"], object))
            for each in fields
        }
    )
    index = table["schema"].get("primaryKey")
    if index:
        frame = frame.set_index(index)
        if index == ["index"]:
            frame.index.name = None
    return frame


def _plain(value: Any) -> object:
    """Return what JSON can hold: a missing value is null."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and math.isinf(value):
        # JSON has no infinity: a text that float() reads.
        return "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, (bool, int, float, str)) else str(value)
