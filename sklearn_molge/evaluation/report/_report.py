"""StudyReport: sections of tables and figures, as files, HTML and text."""

import hashlib
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
from urllib.parse import quote

import pandas as pd

from sklearn_molge._files.folders import make_folder
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge._utils.messages import printable
from sklearn_molge._utils.pages import data_uri, load_template
from sklearn_molge.evaluation.report._sections import (
    ReportFigure,
    ReportTable,
    Section,
)
from sklearn_molge.evaluation.report._table_files import (
    describe_fields,
    frame_from_csv,
    frame_from_json,
    frame_to_csv,
    frame_to_json,
    loads,
)
from sklearn_molge.evaluation.report._table_view import (
    ColumnInfo,
    TableView,
    score_columns,
    text_table,
)
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["StudyReport"]

_WIDTH = 100
_FORMAT = 3
_METADATA = "report.json"
_RANKS = "ranks.csv"
_SUBFOLDERS = ("tables", "figures")
_OWN = ("report.html", _METADATA, _RANKS, *_SUBFOLDERS)
_START = b'{\n "format": '  # of every report.json
_UNFINISHED = _START + b'%d,\n "unfinished": true\n}' % _FORMAT
# Largest files that are read and written, in bytes. Tables of the library have some
# 100 kB, of a million numbers 30 MB; ranks of a million queries by ten methods 60 MB.
_MOST_BYTES = {
    ".json": 1 << 25, ".csv": 1 << 28, ".svg": 1 << 26, ".png": 1 << 26,
}  # fmt: skip
_CHANGED = (
    "its checksum is another: it was changed since it was written, or a later save was "
    "cut short"
)
_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]*", re.ASCII)
_ABOUT = "title description settings versions seconds command notes".split()
_TEMPLATE = "_page.html.jinja"
# More rows than this are left to the file of the table.
_N_ROWS = 100
# More rows than this scroll inside their own box on a screen.
_N_TALL = 40
# More intervals than this in a row, or those of more columns, go below their numbers.
_N_BESIDE = 2
_N_COLUMNS = 10
# Figures of more points (1/72 inch) than this do not fit a telephone.
_N_WIDE = 560
_MARKS = {
    "chance": "what a random ranking scores",
    "published": "not computed in this run; the source is named below the table",
    "control": "it cannot know what the drug does: what it scores above chance is owed "
    "to the design of the study, or to a leak",
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
        in ``report.json``, with the checksums of the files, which is written last.
        Each file appears whole or not at all. The files of an older report are
        replaced, other files are left alone. In CSV files a text that a spreadsheet
        would take for a formula has a single quote before it; :meth:`load` gives the
        text itself back.

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
            written, or is larger than :meth:`load` would read. Nothing is written then.
        OSError
            As :meth:`check_folder` raises, and if a file cannot be written.
        """
        self._check()
        # All contents first: what cannot be written leaves no half of a report.
        texts: dict[str, str | bytes] = {}
        for name, table in self._of_kind(ReportTable):
            texts[f"tables/{name}.csv"] = table.to_csv()
            texts[f"tables/{name}.json"] = frame_to_json(table.frame)
        for name, figure in self.figures.items():
            texts[f"figures/{name}.svg"] = figure.svg
            if figure.png:
                texts[f"figures/{name}.png"] = figure.png
        texts[_RANKS] = frame_to_csv(self.ranks.reset_index(drop=True))
        contents = {name: _encoded(name, text) for name, text in texts.items()}
        metadata = _encoded(_METADATA, self._metadata_to_json(contents))
        page = _encoded("report.html", self._render(page=True))
        contents |= {"report.html": page, _METADATA: metadata}
        folder = self.check_folder(folder)
        if not (folder / _METADATA).exists():  # so that a killed call can be repeated
            replace_bytes(folder / _METADATA, _UNFINISHED)
        for path, content in contents.items():
            (folder / path).parent.mkdir(exist_ok=True)
            replace_bytes(folder / path, content)
        return folder / "report.html"

    @staticmethod
    def check_folder(folder: str | os.PathLike[str]) -> Path:
        """Find out whether a report can be saved to a folder, which is made.

        :meth:`save` does so; call it before the work that makes a report.

        Parameters
        ----------
        folder : str or path-like
            The folder.

        Returns
        -------
        folder : Path

        Raises
        ------
        FileExistsError
            If it has a file or a folder of the names that :meth:`save` writes, and no
            report: they are someone else's. Or if ``tables`` or ``figures`` is a link:
            nothing is written through it.
        OSError
            If the folder cannot be made or written to, or is a file.

        Examples
        --------
        >>> import tempfile
        >>> from sklearn_molge.evaluation import StudyReport
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = StudyReport.check_folder(f"{folder}/report")
        ...     path.name, path.is_dir()
        ('report', True)
        """
        folder = Path(folder)
        there = [name for name in _OWN if os.path.lexists(folder / name)]
        if there and not _is_report(folder):
            raise FileExistsError(
                f"{folder} has {', '.join(there)} and no report: they would be "
                "replaced. Choose another folder, or move them away."
            )
        for name in _SUBFOLDERS:
            if (folder / name).is_symlink():
                raise FileExistsError(
                    f"{folder / name} is a link: nothing is written through it. Choose "
                    "another folder, or remove the link."
                )
            if name in there:
                make_folder(folder / name)
        return make_folder(folder)

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
        CorruptFileError
            If a file is not what :meth:`save` wrote: cut, changed, too large, a link
            that leaves `folder`.

        Notes
        -----
        Checksums find damage. They do not say who wrote a report: numbers and words
        may be anybody's, but nothing in them runs, here or in the page.
        """
        files = _Files(Path(folder))
        metadata = files.metadata
        with reading(Path(folder) / _METADATA):
            items = [pair for s in metadata["sections"] for pair in s["items"].items()]
            _check_names([name for name, _ in items])
            columns = {k: ColumnInfo(**info) for k, info in metadata["columns"].items()}
        report = cls(
            sections=[
                Section(
                    section["title"],
                    {name: files.item(name, w) for name, w in section["items"].items()},
                    section["text"],
                )
                for section in metadata["sections"]
            ],
            ranks=files.ranks(),
            columns=columns,
            **{name: metadata[name] for name in _ABOUT},
        )
        with reading(Path(folder) / _METADATA, "what it shows"):
            report._check()
        return report

    def __str__(self) -> str:
        parts = [_wrap(self.title), *(_wrap(f"Note: {note}") for note in self.notes)]
        for section in self.sections:
            parts += [_wrap(section.text)] if section.text else []
            for name, item in section.items.items():
                if isinstance(item, ReportTable):
                    head = _wrap(f"{item.caption} ({name})" if item.caption else name)
                    table = text_table(item.frame, self.columns, width=_WIDTH)
                    parts.append(f"{head}\n{table}")
        return printable("\n\n".join(parts))

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
        return load_template(_TEMPLATE, "sklearn_molge.evaluation.report").render(
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
                    image = data_uri("image/svg+xml", item.svg)
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
        _check_names([name for name, _ in items])
        for name, item in items:
            if isinstance(item, ReportTable):
                item.check(name)
            elif not isinstance(item, ReportFigure):
                raise TypeError(
                    f"Sections must hold ReportTable and ReportFigure. Got {item!r} "
                    f"for {name!r}."
                )
        if len(self.ranks.columns):
            ReportTable(self.ranks.reset_index(drop=True)).check("ranks")

    def _metadata_to_json(self, contents: dict[str, bytes]) -> str:
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
            "ranks": describe_fields(self.ranks) if len(self.ranks.columns) else [],
            "files": {name: _digest(data) for name, data in contents.items()},
        }
        text = _metadata_text(metadata)
        _check_shape(json.loads(text), _SHAPE, "the report")
        return _metadata_text(metadata | {"sha256": _digest(text)})


def _check_names(names: list[str]) -> None:
    """Refuse names that are no file's, or there twice."""
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(
                "tables and figures must have names of letters, digits and any of "
                f"'_.@+-', with a letter or digit first. Got {name!r}."
            )
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ValueError(
            f"sections must hold each name once. Got {twice} more than once."
        )


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
        columns = self.view.columns
        n_intervals = sum(column.has_interval for column in columns)
        return n_intervals > _N_BESIDE or len(columns) > _N_COLUMNS


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


def _encoded(name: str, content: str | bytes) -> bytes:
    """Return what is written to a file, where it can be read again."""
    try:
        data = content.encode("utf-8") if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(
            f"{name} cannot be written: {half!r} is half a character."
        ) from error
    most = _MOST_BYTES.get(Path(name).suffix)
    if most is not None and len(data) > most:
        raise ValueError(
            f"{name} cannot be written: it has {len(data):,} bytes, and at most "
            f"{most:,} are read."
        )
    return data


def _is_report(folder: Path) -> bool:
    """Whether a folder has a report, of any format, or the start of one."""
    path = folder / _METADATA
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH)


def _words(item: ReportTable | ReportFigure) -> dict[str, Any]:
    """Return what the other files of a table or a figure do not hold."""
    if isinstance(item, ReportTable):
        return {"kind": "table", "caption": item.caption}
    words = {"title": item.title, "caption": item.caption, "alt": item.alt}
    return {"kind": "figure", **words, "png": bool(item.png)}


class _Files:
    """The files of a report that is read: none outside its folder, or changed since.

    Raises
    ------
    CorruptFileError
        If a file is cut or changed, or leads out of the folder.
    OSError
        If there is none, or it cannot be opened.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        path = folder / _METADATA
        content = self._read(_METADATA)
        with reading(path):
            metadata = loads(content)
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            raise CorruptFileError(
                path, "", f"it must be a report of format {_FORMAT}, and is not"
            )
        if metadata.get("unfinished"):
            raise CorruptFileError(path, "", "the report was not written to its end")
        said = metadata.pop("sha256", None)
        with reading(path):
            is_whole = said == _digest(_metadata_text(metadata))
        if not is_whole:
            raise CorruptFileError(path, "", _CHANGED)
        with reading(path):
            _check_shape(metadata, _SHAPE, "the report")
        self.metadata = metadata

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        content = self._read(name)
        if self.metadata["files"].get(name) != _digest(content):
            raise CorruptFileError(self.folder / name, "", _CHANGED)
        return content

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        with reading(path):
            if not path.resolve(strict=True).is_relative_to(self.folder.resolve()):
                raise CorruptFileError(path, "", "it is a link that leaves the report")
            if not path.is_file():  # a pipe would be waited for
                raise CorruptFileError(path, "", "it is no regular file")
            most, size = _MOST_BYTES[path.suffix], path.stat().st_size
            if size > most:
                raise CorruptFileError(
                    path, "", f"it has {size:,} bytes, and at most {most:,} are read"
                )
            return path.read_bytes()

    def item(self, name: str, words: dict[str, Any]) -> ReportTable | ReportFigure:
        """Read a table or a figure."""
        kind = words.pop("kind")
        if kind == "table":
            path = f"tables/{name}.json"
            content = self.read(path)
            with reading(self.folder / path):
                return ReportTable(frame_from_json(content), **words)
        path = f"figures/{name}.svg"
        svg = self.read(path)
        png = self.read(f"figures/{name}.png") if words.pop("png") else b""
        with reading(self.folder / path):
            return ReportFigure(**words, svg=svg.decode("utf-8"), png=png)

    def ranks(self) -> pd.DataFrame:
        """Read the ranks."""
        fields = self.metadata["ranks"]
        if not fields:
            return pd.DataFrame()
        content = self.read(_RANKS)
        with reading(self.folder / _RANKS):
            return frame_from_csv(content, fields)


def _digest(content: str | bytes) -> str:
    data = content.encode("utf-8") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()


def _metadata_text(metadata: dict[str, Any]) -> str:
    return json.dumps(metadata, indent=1, allow_nan=False, ensure_ascii=False)


# What report.json holds: dictionaries with these keys, or with any texts as keys.
_TEXTS = {str: str}
_TABLE = {"kind": {"table"}, "caption": str}
_FIGURE = {
    "kind": {"figure"}, "title": str, "caption": str, "alt": str, "png": bool,
}  # fmt: skip
_COLUMN = {
    "label": str, "help": str, "greater_is_better": (bool, None),
    "decimals": (int, None),
}  # fmt: skip
_FIELD = ({"name": str, "type": str}, {"name": str, "type": str, "extDtype": str})
_SHAPE = {
    "format": int, "title": str, "description": _TEXTS, "settings": _TEXTS,
    "versions": _TEXTS, "seconds": {str: float}, "command": str, "notes": [str],
    "sections": [
        {"title": str, "text": str, "items": {str: (_TABLE, _FIGURE)}},
    ],
    "columns": {str: _COLUMN}, "ranks": [_FIELD], "files": _TEXTS,
}  # fmt: skip


def _check_shape(value: Any, shape: Any, where: str) -> None:
    """Refuse what is not of a shape, and say where.

    A shape is a type, None, a set of values, a list of one shape, a dictionary, or a
    tuple of shapes, of which one is enough.
    """
    if isinstance(shape, tuple):
        if not any(_has_shape(value, each) for each in shape):
            raise ValueError(f"{where} is {value!r:.100}")
    elif isinstance(shape, dict) and isinstance(value, dict):
        named = str not in shape
        if named and value.keys() != shape.keys():
            raise ValueError(
                f"{where} has {sorted(value)!r:.200}, and should have {list(shape)}"
            )
        for key, each in value.items():
            _check_shape(each, shape[key if named else str], f"{where}: {key!r:.60}")
    elif isinstance(shape, list) and isinstance(value, list):
        for i, each in enumerate(value):
            _check_shape(each, shape[0], f"{where}: entry {i}")
    elif not _is_of_type(value, shape):
        raise ValueError(f"{where} is {value!r:.100}")


def _has_shape(value: Any, shape: Any) -> bool:
    try:
        _check_shape(value, shape, "")
    except ValueError:
        return False
    return True


def _is_of_type(value: Any, shape: Any) -> bool:
    if shape is float:
        return type(value) in (int, float) and math.isfinite(value)
    if isinstance(shape, set):
        return isinstance(value, str) and value in shape
    return value is None if shape is None else type(value) is shape
