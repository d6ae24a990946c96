"""What `evaluate_study` runs: one fit of one method or embedder, kept on disk."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import has_fit_parameter
from tqdm.auto import tqdm

from sklearn_molge._utils.identity import is_frozen
from sklearn_molge.evaluation._aligned_view import (
    FittedAlignment,
    aligned_views,
    put_towers,
)
from sklearn_molge.evaluation._cache import ResultCache
from sklearn_molge.evaluation._methods import Method
from sklearn_molge.metrics import mean_reciprocal_rank, retrieval_ranks
from sklearn_molge.model_selection._holdout import DrugCellLineSplit

__all__ = ["Data", "Outcome", "Repeat", "fit_embedders", "run_methods"]

# What decides where and how a network is trained, not what it becomes.
_NOT_PART_OF_A_RESULT = {"checkpoint_folder", "verbose", "n_jobs"}


@dataclass(frozen=True)
class Data:
    """The two views and the drug of each row."""

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


@dataclass
class Outcome:
    """What came of a task.

    Attributes
    ----------
    ranks : ndarray or None
        Of the true molecule for each test row; None if the method failed, or for an
        embedder.
    valid_mrr : float
        Mean reciprocal rank on the validation rows, NaN without.
    chosen : int
        Which of several candidates was best there.
    seconds : float
        To fit and rank.
    error : str
        Type and text of what was raised, empty if nothing was.
    path : Path or None
        File of a fitted embedder.
    details : dict
        Of an embedder: what its training reports.
    """

    ranks: NDArray | None = None
    valid_mrr: float = np.nan
    chosen: int = 0
    seconds: float = 0.0
    error: str = ""
    path: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)


class ValidationRows:
    """A splitter that knows which rows are the validation part: the last ones."""

    def __init__(self, n_train: int):
        self.n_train = n_train

    def split(self, X, y=None, groups=None):
        """Yield the one division."""
        rows = np.arange(len(X))
        yield rows[: self.n_train], rows[self.n_train :]

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return 1."""
        return 1


def seeded(estimator: Any, seed: int) -> Any:
    """Return a clone in which each `random_state` that is None has a seed.

    What is frozen is not cloned: it stays as the user has it.
    """
    estimator = clone(estimator)
    rng = check_random_state(seed)
    params = {"": estimator} | estimator.get_params(deep=True)
    frozen = tuple(
        f"{name}__".lstrip("_") for name, value in params.items() if is_frozen(value)
    )
    for name in sorted(params):
        is_seed = name == "random_state" or name.endswith("__random_state")
        if is_seed and params[name] is None and not name.startswith(frozen):
            estimator.set_params(**{name: rng.randint(np.iinfo(np.int32).max)})
    return estimator


def fit_embedders(
    embedders: dict[str, Any],
    expression: Any,
    data: Data,
    repeats: Sequence[Repeat],
    cache: ResultCache,
    run: Callable,
) -> dict[tuple[int, str], Outcome]:
    """Fit every embedder once for each repeat."""
    tasks = {}
    for i, repeat in enumerate(repeats):
        before = seeded(expression, repeat.seed)
        for name, embedder in embedders.items():
            ready = seeded(embedder, repeat.seed)
            path = cache.path(
                "embedder", _settings(ready), before, *_what(data, repeat)
            )
            tasks[i, name] = delayed(_embedder_task)(
                ready, before, data, repeat, cache, path
            )
    outcomes = run(tasks)
    return {key: outcomes[key] for key in tasks}  # they end in any order


def run_methods(
    methods: dict[str, Method],
    data: Data,
    repeats: Sequence[Repeat],
    fitted: dict[tuple[int, str], Outcome],
    cache: ResultCache,
    run: Callable,
) -> dict[tuple[int, str], Outcome]:
    """Fit every method and rank the test profiles, for each repeat."""
    tasks, outcomes = {}, {}
    for i, repeat in enumerate(repeats):
        for name, method in methods.items():
            ready = [seeded(e, repeat.seed) for e in method.candidates]
            needed = {v.embedder for e in ready for v in aligned_views(e).values()}
            sources = {key: fitted[i, key] for key in sorted(needed)}
            failed = [f"{k}: {o.error}" for k, o in sources.items() if o.error]
            if failed:
                outcomes[i, name] = Outcome(error=f"embedder {failed[0]}")
                continue
            paths = {key: outcome.path for key, outcome in sources.items()}
            path = cache.path(
                "method", [_settings(e) for e in ready], method.train,
                method.shuffle_molecules, [p.name for p in paths.values() if p],
                *_what(data, repeat),
            )  # fmt: skip
            tasks[i, name] = delayed(_method_task)(
                ready, method, data, repeat, paths, cache, path
            )
    outcomes |= run(tasks)
    return {(i, n): outcomes[i, n] for i in range(len(repeats)) for n in methods}


def run_tasks(
    tasks: dict[tuple[int, str], Any], *, n_jobs: Any, verbose: Any, unit: str
) -> dict[tuple[int, str], Outcome]:
    """Run delayed tasks in processes, with a progress bar."""
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # a backend that returns all at the end, as Ray's
        parallel = Parallel(n_jobs=n_jobs)
    bar = tqdm(total=len(tasks), unit=unit, disable=not verbose)
    outcomes = {}
    with bar:
        for key, outcome in parallel(
            delayed(_with_key)(key, function, *args)
            for key, (function, args, _) in tasks.items()
        ):
            outcomes[key] = outcome
            failed = f" failed: {outcome.error}" if outcome.error else ""
            bar.set_description(f"{key[1]} ({key[0]}){failed}"[:60])
            bar.update()
    return outcomes


def _with_key(key: Any, function: Callable, *args: Any) -> tuple[Any, Outcome]:
    """Run a task; joblib's backends see its arguments, and send a large one once."""
    return key, function(*args)


def _embedder_task(
    embedder: Any, expression: Any, data: Data, repeat: Repeat, cache: ResultCache,
    path: Path,
) -> Outcome:  # fmt: skip
    if cache.has(path):
        outcome = cache.load(path)[1]
        outcome.path = path  # the folder may have been moved
        return outcome
    start = time.perf_counter()
    try:
        alignment = _fit_embedder(embedder, expression, data, repeat, cache)
    except Exception as error:
        return Outcome(error=_text(error), seconds=time.perf_counter() - start)
    outcome = Outcome(
        seconds=time.perf_counter() - start, path=path,
        details=_training_details(alignment.embedder),
    )  # fmt: skip
    cache.save(path, (alignment, outcome))
    return outcome


def _fit_embedder(
    embedder: Any, expression: Any, data: Data, repeat: Repeat, cache: ResultCache
) -> FittedAlignment:
    """Fit on the training rows; one with `train_split` watches the validation rows."""
    train, val = repeat.split.train, repeat.split.val
    expression = clone(expression).fit(data.y[train])
    params = embedder.get_params(deep=False)
    groups = {}
    rows = train
    if "train_split" in params:
        if len(val):
            rows = np.concatenate([train, val])
            embedder.set_params(train_split=ValidationRows(len(train)))
        if has_fit_parameter(embedder, "groups"):
            groups = {"groups": data.groups[rows]}
    if params.get("checkpoint_folder", "") is None:
        embedder.set_params(checkpoint_folder=cache.folder / "checkpoints")
    embedder.fit(data.X[rows], expression.transform(data.y[rows]), **groups)
    return FittedAlignment(embedder, expression)


def _training_details(embedder: Any) -> dict[str, Any]:
    """Return what a training's history says of its epochs."""
    history = getattr(embedder, "history_", None)
    if not (isinstance(history, list) and history):
        return {}
    if not (isinstance(history[0], Mapping) and "train_loss" in history[0]):
        return {}  # of another kind of estimator
    details = {
        "n_epochs": len(history),
        "train_loss": float(history[-1]["train_loss"]),
    }
    if "valid_mrr" in history[0]:
        scores = [epoch["valid_mrr"] for epoch in history]
        details["best_epoch"] = int(np.argmax(scores)) + 1
        details["valid_mrr"] = float(max(scores))
    return details


def _method_task(
    candidates: list[Any], method: Method, data: Data, repeat: Repeat,
    paths: dict[str, Path], cache: ResultCache, path: Path,
) -> Outcome:  # fmt: skip
    if cache.has(path):
        return cache.load(path)
    start = time.perf_counter()
    try:
        alignments = {name: cache.load(file)[0] for name, file in paths.items()}
        ready = [put_towers(estimator, alignments) for estimator in candidates]
        outcome = _fit_and_rank(ready, method, data, repeat)
    except Exception as error:
        return Outcome(error=_text(error), seconds=time.perf_counter() - start)
    outcome.seconds = time.perf_counter() - start
    cache.save(path, outcome)
    return outcome


def _fit_and_rank(
    candidates: list[Any], method: Method, data: Data, repeat: Repeat
) -> Outcome:
    """Select on the validation rows and rank the test rows."""
    rows = repeat.rows(method.train)
    val = repeat.split.val if method.train == "train" else rows[:0]
    if not len(rows):
        raise ValueError(f"train={method.train!r} gives no row to fit on.")
    molecules = data.X[rows]
    if method.shuffle_molecules:
        molecules = molecules[check_random_state(repeat.seed).permutation(len(rows))]
    best, best_mrr, chosen = None, np.nan, 0
    for i, candidate in enumerate(candidates if len(val) else candidates[:1]):
        model = candidate.fit(molecules, data.y[rows])
        mrr = mean_reciprocal_rank(_ranks(model, data, val)) if len(val) else np.nan
        if best is None or mrr > best_mrr:
            best, best_mrr, chosen = model, mrr, i
    ranks = _ranks(best, data, repeat.split.test)
    return Outcome(ranks=ranks, valid_mrr=float(best_mrr), chosen=chosen)


def _ranks(model: Any, data: Data, rows: NDArray[np.intp]) -> NDArray:
    return retrieval_ranks(model, data.X[rows], data.y[rows], drugs=data.drugs[rows])


def _settings(estimator: Any) -> Any:
    """Return what decides an estimator's result."""
    params = estimator.get_params(deep=False)
    kept = {k: v for k, v in params.items() if k not in _NOT_PART_OF_A_RESULT}
    return [type(estimator), kept]


def _what(data: Data, repeat: Repeat) -> Iterable[Any]:
    split = repeat.split
    return (
        data.identity, split.train, split.val, split.test,
        split.oracle_train_lines, repeat.seed,
    )  # fmt: skip


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
