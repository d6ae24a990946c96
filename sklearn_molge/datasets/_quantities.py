"""Doses and times: numbers with units, wherever the unit stands.

It stands in the cell ("10 uM"), in a column of its own, or in the column's name
("dose_nM"). A number without a unit anywhere is in um or h.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._texts import clean, coded_texts
from sklearn_molge.exceptions import DataWarning

__all__ = [
    "QUANTITIES",
    "TOLERANCE",
    "UNIT",
    "Readings",
    "are_quantities",
    "describe_readings",
    "parse_quantity",
    "quantity",
    "unread",
]

# Our name, then the releases' names; further columns by `COLUMN`.
QUANTITIES = {
    "dose_um": ("dose_um", "pert_dose", "pert_idose", "exp_pert_dose"),
    "time_h": ("time_h", "pert_time", "pert_itime", "exp_pert_time"),
}
UNIT = {"dose_um": "um", "time_h": "h"}
# Relative: 9.99 is 10, 9.7 is not; times differ by rounding only.
TOLERANCE = {"dose_um": 0.01, "time_h": 1e-6}
# 1 mM and two weeks: from there on a number without a unit is rather in nM, or minutes.
LARGEST_BARE = {"dose_um": 1000.0, "time_h": 336.0}

_PREFIXES = {
    "": 1e6,
    **dict.fromkeys(("m", "milli"), 1e3),
    **dict.fromkeys(("u", "micro"), 1.0),
    **dict.fromkeys(("n", "nano"), 1e-3),
    **dict.fromkeys(("p", "pico"), 1e-6),
    **dict.fromkeys(("f", "femto"), 1e-9),
}
_MOLAR = "m molar mol/l mole/l moles/l mol/liter mol/litre mol/dm3 moll-1".split()
# In lower case, without blanks, brackets and dots.
UNITS = {
    "dose_um": {p + m: factor for p, factor in _PREFIXES.items() for m in _MOLAR},
    "time_h": {
        **dict.fromkeys("h hr hrs hour hours".split(), 1.0),
        **dict.fromkeys("d day days".split(), 24.0),
        **dict.fromkeys("w wk week weeks".split(), 168.0),
        **dict.fromkeys("min mins minute minutes".split(), 1 / 60),
        **dict.fromkeys("s sec secs second seconds".split(), 1 / 3600),
    },
}
# Of column names: units that are none of an amount of substance.
_NOT_MOLAR = re.compile(r"%|percent|pct|[kmunp]?g|[mun]?l|[mun]?g/?[mun]?l|mg/?kg")
_WORDS = {"dose_um": ("dose", "dosage", "conc"), "time_h": ("time", "duration")}
_OF = r"(exp_)?((pert|cpd|compound|drug|treatment|exposure)_)?"
COLUMN = {
    "dose_um": re.compile(_OF + r"i?(dose|dosage|conc|concentration)(_value|_val)?"),
    "time_h": re.compile(_OF + r"i?(time|duration)(_?point)?(_value|_val)?"),
}
# The releases write micro as u, as the micro sign or as mu, in mixed encodings.
MICRO = str.maketrans(dict.fromkeys("\u00b5\u03bc\ufffd", "u") | {"\u2212": "-"})
NUMBER = re.compile(
    r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)[\s_-]*(.*)"
)
DECIMAL_COMMA = re.compile(r"([-+]?)([0-9]+),([0-9]+)(?![\d.,])(.*)")
# Letters: a number with its unit has 40 at most.
LONGEST = 200


@dataclass(frozen=True)
class Readings:
    """A column of doses (um) or times (h), NaN where missing or not readable.

    `codes` are numbers into `notes`, -1 where missing: the unit of a value as it was
    written, "" where there was none; or ``?`` and the entry, where it is no quantity.
    """

    values: NDArray[np.float64]
    codes: NDArray[np.intp]
    notes: list[str]


def parse_quantity(entry: object, name: str) -> float:
    """Read 10, "10", "10 uM" or "10000 nM" as 10.0 um; NaN where it is no quantity."""
    return _interpret(clean(entry), "", "", name)[0]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(MICRO)).translate(MICRO)


def _factor(unit: str, name: str) -> float:
    """Return what to multiply with; NaN where the unit is not known."""
    if len(unit) > LONGEST:
        return np.nan
    plain = _plain(unit).strip()
    if plain == "m":  # of molar, that is a capital letter
        return np.nan
    bare = re.sub(r"\s+per\s+", "/", plain.lower())
    bare = re.sub(r"[\s().\[\]^*\u00b7\u22c5]", "", bare)
    return UNITS[name].get(bare, np.nan)


def _split(text: str) -> tuple[float, str]:
    """Return number and unit; NaN where there is no number, or it can be read twice."""
    plain = _plain(text).strip() if len(text) <= LONGEST else ""
    comma = DECIMAL_COMMA.fullmatch(plain)
    if comma:
        sign, whole, part, rest = comma.groups()
        # 1,000 nM is one or a thousand; 0,125 is clear.
        if len(part) == 3 and whole.strip("0"):
            return np.nan, ""
        plain = f"{sign}{whole}.{part}{rest}"
    match = NUMBER.fullmatch(plain)
    if match is None or float(match[1]) < 0 or not np.isfinite(float(match[1])):
        return np.nan, ""
    return float(match[1]), match[2].strip()


def _interpret(text: str, outer: str, in_name: str, name: str) -> tuple[float, str]:
    """Return the value of a cell and a note, see `Readings`."""
    number, inner = _split(text)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    shown = " ".join(filter(None, [text, "" if inner else outer or in_name]))
    if np.isnan(number):
        return np.nan, f"?{shown}"
    if not (inner or outer or in_name):
        return number, ""
    factor = _factor(inner or outer or in_name, name)
    doubt = outer and (inner or in_name)  # a unit column and something else
    if doubt and not np.isclose(_factor(outer, name), _factor(doubt, name), atol=0):
        return np.nan, f"?{text} (said to be in {outer} and in {doubt})"
    if not np.isfinite(number * factor):  # no unit, or too large
        return np.nan, f"?{shown}"
    return number * factor, inner or outer or in_name


# ----------------------------------------------------------------------- columns


def are_quantities(column: str) -> bool:
    """Whether a column of that name holds doses or times, or their unit."""
    return _key(column) in ("unit", "units") or any(
        column in QUANTITIES[name] or _is_source(column, name) or _is_unit(column, name)
        for name in QUANTITIES
    )


def _key(column: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(column).lower())


def _is_unit(column: object, name: str) -> bool:
    key = _key(column)
    return "unit" in key and any(word in key for word in _WORDS[name])


def _unit_in_name(column: object, name: str) -> tuple[str, str]:
    """Split a column's name into stem and unit; "" where it has no unit."""
    parts = [part for part in re.split(r"[\s_.()\[\]-]+", _plain(str(column))) if part]
    for n in (2, 1):
        unit = "/".join(parts[-n:])
        known = not np.isnan(_factor(unit, name)) or (
            name == "dose_um" and _NOT_MOLAR.fullmatch(unit.lower())
        )
        if len(parts) > n and known:
            return "_".join(parts[:-n]), unit
    return "_".join(parts), ""


def _is_source(column: object, name: str) -> bool:
    stem = _unit_in_name(column, name)[0].lower()
    return COLUMN[name].fullmatch(stem) is not None


def _unit_columns(table: pd.DataFrame, column: object, name: str) -> list:
    """Return the columns that may hold the unit of `column`; its own one alone."""
    units = [c for c in table.columns if _is_unit(c, name)]
    own = _key(column), re.sub("(value|val|amount)$", "", _key(column))
    exact = [f"{stem}unit{plural}" for stem in own if stem for plural in ("", "s")]
    for c in table.columns:
        if _key(c) in exact:
            return [c]
    if _unit_in_name(column, name)[1]:
        return []
    others = {_key(c) for c in table.columns if not _is_unit(c, name)}
    found = [c for c in units if re.sub("units?$", "", _key(c)) not in others]
    return found or [
        c
        for c in table.columns
        if _key(c) in ("unit", "units")
        and any(not np.isnan(_factor(t or "", name)) for t in coded_texts(table[c])[1])
    ]


def quantity(table: pd.DataFrame, name: str, column: object = None) -> Readings | None:
    """Read ``dose_um`` or ``time_h`` from a table, or from one `column` of it.

    Where a table has several columns, a number with a unit counts before one without.
    None: the table has no such column.
    """
    if column is not None:
        return _read_column(table, column, name)
    sources: list = [source for source in QUANTITIES[name] if source in table]
    sources += [
        c
        for c in table.columns
        if c not in sources and _is_source(c, name) and not _is_unit(c, name)
    ]
    if not sources:
        return None
    readings = [_read_column(table, source, name) for source in sources]
    _warn_of_contradictions(readings, sources, name)
    return _combine(readings)


def _warn_of_contradictions(
    readings: Sequence[Readings], sources: Sequence[object], name: str
) -> None:
    """Warn where two columns with units say something else than rounding explains."""
    values = np.array(
        [
            np.where(np.array([*map(bool, r.notes), False])[r.codes], r.values, np.nan)
            for r in readings
        ]
    )
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    differ = np.flatnonzero((known.sum(axis=0) > 1) & (high > 1.5 * low))
    if not differ.size:
        return
    row = differ[0]
    told = [
        f"{source} {value:g}"
        for source, value in zip(sources, values[:, row], strict=True)
        if np.isfinite(value)
    ]
    warnings.warn(
        f"{name} of {differ.size:,} rows is said twice, and differs: in {UNIT[name]}, "
        f"{' and '.join(told)} in row {row}. The first is taken.",
        DataWarning,
        stacklevel=5,
    )


def _read_column(table: pd.DataFrame, column: object, name: str) -> Readings:
    codes, texts = coded_texts(table[column])
    unit_codes = np.full(len(codes), -1)
    units: list[str] = []
    candidates = _unit_columns(table, column, name)
    if len(candidates) == 1:
        unit_codes, named = coded_texts(table[candidates[0]])
        units = ["no unit" if unit is None else unit for unit in named]
        unit_codes = np.where(unit_codes < 0, len(units), unit_codes)
        units.append("no unit")
    elif candidates:
        unit_codes = np.zeros(len(codes), dtype=np.intp)
        units = [f"the unit of {' or '.join(map(str, candidates))}"]
    units.append("")  # where there is no column of units: -1
    in_name = _unit_in_name(column, name)[1]
    if in_name:
        units = ["" if unit == "no unit" else unit for unit in units]
    pairs = codes * len(units) + unit_codes % len(units)
    pairs[codes < 0] = -1
    pair_codes, distinct = pd.factorize(np.where(pairs < 0, np.nan, pairs))
    values, notes = [], []
    for pair in distinct.astype(np.intp):
        text = texts[pair // len(units)]
        value, note = np.nan, "?"
        if text is not None:
            unit = units[pair % len(units)]
            number, inner = _split(text)
            if inner and (len(candidates) > 1 or unit == "no unit"):
                unit = ""
            elif number == 0:  # in any unit
                unit = UNIT[name] if unit == "no unit" else unit
            value, note = _interpret(text, unit, in_name, name)
        values.append(value)
        notes.append(note)
    vocabulary = dict.fromkeys(note for note in notes if note != "?")
    places = {note: i for i, note in enumerate(vocabulary)}
    note_codes = np.array([*(places.get(note, -1) for note in notes), -1])
    return Readings(
        np.array([*values, np.nan])[pair_codes],
        note_codes[pair_codes],
        list(vocabulary),
    )


def _combine(readings: Sequence[Readings]) -> Readings:
    """Take what has a unit, then what has none, then what could not be read."""
    if len(readings) == 1:
        return readings[0]
    notes = list(dict.fromkeys(note for r in readings for note in r.notes))
    places = {note: i for i, note in enumerate(notes)}
    n = len(readings[0].values)
    values, codes = np.full(n, np.nan), np.full(n, -1)
    for wanted in (True, False):
        for r in readings:
            own = np.array([*(places[note] for note in r.notes), -1])[r.codes]
            has_unit = np.array([*map(bool, r.notes), False])[r.codes]
            take = np.isnan(values) & ~np.isnan(r.values) & (has_unit == wanted)
            values[take], codes[take] = r.values[take], own[take]
            codes = np.where((codes < 0) & np.isnan(values), own, codes)
            if not wanted:
                # 3.33333 without a unit is the same as 3.33 um, and nearer.
                same = ~has_unit & np.isclose(r.values, values, rtol=0.2, atol=0)
                values = np.where(same, r.values, values)
    return Readings(values, codes, notes)


# ----------------------------------------------------------------------- the account


def _note_counts(notes: pd.Series) -> list[tuple[str, int]]:
    counts = notes.dropna().astype(object).value_counts(sort=True)
    return [(str(note), int(n)) for note, n in counts.items()]


def describe_readings(obs: pd.DataFrame) -> str:
    """Say how many values came in which unit, by ``dose_um_note`` and the like."""
    parts = []
    for name in QUANTITIES:
        told = [
            f"{n:,} in {note}"
            if note
            else f"{n:,} without a unit, read as {UNIT[name]}"
            for note, n in _note_counts(obs[f"{name}_note"])
            if not note.startswith("?")
        ]
        n_missing = int(obs[name].isna().sum())
        if told:
            told += [f"{n_missing:,} missing"][: int(n_missing > 0)]
            parts.append(f"{name}: {', '.join(told)}")
    return "; ".join(parts)


def unread(obs: pd.DataFrame) -> list[str]:
    """Say which doses and times could not be read, or are doubtful."""
    told = []
    for name, unit in UNIT.items():
        notes, values = obs[f"{name}_note"], obs[name]
        bad = [(note[1:], n) for note, n in _note_counts(notes) if note.startswith("?")]
        if bad:
            shown = first_few([f"{text!r} ({n:,})" for text, n in bad], write=str, n=5)
            told.append(
                f"{name} of {sum(n for _, n in bad):,} of {len(obs):,} treated "
                f"profiles cannot be read as a number in {unit} and is missing: {shown}"
            )
        bare = values[(notes == "").to_numpy() & (values > LARGEST_BARE[name])]
        if len(bare):
            told.append(
                f"{len(bare):,} values of {name} have no unit and are read as {unit}, "
                f"which makes them as large as {bare.max():g} {unit}; is their unit "
                "another?"
            )
    zero = int((obs["dose_um"] == 0).sum())
    if zero:
        told.append(f"{zero:,} treated profiles have the dose 0, as a control has")
    return told
