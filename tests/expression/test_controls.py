import numpy as np
import pandas as pd
import pytest

from sklearn_molge.exceptions import MissingControlError
from sklearn_molge.expression import match_controls

CONTROL_GE = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0], [5.0, 50.0]])
CONTROL_PLATES = ["A", "A", "A", "B"]


@pytest.fixture
def wells():
    rng = np.random.default_rng(0)
    plates = rng.choice([f"P{i}" for i in range(7)], 60)
    control_plates = rng.permutation([f"P{i % 9}" for i in range(40)])
    return plates, rng.normal(7, 1, (40, 5)), control_plates


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [[5, 50], [3, 30], [3, 30]]), ("median", [[5, 50], [2, 20], [2, 20]])],
)
def test_by_hand(how, expected):
    matched = match_controls(["B", "A", "A"], CONTROL_GE, CONTROL_PLATES, how=how)
    np.testing.assert_allclose(matched, expected)


@pytest.mark.parametrize("how", ["mean", "median"])
def test_equals_slow_loop(wells, how):
    plates, control_ge, control_plates = wells
    expected = [
        getattr(np, how)(control_ge[control_plates == plate], axis=0)
        for plate in plates
    ]
    matched = match_controls(plates, control_ge, control_plates, how=how)
    np.testing.assert_allclose(matched, expected)


def test_random_draws_a_well_of_the_plate_for_each_treated_well(wells):
    plates, control_ge, control_plates = wells
    matched = match_controls(
        plates, control_ge, control_plates, how="random", random_state=0
    )
    wells_drawn = [int(np.flatnonzero((control_ge == m).all(1))[0]) for m in matched]
    np.testing.assert_array_equal(control_plates[wells_drawn], plates)
    on_first_plate = np.array(wells_drawn)[plates == plates[0]]
    assert len(set(on_first_plate.tolist())) > 1


def test_random_is_uniform_over_the_wells_of_the_plate():
    drawn = match_controls(
        ["A"] * 3000, CONTROL_GE, CONTROL_PLATES, how="random", random_state=0
    )
    shares = [np.mean(drawn[:, 0] == value) for value in (1, 2, 6)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


def test_random_state_decides(wells):
    first, again, other = (
        match_controls(*wells, how="random", random_state=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("how", ["mean", "median"])
def test_order_of_the_controls_does_not_matter(wells, how):
    plates, control_ge, control_plates = wells
    order = np.random.default_rng(1).permutation(len(control_ge))
    np.testing.assert_allclose(
        match_controls(plates, control_ge[order], control_plates[order], how=how),
        match_controls(plates, control_ge, control_plates, how=how),
        rtol=1e-14,
    )


@pytest.mark.parametrize("how", ["mean", "median", "random"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_precision_of_the_controls(wells, how, dtype):
    plates, control_ge, control_plates = wells
    matched = match_controls(plates, control_ge.astype(dtype), control_plates, how=how)
    assert matched.dtype == dtype


def test_sums_in_double_precision():
    # In float32, 1 is lost beside 2**25.
    control_ge = np.array([[2.0**25], [1.0], [1.0], [-(2.0**25)]], dtype=np.float32)
    matched = match_controls(["A"], control_ge, ["A"] * 4)
    assert matched.item() == 0.5


def test_series_with_any_index_and_categories():
    plates = pd.Series(["B", "A"], index=[7, 7], dtype="category")
    control_plates = pd.Series(CONTROL_PLATES, index=[3, 1, 2, 0])
    matched = match_controls(plates, pd.DataFrame(CONTROL_GE), control_plates)
    np.testing.assert_allclose(matched, [[5, 50], [3, 30]])


def test_no_treated_wells():
    assert match_controls([], CONTROL_GE, CONTROL_PLATES).shape == (0, 2)


def test_every_plate_without_controls_is_named():
    plates = ["A", "Z", "Q", "Z"]
    with pytest.raises(MissingControlError, match="'Z', 'Q'; every") as caught:
        match_controls(plates, CONTROL_GE, CONTROL_PLATES)
    assert caught.value.plates == ["Z", "Q"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["A"], CONTROL_GE, ["A", "A"]), "control_ge.*one row per well. Got 4 and 2"),
        (([["A"]], CONTROL_GE, CONTROL_PLATES), r"plates must be 1-D.*\(1, 1\)"),
        ((["A", None], CONTROL_GE, CONTROL_PLATES), "^plates must name.*Missing at 1"),
        (
            (["A"], CONTROL_GE, ["A", np.nan, "A", None]),
            "control_plates must name.*Missing at 1, 3",
        ),
        ((["A"], CONTROL_GE * np.nan, CONTROL_PLATES), "control_ge contains NaN"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        match_controls(*arguments)


def test_unknown_how():
    with pytest.raises(ValueError, match=r"'how' parameter of match_controls must be"):
        match_controls(["A"], CONTROL_GE, CONTROL_PLATES, how="max")
