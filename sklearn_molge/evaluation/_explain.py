"""Why the embedder of a study works or fails: numbers and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._aligned_view import FittedAlignment
from sklearn_molge.evaluation._cache import ResultCache
from sklearn_molge.evaluation._explain_figures import (
    attribution_figures,
    distance_figures,
    map_figures,
    specificity_figure,
)
from sklearn_molge.evaluation._report import ReportFigure
from sklearn_molge.evaluation._tasks import Data, Outcome, Repeat
from sklearn_molge.inspection import (
    TRAINING_DISTANCES,
    cell_line_mixing,
    differential_genes,
    neighbor_change,
    performance_regression,
    training_distances,
)
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.molecules import MorganFingerprinter

__all__ = ["Explanation", "Fitted", "explain"]

_SEED = 0
_LOG_X = ("molecule_features",)  # as in the paper's Figure 3A


@dataclass
class Explanation:
    """Tables, figures and notes of the inspection."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, ReportFigure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """An embedder of one repeat, the rows that it was tested on, and its ranks there.

    Attributes
    ----------
    number : int
        Of the repeat.
    repeat : Repeat
    alignment : FittedAlignment
    model : estimator
        Both views: SMILES and profiles as the study has them.
    ranks : ndarray of shape (n_test,)
    """

    number: int
    repeat: Repeat
    alignment: FittedAlignment
    model: Any
    ranks: NDArray

    @property
    def test(self) -> NDArray[np.intp]:
        return self.repeat.split.test


def explain(
    study: Study,
    data: Data,
    repeats: Sequence[Repeat],
    fitted: dict[tuple[int, str], Outcome],
    cache: ResultCache,
    *,
    molecules: Any,
    figures: bool,
) -> Explanation:
    """Inspect the first embedder; a part that fails is a note, the others go on."""
    result = Explanation()
    name = next(name for _, name in fitted)
    models, failed = _load(name, data, repeats, fitted, cache)
    if failed:
        result.notes.append(
            f"The embedder {name!r} is not explained in repeat "
            f"{', '.join(map(str, failed))}: {next(iter(failed.values()))}"
        )
    if not models:
        return result
    parts: list[Callable] = [_distances, _specificity, _mechanisms, _mixing]
    if figures:
        parts += [_maps, _attributions]
    for part in parts:
        try:
            part(result, study, data, models, molecules, figures)
        except Exception as error:
            what = part.__name__.strip("_")
            result.notes.append(
                f"The inspection of {what} failed: {type(error).__name__}: {error}"
            )
    return result


def _load(
    name: str, data: Data, repeats: Sequence[Repeat],
    fitted: dict[tuple[int, str], Outcome], cache: ResultCache,
) -> tuple[list[Fitted], dict[int, str]]:  # fmt: skip
    """Return what can be explained, and why each other repeat cannot."""
    models, failed = [], {}
    for i, repeat in enumerate(repeats):
        path = fitted[i, name].path
        if path is None:
            failed[i] = fitted[i, name].error
            continue
        alignment = cache.load(path)[0]
        train, test = repeat.split.train, repeat.split.test
        try:
            model = alignment.tower("both").fit(data.X[train[:2]], data.y[train[:2]])
            ranks = retrieval_ranks(
                model, data.X[test], data.y[test], drugs=data.drugs[test]
            )
        except Exception as error:  # it cannot rank: it has diverged to NaN
            failed[i] = f"{type(error).__name__}: {error}"
            continue
        models.append(Fitted(i, repeat, alignment, model, ranks))
    return models, failed


def _distances(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    """Distance to training against performance."""
    tables = []
    for m in models:
        train = m.repeat.split.train
        tables.append(
            training_distances(
                data.X[train], data.y[train], data.X[m.test], data.y[m.test],
                molecules=molecules, expression=m.alignment.expression,
                embedder=m.model,
            )
        )  # fmt: skip
    distances = pd.concat(tables, ignore_index=True)
    ranks, drugs, sizes = _queries(data, models)
    fits, labels = {}, {}
    for name in distances:
        per, labels[name] = TRAINING_DISTANCES[name]
        fits[name] = performance_regression(
            distances[name], ranks, drugs, per=per, log_x=name in _LOG_X,
            n_candidates=sizes, random_state=_SEED,
        )  # fmt: skip
    _add_regressions(result, fits, labels)
    if figures:
        result.figures |= distance_figures(fits, labels)


def _specificity(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    """Breadth of the effect against performance."""
    ranks, drugs, sizes = _queries(data, models)
    n_genes = differential_genes(study).groupby("drug")["n_genes"].mean()
    x = np.log1p(pd.Series(drugs).map(n_genes).to_numpy(dtype=np.float64))
    known = ~np.isnan(x)
    fit = performance_regression(
        x[known], ranks[known], drugs[known], n_candidates=sizes[known],
        random_state=_SEED,
    )  # fmt: skip
    label = "ln(1 + number of genes changed)"
    _add_regressions(result, {"n_genes": fit}, {"n_genes": label})
    if figures:
        result.figures |= specificity_figure(fit, label)


def _queries(data: Data, models: Sequence[Fitted]) -> tuple[NDArray, NDArray, NDArray]:
    """Return rank, drug and number of candidates of each query of all repeats."""
    drugs = [data.drugs[m.test] for m in models]
    sizes = [np.full(len(d), len(np.unique(d))) for d in drugs]
    ranks = [m.ranks for m in models]
    return np.concatenate(ranks), np.concatenate(drugs), np.concatenate(sizes)


def _add_regressions(
    result: Explanation, fits: dict[str, Any], labels: dict[str, str]
) -> None:
    rows = [
        {"against": name, "label": labels[name]} | fit.summary()
        for name, fit in fits.items()
    ]
    parts = [result.tables.get("regressions"), pd.DataFrame(rows).set_index("against")]
    result.tables["regressions"] = pd.concat(parts)  # which drops None


def _mechanisms(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    """How often neighbours share a mechanism, before and after alignment."""
    if "moa" not in study.obs:
        result.notes.append("Mechanisms are not looked at: obs has no column 'moa'.")
        return
    rows = []
    for m in models:
        for space, transformer, metric in (
            ("Morgan", MorganFingerprinter(), "jaccard"),
            ("Chemprop", molecules, "correlation"),
        ):
            X, labels = distinct_molecules(study, m.test)
            before = transformer.fit(data.X[m.repeat.split.train]).transform(X)
            after = m.model.transform(X)
            change = neighbor_change(
                before, after, labels, metric=(metric, "correlation"),
                random_state=_SEED,
            )  # fmt: skip
            rows += _change_rows(change, space, m.number)
    result.tables["mechanisms"] = pd.DataFrame(rows).set_index("measure")


def _change_rows(change: Any, space: str, i: int) -> list[dict[str, Any]]:
    nulls = {"rate": "expected", "average_precision": "expected_average_precision"}
    p_values = {"rate": "p_value", "average_precision": "average_precision_p_value"}
    rows = []
    for measure, numbers in change.table.iterrows():
        row = {"measure": measure, "repeat": i, "before is": space}
        row["molecules"] = change.before.n_queries
        row["chance"] = getattr(change.after, nulls[measure])
        for when, result in (("before", change.before), ("after", change.after)):
            row[when] = numbers[when]
            row[f"{when} p_value"] = getattr(result, p_values[measure])
        row["difference"] = numbers["difference"]
        row["difference_low"], row["difference_high"] = numbers["low"], numbers["high"]
        rows.append(row)
    return rows


def distinct_molecules(study: Study, rows: NDArray) -> tuple[NDArray, NDArray]:
    """Return the first SMILES of each drug, and its mechanisms."""
    moa = study.obs["moa"].iloc[rows].astype(object).fillna("").astype(str)
    table = pd.DataFrame(
        {
            "drug": study.groups[rows, 0],
            "smiles": study.smiles[rows],
            "moa": moa.to_numpy(),
        }
    )
    first = table.sort_values(["smiles", "moa"]).groupby("drug").first()
    return first["smiles"].to_numpy(dtype=object), first["moa"].to_numpy(dtype=object)


def _mixing(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    """How far the profiles of several lines mix, before and after alignment."""
    rows = []
    for m in models:
        lines, drugs = data.groups[m.test, 1], data.drugs[m.test]
        if len(np.unique(lines)) < 2:
            continue
        raw = m.alignment.expression.transform(data.y[m.test])
        for space, embedded in (
            ("raw", raw),
            ("aligned", m.model.transform_ge(data.y[m.test])),
        ):
            mixing = cell_line_mixing(embedded, lines, drugs=drugs, random_state=_SEED)
            low, high = mixing.interval
            rows.append(
                {
                    "space": space,
                    "repeat": m.number,
                    "lines": len(np.unique(lines)),
                    "profiles": len(lines),
                    "mixing": mixing.mixing,
                    "mixing_low": low,
                    "mixing_high": high,
                    "p_value": mixing.p_value,
                }
            )
    if rows:
        result.tables["mixing"] = pd.DataFrame(rows).set_index("space")
    else:
        result.notes.append("Mixing is not looked at: the test rows are of one line.")


def _maps(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    m = models[0]
    distinct = None
    if "moa" in study.obs:
        distinct = distinct_molecules(study, m.test)
    result.figures |= map_figures(study, data, m, distinct)


def _attributions(
    result: Explanation, study: Study, data: Data, models: Sequence[Fitted],
    molecules: Any, figures: bool,
) -> None:  # fmt: skip
    result.figures |= attribution_figures(study, data, models[0])
