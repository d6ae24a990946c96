"""StudyReport: sections of tables and figures, as files, HTML and text."""

import json
import math
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.json import build_table_schema

from sklearn_molge._utils.files import replace_bytes
from sklearn_molge.evaluation.report._page import render_fragment, render_page
from sklearn_molge.evaluation.report._sections import (
    ReportFigure,
    ReportTable,
    Section,
    keeps_index,
)
from sklearn_molge.evaluation.report._table_view import (
    ColumnInfo,
    score_columns,
    text_table,
)

__all__ = ["StudyReport"]

_WIDTH = 100
_FORMAT = 2
_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]*", re.ASCII)
_ABOUT = "title description settings versions seconds command notes".split()
_DTYPES = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}


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
        page = render_page(self.sections, self.columns, self._about())
        files: dict[str, str | bytes] = {"report.html": page}
        for name, table in self._of_kind(ReportTable):
            files[f"tables/{name}.csv"] = table.to_csv()
            files[f"tables/{name}.json"] = _table_to_json(table.frame)
        for name, figure in self.figures.items():
            files[f"figures/{name}.svg"] = figure.svg
            if figure.png:
                files[f"figures/{name}.png"] = figure.png
        files["ranks.csv"] = self.ranks.to_csv(index=False, lineterminator="\n")
        files["report.json"] = self._metadata_to_json()
        folder = Path(folder)
        for path, content in files.items():
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
        return render_fragment(self.sections, self.columns, self._about())

    def _about(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _ABOUT}

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
            **self._about(),
            "sections": sections,
            "columns": {name: asdict(info) for name, info in self.columns.items()},
            "has_ranks": bool(len(self.ranks.columns)),
        }
        return json.dumps(metadata, indent=1, allow_nan=False, ensure_ascii=False)


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
