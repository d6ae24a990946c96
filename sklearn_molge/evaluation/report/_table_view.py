"""Tables of a report as text cells: intervals merged, rows marked, numbers rounded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from textwrap import wrap
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from sklearn_molge.evaluation.report._table_files import keeps_index
from sklearn_molge.metrics import Score, get_scores

__all__ = ["Cell", "ColumnInfo", "Row", "TableView", "text_table"]

MISSING = "-"
UNDEFINED = "undefined"
THIS_RUN = "this run"
_LABEL = "label"  # shown in place of the index
_MOST_DECIMALS = 20  # a double has 17 digits
CONTROL = "control"
# Shown as marks and footnotes instead.
_REMARKS = ("error", "source", UNDEFINED, CONTROL)
_N_TEXT_ROWS = 40
_N_HEAD_ROWS = 10  # of a longer table: the files have all


@dataclass(frozen=True)
class ColumnInfo:
    """How a column is shown wherever it occurs.

    Parameters
    ----------
    label : str
        Its heading.
    help : str, default=""
        Its meaning, for "How to read the tables".
    greater_is_better : bool or None, default=None
        None where neither is better.
    decimals : int or None, default=None
        Of a column that does not hold whole numbers alone, at most 20; None takes what
        its largest number wants.

    Examples
    --------
    >>> from sklearn_molge.evaluation import ColumnInfo
    >>> gain = ColumnInfo("Gain", "mean discounted gain", True, decimals=3)
    """

    label: str
    help: str = ""
    greater_is_better: bool | None = None
    decimals: int | None = None

    def __post_init__(self) -> None:
        if self.decimals is not None and not 0 <= self.decimals <= _MOST_DECIMALS:
            raise ValueError(
                f"decimals must be None or from 0 to {_MOST_DECIMALS}. Got "
                f"{self.decimals!r}."
            )


Columns = Mapping[str, ColumnInfo]


def score_columns(scores: Sequence[Score] | None = None) -> dict[str, ColumnInfo]:
    """Return how the scores of a table, and what goes with them, are shown."""
    scores = get_scores() if scores is None else scores
    columns = {}
    for s in scores:
        decimals = 3 if s.greater_is_better else 1  # a share, or a number of ranks
        label = str(s.label)
        columns[s.name] = ColumnInfo(
            label, s.description, s.greater_is_better, decimals
        )
        columns[f"chance_{s.name}"] = ColumnInfo(f"chance {label}", decimals=decimals)
    first = columns[scores[0].name]
    meaning = f"{first.label} minus that of the baseline"
    columns["difference"] = replace(first, label="difference", help=meaning)
    meaning = "mean reciprocal rank of the validation rows"
    columns["valid_mrr"] = ColumnInfo("validation MRR", meaning, True, 3)
    columns["p_value"] = ColumnInfo("p", "", False, 3)
    columns["seconds"] = ColumnInfo("time, s")
    columns["above_0_7"] = ColumnInfo("above 0.7")
    return columns


@dataclass(frozen=True)
class Column:
    """A column of one table as it is shown."""

    name: str
    info: ColumnInfo
    numeric: bool
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
    mark: str = ""  # "", "chance", "published", "failed", "undefined" or "control"
    remark: str = (
        ""  # where it was published, why it failed, has no score, is a control
    )
    is_control: bool = False  # it stands below a line, whatever it scores


@dataclass(frozen=True)
class TableView:
    """A data frame as it is shown; `n_rows` counts the rows that are not shown, too."""

    columns: list[Column]
    rows: list[Row]
    n_rows: int

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, columns: Columns, *, max_rows: int
    ) -> "TableView":
        """Merge, mark and round; only the first `max_rows` rows are kept."""
        flat, chance = _flatten(frame)
        control = [_is_said(why) for why in flat.get(CONTROL, [""] * len(flat))]
        order = np.argsort(control, kind="stable")  # controls last
        flat = flat.iloc[order].reset_index(drop=True)
        chance, control = ([values[i] for i in order] for values in (chance, control))
        names = [
            name
            for name in flat.columns
            if name not in _REMARKS and not _is_bound(name, flat)
        ]
        shown = [_column(name, flat, columns) for name in names]
        if any(column.has_interval for column in shown):
            # Scores beside their names, words after them.
            shown[1:] = sorted(shown[1:], key=lambda column: not column.numeric)
        head = flat.iloc[:max_rows]
        cells = [list(_cells(head, flat, column)) for column in shown]
        rows = [
            Row(row[0], list(row[1:]), *_mark(head.iloc[i], chance[i]), control[i])
            for i, row in enumerate(zip(*cells, strict=True))
        ]
        return cls(shown, rows, len(flat))

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
            (row.heading.text if row.mark != "published" else "", row.mark, row.remark)
            for row in self.rows
            if row.remark
        ]
        return list(dict.fromkeys(notes))


def _flatten(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[bool]]:
    """Make the index, or the labels, the first column; say which rows are chance."""
    if not keeps_index(frame):
        first = frame.iloc[:, 0]
        return frame, [str(value).lower().startswith("chance") for value in first]
    flat = frame
    if frame.index.nlevels == 1 and frame.index.name is None:
        flat = frame.rename_axis(index="name" if "method" in frame else "method")
    heads = flat.index.get_level_values(0)
    chance = [str(value).lower().startswith("chance") for value in heads]
    if _LABEL in frame and frame.index.nlevels == 1:
        flat = flat.set_index(_LABEL).rename_axis(index=str(flat.index.name))
    return flat.reset_index(), chance


def _is_bound(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column is the lower or upper end of another's interval."""
    for end in ("_low", "_high"):
        if name.endswith(end):
            base = name.removesuffix(end)
            return base in frame.columns and _has_interval(base, frame)
    return False


def _column(name: str, frame: pd.DataFrame, columns: Columns) -> Column:
    numeric = bool(frame[name].notna().any()) and _holds_numbers(frame[name])
    info = columns.get(name) or ColumnInfo(name.replace("_", " "))
    if name == "difference" and "p_value" not in frame.columns:
        info = replace(info, help="")  # not to the baseline
    return Column(name, info, numeric, _has_interval(name, frame))


def _has_interval(name: str, frame: pd.DataFrame) -> bool:
    ends = (f"{name}_low", f"{name}_high")
    return all(end in frame.columns and _holds_numbers(frame[end]) for end in ends)


def _holds_numbers(values: pd.Series) -> bool:
    """Whether a column has no other values, but may have missing ones."""
    return all(
        isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        for value in values.dropna()
    )


def _cells(head: pd.DataFrame, frame: pd.DataFrame, column: Column) -> Iterator[Cell]:
    digits = _digits(column.info, frame[column.name]) if column.numeric else 0
    lows = highs = pd.Series(np.nan, index=head.index)
    if column.has_interval:
        lows, highs = head[f"{column.name}_low"], head[f"{column.name}_high"]
    reasons = head.get(UNDEFINED, pd.Series("", index=head.index))
    rows = zip(head[column.name], lows, highs, reasons, strict=True)
    for value, low, high, why in rows:
        if pd.isna(value) and _is_said(why):
            yield Cell(UNDEFINED)
        elif column.numeric:
            yield _number_cell(value, low, high, digits, column)
        else:
            text = _text(value)
            yield Cell(text, key="" if text == MISSING else text)


def _number_cell(value: Any, low: Any, high: Any, digits: int, column: Column) -> Cell:
    interval = ""
    if pd.notna(low) and pd.notna(high):
        ends = (_number(end, digits, column) for end in (low, high))
        interval = "[{}, {}]".format(*ends)
    key = "" if pd.isna(value) else repr(float(value))
    return Cell(_number(value, digits, column), interval, key)


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        return f"{value:.4g}"
    return MISSING if pd.isna(value) else str(value)


def _digits(info: ColumnInfo, values: pd.Series) -> int:
    """Return the number of decimals of a column."""
    finite = np.abs(values.dropna().to_numpy(np.float64))
    finite = finite[np.isfinite(finite)]
    if not finite.size or np.array_equal(finite, np.round(finite)):
        return 0
    if info.decimals is not None:
        return info.decimals
    return int(np.clip(3 - np.floor(np.log10(finite.max())), 0, 3))


def _number(value: Any, digits: int, column: Column) -> str:
    if pd.isna(value):
        return MISSING
    if column.name == "p_value" and 0 <= value < 0.001:
        return "< 0.001"
    # 0.0004 of a score is as good as none of it.
    if column.info.decimals is None and 0 < abs(value) < 10.0**-digits:
        return f"{value:.2g}"
    if abs(value) < 0.5 * 10.0**-digits:
        return f"{0:.{digits}f}"  # no sign
    sign = "+" if column.name == "difference" else ""
    return f"{value:{sign},.{digits}f}"


def _is_said(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and text != ""


def _mark(row: pd.Series, chance: bool) -> tuple[str, str]:
    error, source, why = (row.get(name) for name in ("error", "source", UNDEFINED))
    if _is_said(error):
        return "failed", error
    if _is_said(why):
        return UNDEFINED, why
    if _is_said(row.get(CONTROL)):
        return CONTROL, row[CONTROL]
    if isinstance(source, str) and source not in ("", THIS_RUN):
        return "published", source
    return ("chance" if chance else ""), ""


def text_table(frame: pd.DataFrame, columns: Columns, *, width: int) -> str:
    """Lay a table out in lines of at most `width` characters.

    Columns that do not fit follow below, beside the headings again; words that do not
    fit go on in the next line. Of the intervals, only those of the first score and of
    the difference are kept. Controls stand below a line.
    """
    long = len(frame) > _N_TEXT_ROWS
    most = _N_HEAD_ROWS if long else _N_TEXT_ROWS
    view = TableView.from_frame(frame, columns, max_rows=most)
    first = next((c.name for c in view.columns if c.has_interval), None)
    limit = int(0.36 * width)
    heading = [view.columns[0].info.label, *(_heading(row, limit) for row in view.rows)]
    heads = [[text] for text in heading]
    blocks = [_Block(heads)]
    lines: list[str] = []
    first_control = next((i for i, r in enumerate(view.rows) if r.is_control), None)
    join = partial(_join, rule=None if first_control is None else first_control + 1)
    for j, column in enumerate(view.columns[1:]):
        shown = column.name in (first, "difference")
        texts = [column.info.label]
        for row in view.rows:
            cell = row.cells[j]
            texts.append(f"{cell.text} {cell.interval}" if shown else cell.text)
        # Words that are long take what room there is beside the headings.
        room = width - blocks[0].width - 2
        most_wide = max(width // 4, min(room, max(map(len, texts)) // 3))
        block = _Block(
            [wrap(text, most_wide) or [""] for text in texts], right=column.numeric
        )
        if sum(block.width + 2 for block in blocks) + block.width > width:
            lines += [*join(blocks), ""]
            blocks = blocks[:1]
        blocks.append(block)
    lines += join(blocks)
    if view.n_rows > len(view.rows):
        lines.append(f"... {view.n_rows - len(view.rows)} more rows")
    for name, mark, remark in view.footnotes:
        lines += wrap(f"{name or mark}: {remark}", width, subsequent_indent="    ")
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


@dataclass(frozen=True)
class _Block:
    """A column as text: the lines of each of its cells."""

    cells: list[list[str]]
    right: bool = False

    @property
    def width(self) -> int:
        return max(len(line) for cell in self.cells for line in cell)

    def padded(self, i: int, n: int) -> list[str]:
        """Return cell `i` as `n` lines of one width."""
        lines = [*self.cells[i], *[""] * (n - len(self.cells[i]))]
        pad = str.rjust if self.right else str.ljust
        return [pad(line, self.width) for line in lines]


def _join(blocks: list[_Block], *, rule: int | None) -> list[str]:
    """Return the lines of the blocks side by side, with a rule above row `rule`."""
    lines = []
    for i in range(len(blocks[0].cells)):
        if i == rule:
            lines.append("-" * (sum(block.width + 2 for block in blocks) - 2))
        n = max(len(block.cells[i]) for block in blocks)
        parts = zip(*(block.padded(i, n) for block in blocks), strict=True)
        lines += ["  ".join(part).rstrip() for part in parts]
    return lines
