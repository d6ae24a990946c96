"""The answer to a query as a page shows it: a verdict, structures, numbers in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from rdkit import Chem, rdBase

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge._utils.messages import counted, printable
from sklearn_molge._utils.pages import data_uri
from sklearn_molge._utils.spreadsheets import guarded_column

__all__ = [
    "NEEDED",
    "AnswerView",
    "answer_to_csv",
    "set_text",
    "structure_uri",
    "view_answer",
]

NEEDED = ("query", "rank", "molecule", "name", "score")
_SIZE = (200, 130)
_OPTIONS = {"fixedBondLength": 22.0, "minFontSize": 8, "clearBackground": False}
# No longer text of a cell is shown.
_MOST_TEXT = 300
_METRICS = {
    "dot": "dot product", "euclidean": "minus distance",
    "similarity": "the estimator's own score",
}  # fmt: skip
# Shown elsewhere, or numbers of rows that say nothing to a reader.
_NOT_SHOWN = {
    *NEEDED[:4], "drug", "structure", "query_p_value", "query_q_value",
    "better_than_noise", "set_size", "nearest_training", "in_training", "library",
    "library_row", "index_row",
}  # fmt: skip


_FIRST = ("moa", "mechanism", "target")


@dataclass(frozen=True)
class _Column:
    name: str
    label: str
    help: str = ""
    decimals: int | None = None
    ascending: bool = False
    numeric: bool = True


_KNOWN = [
    _Column("score", "Score", "larger is more similar", 3),
    _Column(
        "candidate_score", "In the joint space",
        "the score by which candidates were found", 3,
    ),
    _Column(
        "p_value", "p",
        "share of the query's copies with permuted genes that score as well with this "
        "molecule; it does not know that the molecule was chosen as the best of many",
        3, ascending=True,
    ),
    _Column(
        "percentile", "Percentile",
        "percent of the background's profiles that score lower with this molecule", 1,
    ),
    _Column(
        "conformal_p", "Conformal p",
        "a small one speaks against the molecule", 3,
    ),
    _Column(
        "in_set", "In the set",
        "no: the molecule is less similar than a profile's own molecule mostly is. A "
        "small p speaks against the molecule, a large one not for it",
        numeric=False,
    ),
    _Column(
        "nearest_similarity", "Nearest in training",
        "Tanimoto similarity to the training molecule that is most like it", 2,
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, what it is sorted by, a line below, and where it leads."""

    text: str
    key: str
    note: str = ""
    link: str = ""


@dataclass(frozen=True)
class Row:
    """A molecule of an answer."""

    rank: str
    name: str
    smiles: str
    drug: str
    picture: str  # a data URI; "" where it cannot be drawn
    in_training: bool
    cells: list[Cell]
    source: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class AnswerView:
    """The answer to one query.

    Attributes
    ----------
    name : str
        The query.
    verdict, detail : str
        Whether it is better than noise, and what that means.
    tone : {"good", "none", "unknown"}
    caption : str
    columns : list
        Those behind the rank, the structure and the name.
    rows : list of Row
    n_more : int
        Rows that are not shown.
    """

    name: str
    verdict: str
    detail: str
    tone: str
    caption: str
    columns: list[_Column]
    rows: list[Row]
    n_more: int


def view_answer(
    table: pd.DataFrame, *, max_rows: int | None = None
) -> Iterator[AnswerView]:
    """Yield what is shown of each query of a table that ``MoleculeIndex.query`` made.

    Each distinct molecule is drawn once. `max_rows` is of all queries together.
    """
    pictures: dict[Any, str] = {}
    left = len(table) if max_rows is None else max_rows
    # Names may be of any kind, also of kinds that have no order.
    codes, names = pd.factorize(table["query"])
    for code, name in enumerate(names):
        own = table[codes == code]
        shown = own.head(left)
        left -= len(shown)
        columns = list(_columns(own))
        verdict, detail, tone = _verdict(own)
        rows = [
            _row(answer, columns, pictures)
            for answer in pd.DataFrame(shown).to_dict("records")
        ]
        label = name if isinstance(name, str) else f"Query {name}"
        yield AnswerView(
            printable(label), verdict, detail, tone, _caption(own), columns, rows,
            len(own) - len(shown),
        )  # fmt: skip


def structure_uri(smiles: object, **kwargs: Any) -> str:
    """Draw a molecule as a link that holds an SVG; "" where that cannot be done."""
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if isinstance(smiles, str) else None
        if mol is None or not mol.GetNumAtoms():
            return ""
        how: dict[str, Any] = {"size": _SIZE, "options": _OPTIONS} | kwargs
        svg = draw_molecule(mol, form="svg", **how)
    # The declaration and the size in pixels are for files.
    return data_uri("image/svg+xml", svg)


def answer_to_csv(table: pd.DataFrame) -> str:
    """Write a table without the pictures; no spreadsheet runs what is in it."""
    plain = pd.DataFrame(table.drop(columns="structure", errors="ignore"))
    return plain.apply(guarded_column).to_csv(index=False)


# Words


def _verdict(own: pd.DataFrame) -> tuple[str, str, str]:
    attrs = own.attrs
    if "better_than_noise" not in own:
        told = "The query was answered without permutations (n_permutations=0)."
        return "Not compared with noise.", told, "unknown"
    p, q = (float(own[f"query_{kind}_value"].iloc[0]) for kind in "pq")
    n = attrs.get("n_permutations")
    copies = f"{n:,} copies of it" if n else "copies of it"
    told = f"p {_p_text(p)}, false discovery rate {_p_text(q)}"
    if bool(own["better_than_noise"].iloc[0]):
        return (
            "Better than noise.",
            f"Its best molecules score higher than those that {copies} with permuted "
            f"genes find ({told}). That does not make the first answer right.",
            "good",
        )
    return (
        "No better than noise.",
        f"As good molecules are found by {copies} with permuted genes ({told}). "
        "The order below is no evidence.",
        "none",
    )


def set_text(own: pd.DataFrame) -> Iterator[str]:
    """Say what the conformal set means, where the query has one."""
    coverage = own.attrs.get("coverage")
    if coverage is None or "in_set" not in own or own["in_set"].isna().any():
        return
    if "better_than_noise" in own and not own["better_than_noise"].iloc[0]:
        yield (
            "Its conformal set says nothing: the profiles that calibrated such sets "
            "were made by molecules, and this one may be noise."
        )
        return
    percent = f"{100 * coverage:g} %"
    size = own["set_size"].iloc[0] if "set_size" in own else None
    n = own.attrs.get("n_molecules")
    if size is not None and n:
        yield (
            f"The {percent} set has {size:,.0f} of {counted(n, 'molecule')}."
            if size
            else f"The {percent} set is empty: nothing here is as similar as a "
            "profile's own molecule mostly is."
        )
    yield (
        f"Such sets hold the molecule that made a profile in {percent} of cases, if it "
        "is in the library, and was not in the training, and the profile was made as "
        "those of the training: they say what can be left out, not that the first is "
        "right."
    )


def _p_text(value: float) -> str:
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def _caption(own: pd.DataFrame) -> str:
    attrs = own.attrs
    metric = attrs.get("metric", "score")
    order = "most similar first"
    if attrs.get("reverse"):
        scored = metric == "similarity"
        order = "reversed: most like its opposite first" if scored else (
            "reversed: least similar first"
        )  # fmt: skip
    parts = [f"{counted(len(own), 'molecule')}, {order}."]
    if "n_molecules" in attrs:
        n, skipped = attrs["n_molecules"], attrs.get("n_skipped", 0)
        left = f"; {counted(skipped, 'row')} of the library left out" if skipped else ""
        parts.append(f"Library: {counted(n, 'molecule')}{left}.")
    parts.append(f"Score: {_METRICS.get(metric, metric)}.")
    if attrs.get("model"):
        parts.append(f"Model: {attrs['model']}.")
    parts.extend(set_text(own))
    return printable(" ".join([*parts, *attrs.get("account", ())]))


# Cells


def _columns(own: pd.DataFrame) -> Iterator[_Column]:
    known = {column.name: column for column in _KNOWN}
    # Beside whether a molecule is in the set its p-value is a note.
    left_out = {"conformal_p"} if "in_set" in own else set()
    for column in _KNOWN:
        if column.name in own and column.name not in left_out:
            yield column
    # What a molecule does is of more use than its numbers in catalogues.
    for name in sorted(own.columns, key=lambda name: name not in _FIRST):
        if name not in known and name not in _NOT_SHOWN:
            values = own[name]
            numeric = pd.api.types.is_numeric_dtype(values)
            numeric = numeric and not pd.api.types.is_bool_dtype(values)
            if not values.isna().all():
                label = printable(str(name)).replace("_", " ")
                yield _Column(name, label, numeric=numeric, ascending=not numeric)


def _row(answer: dict, columns: list[_Column], pictures: dict[Any, str]) -> Row:
    smiles = answer["molecule"]
    if smiles not in pictures:
        pictures[smiles] = structure_uri(smiles)
    name = answer["name"]
    cells = [_cell(answer, column) for column in columns]
    return Row(
        rank=_text(answer["rank"]),
        name=_text(name) if _is_there(name) and name != "" else "",
        smiles=_text(smiles),
        drug=_text(answer.get("drug")) if answer.get("drug") != smiles else "",
        picture=pictures[smiles],
        in_training=answer.get("in_training") is True,
        cells=cells,
        source=answer,
    )


def _cell(answer: dict, column: _Column) -> Cell:
    value = answer[column.name]
    if not _is_there(value):
        return Cell("\N{EN DASH}", "")
    if column.name == "nearest_similarity":
        note = (
            "" if answer.get("in_training") else _text(answer.get("nearest_training"))
        )
        return Cell(f"{value:.2f}", repr(float(value)), note)
    if column.numeric and isinstance(value, (int, float, np.number)):
        if column.name == "p_value" and value < 0.001:
            return Cell("< 0.001", repr(float(value)))
        text = f"{value:.4g}" if column.decimals is None else (
            f"{value:.{column.decimals}f}"
        )  # fmt: skip
        return Cell(text, repr(float(value)))
    text = _text(value)
    if column.name == "in_set" and _is_there(answer.get("conformal_p")):
        p = float(answer["conformal_p"])
        return Cell(text, repr(p), f"p {_p_text(p)}")
    is_link = re.fullmatch(r"https?://[^\s\"'<>]+", text) is not None
    return Cell(text.replace("|", ", "), text, link=text if is_link else "")


def _is_there(value: Any) -> bool:
    return bool(np.ndim(value)) or not pd.isna(value)


def _text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    text = printable(" ".join(str(value).split()))
    return (
        text
        if len(text) <= _MOST_TEXT
        else text[:_MOST_TEXT] + "\N{HORIZONTAL ELLIPSIS}"
    )
