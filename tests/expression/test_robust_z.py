import numpy as np
import pytest

from sklearn_molge.datasets import read_gct, read_gctx
from sklearn_molge.expression import robust_zscore

RNG = np.random.default_rng(0)


def slow_zscore(ge, plates, reference, reference_plates, min_mad):
    """The equation, well by well and gene by gene."""
    z = np.empty(ge.shape)
    for i, plate in enumerate(plates):
        wells = [
            r for r, p in zip(reference, reference_plates, strict=True) if p == plate
        ]
        for gene in range(ge.shape[1]):
            values = [float(well[gene]) for well in wells]
            median = np.median(values)
            mad = np.median([abs(value - median) for value in values])
            z[i, gene] = (ge[i, gene] - median) / (1.4826 * max(mad, min_mad))
    return z


@pytest.fixture
def wells():
    plates = RNG.choice(["A", "B", "C"], size=40)
    control_plates = np.array(["A", "B", "C"] * 4)
    return {
        "ge": RNG.normal(8, 1, size=(40, 6)),
        "plates": plates,
        "control_ge": RNG.normal(8, 0.5, size=(12, 6)),
        "control_plates": control_plates,
    }


def test_by_hand():
    # Medians 2 and 5; absolute deviations 1, 0, 1, 8 and 0, 0, 0, 1: MADs 1 and 0.
    ge = [[1, 5], [2, 5], [3, 5], [10, 6]]
    z = robust_zscore(ge, ["P"] * 4)
    # An even number of wells: median 2.5, deviations 1.5, 0.5, 0.5, 7.5, MAD 1.
    np.testing.assert_allclose(z[:, 0], np.array([-1.5, -0.5, 0.5, 7.5]) / 1.4826)
    np.testing.assert_allclose(z[:, 1], np.array([0, 0, 0, 1]) / (1.4826 * 0.1))
    z = robust_zscore(ge, ["P"] * 4, min_mad=2.0)
    np.testing.assert_allclose(z[:, 0], np.array([-1.5, -0.5, 0.5, 7.5]) / 2.9652)
    z = robust_zscore(ge, ["P"] * 4, clip=3)
    np.testing.assert_allclose(z[3], [3, 3])
    assert robust_zscore(-np.array(ge), ["P"] * 4, clip=3)[3, 0] == -3


@pytest.mark.parametrize("against", ["plate", "controls"])
@pytest.mark.parametrize("min_mad", [0.1, 0.6])
def test_slow_loop(wells, against, min_mad):
    z = robust_zscore(**wells, against=against, min_mad=min_mad)
    reference, plates = wells["control_ge"], wells["control_plates"]
    if against == "plate":
        reference = np.vstack([wells["ge"], reference])
        plates = np.concatenate([wells["plates"], plates])
    expected = slow_zscore(wells["ge"], wells["plates"], reference, plates, min_mad)
    np.testing.assert_allclose(z, expected)


def test_population_is_all_wells_of_the_plate(wells):
    alone = robust_zscore(wells["ge"], wells["plates"])
    expected = slow_zscore(
        wells["ge"], wells["plates"], wells["ge"], wells["plates"], 0.1
    )
    np.testing.assert_allclose(alone, expected)
    assert not np.allclose(alone, robust_zscore(**wells))


def test_order_scale_and_precision(wells):
    z = robust_zscore(**wells)
    order = RNG.permutation(40)
    shuffled = wells | {"ge": wells["ge"][order], "plates": wells["plates"][order]}
    np.testing.assert_array_equal(robust_zscore(**shuffled), z[order])
    moved = wells | {n: wells[n] + 3 for n in ("ge", "control_ge")}
    np.testing.assert_allclose(robust_zscore(**moved), z, atol=1e-12)
    single = wells | {"ge": wells["ge"].astype(np.float32)}
    assert robust_zscore(**single).dtype == np.float32
    assert z.dtype == np.float64
    np.testing.assert_allclose(robust_zscore(**single), z, atol=2e-5)


def test_controls_of_other_plates_do_not_matter(wells):
    more = wells | {
        "control_ge": np.vstack([wells["control_ge"], [[100.0] * 6]]),
        "control_plates": [*wells["control_plates"], "D"],
    }
    for against in ("plate", "controls"):
        np.testing.assert_array_equal(
            robust_zscore(**more, against=against),
            robust_zscore(**wells, against=against),
        )


def test_errors(wells):
    ge, plates = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], ["A", "A", "B"]
    with pytest.raises(ValueError, match=r"at least 2 wells .* Got 'B': 1\.$"):
        robust_zscore(ge, plates)
    with pytest.raises(ValueError, match=r"2 control wells .* Got 'A': 1, 'B': 0\.$"):
        robust_zscore(
            ge, plates, control_ge=ge[:1], control_plates=["A"], against="controls"
        )
    many = np.repeat(np.arange(12), 2)[1:].astype(str)
    with pytest.raises(ValueError, match="Got '0': 1"):
        robust_zscore(np.ones((23, 2)), many)
    with pytest.raises(ValueError, match=r"given together. Got control_plates=None"):
        robust_zscore(ge, plates, control_ge=ge)
    with pytest.raises(ValueError, match="needs control_ge and control_plates"):
        robust_zscore(ge, plates, against="controls")
    with pytest.raises(ValueError, match=r"same genes. Got 2 and 1 columns"):
        robust_zscore(ge, plates, control_ge=[[1.0]], control_plates=["A"])
    with pytest.raises(ValueError, match=r"one row per well. Got 3 and 2 rows"):
        robust_zscore(ge, plates[:2])
    with pytest.raises(ValueError, match="plates must name a plate for every well"):
        robust_zscore(ge, ["A", None, "B"])
    with pytest.raises(ValueError, match="NaN"):
        robust_zscore([[1.0, np.nan]] * 3, ["A"] * 3)
    for name, value in [("against", "dmso"), ("min_mad", 0), ("clip", -1)]:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            robust_zscore(ge, plates, **{name: value})


@pytest.mark.parametrize(
    ("level3", "level4", "shift"),
    [
        (
            "LJP005_A375_24H_X1_B19.level3.gct",
            "LJP005_A375_24H_X1_B19.level4.gctx",
            0.86,
        ),
        ("CPC006_A375_6H_X1.level3.gct", "CPC006_A375_6H_X1.robust_z.gctx", 0.0),
    ],
)
def test_real_plates(level3_folder, level3, level4, shift):
    """All wells of the plate are the population, and nothing is clipped.

    The file of LJP005 says so itself (zmad_ref_well: all); its authors added one
    constant to the whole matrix, as they altered its quality columns.
    """
    wells, theirs = read_gct(level3_folder / level3), read_gctx(level3_folder / level4)
    ids = [data.genes["pr_gene_id"].astype(int).to_numpy() for data in (wells, theirs)]
    genes = np.argsort(ids[1])[np.searchsorted(np.sort(ids[1]), ids[0])]
    rows = theirs.obs.index.get_indexer(wells.obs.index)
    assert (rows >= 0).all()
    expected = theirs.matrix[rows][:, genes]
    assert np.abs(expected).max() > 50
    kind = wells.obs["pert_type"].str.lower().to_numpy()

    z = robust_zscore(wells.matrix, ["plate"] * len(rows))
    difference = expected - z
    assert np.median(difference) == pytest.approx(shift, abs=0.001)
    np.testing.assert_allclose(difference, np.median(difference), atol=5e-4)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(z, expected, strict=True)]
    assert min(correlation) > 0.999999

    # The wells that a study has: no positive controls. Only single wells differ.
    study = np.isin(kind, ["trt_cp", "ctl_vehicle"])
    near = robust_zscore(wells.matrix[study], ["plate"] * study.sum())
    correlation = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(near, expected[study], strict=True)
    ]
    assert min(correlation) > 0.985
    assert np.median(correlation) > 0.999

    # Against DMSO alone it is another score.
    dmso = wells.matrix[kind == "ctl_vehicle"]
    other = robust_zscore(
        wells.matrix,
        ["plate"] * len(rows),
        control_ge=dmso,
        control_plates=["plate"] * len(dmso),
        against="controls",
    )
    correlation = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(other, expected, strict=True)
    ]
    assert 0.9 < np.median(correlation) < 0.95
