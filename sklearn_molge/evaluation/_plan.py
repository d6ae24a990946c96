"""What a study is evaluated on and by: checked before any work is done."""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.utils import check_random_state

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._aligned_view import aligned_views
from sklearn_molge.evaluation._methods import Method
from sklearn_molge.evaluation._tables import CHANCE, RANK_COLUMNS
from sklearn_molge.evaluation._tasks import Data, Repeat
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.model_selection._holdout import DrugCellLineSplit

__all__ = ["check_methods", "make_repeats", "views_of"]

# A result of another version is another result.
_PACKAGES = ("sklearn-molge", "scikit-learn", "numpy", "torch", "chemprop", "rdkit")


def views_of(study: Study, weights: Any = None) -> Data:
    """Return what methods are fitted on: with controls, [treated | control].

    What results depend on beside settings and rows goes into the identity of the data:
    the content of the file of weights, and the versions of what computes.
    """
    X, groups = study.smiles, study.groups
    y = study.ge if study.control_ge is None else study.paired_ge()
    versions = [importlib.metadata.version(name) for name in _PACKAGES]
    content = Path(weights).read_bytes() if _is_file(weights) else b""
    parts = (list(X), y, groups.tolist(), versions, content)
    return Data(X, y, groups, joblib.hash(parts))


def _is_file(weights: Any) -> bool:
    return isinstance(weights, str | os.PathLike) and Path(weights).is_file()


def make_repeats(
    split: Any, groups: Any, n_repeats: int, random_state: Any
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
    for i, drawn in enumerate(splits):
        if not len(drawn.test) or not len(drawn.train):
            raise ValueError(f"split {i} has no training or no test rows: {drawn!r}.")
        largest = max(rows.max() for rows in (drawn.train, drawn.test))
        if largest >= len(groups):
            raise ValueError(
                f"split {i} must be of this study, which has {len(groups)} rows. Got "
                f"row {largest}."
            )
    return [Repeat(drawn, seed) for drawn, (_, seed) in zip(splits, seeds, strict=True)]


def _is_list_of_splits(split: Any) -> bool:
    return isinstance(split, Sequence) and all(
        isinstance(drawn, DrugCellLineSplit) for drawn in split
    )


def check_methods(
    methods: Mapping[str, Any], embedders: Mapping[str, Any], baseline: str | None
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


def _check_names(methods: Mapping[str, Any]) -> None:
    if not methods:
        raise ValueError("methods must have at least one entry. Got none.")
    taken = [name for name in methods if name in (*RANK_COLUMNS, CHANCE)]
    if taken:
        raise ValueError(
            "methods must not be named as the other columns and rows of the tables: "
            f"{', '.join((*RANK_COLUMNS, CHANCE))}. Got {taken}."
        )


def _is_estimator(value: Any) -> bool:
    return (
        hasattr(value, "fit")
        and hasattr(value, "get_params")
        and not isinstance(value, type)
    )
