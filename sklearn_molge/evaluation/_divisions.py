"""How a study is divided: the repeats of an evaluation. Knows no methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from sklearn_molge._utils.groups import Factor, count_of, encode_groups
from sklearn_molge._utils.messages import first_few, refuse_unknown
from sklearn_molge.datasets import Study
from sklearn_molge.model_selection import DrugCellLineSplit, drug_cell_line_split

__all__ = [
    "FEWEST_CANDIDATES",
    "MIN_CANDIDATES",
    "Repeat",
    "Split",
    "draw_split",
    "make_repeats",
    "n_distinct",
]

# Drugs that a part should rank, where the study has them. Among 50, chance has a mean
# reciprocal rank of 0.09; among 30, below which nothing is judged, 0.13.
_AIMS = {"test": 50, "val": 30}
MIN_CANDIDATES = {"test": 30, "val": 20}
# Of one candidate, any method ranks the right one first.
FEWEST_CANDIDATES = 2

RandomState = int | np.random.RandomState | None
Split = Mapping[str, object] | DrugCellLineSplit | Sequence[DrugCellLineSplit] | None


class SplitSizes(TypedDict, total=False):
    """Parameters of `drug_cell_line_split` that `draw_split` hands on."""

    val_drugs: float | Sequence[object]
    test_drugs: float | Sequence[object]
    val_cell_lines: float | Sequence[object]
    test_cell_lines: float | Sequence[object]
    hold_out: str
    test_sources: str | Sequence[str] | None


@dataclass(frozen=True)
class Repeat:
    """One division of the rows, and the seed of what is fitted on it."""

    split: DrugCellLineSplit
    seed: int

    def rows(self, train: str) -> NDArray[np.intp]:
        """Return the rows that a method is fitted on."""
        if train == "oracle_train_lines":
            return self.split.oracle_train_lines
        return self.split.test if train == "oracle_test_lines" else self.split.train


def n_distinct(values: NDArray) -> int:
    """Return how many distinct values there are."""
    return len(pd.unique(values))


def make_repeats(
    split: Split,
    study: Study,
    n_repeats: int,
    random_state: RandomState,
    test_sources: str | Sequence[str] | None = None,
) -> list[Repeat]:
    """Draw the divisions, and a seed for each."""
    rng = check_random_state(random_state)
    seeds = rng.randint(np.iinfo(np.int32).max, size=(n_repeats, 2)).tolist()
    if split is None or isinstance(split, Mapping):
        options: Any = dict(split or {})
        if "random_state" in options:
            raise ValueError(
                "split must not have a random_state: each repeat draws from that of "
                f"evaluate_study. Got {options['random_state']!r}."
            )
        if test_sources is not None:
            if "test_sources" in options:
                raise ValueError(
                    "test_sources must be given once. Got "
                    f"{test_sources!r} and split={split!r}."
                )
            options["test_sources"] = test_sources
        named = options.get("test_sources") is not None
        groups = study.obs if named else study.groups
        splits = [draw_split(groups, **options, random_state=seed) for seed, _ in seeds]
    elif isinstance(split, DrugCellLineSplit):
        splits = [split] * n_repeats
    elif _is_list_of_splits(split) and len(split) == n_repeats:
        splits = list(split)
    else:
        raise ValueError(
            "split must be a mapping of drug_cell_line_split's parameters, the "
            "DrugCellLineSplit that this function returns, or a list of "
            f"n_repeats={n_repeats} DrugCellLineSplit. Got {split!r}."
        )
    n_rows = len(study)
    for i, drawn in enumerate(splits):
        if not len(drawn.test) or not len(drawn.train):
            raise ValueError(f"split {i} has no training or no test rows: {drawn!r}.")
        largest = max(rows.max() for rows in (drawn.train, drawn.test))
        if largest >= n_rows:
            raise ValueError(
                f"split {i} must be of this study, which has {n_rows} rows. Got row "
                f"{largest}."
            )
        _check_sources(drawn, study, test_sources, f"split {i}")
    return [Repeat(drawn, seed) for drawn, (_, seed) in zip(splits, seeds, strict=True)]


def _check_sources(split, study, test_sources, name) -> None:
    """Refuse a given division that tests rows of other sources."""
    if test_sources is None:
        return
    tested = encode_groups(study.obs, test_sources=test_sources)[0].tested
    assert tested is not None
    for part in ("test", "val"):
        rows = getattr(split, part)
        others = rows[~tested[rows]]
        if len(others):
            found = first_few(pd.unique(study.obs["source"].iloc[others]), n=3)
            raise ValueError(
                f"{name} has {part} rows of other sources than "
                f"test_sources={test_sources!r}: {len(others):,} of {len(rows):,}, of "
                f"{found}."
            )


def draw_split(
    groups: ArrayLike | pd.DataFrame,
    *,
    random_state: int | np.random.RandomState | None = None,
    **sizes: Unpack[SplitSizes],
) -> DrugCellLineSplit:
    """Divide a study into parts that are large enough to judge by, where it can be.

    What :func:`evaluate_study` draws for each repeat: the split of
    :func:`~sklearn_molge.model_selection.drug_cell_line_split` with other defaults. Its
    own, a tenth of the drugs and one cell line, are those of a paper with 4,363 drugs
    in every line; where most drugs are in few lines, they leave a dozen to rank.

    Parameters
    ----------
    groups : array-like or DataFrame of shape (n_samples, 2)
        Drug and cell line of each row, such as ``study.groups``.
    random_state : int, RandomState instance or None, default=None
        Draws what is not named.
    **sizes
        Parameters of `drug_cell_line_split`, which hold as they are given. By default:

        - ``test_drugs``: a tenth of the drugs, but 100 of them, or a third where that
          is fewer; ``val_drugs``: a tenth, but 60, or a fifth;
        - ``test_cell_lines``: as few as make the test part rank 50 drugs, or all of
          its own, up to a third of the lines; ``val_cell_lines``: as few as make the
          validation part rank 30, up to a quarter of the lines;
        - ``hold_out``: "both"; "drugs" where there are fewer than three cell lines, so
          that none can be set aside for each part.

    Returns
    -------
    split : DrugCellLineSplit

    Raises
    ------
    ValueError
        As `drug_cell_line_split` does.
    TypeError
        If `sizes` has another name; the nearest one is told.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.evaluation import draw_split
    >>> study = make_perturbation_study(120, n_cell_lines=6, level=5, random_state=0)
    >>> split = draw_split(study.groups, random_state=0)
    >>> len(split.drugs["test"]), len(split.drugs["val"]), len(split.drugs["train"])
    (40, 24, 56)
    >>> split.cell_lines["test"].tolist()
    ['LINE06']
    """
    refuse_unknown("draw_split", sizes, SplitSizes.__annotations__)
    seed = random_state
    if not isinstance(seed, Integral):  # every try draws from the same state
        seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
    sources = sizes.get("test_sources")
    drug, cell_line = encode_groups(groups, test_sources=sources)
    options, most = _sizes_for(len(drug.pool), len(cell_line.pool), sizes)

    def draw(n_test: int, n_val: int) -> DrugCellLineSplit:
        lines = {"test_cell_lines": n_test, "val_cell_lines": n_val}
        return drug_cell_line_split(groups, **(lines | options), random_state=seed)

    best, missing = None, (np.inf, np.inf)
    for n_test in range(1, most["test"] + 1):
        for n_val in range(1, most["val"] + 1):
            try:
                split = draw(n_test, n_val)
            except ValueError:  # a part without a row; more lines may give it some
                continue
            lacking = _lacking(split, drug)
            if lacking < missing:
                best, missing = split, lacking
            if not lacking[1] or (lacking[0] and n_test < most["test"]):
                break
        if not missing[0]:
            break
    return draw(1, 1) if best is None else best  # which says what is wrong


def _sizes_for(
    n_drugs: int, n_lines: int, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what is fixed of a split, and the most cell lines of each part."""
    tenth = -(-n_drugs // 10)
    test = max(tenth, min(100, n_drugs // 3))
    val = max(tenth, min(60, n_drugs // 5))
    chosen = given.get("test_drugs")
    if isinstance(chosen, Real):
        val = max(1, min(val, (n_drugs - count_of(chosen, n_drugs)) // 2))
    options: dict[str, Any] = {"test_drugs": test, "val_drugs": val}
    lines = ("test_cell_lines", "val_cell_lines", "hold_out")
    if n_lines < 3 and not any(name in given for name in lines):
        options["hold_out"] = "drugs"
    options |= given
    most = {"test": max(1, n_lines // 3), "val": max(1, n_lines // 4)}
    for part in most:
        if options.get("hold_out") == "drugs" or f"{part}_cell_lines" in given:
            most[part] = 1
    return options, most


def _lacking(split: DrugCellLineSplit, drug: Factor) -> tuple[int, int]:
    """Return how many drugs the test and the validation part rank too few."""
    test, val = (
        max(0, min(aim, len(split.drugs[part])) - n_distinct(drug.codes[rows]))
        for part, aim in _AIMS.items()
        for rows in [getattr(split, part)]
    )
    return test, val


def _is_list_of_splits(split: object) -> bool:
    return isinstance(split, Sequence) and all(
        isinstance(drawn, DrugCellLineSplit) for drawn in split
    )
