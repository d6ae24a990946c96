"""evaluate_study: rows, selection, sharing, scores, figures, odd studies."""

import re
import sys
import warnings
from inspect import signature

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rdkit import Chem
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import (
    AlignedView,
    Method,
    PaperOptions,
    ReportFigure,
    StudyReport,
    draw_split,
    evaluate_study,
    finlayson2020_methods,
)
from sklearn_molge.exceptions import (
    FewCandidatesWarning,
    FewDrugsWarning,
    InvalidSmilesError,
)
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import (
    Score,
    bootstrap_scores,
    chance_scores,
    mean_reciprocal_rank,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MoleculeDescriptors, MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
)

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}
ALIGNED = make_pipeline(
    AlignedView("molecules"),
    TransformedTargetRetriever(
        DoubleNNRetriever("correlation"), AlignedView("profiles")
    ),
)


def test_scores_are_those_of_a_plain_loop(study, cca, run):
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


def test_descriptors_are_computed_once(study, monkeypatch, read_in):
    """By all methods of all repeats."""
    seen = []
    featurize = MoleculeDescriptors._featurize

    def watched(self, mols):
        seen.extend(map(Chem.MolToSmiles, mols))
        return featurize(self, mols)

    monkeypatch.setattr(MoleculeDescriptors, "_featurize", watched)
    methods = {
        name: make_pipeline(MoleculeDescriptors(["MolWt", "TPSA"]), CCA(1, ridge=ridge))
        for name, ridge in (("a", 0.1), ("b", 1.0))
    }
    texts = read_in(
        lambda: evaluate_study(
            study, methods=methods, embedders={}, n_repeats=2, inspect=False,
            figures=False,
        )
    )  # fmt: skip
    assert len(seen) == len(set(seen)) > 10
    assert len(texts) == len(set(texts))


def test_parts_share_no_drug_and_no_line(study, run):
    report = run(study, {"random": RandomRetriever(random_state=0)})
    audit = report.tables["audit"]
    assert not any("Leak" in note for note in report.notes)
    assert (audit["ok"] != False).all()  # noqa: E712  None is for information


def test_the_validation_rows_select(study, cca):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    candidates = [RandomRetriever(random_state=0), cca(4), cca(8)]
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


def test_without_validation_rows_nothing_is_selected(study, cca):
    options = SPLIT | {"val_drugs": 0, "val_cell_lines": 0}
    methods = {"list": [cca(4), cca(8)], "first": cca(4), "other": cca(3)}
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


def test_methods_see_training_rows_only(study, recorder, seen):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    target = TransformedTargetRetriever(CCA(3, ridge=0.1), recorder("y"))
    row = make_pipeline(recorder("X"), MorganFingerprinter(fp_size=64), target)
    aligned = TransformedTargetRetriever(CCA(3, ridge=0.1), AlignedView("profiles"))
    methods = {
        "own": row,
        "shuffled": Method(row, shuffle_molecules=True),
        "blind": Method(
            TransformedTargetRetriever(DoubleNNRetriever(), recorder("blind")),
            drug_blind=True,
        ),
        "shared": make_pipeline(AlignedView("molecules"), aligned),
        "oracle": Method(
            TransformedTargetRetriever(OracleRetriever(), recorder("oracle")),
            tables=("table2",), train="oracle_train_lines",
        ),
    }  # fmt: skip
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=0.1))
    evaluate_study(
        study, methods=methods, embedders={"aligned": embedder}, split=split,
        expression=recorder("expression"), n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    train = split.train
    expected = {
        "X": study.smiles[train],
        "y": study.ge[train],
        "expression": study.ge[train],
        "oracle": study.ge[split.oracle_train_lines],
        "blind": study.ge[train].copy(),
    }
    lines = study.groups[train, 1]
    for line in set(lines):
        expected["blind"][lines == line] = study.ge[train][lines == line].mean(axis=0)
    assert {name for name, _ in seen} == set(expected)
    molecules = [rows for name, rows in seen if name == "X"]
    np.testing.assert_array_equal(molecules[0], expected["X"])
    assert not np.array_equal(molecules[1], expected["X"])
    np.testing.assert_array_equal(np.sort(molecules[1]), np.sort(expected["X"]))
    for name, rows in seen:
        if name != "X":
            np.testing.assert_allclose(rows, expected[name], rtol=1e-5, atol=1e-6)


def test_an_embedder_is_fitted_once_and_shared(study, net):
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
        embedders={"aligned": net(random_state=3)},
        split=split, n_repeats=1, inspect=False, figures=False,
    )  # fmt: skip
    rows = np.concatenate([split.train, split.val])
    n_train = len(split.train)
    cv = [(np.arange(n_train), np.arange(n_train, len(rows)))]
    embedder = net(random_state=3, train_split=OneSplit(cv))
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


def test_a_failing_method_does_not_lose_the_others(study, cca, run, failing):
    methods = {"CCA": cca(), "bad": failing(), "worse": failing("no memory")}
    report = run(study, methods)
    table = report.tables["table1"]
    assert table.loc["bad", "error"] == "RuntimeError: out of luck"
    assert table.loc["worse", "error"] == "RuntimeError: no memory"
    assert table.loc["CCA", "error"] == ""
    assert np.isnan(table.loc["bad", "mrr"])
    assert np.isfinite(table.loc["CCA", "mrr"])
    (note,) = [note for note in report.notes if "2 methods failed, of 3" in note]
    assert "bad (RuntimeError: out of luck); worse (RuntimeError: no memory)" in note
    assert note in " ".join(str(report).split())


def test_a_failing_embedder_fails_its_rows(study, cca, run, failing):
    methods = {"CCA": cca(), "own": AlignedView("both")}
    report = run(study, methods, embedders={"aligned": failing("diverged")})
    table = report.tables["table1"]
    assert table.loc["own", "error"] == "embedder aligned: RuntimeError: diverged"
    assert np.isfinite(table.loc["CCA", "mrr"])


@pytest.mark.parametrize("n_jobs", [2])
def test_number_of_processes_changes_nothing(study, n_jobs, cca, net, run):
    methods = {"CCA": cca(), "own": AlignedView("both"), "r": RandomRetriever()}
    state = np.random.get_state()[1].copy()
    one, two = (
        run(study, methods, embedders={"aligned": net()}, n_jobs=n) for n in (1, n_jobs)
    )
    assert one.ranks.equals(two.ranks)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_seeds(study, run):
    methods = {"r": RandomRetriever(), "fixed": RandomRetriever(random_state=1)}
    a, b, c = (run(study, methods, random_state=seed) for seed in (0, 0, 1))
    assert a.ranks.equals(b.ranks)
    assert not a.ranks["row"].equals(c.ranks["row"])
    first, second = (part for _, part in a.ranks.groupby("repeat"))
    assert not np.array_equal(first["row"], second["row"])


def test_bad_input_raises_before_any_fit_of_a_recorder(study, cca, recorder, seen):
    row = make_pipeline(recorder(), cca())
    for options, error, match in (
        ({"split": 3}, ValueError, "split must be a mapping"),
        ({"split": {"random_state": 1}}, ValueError, "must not have a random_state"),
        ({"n_repeats": 0}, ValueError, "n_repeats"),
        ({"methods": {}}, ValueError, "at least one entry"),
        ({"methods": {"a": row, "b": 3}}, TypeError, r"methods\['b'\]"),
        ({"methods": {"a": row, "b": AlignedView()}}, ValueError, "'aligned'"),
        ({"baseline": "nobody"}, ValueError, "baseline must be one of"),
        ({"scores": ["map"]}, ValueError, "scores"),
        ({"paper": "quick"}, ValueError, "paper"),
        ({"study": "folder"}, ValueError, "study"),
    ):
        options = {"study": study, "methods": {"a": row}, "embedders": {}} | options
        with pytest.raises(error, match=match):
            evaluate_study(options.pop("study"), **options)
    assert seen == []


def test_a_score_of_the_user_is_everywhere(study, tmp_path, cca, run):
    gain = Score("gain", gains, np.mean, chance_gain, label="Discounted gain")
    methods = {"CCA": cca(), "random": RandomRetriever(random_state=0)}
    report = run(
        study, methods, scores=[gain, "hits@3"], baseline="random", figures=True
    )
    table = report.tables["table1"]
    ranks, drugs = report.ranks["CCA"], report.ranks["drug"]
    expected = bootstrap_scores(ranks, drugs, scores=[gain], random_state=0)
    columns = ["gain", "gain_low", "gain_high"]
    assert table.loc["CCA", columns].tolist() == expected.loc["gain"].tolist()
    assert {"hits@3", "hits@3_low"} <= set(table)
    assert "mrr" not in table
    sizes = report.ranks["n_candidates"]
    chance = chance_scores(sizes, scores=[gain])["gain"]
    assert table.loc["chance", "gain"] == chance
    pair = paired_comparison(
        ranks, report.ranks["random"], drugs, scoring=gain, random_state=0
    )
    assert table.loc["CCA", "difference"] == pair.difference
    assert "Discounted gain" in str(report)
    report.save(tmp_path)
    assert "Discounted gain" in str(StudyReport.load(tmp_path))
    assert "Discounted gain" in (tmp_path / "report.html").read_text(encoding="utf-8")


def gains(ranks):
    return 1 / np.log2(1 + ranks)


def chance_gain(n_candidates):
    return [gains(np.arange(1, n + 1)).mean() for n in n_candidates]


def toy_figure(results):
    figure = Figure()
    figure.subplots().hist(results.ranks["CCA"])
    words = f"{results.scores[0].label} of {results.labels['CCA']}"
    return ReportFigure.from_figure(figure, title="Toy", caption=words, alt="Bars.")


def nothing_to_draw(results):
    return None


def bad_figure(results):
    raise RuntimeError("no ink")


def test_figures_of_the_user_come_last(study, tmp_path, cca, run):
    report = run(
        study,
        {"CCA": Method(cca(), label="Canonical")},
        n_repeats=1,
        figures=[toy_figure, nothing_to_draw, bad_figure],
    )
    own = ["recall_at_k", "precision_recall", "one_query"]
    assert list(report.figures) == [*own, "toy_figure"]
    assert report.figures["toy_figure"].caption == "MRR of Canonical"
    assert list(report.sections[-1].items) == ["toy_figure"]
    assert "The figure bad_figure failed: RuntimeError: no ink" in report.notes
    page = report.save(tmp_path).read_text(encoding="utf-8")
    assert "MRR of Canonical" in page
    assert (tmp_path / "figures/toy_figure.svg").exists()
    for figures in ([lambda results: None], ["recall"]):
        with pytest.raises(TypeError, match="figures must be a bool or a list"):
            run(study, {"CCA": cca()}, figures=figures)


def test_the_papers_options_make_rows_and_embedder(study, run, errors):
    options = PaperOptions("quick", ablations=False, reference=True)
    few = ["cca_raw_morgan", "corr_aligned_aligned"]
    methods = {name: finlayson2020_methods(n_components=4)[name] for name in few}
    report = run(
        study, methods, embedders=None, paper=options, n_repeats=1, inspect=False
    )
    table = report.tables["table1"]
    assert errors(report) == []
    assert table.loc["cca_raw_morgan", "label"] == "CCA, raw / Morgan"
    printed = table.loc["cca_raw_morgan_paper"]
    assert (printed["label"], printed["mrr"]) == ("CCA, raw / Morgan (paper)", 0.027)
    assert printed["source"] == "Finlayson et al. 2020, Table 1"
    assert report.tables["embedders"]["n_epochs"].tolist() == [3]
    assert report.settings["baseline"] == "CCA, raw / Morgan"
    (claim,) = report.tables["claims"]["measured"]
    assert claim == "MRR of Corr, aligned / aligned, less that of CCA, raw / Morgan"


def test_nothing_global_is_read(study, monkeypatch, cca, run):
    monkeypatch.setattr("sys.argv", ["secret"])
    report = run(study, {"CCA": cca()}, n_repeats=1)
    assert report.command == ""


# -- what a study and a split may be


def test_level_3_with_controls_saved_and_in_two_processes(
    level3, tmp_path, cca, net, run, errors
):
    methods = {
        "own": AlignedView(),
        "D-NN": ALIGNED,
        "CCA": [cca(4), cca(3)],
        "oracle": Method(
            OracleRetriever(), tables=("table2",), train="oracle_test_lines"
        ),
    }
    paired = level3.paired_ge()
    one, two = (
        run(
            level3,
            methods,
            embedders={"aligned": net()},
            inspect=True,
            n_repeats=1,
            n_jobs=n,
        )
        for n in (1, 2)
    )
    assert errors(one) == []
    assert one.tables["table2"]["error"].tolist() == ["", ""]
    assert one.ranks.equals(two.ranks)
    for name, table in one.tables.items():
        kept = [
            t.drop(columns="seconds", errors="ignore")
            for t in (table, two.tables[name])
        ]
        pd.testing.assert_frame_equal(*kept)
    one.save(tmp_path)
    loaded = StudyReport.load(tmp_path)
    assert str(loaded) == str(one)
    pd.testing.assert_frame_equal(loaded.ranks, one.ranks)
    # The profiles are [treated | control], and are as they were.
    rows = one.ranks["row"].to_numpy()
    oracle = OracleRetriever().fit(level3.smiles[rows], paired[rows])
    ranks = retrieval_ranks(
        oracle, level3.smiles[rows], paired[rows], drugs=level3.groups[rows, 0]
    )
    np.testing.assert_array_equal(one.ranks["oracle"], ranks)
    np.testing.assert_array_equal(level3.paired_ge(), paired)


def test_labels_may_be_categories_or_numbers(study, cca, run, remade):
    columns = ["drug", "cell_line", "moa"]
    obs = study.obs.astype(dict.fromkeys(columns, "category"))
    options = {"embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1}
    plain = run(study, {"own": AlignedView()}, **options)
    report = run(remade(study, obs=obs), {"own": AlignedView()}, **options)
    assert report.ranks.equals(plain.ranks)
    assert "mechanisms" in report.tables
    assert not any("failed" in note for note in report.notes)
    obs = study.obs.assign(cell_line=study.obs["cell_line"].factorize()[0])
    report = run(remade(study, obs=obs), {"CCA": cca()}, n_repeats=1)
    assert report.tables["splits"]["which_lines"].str.len().min() >= 1


def test_one_drug_to_validate_and_to_test_is_undefined(
    study, tmp_path, cca, run, failing
):
    options = SPLIT | {"val_drugs": 1, "test_drugs": 1}
    methods = {"CCA": cca(), "other": [cca(4), cca(3)], "bad": failing()}
    with pytest.warns(FewCandidatesWarning, match="rank 1, 1 drugs"):
        report = run(study, methods, split=options, figures=True)
    assert (report.ranks["n_candidates"] == 1).all()
    assert report.ranks[["CCA", "other"]].isna().all(axis=None)
    table = report.tables["table1"]
    assert table[["mrr", "mrr_low", "valid_mrr"]].isna().all(axis=None)
    assert table.loc[["chance", "CCA"], "undefined"].str.contains("two drugs").all()
    assert table.loc["bad", "undefined"] == ""
    assert any("Undefined in repeat 0, 1" in note for note in report.notes)
    assert "CCA (undefined)" in str(report)
    page = report.save(tmp_path).read_text(encoding="utf-8")
    assert '<span class="value">undefined</span>' in page
    assert StudyReport.load(tmp_path).tables["table1"]["mrr"].isna().all()


def test_a_repeat_of_one_drug_counts_in_no_score(study, cca, run):
    splits = [
        drug_cell_line_split(study.groups, test_drugs=n, random_state=0)
        for n in (1, 0.5)
    ]
    own = {"embedders": {"aligned": cca()}, "inspect": True}
    methods = {"CCA": cca(), "own": AlignedView()}
    both = run(study, methods, split=splits, **own)
    one = run(study, {"CCA": cca()}, split=splits[1], n_repeats=1)
    for column in ("mrr", "mrr_low", "hits@10", "median_rank"):
        assert (
            both.tables["table1"].loc["CCA", column]
            == (one.tables["table1"].loc["CCA", column])
        )
    chance = both.tables["table1"].loc["chance", "mrr"]
    assert chance == chance_scores([30])["mrr"]
    table = both.tables["candidates"]
    assert table["candidates"].tolist() == [1, 30]
    assert table["chance_mrr"].isna().tolist() == [True, False]
    assert any("Undefined in repeat 0:" in note for note in both.notes)
    assert any("not explained in repeat 0: its test rows" in n for n in both.notes)


def wide_study(n_molecules, **options):
    return make_perturbation_study(
        n_molecules, **({"n_cell_lines": 4, "n_genes": 8} | options),
        level=5, random_state=0,
    )  # fmt: skip


def test_what_is_ranked_is_said_first(tmp_path, cca, run):
    study = wide_study(120)
    methods = {"cca_raw_morgan": cca(), "dnn_raw_morgan": cca(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FewDrugsWarning)  # small on purpose
        report = run(study, methods, split=None)
    assert next(iter(report.tables)) == "candidates"
    table = report.tables["candidates"]
    assert table["candidates"].tolist() == [40, 40]
    assert table["test_profiles"].tolist() == [80, 80]
    assert table["chance_mrr"].tolist() == [chance_scores([40])["mrr"]] * 2
    assert report.notes[0] == (
        "Unseen drugs in unseen cell lines. Ranked in each repeat: 80 test profiles "
        "among 40 candidates (test drugs), in 1 cell line; chance MRR 0.107."
    )
    assert any("100 says nothing: among at most 40" in n for n in report.notes)
    assert any("tested in one cell line" in note for note in report.notes)
    assert any(note.startswith("Audit, train/test: shared") for note in report.notes)
    assert not report.tables["claims"]["holds"].str.startswith("not judged").any()
    page = report.save(tmp_path).read_text(encoding="utf-8")
    assert page.index("among 40 candidates") < page.index("How good is each method?")


def test_nothing_is_judged_among_few(study, cca, run):
    methods = {"cca_raw_morgan": cca(), "dnn_raw_morgan": cca(3)}
    said = r"test rows of 2 repeats rank 18, 18 drugs, and below 30 .* val rows"
    with pytest.warns(FewCandidatesWarning, match=said):
        report = run(study, methods)
    assert set(report.tables["claims"]["holds"]) == {
        "not judged: too few candidates, 18 test drugs (at least 30 are needed)"
    }
    found = [note for note in report.notes if note.startswith("Not judged: too few")]
    assert len(found) == 1
    assert any("Selection is noise: the validation" in note for note in report.notes)


def test_few_drugs_to_train_on_are_said_once(study, cca, run, monkeypatch):
    with pytest.warns(FewDrugsWarning) as said:
        report = run(study, {"CCA": cca()})
    few = [str(w.message) for w in said if w.category is FewDrugsWarning]
    n_drugs = int(few[0].split()[0])
    assert n_drugs == report.tables["splits"].query("part == 'train'")["drugs"].min()
    assert few == [str(FewDrugsWarning(n_drugs))]
    assert few[0].startswith(f"{n_drugs} drugs to train on are few: on real data")
    assert report.notes.count(few[0]) == 1
    monkeypatch.setattr(FewDrugsWarning, "fewest", n_drugs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewDrugsWarning)
        report = run(study, {"CCA": cca()})
    assert not any("to train on are few" in note for note in report.notes)


def test_no_interval_of_four_drugs(study, cca, run):
    options = SPLIT | {"test_drugs": 4}
    methods = {"CCA": cca(), "other": cca(3)}
    table = run(study, methods, split=options, n_repeats=1).tables["table1"]
    assert np.isfinite(table.loc[["CCA", "other"], "mrr"]).all()
    unknown = [c for c in table if c.endswith(("_low", "_high"))] + ["p_value"]
    assert table[unknown].isna().all(axis=None)


def test_copied_profiles_are_counted(study, cca, run, remade):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    ge = study.ge.copy()
    ge[split.test[1:3]] = ge[split.test[0]]
    report = run(remade(study, ge=ge), {"CCA": cca()}, split=split, n_repeats=1)
    n = len(split.test)
    assert any(note.startswith(f"2 of {n} test profiles") for note in report.notes)


def test_an_oracle_that_knows_nothing_is_undefined(study, run):
    first = ~pd.DataFrame(study.groups).duplicated().to_numpy()
    oracle = Method(OracleRetriever(), tables=("table2",), train="oracle_test_lines")
    options = {"split": SPLIT | {"test_cell_lines": 1}, "n_repeats": 1}
    report = run(study[np.flatnonzero(first)], {"oracle": oracle}, **options)
    row = report.tables["table2"].loc["oracle"]
    assert np.isnan(row["mrr"])
    assert row["undefined"].startswith("it knows no other profile")
    assert any(note.startswith("Undefined: oracle: it knows") for note in report.notes)


def test_captions_say_what_is_unseen(study, cca, run):
    for options, said in (
        ({"hold_out": "drugs"}, "Unseen drugs in cell lines that were trained on"),
        (
            {"hold_out": "cell_lines"},
            "Drugs that were trained on, in unseen cell lines",
        ),
        ({}, "Unseen drugs in unseen cell lines"),
    ):
        report = run(study, {"CCA": cca()}, split=options, n_repeats=1)
        (section, *_) = report.sections
        assert section.items["table1"].caption.startswith(said)
        assert report.notes[0].startswith(said)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of spaces that are small
@pytest.mark.parametrize(
    ("n_molecules", "n_lines", "preset"),
    [(14, 1, "quick"), (20, 2, "recommended"), (40, 3, "quick")],
)
def test_no_default_row_fails_where_a_study_is_small(n_molecules, n_lines, preset):
    study = wide_study(n_molecules, n_cell_lines=n_lines)
    paper = PaperOptions(preset, ablations=False)
    report = evaluate_study(study, paper=paper, n_repeats=1, figures=False)
    assert len(report.tables["table2"]) > 4
    for name in ("table1", "table2"):
        assert report.tables[name]["error"].tolist() == [""] * len(report.tables[name])
    assert not any("methods failed" in note for note in report.notes)


@pytest.mark.parametrize("name", ["study", "paper"])
def test_a_wrong_kind_names_no_private_path(study, name):
    options = {"study": study, "paper": None} | {name: {"preset": "quick"}}
    with pytest.raises(ValueError, match=f"{name} must be a .* such as ") as caught:
        evaluate_study(options.pop("study"), **options)
    assert "._" not in str(caught.value)
    assert "{'preset': 'quick'}" in str(caught.value)


@pytest.mark.parametrize("hold_out", ["drugs", "cell_lines"])
def test_a_given_split_is_audited_for_what_it_holds_out(study, hold_out, cca, run):
    split = drug_cell_line_split(study.groups, hold_out=hold_out, random_state=0)
    report = run(study, {"CCA": cca()}, split=split)
    assert not any("Leak" in note for note in report.notes)
    drawn = run(study, {"CCA": cca()}, split={"hold_out": hold_out})
    assert not any("Leak" in note for note in drawn.notes)
    pd.testing.assert_series_equal(
        report.tables["audit"]["ok"], drawn.tables["audit"]["ok"]
    )


def test_a_leak_in_a_given_split_is_found(study, cca, run):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    leaky = type(split)(**(vars(split) | {"train": np.append(split.train, split.test)}))
    report = run(study, {"CCA": cca()}, split=leaky, n_repeats=1)
    assert any(note.startswith("Leak in repeat 0: drugs") for note in report.notes)


def test_splits_with_and_without_validation_rows_are_all_audited(study, cca, run):
    without, full = (
        drug_cell_line_split(study.groups, **(SPLIT | more), random_state=0)
        for more in ({"val_drugs": 0, "val_cell_lines": 0}, {})
    )
    audits = [
        run(study, {"CCA": cca()}, split=splits).tables["audit"]
        for splits in ([without, full], [full, without])
    ]
    assert set(audits[0]["parts"]) == {"train/test", "train/val", "val/test"}
    assert len(audits[0]) == len(audits[1])


def test_bad_input_raises_before_any_fit(study, run, remade):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    bad = remade(study)
    bad.smiles = np.array(["no molecule", *study.smiles[1:]], dtype=object)
    for options, error, match in (
        ({"split": [SPLIT, SPLIT]}, ValueError, "list of n_repeats=2 DrugCellLine"),
        ({"split": "ab"}, ValueError, "list of n_repeats=2 DrugCellLineSplit"),
        ({"study": study[:50], "split": split}, ValueError, "which has 50 rows"),
        ({"methods": {"drug": Never()}}, ValueError, r"Got \['drug'\]"),
        ({"methods": {"chance": Never()}}, ValueError, r"Got \['chance'\]"),
        ({"methods": {"CCA": CCA}}, TypeError, r"methods\['CCA'\] must be an estim"),
        ({"embedders": {"a": 3}}, TypeError, r"embedders\['a'\] must be an estimator"),
        ({"embedders": {"a": CCA}}, TypeError, r"embedders\['a'\]"),
        ({"study": bad}, InvalidSmilesError, "no molecule"),
    ):
        options = {"study": study, "methods": {"m": Never()}} | options
        with pytest.raises(error, match=match):
            run(**options)


class Never(BaseEstimator):
    def __init__(self, error=RuntimeError):
        self.error = error

    def fit(self, X, y):
        raise self.error

    def similarity(self, X, y):
        raise AssertionError


@pytest.mark.parametrize("what", ["methods", "embedders"])
def test_an_interrupt_is_not_an_error_of_a_row(study, what, cca, run):
    options = {"methods": {"CCA": cca()}} | {what: {"never": Never(KeyboardInterrupt)}}
    with pytest.raises(KeyboardInterrupt):
        run(study, **options)


def test_without_matplotlib(study, monkeypatch, cca, run):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="plot"):
        run(study, {"never": Never()}, figures=True)
    report = run(
        study, {"own": AlignedView()}, embedders={"aligned": cca()}, inspect=True,
        n_repeats=1,
    )  # fmt: skip
    assert report.figures == {}
    assert not any("failed" in note for note in report.notes)


# -- what an embedder may be


def test_an_embedder_may_be_a_pipeline(study, cca, run, errors):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    report = run(
        study, {"own": AlignedView(), "D-NN": ALIGNED}, split=split, n_repeats=1,
        embedders={"aligned": cca()},
    )  # fmt: skip
    assert errors(report) == []
    train, test = split.train, split.test
    model = cca().fit(study.smiles[train], study.ge[train])
    towers = model.transform, model[-1].transform_ge
    molecules, profiles = towers[0](study.smiles[train]), towers[1](study.ge[train])
    own = DoubleNNRetriever("correlation").fit(molecules, profiles)
    ranks = retrieval_ranks(
        own, towers[0](study.smiles[test]), towers[1](study.ge[test]),
        drugs=study.groups[test, 0],
    )  # fmt: skip
    np.testing.assert_allclose(report.ranks["D-NN"], ranks)


class Plain(BaseEstimator):
    """Knows of a validation part, and of nothing else that the library's own know."""

    def __init__(self, train_split=None):
        self.train_split = train_split

    def fit(self, X, y):
        train, valid = next(self.train_split.split(X, y))
        row = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=0.1))
        self.cca_ = row.fit(X[train], y[train])
        self.history_ = [len(train), len(valid)]
        return self

    def transform(self, X):
        return self.cca_.transform(X)

    def transform_ge(self, y):
        return self.cca_[-1].transform_ge(y)


def test_an_embedder_of_the_user_gets_the_validation_rows(study, cca, run, errors):
    plain, pipeline = (
        run(study, {"D-NN": ALIGNED}, embedders={"aligned": embedder})
        for embedder in (Plain(), cca())
    )
    assert errors(plain) == []
    assert plain.ranks.equals(pipeline.ranks)


def test_a_trained_embedder_is_no_classical_baseline(study, cca, net, run):
    methods = {
        "view": AlignedView(), "net": net(), "raw": cca(),
        "tower": make_pipeline(AlignedView("molecules"), CCA(3, ridge=0.1)),
    }  # fmt: skip
    classical = [name for name, m in methods.items() if Method(m).is_classical]
    assert classical == ["raw"]
    report = run(study, methods, embedders={"aligned": cca(8)}, n_repeats=1)
    assert report.settings["baseline"] == "raw"


def test_validation_and_test_rows_teach_an_embedder_nothing(study, net, run, remade):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    ge = study.ge.copy()
    ge[split.val] = -ge[split.val]
    ge[split.dropped] = 7
    methods = {"own": AlignedView(), "D-NN": ALIGNED}
    expression = L1000Featurizer(paired=False, standardize=True)
    plain, changed = (
        run(
            s, methods, embedders={"aligned": net()}, split=split, n_repeats=1,
            expression=expression,
        )
        for s in (study, remade(study, ge=ge))
    )  # fmt: skip
    assert plain.ranks.equals(changed.ranks)
    assert (
        not plain.tables["table1"]
        .loc["own"]
        .equals(changed.tables["table1"].loc["own"])
    )  # valid_mrr differs


def test_the_seed_reaches_the_transformer_of_profiles(study, cca, run):
    expression = PCA(3, svd_solver="randomized", iterated_power=0, n_oversamples=0)
    options = {"embedders": {"aligned": cca(3)}, "expression": expression}
    one, two = (run(study, {"own": AlignedView()}, **options) for _ in range(2))
    assert one.ranks.equals(two.ranks)
    assert expression.random_state is None


def test_a_misspelt_size_is_refused_before_any_work(study, cca, run):
    said = "draw_split has no parameter 'tset_drugs'. The nearest is 'test_drugs'."
    with pytest.raises(TypeError, match=re.escape(said)):
        draw_split(study.groups, tset_drugs=0.2)
    with pytest.raises(TypeError, match=re.escape(said)):
        run(study, {"CCA": cca()}, split={"tset_drugs": 0.2})


def test_draw_split_takes_what_the_split_takes(study):
    for name, parameter in signature(drug_cell_line_split).parameters.items():
        if name not in {"groups", "random_state"}:
            assert len(draw_split(study.groups, **{name: parameter.default}).test)
