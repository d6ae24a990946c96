import io

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from sklearn_molge.evaluation import finlayson2020_methods, reference_table

SCORES = ["mrr", "median_rank", "hits@10", "hits@100"]


@pytest.mark.parametrize("rerun", [False, True])
def test_table1_has_every_row_of_the_paper(rerun):
    table = reference_table("table1", rerun=rerun)
    pairs = [
        (e, m) for e in ("raw", "aligned") for m in ("Morgan", "Chemprop", "aligned")
    ]
    expected = {f"{kind}, {e} / {m}" for kind in ("D-NN", "CCA") for e, m in pairs}
    assert set(table["label"]) == expected | {"Corr, aligned / aligned"}
    assert table.index.is_unique
    assert table[SCORES].notna().all(axis=None)
    for _, row in table.iterrows():
        cells = f"{row['method']}, {row['expression']} / {row['molecules']}"
        assert row["label"] == cells


def test_the_rows_are_those_that_evaluate_study_makes():
    methods = finlayson2020_methods()
    for name in ("table1", "table2"):
        table = reference_table(name)
        assert set(table.index) <= set(methods)
        for key, label in table["label"].items():
            assert methods[key].label == label


@pytest.mark.parametrize("name", ["table1", "table2"])
@pytest.mark.parametrize("rerun", [False, True])
def test_scores_are_possible(name, rerun):
    table = reference_table(name, rerun=rerun)
    assert (table["hits@10"] <= table["hits@100"]).all()
    # A median rank of 100 or less is what hits@100 of a half or more means.
    assert ((table["median_rank"] <= 100) == (table["hits@100"] >= 0.5)).all()
    # At least hits@10 / 10; at most 1 for hits@10, 1/11 up to rank 100, 1/101 beyond.
    hits10, hits100 = table["hits@10"], table["hits@100"]
    ceiling = hits10 + (hits100 - hits10) / 11 + (1 - hits100) / 101
    assert (table["mrr"] >= hits10 / 10).all()
    assert (table["mrr"] <= ceiling).all()


def test_known_cells():
    printed, rerun = (reference_table("table1", rerun=r) for r in (False, True))
    assert printed.loc["cca_aligned_aligned", SCORES].tolist() == [
        0.048, 130, 0.093, 0.425,
    ]  # fmt: skip
    assert rerun.loc["cca_raw_morgan", SCORES].tolist() == [0.04, 169, 0.067, 0.347]
    assert printed.loc["cca_raw_morgan", "note"] == "128 bits"
    assert rerun.loc["cca_raw_morgan", "note"] == "512 bits"
    same = printed["method"] == "D-NN"
    pd.testing.assert_frame_equal(printed.loc[same, SCORES], rerun.loc[same, SCORES])
    assert set(printed["source"]) == {"Finlayson et al. 2020, Table 1"}
    assert set(rerun["source"]) == {"Finlayson et al. 2020, notebook"}


def test_table2_repeats_corr():
    table = reference_table("table2")
    assert len(table) == 5
    corr = "corr_aligned_aligned"
    assert table.loc[corr, SCORES].equals(reference_table("table1").loc[corr, SCORES])
    assert table["mrr"].idxmax() == "oracle_test_lines_aligned_euclidean"


def test_chance_is_that_of_437_drugs():
    chance = reference_table("chance").loc["chance"]
    assert chance["median_rank"] == 219
    assert chance["mrr"] == pytest.approx((1 / np.arange(1, 438)).mean())
    assert chance["hits@10"] == pytest.approx(10 / 437)
    assert list(reference_table("chance")) == list(reference_table("table1"))


def test_map_of_figure_2_is_inflated():
    table = reference_table("figure2")
    assert table["inflation"].iloc[0] == pytest.approx(5.302, abs=5e-4)
    assert table["chance_printed"].iloc[0] == pytest.approx(0.0121, abs=5e-5)
    # mean over k of hits@k / k is 1 / 437 at least, where every hits@k is k / 437
    assert (table["mean_precision"] > 1 / 437).all()
    both = [reference_table(name) for name in ("table1", "table2")]
    scores = pd.concat(both)["mrr"]
    for name, mrr in table["mrr"].items():
        assert (scores[name] == mrr).all(), name


def test_regressions_agree_with_themselves():
    table = reference_table("regressions")
    assert len(table) == 13
    assert list(table["n"].value_counts().sort_index().items()) == [
        (153, 3), (437, 6), (2317, 4),
    ]  # fmt: skip
    assert (np.sign(table["slope"]) == np.sign(table["r"])).all()
    freedom = table["n"] - 2
    t = table["r"].abs() * np.sqrt(freedom / (1 - table["r"] ** 2))
    p_value = 2 * student.sf(t, freedom)
    np.testing.assert_allclose(p_value, table["p_value"], rtol=0.05)


def test_data_and_hyperparameters():
    data = reference_table("data").set_index("part")
    assert data["drugs"].sum() == 4363
    assert data["cell_lines"].str.split(", ").str.len().tolist() == [6, 1, 1]
    values = reference_table("hyperparameters").set_index("parameter")["value"]
    assert values["expression layers"] == "677, 1159"
    assert float(values["learning rate"]) == 5.6e-4


def test_hyperparameters_name_the_preset_that_holds_them():
    alignment = pytest.importorskip("sklearn_molge.alignment")
    table = reference_table("hyperparameters").set_index("here")["value"]
    preset = alignment.PRESETS["paper"]
    names = ["max_epochs", "lr", "batch_size", "criterion__beta", "criterion__margin"]
    for name in [*names, "module__dropout", "module__embedding_size"]:
        assert float(table[name]) == preset[name], name


def test_tables_can_be_written_and_read():
    for name in ("table1", "table2", "figure2", "regressions", "data", "chance"):
        table = reference_table(name)
        text = table.to_csv()
        again = pd.read_csv(io.StringIO(text), index_col=0, keep_default_na=False)
        assert again.shape == table.shape
        assert reference_table(name) is not table
    types = reference_table("regressions").dtypes.astype(str)
    assert types["log_x"] == "bool"
    assert set(types[["slope", "intercept", "r", "p_value"]]) == {"float64"}


def test_errors():
    with pytest.raises(ValueError, match=r"'name' .* must be a str among"):
        reference_table("table3")
    with pytest.raises(ValueError, match=r"possible for 'table1' and 'table2'"):
        reference_table("regressions", rerun=True)
