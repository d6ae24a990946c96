"""What a study is evaluated on and by: checked before any work is done."""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.sample_weights import weight_parameter
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._divisions import FEWEST_CANDIDATES, Repeat, n_distinct
from sklearn_molge.evaluation._methods import Method, aligned_views

__all__ = [
    "Data",
    "Plan",
    "check_methods",
    "views_of",
    "weigh",
]

# A result of another version is another result.
_PACKAGES = ("sklearn-molge", "scikit-learn", "numpy", "torch", "chemprop", "rdkit")

# What methods must not be called: the other columns and rows of the tables.
RANK_COLUMNS = ("repeat", "row", "drug", "cell_line", "n_candidates")
CHANCE = "chance"


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
    def n_train_drugs(self) -> list[int]:
        """How many drugs each repeat trains on."""
        return [
            n_distinct(self.data.drugs[repeat.split.train]) for repeat in self.repeats
        ]

    @property
    def validated(self) -> bool:
        """Whether every repeat has validation rows that something can be chosen by."""
        return min(self.candidates("val")) >= FEWEST_CANDIDATES


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
