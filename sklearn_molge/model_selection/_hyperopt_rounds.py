"""The loop of a search: suggest, evaluate, record, save."""

from typing import Any

from sklearn.utils.parallel import Parallel
from tqdm.auto import tqdm

from sklearn_molge.model_selection._hyperopt_folds import Folds
from sklearn_molge.model_selection._hyperopt_trials import (
    TrialFile,
    TrialLog,
    has_stalled,
)

__all__ = ["run_rounds"]


def run_rounds(
    log: TrialLog,
    folds: Folds,
    *,
    file: TrialFile | None,
    n_iter: int,
    n_suggestions: int,
    patience: int | None,
    verbose: int,
    **parallel_options: Any,
) -> None:
    """Fill `log` up to `n_iter` trials, or until nothing has improved for a while.

    The points of a round are suggested together, and all their folds are evaluated in
    one parallel call: how many run at a time does not change what is suggested.
    """
    n_splits = len(folds.splits)
    hidden = None if verbose else True  # None: hidden where there is no terminal
    bar = tqdm(total=n_iter, initial=len(log), unit="trial", disable=hidden)
    with bar, Parallel(**parallel_options) as parallel:
        while len(log) < n_iter and not has_stalled(log.losses, patience):
            start = len(log)
            points = log.suggest(min(n_suggestions, n_iter - start))
            out = parallel(task for point in points for task in folds.tasks(point))
            for i, point in enumerate(points):
                log.record(out[i * n_splits : (i + 1) * n_splits])
                if verbose > 1:
                    score = "failed" if log.losses[-1] is None else -log.losses[-1]
                    tqdm.write(f"trial {start + i}: score={score}, {point}")
            if file is not None:
                file.write(log)
            bar.set_postfix(best=f"{log.best_score:.4g}")
            bar.update(len(points))
