"""Which of the parameters that a search varied decide the score."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import Interval, validate_params

__all__ = ["Searched", "parameter_importance", "read_search"]

_N_FOLDS = 5
_N_TREES = 100
_FEWEST_TRIALS = 10
_ABSENT = object()

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Searched:
    """One parameter that a search varied; perhaps several that were always equal.

    Attributes
    ----------
    name : str
        Its name; joined by " = " where there are several.
    numbers : ndarray of shape (n_trials,) or None
        Values of a numeric parameter, NaN in trials without it.
    codes, levels : ndarray of shape (n_trials,), list of str
        Values of a category, as positions in its levels; -1 in trials without it.
    """

    name: str
    numbers: Floats | None
    codes: NDArray[np.intp]
    levels: list[str]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Trials that have the parameter."""
        return self.codes >= 0 if self.numbers is None else ~np.isnan(self.numbers)

    @property
    def columns(self) -> Floats:
        """What the forest is given: the number, or one column per level."""
        if self.numbers is not None:
            return self.numbers[:, None]
        return (self.codes[:, None] == np.arange(len(self.levels))).astype(float)

    @property
    def is_log(self) -> bool:
        """Whether the values look as if drawn on a log scale."""
        x = None if self.numbers is None else self.numbers[self.present]
        if x is None or x.min() <= 0 or x.max() < 10 * x.min():
            return False
        return bool(abs(stats.skew(np.log(x))) < abs(stats.skew(x)))


@validate_params(
    {
        "scoring": [str, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def parameter_importance(
    search: object,
    *,
    scoring: str | None = None,
    n_repeats: int = 10,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    r"""Return how much each searched parameter decided the score.

    A random forest learns the mean score from the parameters of four fifths of the
    trials and predicts the rest; a parameter's importance is how much worse it
    predicts after the parameter's values were permuted among the trials.

    Parameters
    ----------
    search : estimator
        A fitted :class:`~sklearn_molge.model_selection.HyperoptSearchCV`, GridSearchCV
        or another with `cv_results_`.
    scoring : str, default=None
        Which of several scores; by default the one that the search maximised.
    n_repeats : int, default=10
        Number of divisions into fifths, each with its forests and permutations.
    random_state : int, RandomState instance or None, default=None
        Controls the divisions, the forests and the permutations.

    Returns
    -------
    table : DataFrame
        One row per parameter that varied, the most important first, index "parameter".
        Parameters that were equal in every trial are one row. Columns:

        - kind: "number" or "category".
        - n_trials: scored trials that had the parameter.
        - importance, importance_std: see Notes; mean and standard deviation over the
          repeats. About 0 for a parameter without influence.
        - rho: Spearman's rank correlation with the score; NaN for a category, whose
          values have no order.
        - p_value: of rho; of a Kruskal-Wallis test for a category.

        ``table.attrs`` has "scoring", "n_trials" and "r2", the share of the held-out
        scores' variance that the forests explain: importances mean little where it is
        near 0 or less.

    Raises
    ------
    ValueError
        If the search has fewer than 10 trials with a finite score, did not vary any
        parameter, or does not have the score.

    See Also
    --------
    ParameterImportanceDisplay, ParameterScoreDisplay : Draw them.

    Notes
    -----
    With :math:`\hat s_i` the prediction for held-out trial i and
    :math:`\hat s_i^\pi` that with the parameter permuted,

    .. math:: \frac{\sum_i (s_i - \hat s_i^\pi)^2 - \sum_i (s_i - \hat s_i)^2}
        {\sum_i (s_i - \bar s)^2}

    is permutation importance (Breiman 2001) as a share of the variance. Values are
    permuted among the trials that have the parameter. What two parameters both say is
    seen in neither: a depth that decides whether there is a width. Trials are those of
    the search, not a random sample: TPE visits good regions more often, with all the
    values that it likes there. p-values are not corrected for the number of parameters.
    Finlayson et al. (2020) looked at rho, of categories in alphabetical order too.

    Examples
    --------
    >>> from hyperopt import hp
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_molge.inspection import parameter_importance
    >>> from sklearn_molge.model_selection import HyperoptSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> space = {"alpha": hp.loguniform("alpha", -5, 5), "solver": ["svd", "cholesky"]}
    >>> search = HyperoptSearchCV(
    ...     Ridge(), space, n_iter=30, cv=2, random_state=0
    ... ).fit(X, y)
    >>> table = parameter_importance(search, n_repeats=1, random_state=0)
    >>> table["importance"].idxmax()
    'alpha'
    """
    parameters, scores, scoring = read_search(search, scoring)
    scored = np.isfinite(scores)
    restricted = [_restrict(p, scored) for p in parameters]
    parameters = [p for p in restricted if _varies(p)]
    scores = scores[scored]
    if len(scores) < _FEWEST_TRIALS:
        raise ValueError(
            f"search must have at least {_FEWEST_TRIALS} trials with a finite score. "
            f"Got {len(scores)}."
        )
    if not parameters:
        raise ValueError("search must have varied at least one parameter.")
    rng = check_random_state(random_state)
    if np.ptp(scores) > 0:
        repeats = [_permute_once(parameters, scores, rng) for _ in range(n_repeats)]
    else:
        repeats = [np.full(len(parameters) + 1, np.nan)]
    errors = np.array(repeats)
    importances = errors[:, 1:] - errors[:, :1]
    rows = {
        "kind": ["category" if p.numbers is None else "number" for p in parameters],
        "n_trials": [int(p.present.sum()) for p in parameters],
        "importance": importances.mean(axis=0),
        "importance_std": importances.std(axis=0),
    }
    tests = [_test(p, scores) for p in parameters]
    rows["rho"], rows["p_value"] = (list(column) for column in zip(*tests, strict=True))
    index = pd.Index([p.name for p in parameters], name="parameter")
    table = pd.DataFrame(rows, index=index)
    table = table.sort_values("importance", ascending=False, kind="stable")
    r2 = 1 - float(errors[:, 0].mean())
    table.attrs = {"scoring": scoring, "n_trials": len(scores), "r2": r2}
    return table


def read_search(
    search, scoring: str | None = None
) -> tuple[list[Searched], Floats, str]:
    """Return the parameters, the mean score of each trial, and the score's name."""
    check_is_fitted(search, "cv_results_")
    results = search.cv_results_
    start = "mean_test_"
    known = [name.removeprefix(start) for name in results if name.startswith(start)]
    if scoring is None:
        wanted = [getattr(search, name, None) for name in ("objective", "refit")]
        scoring = next((n for n in (*wanted, "score") if n in known), None)
    if scoring is None or scoring not in known:
        raise ValueError(f"scoring must be one of {known}. Got {scoring!r}.")
    trials = results["params"]
    names = list(dict.fromkeys(name for params in trials for name in params))
    parameters = [_read(n, [p.get(n, _ABSENT) for p in trials]) for n in names]
    scores = np.asarray(results[f"{start}{scoring}"], dtype=float)
    return _merge_equal([p for p in parameters if _varies(p)]), scores, scoring


def _read(name: str, values: list[object]) -> Searched:
    given = [value for value in values if value is not _ABSENT]
    present = np.array([value is not _ABSENT for value in values])
    if all(isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in given):
        numbers = np.full(len(values), np.nan)
        numbers[present] = np.array(given, dtype=float)
        if len(np.unique(numbers[present])) > 1:
            return Searched(name, numbers, np.where(present, 0, -1), [])
    texts = np.array(_texts(given), dtype=object)
    levels, given_codes = np.unique(texts, return_inverse=True)
    codes = np.full(len(values), -1)
    codes[present] = given_codes
    if len(levels) == 1 and not present.all():  # being there is what varies
        codes[~present] = 1
        return Searched(name, None, codes, [str(levels[0]), "(not set)"])
    return Searched(name, None, codes, levels.tolist())


def _texts(values: list[object]) -> list[str]:
    """Return the names of values, in full where a short one stands for several."""
    short = [_short_text(value) for value in values]
    full = [
        " ".join(repr(value).split()) if name != str(value) else name
        for name, value in zip(short, values, strict=True)
    ]
    n_full = pd.Series(full).groupby(short).transform("nunique")
    return list(np.where(n_full > 1, full, short))


def _short_text(value: object) -> str:
    if hasattr(value, "__name__"):
        return str(value.__name__)
    return type(value).__name__ if hasattr(value, "get_params") else str(value)


def _varies(parameter: Searched) -> bool:
    if parameter.numbers is None:
        return len(np.unique(parameter.codes)) > 1
    return len(np.unique(parameter.numbers[parameter.present])) > 1


def _restrict(parameter: Searched, rows: NDArray[np.bool_]) -> Searched:
    numbers = None if parameter.numbers is None else parameter.numbers[rows]
    codes = parameter.codes[rows]
    return Searched(parameter.name, numbers, codes, parameter.levels)


def _merge_equal(parameters: list[Searched]) -> list[Searched]:
    """Join parameters that say the same: alone, none of them would matter."""
    merged: list[Searched] = []
    for new in parameters:
        for i, old in enumerate(merged):
            a, b = old.columns, new.columns
            if a.shape == b.shape and np.array_equal(a, b, equal_nan=True):
                name = f"{old.name} = {new.name}"
                merged[i] = Searched(name, old.numbers, old.codes, old.levels)
                break
        else:
            merged.append(new)
    return merged


def _permute_once(
    parameters: list[Searched], scores: Floats, rng: np.random.RandomState
) -> Floats:
    """Return the held-out squared error over the variance: as it is, and permuted."""
    blocks = [p.columns for p in parameters]
    tables = [np.hstack(blocks)]
    for i, parameter in enumerate(parameters):
        rows = np.flatnonzero(parameter.present)
        permuted = blocks[i].copy()
        permuted[rows] = blocks[i][rng.permutation(rows)]
        tables.append(np.hstack([*blocks[:i], permuted, *blocks[i + 1 :]]))
    squared = np.zeros(len(tables))
    for train, test in KFold(_N_FOLDS, shuffle=True, random_state=rng).split(scores):
        forest = RandomForestRegressor(_N_TREES, random_state=rng)
        forest.fit(tables[0][train], scores[train])
        predicted = forest.predict(np.vstack([table[test] for table in tables]))
        errors = predicted.reshape(len(tables), -1) - scores[test]
        squared += (errors**2).sum(axis=1)
    return squared / ((scores - scores.mean()) ** 2).sum()


def _test(parameter: Searched, scores: Floats) -> tuple[float, float]:
    """Return Spearman's rho and its p; of a category NaN and Kruskal-Wallis' p."""
    present = parameter.present
    y = scores[present]
    if len(y) < 3 or np.ptp(y) == 0:
        return np.nan, np.nan
    if parameter.numbers is None:
        codes = parameter.codes[present]
        groups = [y[codes == code] for code in np.unique(codes)]
        return np.nan, float(stats.kruskal(*groups).pvalue)
    rho, p_value = stats.spearmanr(parameter.numbers[present], y)
    return float(rho), float(p_value)
