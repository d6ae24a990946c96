"""What a study is evaluated on and by: checked before any work is done."""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from sklearn_molge._utils.groups import Factor, count_of, encode_groups
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.sample_weights import weight_parameter
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._methods import Method, aligned_views
from sklearn_molge.model_selection import DrugCellLineSplit, drug_cell_line_split

__all__ = [
    "Data",
    "Plan",
    "Repeat",
    "check_methods",
    "draw_split",
    "make_repeats",
    "views_of",
    "weigh",
]

# A result of another version is another result.
_PACKAGES = ("sklearn-molge", "scikit-learn", "numpy", "torch", "chemprop", "rdkit")

# Drugs that a part should rank, where the study has them. Among 50, chance has a mean
# reciprocal rank of 0.09; among 30, below which nothing is judged, 0.13.
_AIMS = {"test": 50, "val": 30}
MIN_CANDIDATES = {"test": 30, "val": 20}
# Of one candidate, any method ranks the right one first.
FEWEST_CANDIDATES = 2

# What methods must not be called: the other columns and rows of the tables.
RANK_COLUMNS = ("repeat", "row", "drug", "cell_line", "n_candidates")
CHANCE = "chance"

RandomState = int | np.random.RandomState | None
Split = Mapping[str, object] | DrugCellLineSplit | Sequence[DrugCellLineSplit] | None


@dataclass(frozen=True)
class Data:
    """The two views of a study, and the drug and cell line of each row."""

    X: NDArray[np.object_]
    y: NDArray
    groups: NDArray[np.object_]
    identity: str

    @property
    def drugs(self) -> NDArray[np.object_]:
        return self.groups[:, 0]

    def __sizeof__(self) -> int:
        """Say what joblib's Dask backend goes by: what is large is sent once."""
        return object.__sizeof__(self) + self.y.nbytes


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


@dataclass(frozen=True)
class Plan:
    """What is fitted, on what."""

    study: Study
    data: Data  # its two views
    repeats: list[Repeat]
    methods: dict[str, Method]  # the rows of the tables
    embedders: dict[str, BaseEstimator]  # what the rows' AlignedView stand for
    expression: BaseEstimator  # transformer of profiles before the embedders
    sample_weight: NDArray[np.float64] | None = None  # of the embedders' rows

    @property
    def labels(self) -> dict[str, str]:
        """What each method is called."""
        return {name: m.label or name for name, m in self.methods.items()}

    def candidates(self, part: str) -> list[int]:
        """Return how many drugs each repeat ranks in "test" or "val"."""
        return [
            n_distinct(self.data.drugs[getattr(repeat.split, part)])
            for repeat in self.repeats
        ]

    @property
    def validated(self) -> bool:
        """Whether every repeat has validation rows that something can be chosen by."""
        return min(self.candidates("val")) >= FEWEST_CANDIDATES


def n_distinct(values: NDArray) -> int:
    """Return how many distinct values there are."""
    return len(pd.unique(values))


def views_of(study: Study, *, files: Sequence[Any] = ()) -> Data:
    """Return what methods are fitted on: with controls, [treated | control].

    What results depend on beside settings and rows goes into the identity of the data:
    the content of `files`, and the versions of what computes.
    """
    X, groups = study.smiles, study.groups
    y = study.ge if study.control_ge is None else study.paired_ge()
    versions = [importlib.metadata.version(name) for name in _PACKAGES]
    content = b"".join(Path(path).read_bytes() for path in files if _is_file(path))
    parts = (list(X), y, groups.tolist(), versions, content)
    return Data(X, y, groups, joblib.hash(parts))


def _is_file(path: Any) -> bool:
    return isinstance(path, str | os.PathLike) and Path(path).is_file()


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
        options = dict(split or {})
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


def row_weights(
    study: Study, sample_weight: ArrayLike | str | bool | None, *, name: str
) -> NDArray[np.float64] | None:
    """Return a weight for each row of the study: an array, or a column of `obs`."""
    if sample_weight is None or sample_weight is False:
        return None
    values: Any = sample_weight
    if isinstance(sample_weight, str):
        if sample_weight not in study.obs:
            raise ValueError(
                f"{name} must be an array with an entry for each row of the study, or "
                f"a column of obs, which has {first_few(study.obs.columns)}. Got "
                f"{sample_weight!r}."
            )
        values = study.obs[sample_weight]
        name = f"{name}={sample_weight!r}"
    try:
        weights = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from None
    if weights.shape != (len(study),):
        raise ValueError(
            f"{name} must have an entry for each of the {len(study):,} rows of the "
            f"study. Got shape {weights.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad) or not weights.any():
        got = f"{weights[bad[0]]} at row {bad[0]}" if len(bad) else "0 in all rows"
        raise ValueError(
            f"{name} must hold finite numbers of at least 0, and some above. Got {got}"
            + (f", and {len(bad) - 1:,} more like it." if len(bad) > 1 else ".")
        )
    return weights


def weigh(
    methods: Mapping[str, Method],
    embedders: Mapping[str, BaseEstimator],
    study: Study,
    sample_weight: ArrayLike | str | None,
) -> tuple[dict[str, Method], NDArray[np.float64] | None]:
    """Return methods with the weights of their rows, and those of the embedders.

    Raises
    ------
    ValueError
        If weights are not as described, or a method or an embedder takes none.
    """
    shared = row_weights(study, sample_weight, name="sample_weight")
    weighed, refusing = {}, []
    for name, method in methods.items():
        own = method.sample_weight
        weights = shared
        if own is not None:
            what = f"sample_weight of methods[{name!r}]"
            weights = row_weights(study, own, name=what)
        weighed[name] = replace(method, sample_weight=weights)
        if weights is not None and None in map(weight_parameter, method.candidates):
            refusing.append(f"methods[{name!r}]")
    if shared is not None:
        refusing += [
            f"embedders[{name!r}]"
            for name, embedder in embedders.items()
            if weight_parameter(embedder) is None
        ]
    if refusing:
        raise ValueError(
            "sample_weight was given, and these take none in `fit` (with metadata "
            f"routing: request none, see set_fit_request): {', '.join(refusing)}. "
            "Method(..., sample_weight=False) is a row without weights."
        )
    return weighed, shared


def draw_split(
    groups: ArrayLike | pd.DataFrame,
    *,
    random_state: int | np.random.RandomState | None = None,
    **sizes: Any,
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


def check_methods(
    methods: Mapping[str, object], embedders: Mapping[str, object], baseline: str | None
) -> dict[str, Method]:
    """Make a Method of each, and see that what they name is there."""
    _check_names(methods)
    for name, embedder in embedders.items():
        if not _is_estimator(embedder):
            raise TypeError(
                f"embedders[{name!r}] must be an estimator. Got {embedder!r}."
            )
    checked = {
        name: m if isinstance(m, Method) else Method(m, method=name)
        for name, m in methods.items()
    }
    for name, method in checked.items():
        for estimator in method.candidates:
            if not _is_estimator(estimator):
                raise TypeError(
                    f"methods[{name!r}] must be an estimator, a list of them or a "
                    f"Method. Got {estimator!r}."
                )
            for view in aligned_views(estimator).values():
                if view.embedder not in embedders:
                    raise ValueError(
                        f"methods[{name!r}] asks for the embedder {view.embedder!r}; "
                        f"embedders has {sorted(embedders)}."
                    )
    if baseline is not None and baseline not in checked:
        raise ValueError(
            f"baseline must be one of the methods {list(checked)}. Got {baseline!r}."
        )
    return checked


def _check_names(methods: Mapping[str, object]) -> None:
    if not methods:
        raise ValueError("methods must have at least one entry. Got none.")
    taken = [name for name in methods if name in (*RANK_COLUMNS, CHANCE)]
    if taken:
        raise ValueError(
            "methods must not be named as the other columns and rows of the tables: "
            f"{', '.join((*RANK_COLUMNS, CHANCE))}. Got {taken}."
        )


def _is_estimator(value: object) -> bool:
    return (
        hasattr(value, "fit")
        and hasattr(value, "get_params")
        and not isinstance(value, type)
    )
