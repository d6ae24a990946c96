"""Tables of a report as text cells: intervals merged, rows marked, numbers rounded."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Cell", "Column", "Row", "TableView", "check_frame", "text_table"]

MISSING = "-"
THIS_RUN = "this run"
# Shown as marks and footnotes instead.
_REMARKS = ("error", "source")

# Label, meaning, whether larger is better (None: neither is).
_KNOWN: dict[str, tuple[str, str, bool | None]] = {
    "mrr": (
        "MRR",
        "mean reciprocal rank: the mean of 1 / rank of the true molecule; 1 is perfect",
        True,
    ),
    "median_rank": (
        "median rank",
        "median rank of the true molecule among the candidates; 1 is the best",
        False,
    ),
    "difference": ("difference", "", True),
    "p_value": ("p", "", False),
    "valid_mrr": ("validation MRR", "MRR of the validation rows", True),
    "seconds": ("time, s", "", None),
}
_HITS = "hits@"
_N_TEXT_ROWS = 40
_N_HEAD_ROWS = 10  # of a longer table: the files have all


@dataclass(frozen=True)
class Column:
    """A column as it is shown: its label, its meaning and how it sorts."""

    name: str
    label: str
    help: str
    numeric: bool
    larger_is_better: bool | None
    has_interval: bool


@dataclass(frozen=True)
class Cell:
    """A value as text, its interval as text, and the number or text to sort by."""

    text: str
    interval: str = ""
    key: str = ""


@dataclass(frozen=True)
class Row:
    """A row: its heading, the other cells, and a mark where it is no plain result."""

    heading: Cell
    cells: list[Cell]
    mark: str = ""  # "", "chance", "published" or "failed"
    remark: str = ""  # where it was published, or why it failed


@dataclass(frozen=True)
class TableView:
    """A data frame as it is shown; `n_rows` counts the rows that are not shown, too."""

    columns: list[Column]
    rows: list[Row]
    n_rows: int

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, max_rows: int) -> "TableView":
        """Merge, mark and round; only the first `max_rows` rows are kept."""
        flat = flatten(frame)
        names = [
            name
            for name in flat.columns
            if name not in _REMARKS and not _is_bound(name, flat)
        ]
        columns = [_column(name, flat) for name in names]
        if any(column.has_interval for column in columns):
            # Scores beside their names, words after them.
            columns[1:] = sorted(columns[1:], key=lambda column: not column.numeric)
        head = flat.iloc[:max_rows]
        cells = [list(_cells(head, flat, column)) for column in columns]
        rows = [
            Row(row[0], list(row[1:]), *_mark(head.iloc[i], row[0].text))
            for i, row in enumerate(zip(*cells, strict=True))
        ]
        return cls(columns, rows, len(flat))

    @property
    def has_intervals(self) -> bool:
        """Whether a cell shows an interval."""
        return any(cell.interval for row in self.rows for cell in row.cells)

    @property
    def marks(self) -> set[str]:
        """The marks that occur."""
        return {row.mark for row in self.rows} - {""}

    @property
    def footnotes(self) -> list[tuple[str, str, str]]:
        """Name of the row, mark and remark; one without name for each publication."""
        notes = [
            (row.heading.text if row.mark == "failed" else "", row.mark, row.remark)
            for row in self.rows
            if row.remark
        ]
        return list(dict.fromkeys(notes))


def check_frame(name: str, frame: Any) -> None:
    """Refuse what cannot be written as a table."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"tables[{name!r}] must be a DataFrame. Got {type(frame)}.")
    if not all(isinstance(column, str) for column in frame.columns):
        raise ValueError(
            f"tables[{name!r}] must have columns named by str. Got "
            f"{list(frame.columns)!r}."
        )
    if not len(frame.columns):
        raise ValueError(f"tables[{name!r}] must have at least one column. Got none.")
    names = [*frame.index.names, *frame.columns] if keeps_index(frame) else []
    twice = {str(each) for each in names if names.count(each) > 1}
    if twice or not frame.columns.is_unique:
        raise ValueError(
            f"tables[{name!r}] must have distinct names of index and columns. Got "
            f"{names or list(frame.columns)!r}."
        )


def keeps_index(frame: pd.DataFrame) -> bool:
    """Whether the index says something: a mere count of rows does not."""
    return not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None)


def flatten(frame: pd.DataFrame) -> pd.DataFrame:
    """Make the index the first column, where it says something."""
    if not keeps_index(frame):
        return frame
    if frame.index.nlevels > 1:
        return frame.reset_index()
    if frame.index.name is not None:
        return frame.reset_index()
    name = "name" if "method" in frame.columns else "method"
    return frame.rename_axis(index=name).reset_index()


def _is_bound(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column is the lower or upper end of another's interval."""
    for end in ("_low", "_high"):
        if name.endswith(end):
            base = name.removesuffix(end)
            return {base, f"{base}_low", f"{base}_high"} <= set(frame.columns)
    return False


def _column(name: str, frame: pd.DataFrame) -> Column:
    values = frame[name].dropna()
    numeric = bool(len(values)) and all(
        isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        for value in values
    )
    label, meaning, larger = _KNOWN.get(name, (name.replace("_", " "), "", None))
    if name.startswith(_HITS):
        k = name.removeprefix(_HITS)
        first = "first" if k == "1" else f"first {k}"
        meaning = f"share of the queries whose true molecule is among the {first}"
        larger = True
    if name == "difference" and "mrr" in frame.columns:
        meaning = "MRR minus that of the baseline"
    has_interval = f"{name}_low" in frame.columns and f"{name}_high" in frame.columns
    return Column(name, label, meaning, numeric, larger, has_interval)


def _cells(head: pd.DataFrame, frame: pd.DataFrame, column: Column) -> Iterable[Cell]:
    values = head[column.name]
    if not column.numeric:
        for value in values:
            text = _text(value)
            yield Cell(text, key="" if text == MISSING else text)
        return
    digits = _digits(column.name, frame[column.name])
    lows = highs = pd.Series(np.nan, index=head.index)
    if column.has_interval:
        lows, highs = head[f"{column.name}_low"], head[f"{column.name}_high"]
    for value, low, high in zip(values, lows, highs, strict=True):
        interval = ""
        if pd.notna(low) and pd.notna(high):
            ends = (_number(end, digits, column.name) for end in (low, high))
            interval = "[{}, {}]".format(*ends)
        key = "" if pd.isna(value) else repr(float(value))
        yield Cell(_number(value, digits, column.name), interval, key)


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        return f"{value:.4g}"
    return MISSING if pd.isna(value) else str(value)


def _digits(name: str, values: pd.Series) -> int:
    """Return the number of decimals of a column."""
    if _is_score(name):
        return 3
    finite = np.abs(values.dropna().to_numpy(np.float64))
    finite = finite[np.isfinite(finite)]
    if not finite.size or np.array_equal(finite, np.round(finite)):
        return 0
    if name == "median_rank":
        return 1
    return int(np.clip(3 - np.floor(np.log10(finite.max())), 0, 3))


def _is_score(name: str) -> bool:
    """Whether 0.0004 of it is as good as none."""
    return name in ("mrr", "valid_mrr", "p_value") or name.startswith(
        (_HITS, "difference")
    )


def _number(value: Any, digits: int, name: str) -> str:
    if pd.isna(value):
        return MISSING
    if name == "p_value" and 0 <= value < 0.001:
        return "< 0.001"
    if not _is_score(name) and 0 < abs(value) < 10.0**-digits:
        return f"{value:.2g}"
    if abs(value) < 0.5 * 10.0**-digits:
        return f"{0:.{digits}f}"  # no sign
    sign = "+" if name == "difference" else ""
    return f"{value:{sign},.{digits}f}"


def _mark(row: pd.Series, heading: str) -> tuple[str, str]:
    error, source = row.get("error"), row.get("source")
    if isinstance(error, str) and error:
        return "failed", error
    if isinstance(source, str) and source not in ("", THIS_RUN):
        return "published", source
    return ("chance" if heading.lower().startswith("chance") else ""), ""


def text_table(frame: pd.DataFrame, *, width: int) -> str:
    """Lay a table out in lines of at most `width` characters.

    Columns that do not fit follow below, beside the headings again. Of the intervals,
    only those of the first score and of the difference are kept.
    """
    long = len(frame) > _N_TEXT_ROWS
    view = TableView.from_frame(frame, max_rows=_N_HEAD_ROWS if long else _N_TEXT_ROWS)
    first = next((c.name for c in view.columns if c.has_interval), None)
    limit = int(0.36 * width)
    heading = [view.columns[0].label, *(_heading(row, limit) for row in view.rows)]
    blocks = [_pad(heading, limit=limit)]
    lines: list[str] = []
    for j, column in enumerate(view.columns[1:]):
        shown = column.name in (first, "difference")
        texts = [column.label]
        for row in view.rows:
            cell = row.cells[j]
            texts.append(f"{cell.text} {cell.interval}" if shown else cell.text)
        padded = _pad(texts, limit=width // 4, right=column.numeric)
        if sum(len(block[0]) + 2 for block in blocks) + len(padded[0]) > width:
            lines += [*_join(blocks), ""]
            blocks = blocks[:1]
        blocks.append(padded)
    lines += _join(blocks)
    if view.n_rows > len(view.rows):
        lines.append(f"... {view.n_rows - len(view.rows)} more rows")
    for name, mark, remark in view.footnotes:
        lines.append(_cut(f"{name or mark}: {remark}", width))
    return "\n".join(lines)


def _heading(row: Row, limit: int) -> str:
    mark = f" ({row.mark})" if row.remark else ""
    return _cut(row.heading.text, limit - len(mark)) + mark


def _cut(text: str, limit: int) -> str:
    """Shorten from the middle: the ends of names tell them apart."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    kept = limit - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def _pad(texts: list[str], *, limit: int, right: bool = False) -> list[str]:
    texts = [_cut(text, limit) for text in texts]
    width = max(len(text) for text in texts)
    return [text.rjust(width) if right else text.ljust(width) for text in texts]


def _join(blocks: list[list[str]]) -> list[str]:
    return ["  ".join(line).rstrip() for line in zip(*blocks, strict=True)]
