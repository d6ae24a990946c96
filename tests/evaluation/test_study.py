"""evaluate_study: rows, selection, sharing, failures, resumption."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import AlignedView, Method, evaluate_study
from sklearn_molge.metrics import (
    bootstrap_scores,
    chance_scores,
    mean_reciprocal_rank,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
)

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}
SEEN = []  # what Recorder was fitted on, in this process


def cca(n_components=5):
    return make_pipeline(MorganFingerprinter(fp_size=256), CCA(n_components, ridge=0.1))


def run(study, methods, **options):
    options = {
        "embedders": {},
        "n_repeats": 2,
        "inspect": False,
        "figures": False,
    } | options
    return evaluate_study(study, methods=methods, split=SPLIT, **options)


class Recorder(TransformerMixin, BaseEstimator):
    """Notes the first column of what it is fitted on."""

    def __init__(self, name="X"):
        self.name = name

    def fit(self, X, y=None):
        SEEN.append((self.name, np.array(X)))
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


class Failing(BaseEstimator):
    def __init__(self, text="out of luck"):
        self.text = text

    def fit(self, X, y):
        raise RuntimeError(self.text)

    def similarity(self, X, y):
        raise AssertionError


def test_scores_are_those_of_a_plain_loop(study):
    report = run(study, {"CCA": cca(), "random": RandomRetriever(random_state=0)})
    ranks, drugs, sizes = [], [], []
    for i, part in report.ranks.groupby("repeat"):
        test = part["row"].to_numpy()
        split = split_of_repeat(study, i)
        np.testing.assert_array_equal(split.test, test)
        model = cca().fit(study.smiles[split.train], study.ge[split.train])
        X, y, names = study.smiles[test], study.ge[test], study.groups[test, 0]
        ranks.append(retrieval_ranks(model, X, y, drugs=names))
        drugs.append(names)
        sizes.append(np.full(len(test), len(np.unique(names))))
    ranks, drugs = np.concatenate(ranks), np.concatenate(drugs)
    np.testing.assert_array_equal(report.ranks["CCA"], ranks)
    row = report.tables["table1"].loc["CCA"]
    expected = bootstrap_scores(ranks, drugs, random_state=0)
    for key in ("mrr", "median_rank", "hits@1", "hits@10", "hits@100"):
        assert row[key] == expected.loc[key, "score"]
        assert row[f"{key}_low"] == expected.loc[key, "low"]
        assert row[f"{key}_high"] == expected.loc[key, "high"]
    chance = chance_scores(np.concatenate(sizes))
    assert report.tables["table1"].loc["chance", "mrr"] == chance["mrr"]
    other = report.tables["table1"].loc["random"]
    pair = paired_comparison(report.ranks["random"], ranks, drugs, random_state=0)
    assert other["difference"] == pair.difference
    assert other["p_value"] == pair.p_value


def split_of_repeat(study, i):
    """Draw the split of a repeat once more."""
    rng = np.random.RandomState(0)
    seeds = rng.randint(np.iinfo(np.int32).max, size=(2, 2)).tolist()
    return drug_cell_line_split(study.groups, **SPLIT, random_state=seeds[i][0])


def test_parts_share_no_drug_and_no_line(study):
    report = run(study, {"random": RandomRetriever(random_state=0)})
    audit = report.tables["audit"]
    assert not any("Leak" in note for note in report.notes)
    assert (audit["ok"] != False).all()  # noqa: E712  None is for information


def test_the_validation_rows_select(study):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    candidates = [RandomRetriever(random_state=0), cca(2), cca(8)]
    report = evaluate_study(
        study, methods={"best": candidates, "none": candidates[0]}, embedders={},
        split=split, n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    X, y, drugs = study.smiles, study.ge, study.groups[:, 0]
    valid, test = [], []
    for candidate in candidates:
        model = clone(candidate).fit(X[split.train], y[split.train])
        for rows, scores in ((split.val, valid), (split.test, test)):
            ranks = retrieval_ranks(model, X[rows], y[rows], drugs=drugs[rows])
            scores.append((mean_reciprocal_rank(ranks), ranks))
    best = int(np.argmax([score for score, _ in valid]))
    row = report.tables["table1"].loc["best"]
    assert row["valid_mrr"] == valid[best][0]
    np.testing.assert_array_equal(report.ranks["best"], test[best][1])
    # The baseline is chosen there, too.
    assert report.settings["baseline"] == "best"


def test_without_validation_rows_nothing_is_selected(study):
    options = SPLIT | {"val_drugs": 0, "val_cell_lines": 0}
    methods = {"list": [cca(2), cca(8)], "first": cca(2), "other": cca(3)}
    report = evaluate_study(
        study,
        methods=methods,
        embedders={},
        split=options,
        n_repeats=1,
        inspect=False,
        figures=False,
    )
    np.testing.assert_array_equal(report.ranks["list"], report.ranks["first"])
    assert report.settings["baseline"] == "none"
    assert report.tables["table1"]["difference"].isna().all()
    assert any("no validation rows" in note for note in report.notes)
    named = evaluate_study(
        study, methods=methods, embedders={}, split=options, n_repeats=1,
        inspect=False, figures=False, baseline="first",
    )  # fmt: skip
    assert named.tables["table1"].loc["list", "difference"] == 0


def test_methods_see_training_rows_only(study):
    SEEN.clear()
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    target = TransformedTargetRetriever(CCA(3, ridge=0.1), Recorder("y"))
    row = make_pipeline(Recorder("X"), MorganFingerprinter(fp_size=64), target)
    aligned = TransformedTargetRetriever(CCA(2, ridge=0.1), AlignedView("profiles"))
    methods = {
        "own": row,
        "shuffled": Method(row, shuffle_molecules=True),
        "shared": make_pipeline(AlignedView("molecules"), aligned),
        "oracle": Method(
            TransformedTargetRetriever(OracleRetriever(), Recorder("oracle")),
            tables=("table2",), train="oracle_train_lines",
        ),
    }  # fmt: skip
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=0.1))
    evaluate_study(
        study, methods=methods, embedders={"aligned": embedder}, split=split,
        expression=Recorder("expression"), n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    train = split.train
    expected = {
        "X": study.smiles[train],
        "y": study.ge[train],
        "expression": study.ge[train],
        "oracle": study.ge[split.oracle_train_lines],
    }
    assert {name for name, _ in SEEN} == set(expected)
    molecules = [seen for name, seen in SEEN if name == "X"]
    np.testing.assert_array_equal(molecules[0], expected["X"])
    assert not np.array_equal(molecules[1], expected["X"])
    np.testing.assert_array_equal(np.sort(molecules[1]), np.sort(expected["X"]))
    for name, seen in SEEN:
        if name != "X":
            np.testing.assert_array_equal(seen, expected[name])


def tiny_embedder(**options):
    return CoordinatedEmbedder(
        None, molecule_features=MorganFingerprinter(fp_size=64), criterion=InfoNCELoss,
        sampler=DrugBalancedSampler, module__embedding_size=8, lr=1e-3,
        module__expression_layers=(16,), max_epochs=2, **options,
    )  # fmt: skip


def test_an_embedder_is_fitted_once_and_shared(study):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    target = TransformedTargetRetriever(
        DoubleNNRetriever("correlation"), AlignedView("profiles")
    )
    report = evaluate_study(
        study,
        methods={
            "own": AlignedView("both"),
            "D-NN": make_pipeline(AlignedView("molecules"), target),
            "raw profiles": make_pipeline(AlignedView("molecules"), CCA(4, ridge=0.1)),
        },
        embedders={"aligned": tiny_embedder(random_state=3)},
        split=split, n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    rows = np.concatenate([split.train, split.val])
    n_train = len(split.train)
    cv = [(np.arange(n_train), np.arange(n_train, len(rows)))]
    embedder = tiny_embedder(random_state=3, train_split=OneSplit(cv))
    embedder.fit(study.smiles[rows], study.ge[rows], groups=study.groups[rows])
    X, y = study.smiles[split.test], study.ge[split.test]
    ranks = retrieval_ranks(embedder, X, y, drugs=study.groups[split.test, 0])
    np.testing.assert_array_equal(report.ranks["own"], ranks)
    table = report.tables["embedders"]
    assert table["n_epochs"].tolist() == [2]
    assert table["valid_mrr"].tolist() == [max(embedder.history[:, "valid_mrr"])]


class OneSplit:
    def __init__(self, parts):
        self.parts = parts

    def split(self, X, y=None, groups=None):
        return iter(self.parts)


def test_a_failing_method_does_not_lose_the_others(study):
    methods = {"CCA": cca(), "bad": Failing(), "worse": Failing("no memory")}
    report = run(study, methods)
    table = report.tables["table1"]
    assert table.loc["bad", "error"] == "RuntimeError: out of luck"
    assert table.loc["worse", "error"] == "RuntimeError: no memory"
    assert table.loc["CCA", "error"] == ""
    assert np.isnan(table.loc["bad", "mrr"])
    assert np.isfinite(table.loc["CCA", "mrr"])
    assert any("2 methods failed" in note for note in report.notes)


def test_a_failing_embedder_fails_its_rows(study):
    methods = {"CCA": cca(), "own": AlignedView("both")}
    report = run(study, methods, embedders={"aligned": Failing("diverged")})
    table = report.tables["table1"]
    assert table.loc["own", "error"] == "embedder aligned: RuntimeError: diverged"
    assert np.isfinite(table.loc["CCA", "mrr"])


@pytest.mark.parametrize("n_jobs", [2])
def test_number_of_processes_changes_nothing(study, n_jobs):
    methods = {"CCA": cca(), "own": AlignedView("both"), "r": RandomRetriever()}
    state = np.random.get_state()[1].copy()
    one, two = (
        run(study, methods, embedders={"aligned": tiny_embedder()}, n_jobs=n)
        for n in (1, n_jobs)
    )
    assert one.ranks.equals(two.ranks)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_seeds(study):
    methods = {"r": RandomRetriever(), "fixed": RandomRetriever(random_state=1)}
    a, b, c = (run(study, methods, random_state=seed) for seed in (0, 0, 1))
    assert a.ranks.equals(b.ranks)
    assert not a.ranks["row"].equals(c.ranks["row"])
    first, second = (part for _, part in a.ranks.groupby("repeat"))
    assert not np.array_equal(first["row"], second["row"])


def test_second_call_goes_on_from_the_cache(study, tmp_path):
    SEEN.clear()
    row = make_pipeline(Recorder(), cca())
    first = run(study, {"CCA": row}, cache_folder=tmp_path)
    assert len(SEEN) == 2
    second = run(study, {"CCA": row, "new": cca(3)}, cache_folder=tmp_path)
    assert len(SEEN) == 2
    assert first.ranks["CCA"].equals(second.ranks["CCA"])
    changed = make_pipeline(Recorder(), cca(6))
    run(study, {"CCA": changed}, cache_folder=tmp_path)
    assert len(SEEN) == 4
    other = make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=1
    )
    run(other, {"CCA": row}, cache_folder=tmp_path)
    assert len(SEEN) == 6


def test_functions_of_one_name_are_not_confused(study, tmp_path):
    def row(factor):
        scale = FunctionTransformer(lambda y: np.sign(y) * np.abs(y) ** factor)
        return make_pipeline(
            MorganFingerprinter(fp_size=64),
            TransformedTargetRetriever(CCA(3, ridge=0.1), scale),
        )

    one = run(study, {"m": row(1)}, cache_folder=tmp_path)
    two = run(study, {"m": row(3)}, cache_folder=tmp_path)
    assert not one.ranks["m"].equals(two.ranks["m"])


def test_errors_are_not_kept(study, tmp_path):
    run(study, {"bad": Failing()}, cache_folder=tmp_path)
    assert not list(tmp_path.glob("method-*"))


def test_damaged_cache_says_so(study, tmp_path):
    run(study, {"CCA": cca()}, cache_folder=tmp_path)
    for path in tmp_path.glob("method-*"):
        path.write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"cache_folder: .* cannot be read"):
        run(study, {"CCA": cca()}, cache_folder=tmp_path)


_SCRIPT = """
    import sys, time
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn_molge.alignment import CCA
    from sklearn_molge.datasets import make_perturbation_study
    from sklearn_molge.evaluation import evaluate_study
    from sklearn_molge.molecules import MorganFingerprinter

    study = make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=0
    )
    methods = {
        f"CCA {n}": make_pipeline(MorganFingerprinter(fp_size=256), CCA(n, ridge=0.1))
        for n in range(2, 17)
    }
    report = evaluate_study(
        study, methods=methods, embedders={}, n_repeats=2, inspect=False, figures=False,
        cache_folder=sys.argv[1],
    )
    report.ranks.to_csv(sys.argv[2], index=False)
"""


def test_killed_and_resumed(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(textwrap.dedent(_SCRIPT))

    def start(cache, out):
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / cache), str(tmp_path / out)]
        )

    killed = start("cache", "killed.csv")
    while len(list((tmp_path / "cache").glob("method-*.joblib"))) < 3:
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed.csv").exists()
    kept = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "cache").glob("method-*.joblib")
    }
    assert 3 <= len(kept) < 30
    assert start("cache", "resumed.csv").wait() == 0
    for name, written in kept.items():
        assert (tmp_path / "cache" / name).stat().st_mtime_ns == written
    assert start("fresh", "whole.csv").wait() == 0
    resumed, whole = (tmp_path / f"{n}.csv" for n in ("resumed", "whole"))
    assert resumed.read_text() == whole.read_text()


def test_bad_input_raises_before_any_fit(study):
    SEEN.clear()
    row = make_pipeline(Recorder(), cca())
    for options, error, match in (
        ({"split": 3}, ValueError, "split must be a mapping"),
        ({"split": {"random_state": 1}}, ValueError, "must not have a random_state"),
        ({"n_repeats": 0}, ValueError, "n_repeats"),
        ({"methods": {}}, ValueError, "at least one entry"),
        ({"methods": {"a": row, "b": 3}}, TypeError, r"methods\['b'\]"),
        ({"methods": {"a": row, "b": AlignedView()}}, ValueError, "'aligned'"),
        ({"baseline": "nobody"}, ValueError, "baseline must be one of"),
        ({"preset": "best"}, ValueError, "preset"),
        ({"study": "folder"}, ValueError, "study"),
    ):
        options = {"study": study, "methods": {"a": row}, "embedders": {}} | options
        with pytest.raises(error, match=match):
            evaluate_study(options.pop("study"), **options)
    assert SEEN == []


def test_aligned_view_alone_says_what_to_use():
    with pytest.raises(TypeError, match="molecule_encoder"):
        AlignedView("molecules").fit(["CCO"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train": "all"}, "train must be one of"),
        ({"tables": ("table3",)}, "tables must be of"),
        ({"tables": ()}, "tables must be of"),
    ],
)
def test_method_says_what_is_wrong(options, match):
    with pytest.raises(ValueError, match=match):
        Method(cca(), **options)
    with pytest.raises(ValueError, match="at least one"):
        Method([])
