"""What Finlayson et al. (2020) found, beside one's own: numbers, claims, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge.evaluation._methods import Method
from sklearn_molge.evaluation._results import SEED, StudyResults
from sklearn_molge.evaluation.paper._rows import row_id
from sklearn_molge.evaluation.report._sections import ReportFigure, new_figure
from sklearn_molge.metrics import (
    RetrievalCurveDisplay,
    chance_scores,
    paired_comparison,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "claim_tables",
    "precision_recall",
    "recall_at_k",
    "reference_table",
    "with_reference",
]

PAPER = "Finlayson et al. 2020"
N_QUERIES, N_DRUGS = 2317, 437

# The paper's Table 1 comes from two runs: its CCA and Corr rows from one with
# fingerprints of 128 bits, its D-NN rows from one with 512.
_TABLE_1 = """
expression | molecules | method | median_rank | mrr   | hits@10 | hits@100 | note
raw        | Morgan    | D-NN   | 206         | 0.025 | 0.037   | 0.240    | 512 bits
raw        | Chemprop  | D-NN   | 211         | 0.025 | 0.035   | 0.254    |
raw        | aligned   | D-NN   | 189         | 0.033 | 0.047   | 0.290    |
aligned    | Morgan    | D-NN   | 214         | 0.025 | 0.041   | 0.256    | 512 bits
aligned    | Chemprop  | D-NN   | 196         | 0.022 | 0.037   | 0.278    |
aligned    | aligned   | D-NN   | 137         | 0.039 | 0.072   | 0.402    |
raw        | Morgan    | CCA    | 180         | 0.027 | 0.045   | 0.303    | 128 bits
raw        | Chemprop  | CCA    | 184         | 0.024 | 0.040   | 0.294    |
raw        | aligned   | CCA    | 134         | 0.039 | 0.076   | 0.412    |
aligned    | Morgan    | CCA    | 177         | 0.027 | 0.050   | 0.319    | 128 bits
aligned    | Chemprop  | CCA    | 163         | 0.028 | 0.051   | 0.334    |
aligned    | aligned   | CCA    | 130         | 0.048 | 0.093   | 0.425    |
aligned    | aligned   | Corr   | 126         | 0.042 | 0.085   | 0.432    |
"""

# What the notebook in the authors' repository shows beside the same D-NN rows.
_TABLE_1_RERUN = """
expression | molecules | method | median_rank | mrr   | hits@10 | hits@100 | note
raw        | Morgan    | CCA    | 169         | 0.040 | 0.067   | 0.347    | 512 bits
raw        | Chemprop  | CCA    | 198         | 0.027 | 0.045   | 0.293    |
raw        | aligned   | CCA    | 139         | 0.044 | 0.075   | 0.407    |
aligned    | Morgan    | CCA    | 155         | 0.035 | 0.066   | 0.356    | 512 bits
aligned    | Chemprop  | CCA    | 166         | 0.031 | 0.059   | 0.343    |
aligned    | aligned   | CCA    | 130         | 0.046 | 0.091   | 0.423    |
aligned    | aligned   | Corr   | 127         | 0.039 | 0.085   | 0.429    |
"""


# The notebook shows the same numbers.
_TABLE_2 = """
expression | lines       | metric      | median_rank | mrr   | hits@10 | hits@100
raw        | train lines | correlation | 138         | 0.057 | 0.101   | 0.400
aligned    | train lines | correlation | 110         | 0.064 | 0.128   | 0.466
raw        | test lines  | euclidean   | 82          | 0.076 | 0.147   | 0.565
aligned    | test lines  | euclidean   | 79          | 0.093 | 0.160   | 0.568
"""

_FIGURE_2 = """
id                                     | map_printed | mrr
cca_aligned_aligned                    | 0.0196      | 0.048
corr_aligned_aligned                   | 0.0193      | 0.042
dnn_raw_morgan                         | 0.0134      | 0.025
cca_raw_morgan                         | 0.0168      | 0.027
oracle_train_lines_raw_correlation     | 0.0194      | 0.057
oracle_test_lines_raw_euclidean        | 0.0252      | 0.076
"""

_REGRESSIONS = """
figure | x                  | log_x | response    | per     | n    | slope | intercept | r     | p_value
3A     | molecule_features  | True  | neg_log_mrr | drug    | 437  | .3356 | 5.2341    | .2156 | 5.43e-6
       | molecule_features  | True  | rank        | drug    | 437  | 26.45 | 232.49    | .1890 | 7.02e-5
A2 A   | fingerprint        | False | neg_log_mrr | drug    | 437  | 1.1731 | 3.7444   | .2269 | 1.65e-6
       | fingerprint        | False | rank        | drug    | 437  | 97.23 | 113.26    | .2091 | 1.04e-5
A2 B   | aligned_molecule   | False | neg_log_mrr | drug    | 437  | 5.9206 | 3.7073   | .3710 | 1.05e-15
       | aligned_molecule   | False | rank        | drug    | 437  | 378.64 | 119.34   | .2639 | 2.14e-8
A2 C   | raw_expression     | False | neg_log_mrr | profile | 2317 | .1780 | 4.4085    | .0212 | .308
       | raw_expression     | False | rank        | profile | 2317 | 19.12 | 145.69    | .0240 | .249
A2 D   | aligned_expression | False | neg_log_mrr | profile | 2317 | 5.5876 | 4.0655   | .2044 | 2.84e-23
       | aligned_expression | False | rank        | profile | 2317 | 431.51 | 122.36   | .1661 | 8.32e-16
3B     | n_genes            | True  | neg_log_mrr | drug    | 153  | -.3784 | 6.0463   | -.1182 | .146
       | n_genes            | False | neg_log_mrr | drug    | 153  | -.003506 | 4.6949 | -.1959 | .0152
       | n_genes            | True  | rank        | drug    | 153  | -29.14 | 298.55   | -.0967 | .234
"""  # noqa: E501

# HEPG2 is printed among the training lines, but the data do not have it.
_DATA = """
part  | cell_lines                             | profiles | drugs
train | HA1E, HCC515, VCAP, A375, PC3, MCF7    | 97210    | 3490
val   | A549                                   | 1255     | 436
test  | HT29                                   | 2317     | 437
"""

# Table A2, as printed.
_HYPERPARAMETERS = """
parameter             | value     | here
epochs                | 12        | max_epochs
learning rate         | 5.6e-4    | lr
batch size            | 417       | batch_size
rank transform        | no        | L1000Featurizer(rank_transform=False)
negative sampling     | N/A       | sampler
expression layers     | 677, 1159 | module__expression_layers
embedding             | 51        | module__embedding_size
dropout               | 0.02      | module__dropout
activation            | SELU      | module__activation
linear bias           | no        | module__bias
beta                  | 1.3       | criterion__beta
margin                | 0.31      | criterion__margin
RDKit features        | yes       | molecule_features
"""

_NAMES = "table1 table2 figure2 regressions chance data hyperparameters".split()


@validate_params(
    {"name": [StrOptions(set(_NAMES))], "rerun": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def reference_table(name: str = "table1", *, rerun: bool = False) -> pd.DataFrame:
    """Return numbers of the paper, in the form of this library's own tables.

    They are from other data than any study but the paper's own: 2,317 profiles of HT29
    (6 h, 10 um), ranked among 437 drugs. Scores with another number of candidates are
    not to be compared with them, but their distance from chance is.

    Parameters
    ----------
    name : str, default="table1"
        One of:

        - "table1": D-NN, CCA and the embedder (Corr);
        - "table2": oracles, and the embedder;
        - "figure2": "MAP" in the legend of Figure 2, which is 5.302 times too high;
        - "regressions": Figures 3 and A2, and those of the notebook;
        - "chance": what a random ranking of 437 drugs scores;
        - "data": the split of Table A1;
        - "hyperparameters": Table A2.
    rerun : bool, default=False
        What the notebook in the authors' repository shows instead of what is printed,
        for "table1" and "table2" (where it is the same).

    Returns
    -------
    table : DataFrame
        Scores are indexed by the method's identifier, as in
        :func:`finlayson2020_methods`, with the columns ``label``, ``expression``,
        ``molecules``, ``method``, ``mrr``, ``median_rank``, ``hits@10``,
        ``hits@100``, ``source`` and ``note``. "regressions" has one row a regression
        of ``response``, minus the natural logarithm of a drug's mean reciprocal rank
        ("neg_log_mrr") or its rank, on ``x``, a distance to the nearest training
        molecule or profile or a number of genes.

    Raises
    ------
    ValueError
        If `name` is none of these, or `rerun` is asked of a table that has none.

    Notes
    -----
    The paper has no intervals. Redrawing the plate controls alone, with the same
    model, moved Corr from a median rank of 126 to 127 and a mean reciprocal rank of
    0.042 to 0.039. "Chemprop" molecules most likely had random weights, and profiles
    were 6 h, not 24 h, after treatment. With one right answer for a query, mean
    average precision is the mean reciprocal rank.

    References
    ----------
    S. G. Finlayson et al., "Cross-modal representation alignment of molecular
    structure and perturbation-induced transcriptional profiles", 2020.

    Examples
    --------
    >>> from sklearn_molge.evaluation import reference_table
    >>> table = reference_table("table1")
    >>> float(table.loc["corr_aligned_aligned", "mrr"])
    0.042
    >>> float(reference_table("table1", rerun=True)["median_rank"].min())
    127.0
    """
    if rerun and name not in ("table1", "table2"):
        raise ValueError(
            f"rerun=True is possible for 'table1' and 'table2'. Got name={name!r}."
        )
    if name == "table1":
        return _table_1(rerun=rerun)
    if name == "table2":
        return _table_2(rerun=rerun)
    if name == "figure2":
        return _figure_2()
    if name == "chance":
        return _chance()
    texts = {
        "regressions": (_REGRESSIONS, "Section 4 and Figures 3 and A2; notebook"),
        "data": (_DATA, "Table A1; notebook"),
        "hyperparameters": (_HYPERPARAMETERS, "Table A2"),
    }
    text, where = texts[name]
    return _read(text).assign(source=f"{PAPER}, {where}")


def _read(text: str) -> pd.DataFrame:
    table = pd.read_csv(
        StringIO(text.strip()), sep=r"\s*\|\s*", engine="python", keep_default_na=False
    )
    return table.rename(columns=str.strip)


def _in_form(table: pd.DataFrame, labels: list[str], source: str) -> pd.DataFrame:
    columns = (
        "label expression molecules method mrr median_rank hits@10 hits@100 source note"
    ).split()
    table = table.assign(source=source, label=labels)[columns]
    table["median_rank"] = table["median_rank"].astype(float)
    return table.set_axis([row_id(label) for label in labels], axis=0)


def _table_1(*, rerun: bool) -> pd.DataFrame:
    table = _read(_TABLE_1)
    if rerun:
        same = table[table["method"] == "D-NN"]
        table = pd.concat([same, _read(_TABLE_1_RERUN)], ignore_index=True)
    chemprop = table["molecules"] == "Chemprop"
    table.loc[chemprop, "note"] = "random weights, most likely"
    labels = [
        f"{row.method}, {row.expression} / {row.molecules}"
        for row in table.itertuples()
    ]
    source = f"{PAPER}, notebook" if rerun else f"{PAPER}, Table 1"
    return _in_form(table, labels, source)


def _table_2(*, rerun: bool) -> pd.DataFrame:
    table = _read(_TABLE_2)
    labels = [
        f"oracle, {row.lines}, {row.expression}, {row.metric}"
        for row in table.itertuples()
    ]
    table["molecules"] = "own profiles in the " + table["lines"]
    table["method"] = "oracle, " + table["metric"]
    table["note"] = ""
    source = f"{PAPER}, notebook" if rerun else f"{PAPER}, Table 2"
    # The paper repeats the Corr row of its Table 1 here.
    own = _table_1(rerun=False).loc[["corr_aligned_aligned"]].assign(source=source)
    return pd.concat([_in_form(table, labels, source), own])


def _figure_2() -> pd.DataFrame:
    """Return the legend's "MAP" beside what it stands for."""
    table = _read(_FIGURE_2).set_index("id").rename_axis(index=None)
    inflation = N_QUERIES / N_DRUGS
    return table.assign(
        inflation=inflation,
        mean_precision=table["map_printed"] / inflation,
        chance_printed=inflation / N_DRUGS,
        source=f"{PAPER}, Figure 2",
        note="mean over k of hits@k / k, times queries / drugs; the MAP is the MRR",
    )


def _chance() -> pd.DataFrame:
    scores = chance_scores(N_DRUGS, k=(10, 100))
    row = {"expression": "", "molecules": "", "method": "chance", **scores}
    table = pd.DataFrame([row | {"note": f"random ranking of {N_DRUGS} drugs"}])
    return _in_form(table, ["chance"], "computed")


def with_reference(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Append the paper's numbers to one of the tables that the paper has."""
    paper = reference_table(name).rename(columns={"method": "compared_by"})
    paper["label"] += " (paper)"
    words = dict.fromkeys(("error", "undefined", "control"), "")
    shared = paper.reindex(columns=table.columns).assign(**words)
    shared = shared.rename(index="{}_paper".format)
    both = pd.concat([table.astype(object), shared.astype(object)])
    return both.infer_objects().rename_axis("method")


# Of each claim: the row that should be better, and the row that should be worse.
_CONTRASTS = {
    "aligned profiles beat raw ones": [
        ("cca_aligned_aligned", "cca_raw_aligned"),
        ("cca_aligned_morgan", "cca_raw_morgan"),
        ("dnn_aligned_aligned", "dnn_raw_aligned"),
        ("dnn_aligned_morgan", "dnn_raw_morgan"),
    ],
    "aligned molecules beat Morgan bits": [
        ("cca_aligned_aligned", "cca_aligned_morgan"),
        ("cca_raw_aligned", "cca_raw_morgan"),
        ("dnn_aligned_aligned", "dnn_aligned_morgan"),
        ("dnn_raw_aligned", "dnn_raw_morgan"),
    ],
    "CCA beats D-NN": [
        ("cca_raw_morgan", "dnn_raw_morgan"),
        ("cca_raw_chemprop", "dnn_raw_chemprop"),
        ("cca_aligned_aligned", "dnn_aligned_aligned"),
    ],
    "the embedder beats CCA of raw views": [("corr_aligned_aligned", "cca_raw_morgan")],
    "CCA on top helps": [("cca_aligned_aligned", "corr_aligned_aligned")],
    "embedding lifts the oracles": [
        (
            "oracle_train_lines_aligned_correlation",
            "oracle_train_lines_raw_correlation",
        ),
        ("oracle_test_lines_aligned_correlation", "oracle_test_lines_raw_correlation"),
        ("oracle_test_lines_aligned_euclidean", "oracle_test_lines_raw_euclidean"),
    ],
}

# Of each claim: rows of the regressions, and the sign that their slopes should have.
_SLOPES = {
    "distance to training hurts": (
        [
            "fingerprint",
            "molecule_features",
            "aligned_molecule",
            "raw_expression",
            "aligned_expression",
        ],
        1,
    ),
    "broad effects are easier": (["n_genes"], -1),
}
_ALPHA = 0.05
_RESPONSES = {"drug": "-ln MRR of the drug", "profile": "ln rank of the profile"}


def claim_tables(
    ranks: pd.DataFrame,
    labels: Mapping[str, str],
    regressions: pd.DataFrame | None = None,
    *,
    too_few: str = "",
    random_state: int = 0,
) -> dict[str, pd.DataFrame]:
    """Return the claims about methods and about slopes, those that can be tested.

    Parameters
    ----------
    ranks : DataFrame
        One row a query, with its drug and the rank that each method gave it.
    labels : mapping of str to str
        What each method is called.
    regressions : DataFrame or None, default=None
        Slopes of the embedder's performance.
    too_few : str, default=""
        Why no claim is judged; by default each is.
    random_state : int, default=0
        Draws the intervals.

    Returns
    -------
    tables : dict of str to DataFrame
        "claims" and "claims_slopes", where there are any.
    """
    tables = {"claims": list(_contrasts(ranks, labels, random_state))}
    if regressions is not None:
        tables["claims_slopes"] = list(_slopes(regressions))
    found = {
        name: pd.DataFrame(rows).set_index("claim")
        for name, rows in tables.items()
        if rows
    }
    if too_few:
        found = {
            name: table.assign(holds=f"not judged: {too_few}")
            for name, table in found.items()
        }
    return found


def _contrasts(
    ranks: pd.DataFrame, labels: Mapping[str, str], random_state: int
) -> Iterator[dict[str, object]]:
    for claim, pairs in _CONTRASTS.items():
        for better, worse in pairs:
            if better not in ranks or worse not in ranks:
                continue
            measured = f"MRR of {labels[better]}, less that of {labels[worse]}"
            without = [n for n in (better, worse) if ranks[n].isna().any()]
            if without or not len(ranks):
                names = ", ".join(labels[name] for name in without)
                yield {
                    "claim": claim,
                    "holds": f"not judged: {names or 'nothing'} has no ranks",
                    **dict.fromkeys(("gain", "gain_low", "gain_high"), np.nan),
                    "p_value": np.nan,
                    "measured": measured,
                }
                continue
            c = paired_comparison(
                ranks[better], ranks[worse], ranks["drug"], random_state=random_state
            )
            yield {
                "claim": claim,
                "holds": _verdict(c.low, c.high, c.p_value, 1),
                "gain": c.difference,
                "gain_low": c.low,
                "gain_high": c.high,
                "p_value": c.p_value,
                "measured": measured,
            }


def _slopes(regressions: pd.DataFrame) -> Iterator[dict[str, object]]:
    for claim, (names, sign) in _SLOPES.items():
        for name in names:
            if name not in regressions.index:
                continue
            r = regressions.loc[name]
            holds = _verdict(r["slope_low"], r["slope_high"], r["p_value"], sign)
            yield {
                "claim": claim,
                "holds": holds,
                **r[["slope", "slope_low", "slope_high", "p_value"]],
                "measured": f"{_RESPONSES[str(r['per'])]} on {r['label']}",
            }


def _verdict(low, high, p_value, sign):
    """Say whether interval and test agree that the value has this sign."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "cannot be said"
    if sign < 0:
        low, high = -high, -low
    if p_value >= _ALPHA or low <= 0 <= high:
        return "undecided"
    return "yes" if low > 0 else "no: the opposite"


_MANY = 20  # colours and dashes that can be told apart
_MOST_BANDS = 9  # more bands than this hide each other
_GREYS = ("0.25", "0.55")  # of controls
# The embedder with and without CCA, the raw baselines and the oracles.
_MAIN = (
    "cca_aligned_aligned",
    "corr_aligned_aligned",
    "cca_raw_six_features",
    "cca_raw_morgan",
    "dnn_raw_morgan",
    "oracle_train_lines_raw_correlation",
    "oracle_test_lines_raw_euclidean",
)


def recall_at_k(results: StudyResults) -> ReportFigure | None:
    """Draw recall at k, a panel for each kind of method, with the controls in each."""
    titles = ("D-NN", "CCA", "Oracles", "Other", "Ablations")
    panels: dict[str, list[str]] = {title: [] for title in titles}
    own = {"D-NN": "D-NN", "CCA": "CCA", "Corr": "CCA"}
    drawn = _drawn(results)
    controls = [name for name, method in drawn.items() if method.control]
    for name, method in drawn.items():
        if method.control:
            continue
        if method.method in own:
            panels[own[method.method]].append(name)
        elif "table1" in method.tables:
            panels["Other"].append(name)
        if "table2" in method.tables:
            panels["Oracles"].append(name)
        if "ablations" in method.tables:
            panels["Ablations"].append(name)
    panels = {title: names for title, names in panels.items() if names}
    if controls and not panels:
        panels["Controls"] = []
    if not panels:
        return None
    figure = new_figure(9.5, 4.0 * len(panels))
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        _draw_curves(ax, names[: _MANY - len(controls)] + controls, results)
        ax.set_title(title, loc="left")
    return ReportFigure.from_figure(
        figure,
        title="Recall at k",
        caption="Share of the queries whose molecule is among the first k, with 95 % "
        f"intervals over drugs where there are at most {_MOST_BANDS} methods; the "
        "dashed grey line is chance, dotted grey lines are controls.",
        alt="Recall against k for each method, in panels: " + "; ".join(panels) + ".",
    )


def precision_recall(results: StudyResults) -> ReportFigure | None:
    """Draw precision against recall of the main methods."""
    finished = _drawn(results)
    names = [name for name in _MAIN if name in finished] or list(finished)[:_MANY]
    if not names:
        return None
    figure = new_figure(9.5, 4.6)
    _draw_curves(figure.subplots(), names, results, kind="precision_recall")
    labels = ", ".join(results.labels[name] for name in names)
    return ReportFigure.from_figure(
        figure,
        title="Precision and recall",
        caption="Precision (recall at k over k) against recall, with 95 % intervals. "
        "The paper's Figure 2 multiplies precision by the number of profiles a drug.",
        alt=f"Precision against recall for {labels}.",
    )


def _drawn(results: StudyResults) -> dict[str, Method]:
    """Return the methods that have a score."""
    undefined = results.undefined
    return {n: m for n, m in results.finished.items() if n not in undefined}


def _draw_curves(
    ax: Axes, names: Sequence[str], results: StudyResults, kind: str = "recall"
) -> None:
    """Draw the curves on one axes, with a legend beside it, the best method first.

    Controls are grey and dotted, and come last whatever they score.
    """
    ranks, score = results.scored, results.scores[0]
    level = 0.95 if results.resamples and len(names) <= _MOST_BANDS else None
    options: dict[str, Any] = {"ax": ax, "kind": kind, "scoring": score}
    options |= {"n_resamples": 400, "confidence_level": level, "random_state": SEED}
    options["linewidth"] = 1.6
    displays = []
    for i, name in enumerate(names):
        style = {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--"}
        label = results.labels[name]
        if results.methods[name].control:
            style = {"color": _GREYS[i % len(_GREYS)], "linestyle": ":"}
            label = f"control: {label}"
        given: dict[str, Any] = {"drugs": ranks["drug"], "name": label} | style
        display = RetrievalCurveDisplay.from_predictions(
            ranks[name], ranks["n_candidates"], plot_chance=i == 0, **given, **options
        )
        displays.append(display)
    sign = -1 if score.greater_is_better else 1
    order = sorted(
        range(len(names)),
        key=lambda i: (
            bool(results.methods[names[i]].control),
            sign * (displays[i].score or 0.0),
        ),
    )
    lines = [displays[i].line_ for i in order]
    ax.legend(
        handles=[*lines, displays[0].chance_line_],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
    )
