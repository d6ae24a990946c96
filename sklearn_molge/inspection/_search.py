"""Which of the parameters that a search varied decide the score."""

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

__all__ = ["parameter_importance", "read_search"]

_N_FOLDS = 5
_N_TREES = 100
_FEWEST_TRIALS = 10
_ABSENT = object()

Floats = NDArray[np.float64]


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
    parameters, scores = parameters[scored], scores[scored]
    parameters = parameters[[name for name in parameters if _varies(parameters[name])]]
    if len(scores) < _FEWEST_TRIALS:
        raise ValueError(
            f"search must have at least {_FEWEST_TRIALS} trials with a finite score. "
            f"Got {len(scores)}."
        )
    if parameters.empty:
        raise ValueError("search must have varied at least one parameter.")
    rng = check_random_state(random_state)
    if np.ptp(scores) > 0:
        repeats = [_permute_once(parameters, scores, rng) for _ in range(n_repeats)]
    else:
        repeats = [np.full(parameters.shape[1] + 1, np.nan)]
    errors = np.array(repeats)
    importances = errors[:, 1:] - errors[:, :1]
    is_category = parameters.dtypes == "category"
    table = pd.DataFrame(
        {
            "kind": np.where(is_category, "category", "number"),
            "n_trials": parameters.count(),
            "importance": importances.mean(axis=0),
            "importance_std": importances.std(axis=0),
        },
        index=parameters.columns.rename("parameter"),
    )
    tests = [_test(column, scores) for _, column in parameters.items()]
    table[["rho", "p_value"]] = np.array(tests)
    table = table.sort_values("importance", ascending=False, kind="stable")
    r2 = 1 - float(errors[:, 0].mean())
    table.attrs = {"scoring": scoring, "n_trials": len(scores), "r2": r2}
    return table


def read_search(search, scoring: str | None = None):
    """Return the parameters, the mean score of each trial, and the score's name.

    The parameters are a DataFrame, one column for each that varied: numbers or a
    category, NaN in trials without it. Those that were always equal are one column.
    """
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
    columns = {
        name: _read([params.get(name, _ABSENT) for params in trials])
        for name in dict.fromkeys(name for params in trials for name in params)
    }
    # Of parameters that say the same, none would matter beside the others.
    equal: dict[bytes, list[str]] = {}
    for name, column in columns.items():
        if _varies(column):
            equal.setdefault(_features(column).tobytes(), []).append(name)
    joined = {" = ".join(names): columns[names[0]] for names in equal.values()}
    scores = np.asarray(results[f"{start}{scoring}"], dtype=float)
    return pd.DataFrame(joined, index=range(len(trials))), scores, scoring


def _read(values):
    present = np.array([value is not _ABSENT for value in values])
    given = [value for value in values if value is not _ABSENT]
    if all(isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in given):
        numbers = np.full(len(values), np.nan)
        numbers[present] = np.array(given, dtype=float)
        if _varies(pd.Series(numbers)):
            return pd.Series(numbers)
    texts = np.full(len(values), np.nan, dtype=object)
    texts[present] = _texts(given)
    levels = sorted(set(texts[present]))
    if len(levels) == 1 and not present.all():  # being there is what varies
        levels.append("(not set)")
        texts[~present] = "(not set)"
    return pd.Series(pd.Categorical(texts, categories=levels))


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


def _varies(column):
    # Trials without a parameter have no number, but are a level of a category.
    return column.nunique(dropna=column.dtype != "category") > 1


def _features(column):
    """Return what the forest is given: the number, or one column per level."""
    if column.dtype == "category":
        return pd.get_dummies(column, dtype=float).to_numpy()
    return column.to_numpy()[:, None]


def _permute_once(parameters, scores: Floats, rng: np.random.RandomState) -> Floats:
    """Return the held-out squared error over the variance: as it is, and permuted."""
    blocks = [_features(column) for _, column in parameters.items()]
    tables = [np.hstack(blocks)]
    for i, present in enumerate(parameters.notna().to_numpy().T):
        rows = np.flatnonzero(present)
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


def _test(column, scores: Floats) -> tuple[float, float]:
    """Return Spearman's rho and its p; of a category NaN and Kruskal-Wallis' p."""
    y = pd.Series(scores, column.index)[column.notna()]
    if len(y) < 3 or np.ptp(y) == 0:
        return np.nan, np.nan
    if column.dtype == "category":
        groups = [group for _, group in y.groupby(column, observed=True)]
        return np.nan, stats.kruskal(*groups).pvalue
    return stats.spearmanr(column[y.index], y)
