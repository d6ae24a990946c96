"""A made-up report as a study gives it: many methods, six figures, long names."""

from functools import cache

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sklearn_molge.evaluation import ReportFigure, ReportTable, Section, StudyReport

TYPICAL = {"mrr": 0.08, "median_rank": 60, "hits@1": 0.03, "hits@10": 0.2}
TYPICAL |= {"hits@100": 0.6}
EVIL = "<script>alert(1)</script> & \"Söhne\" 'x'"
VIEWS = ["raw / Morgan", "raw / Chemprop", "aligned / Morgan", "aligned / aligned"]
NAMES = [
    "chance",
    *(f"{method}, {views}" for method in ("D-NN", "CCA", "Corr") for views in VIEWS),
    *(f"voting over nearest molecules, temperature {t}" for t in (1, 2, 5, 10)),
    "two-tower InfoNCE, D-MPNN and RDKit descriptors, start from CCA, plate-centred",
    *(f"oracle, {lines} lines, raw" for lines in ("train", "test")),
    "oracle, test lines, aligned",
    EVIL,
    "CCA, aligned / aligned (paper)",
    "DeepCCA, raw / Chemprop",
]


def method_table(names):
    """Scores with intervals: chance first, then a paper's and a failed row last."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(index=pd.Index(names, name="method"))
    views = [name.rsplit(", ", 1)[-1].split(" / ") for name in names]
    frame["expression"] = [pair[0] if len(pair) == 2 else "" for pair in views]
    frame["molecules"] = [pair[-1] if len(pair) == 2 else "" for pair in views]
    for score, typical in TYPICAL.items():
        value = typical * rng.uniform(0.4, 1.6, len(names))
        value = value if typical < 1 else np.round(value * 2) / 2
        frame[score], frame[f"{score}_low"] = value, value * 0.8
        frame[f"{score}_high"] = np.minimum(value * 1.2, 0.99 if typical < 1 else 150)
    frame["difference"] = frame["mrr"] - frame["mrr"].iloc[3]
    frame["difference_low"] = frame["difference"] - 0.02
    frame["difference_high"] = frame["difference"] + 0.02
    frame["p_value"] = 10.0 ** -rng.uniform(0, 5, len(names))
    frame["valid_mrr"] = frame["mrr"] * 1.1
    frame["seconds"] = 10 ** rng.uniform(-1, 3, len(names))
    bounds = [name for name in frame if name.endswith(("_low", "_high"))]
    unknown = [*bounds, "difference", "p_value", "valid_mrr"]
    frame.loc["chance", unknown] = np.nan
    frame.loc[names[-2], [*unknown, "hits@1", "seconds"]] = np.nan
    frame.loc[names[-1], frame.select_dtypes("number").columns] = np.nan
    frame["error"], frame["source"] = "", "this run"
    frame.loc[names[-2], "source"] = "Finlayson et al. 2020, Table 1"
    frame.loc[names[-1], "error"] = "ValueError: n_components=50 must be <= 12 genes."
    return frame


def audit_table():
    return pd.DataFrame(
        {
            "parts": ["train/test", "train/val", "train/test"],
            "n_shared": [0, 12, None],
            "share": [0.0, 0.125, None],
            "ok": [True, False, None],
            "examples": ["", "vorinostat, trichostatin A, and ten more drugs", ""],
            "reading": ["Nothing is shared.", "A leak: scores are too good.", ""],
        },
        index=pd.Index(["drugs", "drugs", "plates"], name="check"),
    )


def draw(kind):
    """Draw a picture; each kind has its own words, but three pictures are enough."""
    words = {
        "title": f"{kind.capitalize()} of the true molecule",
        "caption": "Share of the queries whose molecule is among the first k, with "
        "95 % intervals over drugs; the dashed grey line is chance.",
        "alt": f"{kind}: the curves rise; all are above chance.",
    }
    same = {"precision": "recall", "specificity": "genes", "distances": "maps"}
    picture = draw_picture(same.get(kind, kind))
    return ReportFigure(**words, svg=picture.svg, png=picture.png)


@cache
def draw_picture(kind):
    rng = np.random.default_rng(0)
    wide = kind == "maps"
    picture = Figure(figsize=(11, 3.6) if wide else (6.4, 4.2))
    for ax in np.atleast_1d(picture.subplots(1, 3 if wide else 1)):
        if kind == "recall":
            k = np.arange(1, 151)
            for i in range(6):
                ax.plot(k, (k / 150) ** (0.3 + i / 8), label=f"method number {i}")
            ax.set(xscale="log", xlabel="k", ylabel="Recall at k")
            ax.legend()
        else:
            x = rng.standard_normal((2, 4000 if kind == "maps" else 150))
            ax.scatter(*x, s=6)
            ax.set(xlabel="distance to training", ylabel="-ln MRR", title=kind)
    return ReportFigure.from_figure(picture, title="a", caption="b", alt="c", dpi=72)


def make_report():
    many = pd.DataFrame({"drug": [f"D{i:04}" for i in range(250)]})
    many["similarity"] = np.linspace(0, 1, 250)
    ceilings = ["chance", *(f"oracle {i}" for i in range(4))]
    explained = ["distances", "specificity", "maps", "genes"]
    ranks = {"repeat": [0, 0], "row": [3, 7], "drug": ["A", "B"]}
    table1 = ReportTable(
        method_table(NAMES),
        "Unseen drugs in unseen cell lines: how high each method ranks the true "
        "molecule. 95 % intervals from resampling whole drugs; the difference in MRR "
        "to the baseline, CCA, raw / Morgan.",
    )
    table2 = ReportTable(
        method_table(ceilings),
        "Ceilings: oracles rank by the drugs' own measured profiles.",
    )
    audit = ReportTable(audit_table(), "What the parts of each repeat share.")
    curves = {kind: draw(kind) for kind in ("recall", "precision")}
    return StudyReport(
        title="Which molecule causes this profile?",
        sections=[
            Section("How good is each method?", {"table1": table1, **curves}),
            Section("How far from the ceiling?", {"table2": table2}),
            Section(
                "Why does it work, and where does it fail?",
                {kind: draw(kind) for kind in explained},
                text="Of the embedder alone.",
            ),
            Section(
                "Is the comparison honest?",
                {"audit": audit, "neighbours": ReportTable(many)},
            ),
        ],
        description={
            "Profiles": "12,328",
            "Drugs": "1,294",
            "Cell lines": "8",
            "Genes": "978",
            "Level": "Level 5",
            "Dose": "10 um",
            "Time": "6 to 24 h",
            "Drugs with a mechanism": "41%",
        },
        settings={
            "split": "{'test_drugs': 0.35, 'val_drugs': 0.15, 'test_cell_lines': 6}",
            "repeats": "3",
            "seed": "0",
            "profiles": "L1000Featurizer(blocks=('treated', 'control', 'difference'))",
        },
        versions={"sklearn_molge": "0.1.0", "scikit-learn": "1.9.1", "numpy": "2.4.6"},
        seconds={"fitting the embedders": 1234.5, "inspection": 4.2},
        command="python -m sklearn_molge evaluate --data lincs_level5 --out report "
        "--level 5 --preset recommended --repeats 3 --reference finlayson2020",
        notes=[
            "1 method failed; its error is below its table: DeepCCA, raw / Chemprop.",
            "Rows marked (paper) are printed from Finlayson et al. 2020: other data, "
            "437 candidates, no intervals. They are not comparable with ours.",
        ],
        ranks=pd.DataFrame(ranks | {"n_candidates": 150, "CCA": [1.0, 2.5]}),
    )
