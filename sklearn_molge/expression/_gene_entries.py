"""Genes as users write them: Entrez ids and symbols, in lists and with numbers."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["GeneLookup", "Key", "read_genes", "shown"]

_N_SHOWN = 20
_ENTREZ = re.compile(r"\d+(\.0+)?")

Key = int | str


def read_genes(
    up: Any, down: Any, ranked: Any, values: Any
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return the entries, with the part that they came in, and a number for each."""
    sets = {k: v for k, v in (("up", up), ("down", down)) if v is not None}
    given = ["up and down"] if sets else []
    given += [k for k, v in (("ranked", ranked), ("values", values)) if v is not None]
    if len(given) != 1:
        raise ValueError(
            "Either up, down or both, or ranked, or values must be given. "
            f"Got {', '.join(given) or 'none of them'}."
        )
    if sets:
        lists = {part: _entries(part, genes) for part, genes in sets.items()}
        signs = [np.full(len(lists[k]), 1.0 if k == "up" else -1.0) for k in lists]
        return _table(lists), np.concatenate(signs)
    part, genes = ("ranked", ranked) if values is None else ("values", values)
    scored = isinstance(genes, Mapping) or (
        isinstance(genes, pd.Series) and pd.api.types.is_numeric_dtype(genes)
    )
    if scored:
        series = pd.Series(genes)
        entries = _entries(part, _index(part, series))
        return _table({part: entries}), _finite(part, series)
    if part == "values":
        raise ValueError(
            "values must be a mapping, or a Series of numbers whose index is the "
            f"genes. Got {_kind(genes)}."
        )
    entries = _entries(part, genes)
    return _table({part: entries}), np.arange(len(entries), 0, -1, dtype=np.float64)


def _entries(part: str, genes: Any) -> list:
    unordered = part == "ranked" and isinstance(genes, set | frozenset)
    scored = part in ("up", "down") and isinstance(genes, Mapping)
    tabular = np.ndim(genes) > 1 if hasattr(genes, "ndim") else False
    listed = isinstance(genes, Iterable) and not isinstance(genes, str | bytes)
    if not listed or unordered or tabular or scored:
        raise ValueError(
            f"{part} must be a list of genes{' in order' if unordered else ''}. "
            f"Got {_kind(genes)}."
        )
    entries = list(genes)
    for place, entry in enumerate(entries):
        if _key(entry) is None:
            raise ValueError(
                f"{part} must hold symbols and Entrez ids. Got {entry!r} at place "
                f"{place}."
            )
    return entries


def _table(lists: dict[str, list]) -> pd.DataFrame:
    entries = np.empty(sum(map(len, lists.values())), dtype=object)
    entries[:] = [entry for genes in lists.values() for entry in genes]
    parts = np.repeat(list(lists), [len(genes) for genes in lists.values()])
    return pd.DataFrame({"part": parts.astype(object), "entry": entries})


def _index(part: str, series: pd.Series) -> pd.Index:
    index = series.index
    if len(index) and isinstance(index, pd.RangeIndex) and index.start == 0:
        raise ValueError(
            f"{part} must have the genes as its index. Got a Series of numbers that "
            "are numbered from 0; a ranking of Entrez ids is given as a list."
        )
    return index


def _finite(part: str, series: pd.Series) -> NDArray[np.float64]:
    try:
        numbers = series.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{part} must map genes to numbers: {error}.") from error
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise ValueError(
            f"{part} must be finite. Got NaN or infinite numbers for {bad.sum():,} "
            f"genes: {shown(series.index[bad])}."
        )
    return numbers


def _key(entry: Any) -> Key | None:
    """Return the number of an Entrez id, the folded text of a symbol, else None."""
    if isinstance(entry, str):
        text = entry.strip()
        if _ENTREZ.fullmatch(text):
            return int(text.split(".")[0])
        return text.casefold() or None
    if isinstance(entry, bool | np.bool_) or not isinstance(entry, Real):
        return None
    if isinstance(entry, Integral) or float(entry).is_integer():
        return int(entry)  # type: ignore[call-overload]
    return None


class GeneLookup:
    """Columns of a profile by Entrez id and by symbol."""

    def __init__(self, genes: pd.DataFrame):
        names = [name for name in ("gene_id", "symbol") if name in genes]
        if not names or genes.empty:
            raise ValueError(
                "genes must have rows, and a column 'gene_id', 'symbol' or both. "
                f"Got {len(genes)} rows and the columns {list(genes.columns)}."
            )
        self._columns: dict[Key | None, list[int]] = defaultdict(list)
        for name in names:
            for column, value in enumerate(genes[name]):
                key = _key(value)
                if key is not None and column not in self._columns[key]:
                    self._columns[key].append(column)

    def columns(self, entries: pd.DataFrame) -> NDArray[np.intp]:
        """Return the column of each entry, -1 where there is none."""
        found = [self._columns.get(_key(e), []) for e in entries["entry"]]
        for entry, columns in zip(entries["entry"], found, strict=True):
            if len(columns) > 1:
                raise ValueError(
                    f"{entry!r} is the name of {len(columns)} genes of `genes`, rows "
                    f"{columns[:_N_SHOWN]}; give the Entrez id of the one that is "
                    "meant."
                )
        return np.array([c[0] if c else -1 for c in found], dtype=np.intp)


def shown(entries: Iterable[Any]) -> str:
    """Name the first of the entries, and how many more there are."""
    listed = [str(entry) for entry in entries]
    more = len(listed) - _N_SHOWN
    return ", ".join(listed[:_N_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _kind(genes: Any) -> str:
    return f"the text {genes!r}" if isinstance(genes, str) else f"a {type(genes)}"
