"""Doses and times with units: converted and told, or counted; never guessed."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, load_lincs, write_gctx
from sklearn_molge.exceptions import DataWarning

anndata = pytest.importorskip("anndata")

UM = [
    "10", "10.0", "10uM", "10 um", "10 UM", "10\u00b5M", "10 \u03bcM", "10\xa0\u00b5M",
    "10 \u03bcmol/L", "10 umol/l", "10 umol l-1", "10 \u00b5mol\u00b7L\u207b\u00b9",
    "10 umol per L", "10 micromolar", "10 Micromoles/L", "10.0 uM.", "10 [uM]",
    "10000 nM", "1e4 nM", "10000 nanomolar", "10000 nmol/L", "1e7 pM", "0.01 mM",
    "0,01 mM", "10,0 uM", "1e-5 M", "1E-5M", "0.00001 mol/l", "+10 uM", '"10 uM"',
]  # fmt: skip
NO_DOSE = [
    "10 ug/ml", "10 mg/mL", "10 ng/mL", "0.1 %", "10 m", "<10 uM", "1-10 uM", "10 uM x",
    "1,000 nM", "1.000,5 nM", "-3", "inf", "much", "10 U/ml",
]  # fmt: skip
ONE_DAY = [
    "24", "24h", "24 H", "24 hr", "24 hrs", "24 hour", "24 hours", "24 hour(s)",
    "24-hour", "1 d", "1 day", "1 day(s)", "1440 min", "1440 mins", "1440 minutes",
    "86400 s", "86400 seconds", "24,0 h",
]  # fmt: skip
NO_TIME = ["24 m", "1 month", "24 hpt", "over night", "14:30", "-24 h"]


def read(columns=None, *, level=None, **obs):
    n = len(next(iter(obs.values())))
    table = pd.DataFrame({"smiles": ["CCO"] * n, "cell_line": "A375", **obs})
    table.index = table.index.astype(str)
    var = pd.DataFrame(index=["A", "B"])
    adata = anndata.AnnData(np.zeros((n, 2), dtype=np.float32), table, var)
    return Study.from_anndata(adata, columns=columns, level=level)


def test_doses_in_any_spelling():
    study = read(pert_idose=UM)
    np.testing.assert_allclose(study.obs["dose_um"], 10, rtol=1e-12)
    told = study.dropped["detail"][0]
    assert "2 without a unit, read as um" in told
    assert "2 in nM" in told
    assert "dose_um" not in read(pert_idose=["-666"]).dropped["detail"][0]


@pytest.mark.parametrize("text", NO_DOSE)
def test_what_is_no_dose_is_counted(text):
    with pytest.warns(DataWarning, match="dose_um of 1 of 2 treated profiles cannot"):
        study = read(pert_idose=[text, "1 nM"])
    np.testing.assert_array_equal(study.obs["dose_um"], [np.nan, 1e-3])


def test_times_in_any_spelling():
    study = read(pert_itime=ONE_DAY)
    np.testing.assert_allclose(study.obs["time_h"], 24, rtol=1e-12)
    for text in NO_TIME:
        with pytest.warns(DataWarning, match="time_h of 1 of 1 treated .* in h and is"):
            assert read(pert_itime=[text]).obs["time_h"].isna().all()


def test_missing_is_not_unreadable():
    study = read(pert_idose=["-666", "", None, "-666.000000", "NA", "nan"])
    assert study.obs["dose_um"].isna().all()


@pytest.mark.parametrize(
    ("columns", "obs"),
    [
        ({"dose_um": "dose_value"}, {"dose_value": [10, 2], "dose_unit": ["nM", "uM"]}),
        (None, {"dose_value": [10, 2], "dose_unit": ["nM", "uM"]}),
        (None, {"dose": [10.0, 2.0], "dose_units": ["nM", "micromolar"]}),
        (None, {"pert_dose": ["10", "2"], "pert_dose_unit": ["nM", "umol/L"]}),
        (None, {"pert_dose": [10, 2], "dose_unit": ["nM", "uM"]}),
        (None, {"concentration": [10, 2], "unit": ["nM", "uM"]}),
        ({"dose_um": "x"}, {"x": [10, 2], "x_unit": ["nM", "uM"]}),
        (None, {"dose_nM": [10, 2000]}),
        (None, {"dose (nM)": [10, 2000]}),
        (None, {"conc_nmol_l": [10, 2000]}),
        ({"dose_um": "c.nM"}, {"c.nM": [10, 2000]}),
        (None, {"dose_um": ["10 nM", 2]}),
        (None, {"dose_um": [0.01, 2], "dose": [10, 2000], "dose_unit": ["nM"] * 2}),
        # A number without a unit beside one with a unit
        (None, {"pert_dose": [10, 2000], "pert_idose": ["10 nM", "2 uM"]}),
        (None, {"pert_dose": [0.01, 2.0], "pert_idose": ["11 nM", "2 uM"]}),
    ],
)
def test_unit_elsewhere(columns, obs):
    study = read(columns, **obs)
    np.testing.assert_allclose(study.obs["dose_um"], [0.01, 2])
    assert (
        "2 in " in study.dropped["detail"][0]
        or "1 in nM" in (study.dropped["detail"][0])
    )


@pytest.mark.parametrize(
    ("columns", "obs", "told"),
    [
        (None, {"dose": [10], "dose_unit": ["ug/ml"]}, "'10 ug/ml' (1)"),
        (None, {"dose": [10], "dose_unit": ["-666"]}, "'10 no unit' (1)"),
        (None, {"conc_ug_ml": [10]}, "'10 ug/ml' (1)"),
        (None, {"dose_um": [10], "dose_um_unit": ["nM"]}, "in nM and in um"),
        (None, {"pert_idose": ["10 uM"], "pert_idose_unit": ["nM"]}, "in nM and in uM"),
        ({"dose_um": "x"}, {"x": [1], "a_dose_unit": ["nM"], "b_dose_unit": ["uM"]},
         "the unit of a_dose_unit or b_dose_unit"),
    ],
)  # fmt: skip
def test_units_that_are_not_known_or_disagree(columns, obs, told):
    with pytest.warns(DataWarning, match="dose_um of 1 of 1 treated") as caught:
        study = read(columns, **obs)
    assert told in str(caught[0].message)
    assert study.obs["dose_um"].isna().all()


def test_times_with_a_column_of_units():
    study = read(pert_time=[1, 24, 90], pert_time_unit=["day", "hours", "minutes"])
    np.testing.assert_allclose(study.obs["time_h"], [24, 24, 1.5])
    study = read({"time_h": "exposure"}, exposure=[1], exposure_unit=["days"])
    assert study.obs["time_h"].tolist() == [24]
    assert read(duration_days=[2]).obs["time_h"].tolist() == [48]


def test_doubtful_numbers_are_told():
    with pytest.warns(
        DataWarning, match="1 values of dose_um have no unit .* 10000 um"
    ):
        read(pert_dose=[10000, 10])
    with pytest.warns(DataWarning, match="1 values of time_h have no unit .* 1440 h"):
        read(pert_time=[1440])
    with pytest.warns(DataWarning, match="1 treated profiles have the dose 0"):
        assert read(pert_dose=[0.0, 1]).obs["dose_um"].tolist() == [0, 1]


def test_two_doses_of_one_profile():
    columns = {"pert_dose": [10, 5, 3.3333], "pert_dose_unit": ["nM", "uM", "uM"]}
    with pytest.warns(DataWarning, match="of 2 rows is said twice") as caught:
        study = read(**columns, pert_idose=["10 uM", "10 uM", "3.33 um"])
    assert "pert_dose 0.01 and pert_idose 10 in row 0" in str(caught[0].message)
    np.testing.assert_allclose(study.obs["dose_um"], [0.01, 5, 3.3333])


@pytest.fixture
def folder(tmp_path):
    ids = ["s1", "s2", "s3"]
    obs = pd.DataFrame(
        {
            "pert_type": "trt_cp",
            "cell_id": "A375",
            "smiles": "CCO",
            "pert_idose": ["10 uM", "500 nM", "10 ug/ml"],
            "pert_itime": ["24 h", "1 day", "6 hrs"],
        },
        index=ids,
    )
    write_gctx(
        tmp_path / "a_level5.gctx",
        np.eye(3),
        obs,
        pd.DataFrame(index=["16", "23", "25"]),
    )
    return tmp_path


@pytest.mark.parametrize("time", [24, "24 hours", "24h", "1 day", "1440 minutes"])
@pytest.mark.parametrize("dose", ["500 nanomolar", "0.5 \u03bcmol/L", 0.5, "0,5 uM"])
def test_filters_take_any_unit(folder, time, dose):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        study = load_lincs(
            folder, level=5, landmark_only=False, pert_time=time, pert_dose=dose
        )
    assert study.obs.index.tolist() == ["s2"]


def test_unreadable_doses_are_told_before_they_are_filtered(folder):
    with pytest.warns(
        DataWarning, match=r"dose_um of 1 of 3 .*'10 ug/ml' \(1\)\."
    ) as w:
        study = load_lincs(folder, level=5, landmark_only=False, pert_dose=10)
    assert w[0].filename == __file__
    assert study.obs.index.tolist() == ["s1"]
    told = "dose_um: 1 in uM, 1 in nM, 1 missing; time_h: 1 in h, 1 in day, 1 in hrs"
    assert study.dropped["detail"][0] == told
    with pytest.raises(ValueError, match="pert_dose must be one or more numbers"):
        load_lincs(folder, level=5, landmark_only=False, pert_dose="10 ug/ml")
