"""evaluate_study off the beaten track: odd studies, splits, estimators, folders."""

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge._utils.identity import describe
from sklearn_molge.alignment import CCA, CoordinatedEmbedder, FittedTower
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.evaluation import AlignedView, Method, StudyReport, evaluate_study
from sklearn_molge.evaluation import _explain_figures as explain_figures
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}
ALIGNED = make_pipeline(
    AlignedView("molecules"),
    TransformedTargetRetriever(
        DoubleNNRetriever("correlation"), AlignedView("profiles")
    ),
)


@pytest.fixture(scope="module")
def level3():
    return make_perturbation_study(
        level=3, n_molecules=30, n_cell_lines=4, n_genes=16, n_controls=4,
        doses_um=[10.0], random_state=0,
    )  # fmt: skip


def cca(n_components=4):
    return make_pipeline(MorganFingerprinter(fp_size=64), CCA(n_components, ridge=0.1))


def net(**options):
    return CoordinatedEmbedder(
        None, molecule_features=MorganFingerprinter(fp_size=64), criterion=InfoNCELoss,
        sampler=DrugBalancedSampler, module__embedding_size=8, lr=1e-3,
        module__expression_layers=(16,), max_epochs=2, **options,
    )  # fmt: skip


def run(study, methods, **options):
    options = {
        "embedders": {}, "n_repeats": 2, "inspect": False, "figures": False,
        "split": SPLIT,
    } | options  # fmt: skip
    return evaluate_study(study, methods=methods, **options)


def remade(study, **changes):
    """Return the study with other parts."""
    parts = {"ge": study.ge, "obs": study.obs, "genes": study.genes, "level": 5}
    return Study(study.smiles, **(parts | changes))


def errors(report):
    return [e for e in report.tables["table1"]["error"] if e]


# -- what a study and a split may be -------------------------------------------------


def test_level_3_with_controls_saved_and_in_two_processes(level3, tmp_path):
    methods = {
        "own": AlignedView(),
        "D-NN": ALIGNED,
        "CCA": [cca(2), cca(3)],
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


@pytest.mark.parametrize("level", [None, 3])
def test_without_a_test_of_genes_the_distances_stay(study, level):
    odd = remade(study, level=level)
    report = run(
        odd, {"own": AlignedView()}, embedders={"aligned": cca()}, inspect=True,
        n_repeats=1,
    )  # fmt: skip
    assert "aligned_molecule" in report.tables["regressions"].index
    assert "n_genes" not in report.tables["regressions"].index
    (note,) = [note for note in report.notes if "failed" in note]
    assert note.startswith("The inspection of specificity failed: ValueError")


def test_labels_may_be_categories_or_numbers(study):
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


def test_one_drug_to_validate_and_to_test(study):
    options = SPLIT | {"val_drugs": 1, "test_drugs": 1}
    report = run(study, {"CCA": cca(), "other": cca(2)}, split=options)
    assert (report.ranks["n_candidates"] == 1).all()
    assert report.tables["table1"].loc["CCA", "mrr"] == 1


@pytest.mark.parametrize("hold_out", ["drugs", "cell_lines"])
def test_a_given_split_is_audited_for_what_it_holds_out(study, hold_out):
    split = drug_cell_line_split(study.groups, hold_out=hold_out, random_state=0)
    report = run(study, {"CCA": cca()}, split=split)
    assert not any("Leak" in note for note in report.notes)
    drawn = run(study, {"CCA": cca()}, split={"hold_out": hold_out})
    assert not any("Leak" in note for note in drawn.notes)
    pd.testing.assert_series_equal(
        report.tables["audit"]["ok"], drawn.tables["audit"]["ok"]
    )


def test_a_leak_in_a_given_split_is_found(study):
    split = drug_cell_line_split(study.groups, **SPLIT, random_state=0)
    leaky = type(split)(**(vars(split) | {"train": np.append(split.train, split.test)}))
    report = run(study, {"CCA": cca()}, split=leaky, n_repeats=1)
    assert any(note.startswith("Leak in repeat 0: drugs") for note in report.notes)


def test_splits_with_and_without_validation_rows_are_all_audited(study):
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


def test_bad_input_raises_before_any_fit(study):
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
def test_an_interrupt_is_not_an_error_of_a_row(study, what):
    options = {"methods": {"CCA": cca()}} | {what: {"never": Never(KeyboardInterrupt)}}
    with pytest.raises(KeyboardInterrupt):
        run(study, **options)


def test_without_matplotlib(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="plot"):
        run(study, {"never": Never()}, figures=True)
    report = run(
        study, {"own": AlignedView()}, embedders={"aligned": cca()}, inspect=True,
        n_repeats=1,
    )  # fmt: skip
    assert report.figures == {}
    assert not any("failed" in note for note in report.notes)


# -- what an embedder may be ----------------------------------------------------------


def test_an_embedder_may_be_a_pipeline(study):
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
        self.cca_ = cca().fit(X[train], y[train])
        self.history_ = [len(train), len(valid)]
        return self

    def transform(self, X):
        return self.cca_.transform(X)

    def transform_ge(self, y):
        return self.cca_[-1].transform_ge(y)


def test_an_embedder_of_the_user_gets_the_validation_rows(study):
    plain, pipeline = (
        run(study, {"D-NN": ALIGNED}, embedders={"aligned": embedder})
        for embedder in (Plain(), cca())
    )
    assert errors(plain) == []
    assert plain.ranks.equals(pipeline.ranks)


class Unlucky(CCA):
    def fit(self, X, y):
        if len(y) == UNLUCKY["rows"]:
            raise RuntimeError("bad luck")
        return super().fit(X, y)

    def transform_ge(self, y):
        return super().transform_ge(y) * UNLUCKY["factor"]


UNLUCKY = {"rows": 0, "factor": 1.0}


def test_an_embedder_that_fails_in_one_repeat(study, monkeypatch):
    splits = [
        drug_cell_line_split(study.groups, test_drugs=n, test_cell_lines=2)
        for n in (0.3, 0.4)
    ]
    monkeypatch.setitem(UNLUCKY, "rows", len(splits[0].train))
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), Unlucky(3, ridge=0.1))
    report = run(
        study, {"own": AlignedView(), "CCA": cca()}, embedders={"aligned": embedder},
        inspect=True, split=splits,
    )  # fmt: skip
    assert errors(report) == ["embedder aligned: RuntimeError: bad luck"]
    assert set(report.tables["mixing"]["repeat"]) == {1}
    assert set(report.tables["mechanisms"]["repeat"]) == {1}
    assert report.ranks["own"].isna().equals(report.ranks["repeat"] == 0)
    assert any("not explained in repeat 0: RuntimeError" in n for n in report.notes)


def test_an_embedder_that_diverged_loses_its_rows_only(study, monkeypatch):
    monkeypatch.setitem(UNLUCKY, "factor", np.nan)
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), Unlucky(3, ridge=0.1))
    report = run(
        study, {"own": AlignedView(), "CCA": cca()}, embedders={"aligned": embedder},
        inspect=True,
    )  # fmt: skip
    assert np.isfinite(report.tables["table1"].loc["CCA", "mrr"])
    assert any("not explained in repeat 0, 1" in note for note in report.notes)


def test_the_first_embedder_is_explained_whichever_ends_first(study):
    slow = net()
    slow.set_params(max_epochs=15)
    tables = [
        run(
            study, {"m": AlignedView("both", embedder="b")}, n_repeats=1, n_jobs=n,
            embedders={"a": slow, "b": cca(2)}, inspect=True,
        ).tables["regressions"]
        for n in (1, 2)
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*tables)


def test_a_trained_embedder_is_no_classical_baseline(study):
    methods = {
        "view": AlignedView(), "net": net(), "raw": cca(),
        "tower": make_pipeline(AlignedView("molecules"), CCA(3, ridge=0.1)),
    }  # fmt: skip
    classical = [name for name, m in methods.items() if Method(m).is_classical]
    assert classical == ["raw"]
    report = run(study, methods, embedders={"aligned": cca(8)}, n_repeats=1)
    assert report.settings["baseline"] == "raw"


def test_validation_and_test_rows_teach_an_embedder_nothing(study):
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


def test_a_function_without_a_name_may_transform_the_profiles(study, tmp_path):
    options = {
        "embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1,
        "cache_folder": tmp_path,
    }  # fmt: skip
    twice = FunctionTransformer(lambda y: 2 * y)
    report = run(study, {"D-NN": ALIGNED}, expression=twice, **options)
    assert errors(report) == []
    again = run(study, {"D-NN": ALIGNED}, expression=twice, **options)
    assert again.ranks.equals(report.ranks)
    assert len(list(tmp_path.glob("embedder-*"))) == 1


def test_the_seed_reaches_the_transformer_of_profiles(study):
    expression = PCA(3, svd_solver="randomized", iterated_power=0, n_oversamples=0)
    options = {"embedders": {"aligned": cca(3)}, "expression": expression}
    one, two = (run(study, {"own": AlignedView()}, **options) for _ in range(2))
    assert one.ranks.equals(two.ranks)
    assert expression.random_state is None


def test_many_test_rows_do_not_drown_the_map(study, level3, monkeypatch):
    class SeenError(Exception):
        pass

    def transform(y):
        raise SeenError(len(y))

    monkeypatch.setattr(explain_figures, "_MOST_ROWS", 40)
    for data in (study, level3):
        y = data.ge if data.control_ge is None else data.paired_ge()
        split = drug_cell_line_split(
            data.groups, test_drugs=0.6, test_cell_lines=2, random_state=0
        )
        fitted = SimpleNamespace(
            repeat=SimpleNamespace(split=split),
            alignment=SimpleNamespace(expression=SimpleNamespace(transform=transform)),
        )
        with pytest.raises(SeenError, match=r"^40$"):
            explain_figures._profile_maps(
                data, SimpleNamespace(y=y, groups=data.groups), fitted
            )


# -- folders and keys ----------------------------------------------------------------


def test_the_folder_of_results_may_be_moved(study, tmp_path):
    options = {"embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1}
    first = run(study, {"own": AlignedView()}, cache_folder=tmp_path / "a", **options)
    (tmp_path / "a").rename(tmp_path / "b")
    methods = {"own": AlignedView(), "D-NN": ALIGNED}
    second = run(study, methods, cache_folder=tmp_path / "b", **options)
    assert errors(second) == []
    assert second.ranks["own"].equals(first.ranks["own"])
    assert "regressions" in second.tables


def test_frozen_estimators_stay_as_they_are_and_are_told_apart(study, tmp_path):
    fitted = [net().fit(study.smiles, study.ge) for _ in range(2)]
    ranks = []
    for each in fitted:
        row = make_pipeline(each.molecule_encoder(), CCA(3, ridge=0.1))
        report = run(study, {"m": row}, cache_folder=tmp_path, n_repeats=1)
        ranks.append(report.ranks["m"])
        assert each.random_state is None
    assert not ranks[0].equals(ranks[1])


GLOBAL = 2
_KEYS = """
    import joblib
    import numpy as np
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn_molge._utils.identity import describe
    from sklearn_molge.alignment import CCA

    POWER = 2

    class Mine:
        def fit(self, X, y):
            return super().__init__()

    rng = np.random.default_rng(0)
    fitted = CCA(2, ridge=0.1).fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 3)))
    values = [
        FunctionTransformer(lambda y: [v for v in y if v in {"a", "b", "c"}]),
        FunctionTransformer(lambda y, p=2: y**p, kw_args={"p": {"a", "b", "c"}}),
        lambda y: y**POWER, Mine, Mine(), rng, make_pipeline(FrozenEstimator(fitted)),
        fitted.transform, {"x", "y", "z"},
    ]
    print([joblib.hash(describe(value)) for value in values])
"""


def test_keys_are_the_same_in_every_process(tmp_path):
    script = tmp_path / "keys.py"
    script.write_text(textwrap.dedent(_KEYS))
    printed = {
        subprocess.run(
            [sys.executable, str(script)], env={"PYTHONHASHSEED": str(seed)},
            capture_output=True, check=True, text=True,
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(printed) == 1


def key(value):
    return joblib.hash(describe(value))


def counting(n):
    def count(k):
        return count(k - 1) if k else n

    return count


def test_keys_tell_apart_what_computes_something_else(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    fits = [CCA(2, ridge=0.1).fit(X[:n], y[:n]) for n in (10, 12)]
    pairs = [
        (lambda y: [v for v in y], lambda y: [v + 1 for v in y]),
        (lambda y, p=1: y**p, lambda y, p=2: y**p),
        (counting(1), counting(2)),
        tuple(FrozenEstimator(fit) for fit in fits),
        tuple(FrozenEstimator(make_pipeline(fit)) for fit in fits),
        tuple(FittedTower(fit) for fit in fits),
        tuple(pd.DataFrame({"a": np.arange(999) + n * (np.arange(999) == 500)})
              for n in (0, 1)),
        (pd.Series([1], index=["a"]), pd.Series([1], index=["b"])),
        tuple(np.random.default_rng(seed) for seed in (0, 1)),
        ({1, 2}, {1, 3}),
    ]  # fmt: skip
    for one, other in pairs:
        assert key(one) != key(other), one
        assert key(one) == key(one)
    power = lambda y: y**GLOBAL  # noqa: E731
    before = key(power)
    monkeypatch.setitem(globals(), "GLOBAL", 3)
    assert key(power) != before


class Holder:
    """Holds a method of its own, as callbacks do."""

    def __init__(self, n):
        self.n = n
        self.act = self.run

    def run(self):
        return self.n


def test_keys_of_what_holds_its_own_method():
    assert key(Holder(1)) == key(Holder(1))
    assert key(Holder(1)) != key(Holder(2))
