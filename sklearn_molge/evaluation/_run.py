"""What `evaluate_study` runs: one fit of one method or embedder, kept on disk."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import joblib
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import has_fit_parameter

from sklearn_molge._files.folders import make_folder
from sklearn_molge._files.signing import dump_signed, load_signed, signing_key
from sklearn_molge._utils.identity import NotImportableError, describe, is_frozen
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge._utils.rows import means_of_groups
from sklearn_molge._utils.sample_weights import fit_weights
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.evaluation._divisions import FEWEST_CANDIDATES, Repeat, n_distinct
from sklearn_molge.evaluation._methods import (
    FittedAlignment,
    aligned_views,
    put_towers,
)
from sklearn_molge.evaluation._plan import (
    Data,
    Plan,
)
from sklearn_molge.exceptions import (
    CorruptFileError,
    FewCandidatesWarning,
    UntrustedFileError,
)
from sklearn_molge.metrics import (
    mean_reciprocal_rank,
    retrieval_ranks,
    similarity,
)
from sklearn_molge.molecules import parsed_once

__all__ = [
    "Outcome",
    "ResultCache",
    "example_row",
    "fit_embedders",
    "run_methods",
    "run_tasks",
]

# What decides where and how a network is trained, not what it becomes.
_NOT_PART_OF_A_RESULT = {"checkpoint_folder", "verbose", "n_jobs"}


class ResultCache:
    """Results of tasks in files, each named by what it depends on.

    They are pickles, signed by this installation and named by it, too: whoever shares
    the folder has files of their own in it, and nobody's are opened but ours. A kill
    leaves a whole file or none.

    Parameters
    ----------
    folder : path-like or None
        Where results stay, made if it is not there; None keeps none.
    temporary : path-like
        Folder for the results of this call that cannot stay, because nothing tells
        their settings from others'.

    Raises
    ------
    OSError
        If `folder` cannot be written to.
    """

    def __init__(self, folder: Any, temporary: Any):
        self.temporary = Path(temporary)
        self.folder = self.temporary if folder is None else make_folder(folder)
        # Workers, which may have another home, sign and check by it, too.
        self.key = signing_key("evaluations")
        self.owner = sha256(self.key).hexdigest()[:12]
        self.refused: dict[str, str] = {}  # why, by the names of tasks
        self.of_others: list[str] = []  # files with the results that are asked for

    def path(self, kind: str, name: str, *parts: Any) -> Path:
        """Return the file of a result of the task `name` that depends on `parts`."""
        try:
            key = joblib.hash(describe(parts))
        except NotImportableError as error:
            self.refused.setdefault(f"{kind} {name!r}", str(error))
            return self.unkept(kind)
        path = self.folder / f"{kind}-{key}.{self.owner}.pickle"
        if not path.exists():
            self.of_others += sorted(
                p.name for p in self.folder.glob(f"{kind}-{key}.*")
            )
        return path

    def unkept(self, kind: str) -> Path:
        """Return a file for a result that goes with this call."""
        return self.temporary / f"{kind}-{uuid4().hex}.pickle"

    def keeps(self, path: Path) -> bool:
        """Whether the result stays for other calls."""
        return path.parent == self.folder

    def load(self, path: Path) -> Any:
        """Read a result.

        Raises
        ------
        UntrustedFileError, CorruptFileError, OSError
            If this installation did not write the file, or it cannot be read.
        """
        name, value = load_signed(path, key=self.key)
        if name != path.name:  # the right signature, and another's result
            raise CorruptFileError(path, "", f"it is a copy of {name}")
        return value

    def find(self, path: Path) -> tuple[Any, str]:
        """Return a result, None where there is none, and why its file is not used."""
        if not path.is_file():
            return None, ""
        try:
            return self.load(path), ""
        except UntrustedFileError:
            return None, f"{path.name} was changed, or written by another"
        except (CorruptFileError, OSError) as error:
            return None, f"{path.name} cannot be read ({error})"

    def save(self, path: Path, value: Any) -> None:
        """Write a result."""
        dump_signed((path.name, value), path, key=self.key)


@dataclass
class Outcome:
    """What came of a task.

    Attributes
    ----------
    ranks : ndarray or None
        Of the true molecule for each test row, NaN where they are of one drug; None if
        the method failed, or for an embedder.
    valid_mrr : float
        Mean reciprocal rank on the validation rows, NaN where they are not of two
        drugs.
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
    answer : tuple of ndarray or None
        To the example query of the first repeat: a row of each candidate drug, and how
        similar the profile is to it.
    unread : str
        Why there was a file with this result that was not used, empty if there was
        none.
    """

    ranks: NDArray | None = None
    valid_mrr: float = np.nan
    chosen: int = 0
    seconds: float = 0.0
    error: str = ""
    path: Path | None = None
    details: dict[str, float] = field(default_factory=dict)
    answer: tuple[NDArray[np.intp], NDArray] | None = None
    unread: str = ""


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


def seeded(estimator: BaseEstimator, seed: int) -> BaseEstimator:
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


Key = tuple[int, str]  # number of the repeat, name
Outcomes = dict[Key, Outcome]
Run = Callable[[dict[Key, Any]], Outcomes]


def fit_embedders(plan: Plan, cache: ResultCache, run: Run) -> Outcomes:
    """Fit every embedder once for each repeat."""
    tasks = {}
    for i, repeat in enumerate(plan.repeats):
        before = seeded(plan.expression, repeat.seed)
        for name, embedder in plan.embedders.items():
            ready = seeded(embedder, repeat.seed)
            weights = plan.sample_weight
            rows = _what(plan.data, repeat, weights, repeat.split.train)
            path = cache.path("embedder", name, _settings(ready), before, *rows)
            tasks[i, name] = delayed(_embedder_task)(
                ready, before, plan.data, repeat, weights, cache, path
            )
    outcomes = run(tasks)
    return {key: outcomes[key] for key in tasks}  # they end in any order


def run_methods(plan: Plan, fitted: Outcomes, cache: ResultCache, run: Run) -> Outcomes:
    """Fit every method and rank the test profiles, for each repeat."""
    tasks, outcomes = {}, {}
    for i, repeat in enumerate(plan.repeats):
        for name, method in plan.methods.items():
            ready = [seeded(e, repeat.seed) for e in method.candidates]
            needed = {v.embedder for e in ready for v in aligned_views(e).values()}
            sources = {key: fitted[i, key] for key in sorted(needed)}
            failed = [f"{k}: {o.error}" for k, o in sources.items() if o.error]
            if failed:
                outcomes[i, name] = Outcome(error=f"embedder {failed[0]}")
                continue
            paths = {k: o.path for k, o in sources.items() if o.path is not None}
            data = plan.data
            path = _method_path(name, method, ready, paths, data, repeat, cache)
            tasks[i, name] = delayed(_method_task)(
                ready, method, data, repeat, paths, cache, path, asked=i == 0
            )
    outcomes |= run(tasks)
    repeats = range(len(plan.repeats))
    return {(i, name): outcomes[i, name] for i in repeats for name in plan.methods}


def _method_path(name, method, candidates, paths, data, repeat, cache):
    """Return the file of a method's result, which depends on its embedders' files."""
    if not all(map(cache.keeps, paths.values())):
        return cache.unkept("method")
    settings = [_settings(each) for each in candidates]
    seen = method.train, method.shuffle_molecules, method.drug_blind
    names = [path.name.partition(".")[0] for path in paths.values()]
    rows = repeat.rows(method.train)
    what = _what(data, repeat, method.sample_weight, rows)
    return cache.path("method", name, settings, *seen, names, *what)


def run_tasks(tasks: dict[Key, Any], *, n_jobs: int | None, verbose: int) -> Outcomes:
    """Run delayed tasks in processes, with a progress bar."""
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # a backend that returns all at the end, as Ray's
        parallel = Parallel(n_jobs=n_jobs)
    outcomes = {}
    with progress_bar(shown=verbose, total=len(tasks), unit="fit") as bar:
        for key, outcome in parallel(
            delayed(_with_key)(key, function, *args, **kwargs)
            for key, (function, args, kwargs) in tasks.items()
        ):
            outcomes[key] = outcome
            failed = f" failed: {outcome.error}" if outcome.error else ""
            # The next one, which takes the time, is not known to this process.
            bar.set_postfix_str(f"done: {key[1]} ({key[0] + 1}){failed}"[:60])
            bar.update()
    return outcomes


def _with_key(key, function, *args, **kwargs):
    """Run a task; joblib's backends see its arguments, and send a large one once."""
    with warnings.catch_warnings(), parsed_once():
        # The report says it once, of all.
        warnings.simplefilter("ignore", FewCandidatesWarning)
        return key, function(*args, **kwargs)


def _embedder_task(embedder, expression, data, repeat, weights, cache, path):
    kept, unread = cache.find(path)
    if kept is not None:
        return replace(kept[1], path=path)  # the folder may have been moved
    start = time.perf_counter()
    try:
        if embedder.get_params(deep=False).get("checkpoint_folder", "") is None:
            folder = cache.folder / "checkpoints" if cache.keeps(path) else None
            embedder.set_params(checkpoint_folder=folder)
        alignment = _fit_embedder(embedder, expression, data, repeat, weights)
    except Exception as error:
        seconds = time.perf_counter() - start
        return Outcome(error=_text(error), seconds=seconds, unread=unread)
    seconds = time.perf_counter() - start
    details = _training_details(alignment.embedder)
    outcome = Outcome(seconds=seconds, path=path, details=details)
    cache.save(path, (alignment, outcome))
    return replace(outcome, unread=unread)


def _fit_embedder(embedder, expression, data, repeat, weights):
    """Fit on the training rows; one with `train_split` watches the validation rows."""
    train, weights = _weighed(repeat.split.train, weights)
    val = repeat.split.val
    expression = clone(expression).fit(data.y[train])
    params = embedder.get_params(deep=False)
    groups = {}
    rows = train
    if "train_split" in params:
        if len(val):
            rows = np.concatenate([train, val])
            embedder.set_params(train_split=ValidationRows(len(train)))
            if weights is not None:  # which do not weigh what is only watched
                weights = np.append(weights, np.full(len(val), weights.max()))
        if has_fit_parameter(embedder, "groups"):
            groups = {"groups": data.groups[rows]}
    params = groups | fit_weights(embedder, weights, name="embedder")
    embedder.fit(data.X[rows], expression.transform(data.y[rows]), **params)
    return FittedAlignment(embedder, expression)


def _training_details(embedder: BaseEstimator) -> dict[str, float]:
    """Return what a training's history says of its epochs."""
    history = getattr(embedder, "history_", None)
    if not (isinstance(history, list) and history):
        return {}
    if not (isinstance(history[0], Mapping) and "train_loss" in history[0]):
        return {}  # of another kind of estimator
    last = history[-1]
    details = {"n_epochs": len(history), "train_loss": float(last["train_loss"])}
    if "valid_mrr" in history[0]:
        scores = [epoch["valid_mrr"] for epoch in history]
        details["best_epoch"] = int(np.argmax(scores)) + 1
        details["valid_mrr"] = float(max(scores))
    return details


def _method_task(candidates, method, data, repeat, paths, cache, path, *, asked):
    kept, unread = cache.find(path)
    if kept is not None:
        return kept
    start = time.perf_counter()
    try:
        alignments = {name: cache.load(file)[0] for name, file in paths.items()}
        ready = [put_towers(estimator, alignments) for estimator in candidates]
        with warnings.catch_warnings():
            if method.drug_blind:  # of equal means none is the nearest: as is meant
                warnings.filterwarnings("ignore", "(?s).*as near to each", UserWarning)
            outcome = _fit_and_rank(ready, method, data, repeat, asked=asked)
    except Exception as error:
        seconds = time.perf_counter() - start
        return Outcome(error=_text(error), seconds=seconds, unread=unread)
    outcome.seconds = time.perf_counter() - start
    cache.save(path, outcome)
    return replace(outcome, unread=unread)


def _fit_and_rank(candidates, method, data, repeat, *, asked):
    """Select on the validation rows and rank the test rows."""
    rows, weights = _weighed(repeat.rows(method.train), method.sample_weight)
    val = repeat.split.val if method.train == "train" else rows[:0]
    if not len(rows):
        some = "" if weights is None else " of a weight above 0"
        raise ValueError(f"train={method.train!r} gives no row{some} to fit on.")
    molecules = data.X[rows]
    if method.shuffle_molecules:
        molecules = molecules[check_random_state(repeat.seed).permutation(len(rows))]
    profiles = data.y[rows]
    if method.drug_blind:
        profiles = means_of_groups(profiles, data.groups[rows, 1], weights)
    best, best_mrr, chosen = None, np.nan, 0
    selects = n_distinct(data.drugs[val]) >= FEWEST_CANDIDATES
    for i, candidate in enumerate(candidates if selects else candidates[:1]):
        given = fit_weights(candidate, weights, name="method")
        model = candidate.fit(molecules, profiles, **given)
        mrr = mean_reciprocal_rank(_ranks(model, data, val)) if selects else np.nan
        if best is None or mrr > best_mrr:
            best, best_mrr, chosen = model, mrr, i
    ranks = _ranks(best, data, repeat.split.test)
    answer = _answer(best, data, repeat) if asked else None
    return Outcome(ranks, float(best_mrr), chosen, answer=answer)


def example_row(repeat: Repeat) -> int:
    """Draw the test row whose answer the report shows, the same for all methods."""
    return int(check_random_state(repeat.seed).choice(repeat.split.test))


def _answer(model, data, repeat):
    test = repeat.split.test
    if n_distinct(data.drugs[test]) < FEWEST_CANDIDATES:
        return None
    rows = test[one_row_per_drug(data.drugs[test], data.X[test], None)[1]]
    return rows, similarity(model, data.X[rows], data.y[[example_row(repeat)]])[0]


def _weighed(rows, weights):
    """Return the rows that weigh more than 0, and their weights."""
    if weights is None:
        return rows, None
    rows = rows[weights[rows] > 0]
    return rows, weights[rows]


def _ranks(model, data, rows):
    if n_distinct(data.drugs[rows]) < FEWEST_CANDIDATES:
        return np.full(len(rows), np.nan)
    return retrieval_ranks(model, data.X[rows], data.y[rows], drugs=data.drugs[rows])


def _settings(estimator: BaseEstimator) -> list[object]:
    """Return what decides an estimator's result."""
    params = estimator.get_params(deep=False)
    kept = {k: v for k, v in params.items() if k not in _NOT_PART_OF_A_RESULT}
    return [type(estimator), kept]


def _what(data: Data, repeat: Repeat, weights, fitted) -> list[object]:
    """Return what a result depends on beside settings; `fitted` are the rows of fit."""
    parts = ("train", "val", "test", "oracle_train_lines")
    rows = [getattr(repeat.split, part) for part in parts]
    weighed = [] if weights is None else [weights[fitted]]
    return [data.identity, *rows, repeat.seed, *weighed]


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
