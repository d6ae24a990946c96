"""What a study is evaluated on and by: checked before any work is done."""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._methods import Method, aligned_views
from sklearn_molge.model_selection import DrugCellLineSplit, drug_cell_line_split

__all__ = ["Data", "Plan", "Repeat", "check_methods", "make_repeats", "views_of"]

# A result of another version is another result.
_PACKAGES = ("sklearn-molge", "scikit-learn", "numpy", "torch", "chemprop", "rdkit")

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

    @property
    def labels(self) -> dict[str, str]:
        """What each method is called."""
        return {name: m.label or name for name, m in self.methods.items()}

    @property
    def validated(self) -> bool:
        """Whether every repeat has validation rows."""
        return all(len(repeat.split.val) for repeat in self.repeats)


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
    split: Split, groups: ArrayLike, n_repeats: int, random_state: RandomState
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
        splits = [
            drug_cell_line_split(groups, **options, random_state=seed)
            for seed, _ in seeds
        ]
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
    n_rows = len(np.asarray(groups))
    for i, drawn in enumerate(splits):
        if not len(drawn.test) or not len(drawn.train):
            raise ValueError(f"split {i} has no training or no test rows: {drawn!r}.")
        largest = max(rows.max() for rows in (drawn.train, drawn.test))
        if largest >= n_rows:
            raise ValueError(
                f"split {i} must be of this study, which has {n_rows} rows. Got row "
                f"{largest}."
            )
    return [Repeat(drawn, seed) for drawn, (_, seed) in zip(splits, seeds, strict=True)]


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
