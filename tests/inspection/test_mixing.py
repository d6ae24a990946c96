import numpy as np
import pytest

from sklearn_molge.inspection import cell_line_mixing

FAST = {"n_permutations": 50, "n_resamples": 100, "random_state": 0}


def draw_profiles(n):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)), rng.choice(["A375", "HT29", "PC3"], size=n)


@pytest.fixture
def profiles():
    return draw_profiles(60)


@pytest.mark.parametrize("n", [60, 600])  # one block of rows, and several
def test_shares_are_those_of_a_slow_loop(n):
    embeddings, lines = draw_profiles(n)
    k, n = 4, len(lines)
    result = cell_line_mixing(embeddings, lines, n_neighbors=k, **FAST)
    distances = 1 - np.corrcoef(embeddings)
    np.fill_diagonal(distances, np.inf)
    other = [
        np.mean(lines[np.argsort(row)[:k]] != line)
        for row, line in zip(distances, lines, strict=True)
    ]
    expected = [np.sum(lines != line) / (n - 1) for line in lines]
    assert result.other_lines == pytest.approx(np.mean(other))
    assert result.expected == pytest.approx(np.mean(expected))
    assert result.mixing == pytest.approx(np.sum(other) / np.sum(expected))
    for line, row in result.table.iterrows():
        mine = lines == line
        assert row["n_profiles"] == mine.sum()
        assert row["other_lines"] == pytest.approx(np.mean(np.array(other)[mine]))
        assert row["expected"] == pytest.approx((n - mine.sum()) / (n - 1))
        assert row["mixing"] == pytest.approx(row["other_lines"] / row["expected"])
    assert list(result.table.index) == ["A375", "HT29", "PC3"]


def test_apart_mixed_and_repelling():
    rng = np.random.default_rng(0)
    lines = np.tile(["A375", "PC3"], 40)
    points = rng.normal(size=(80, 3))
    options = {"n_neighbors": 5, "metric": "euclidean", **FAST}
    apart = cell_line_mixing(points + 20 * (lines == "PC3")[:, None], lines, **options)
    assert apart.mixing == 0
    assert apart.p_value == 1 / 51
    assert apart.interval == (0, 0)
    mixed = cell_line_mixing(points, lines, **options)
    assert mixed.interval[0] < 1 < mixed.interval[1]
    assert mixed.p_value > 0.05
    # Pairs of two lines: each profile's nearest is of the other line.
    pairs = np.repeat(100 * rng.normal(size=(40, 3)), 2, axis=0) + points
    options["n_neighbors"] = 1
    repelling = cell_line_mixing(pairs, lines, **options)
    assert repelling.mixing == pytest.approx(79 / 40)
    assert repelling.p_value == 1


@pytest.mark.parametrize("k", [1, 3, 8])
def test_profiles_that_are_all_equal_are_mixed(k):
    """All tied: each neighbour counts with its share of k, exactly."""
    lines = np.repeat(["A375", "PC3", "HT29"], [2, 3, 5])
    result = cell_line_mixing(np.ones((10, 4)), lines, n_neighbors=k, **FAST)
    assert result.mixing == pytest.approx(1)
    np.testing.assert_allclose(result.table["mixing"], 1)
    assert result.p_value == 1


def test_each_profile_has_a_line_of_its_own(profiles):
    result = cell_line_mixing(profiles[0], np.arange(60), **FAST)
    assert (result.mixing, result.interval, result.p_value) == (1.0, (1.0, 1.0), 1.0)


def test_ties_at_the_border_share_the_places_left():
    # From 0: 1 is nearest, then 2 and -2, as far: half of each is the second.
    result = cell_line_mixing(
        [[0], [1], [2], [-2]],
        ["A375", "A375", "A375", "PC3"],
        n_neighbors=2,
        metric="euclidean",
        **FAST,
    )
    # 0: 1/4; 1: 0 and 2 -> 0; 2: 1 and 0 -> 0; -2: 1 and 0 -> 1.
    assert result.other_lines == pytest.approx((1 / 4 + 0 + 0 + 1) / 4)


def test_whole_drugs_are_resampled():
    """Six equal profiles a drug: the interval is that of a drug each, not narrower."""
    rng = np.random.default_rng(0)
    lines = rng.choice(["A375", "PC3"], size=40)
    drugs = np.arange(40).astype(str)
    points = rng.normal(size=(40, 3)) + 2 * (lines == "PC3")[:, None]

    def width(**options):
        result = cell_line_mixing(
            np.repeat(points, 6, axis=0), np.repeat(lines, 6), n_neighbors=40,
            metric="euclidean", n_resamples=2000, random_state=0, n_permutations=1,
            **options,
        )  # fmt: skip
        return np.subtract(*result.interval[::-1])

    ratio = width(drugs=np.repeat(drugs, 6)) / width()
    assert ratio == pytest.approx(np.sqrt(6), rel=0.1)


def test_intervals_cover():
    """Of other draws of drugs and profiles, the mean is in most of the intervals."""
    centres = np.random.default_rng(99).normal(size=(4, 8))
    results = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        lines = rng.integers(4, size=100)
        profiles = rng.normal(size=(100, 8)) + 0.5 * centres[lines]
        options = {"n_permutations": 1, "n_resamples": 200, "random_state": seed}
        results.append(cell_line_mixing(profiles, lines, **options))
    mean = np.mean([result.mixing for result in results])
    covered = [low <= mean <= high for low, high in (r.interval for r in results)]
    assert np.mean(covered) > 0.85


def test_order_of_rows_and_seeds(profiles):
    embeddings, lines = profiles
    first, again = (cell_line_mixing(embeddings, lines, **FAST) for _ in range(2))
    assert (first.interval, first.p_value) == (again.interval, again.p_value)
    rows = np.random.default_rng(1).permutation(len(lines))
    moved = cell_line_mixing(embeddings[rows], lines[rows], **FAST)
    assert moved.mixing == pytest.approx(first.mixing)
    np.testing.assert_allclose(moved.table, first.table)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_neighbors": 4}, "n_neighbors must be less than .* profiles, 4. Got 4"),
        ({"cell_lines": ["A", "A", "A", "A"]}, "at least 2 distinct lines. Got only"),
        ({"cell_lines": ["A", None, "B", "A"]}, r"cell_lines must .* indices 1"),
        ({"cell_lines": ["A", "B", "B"]}, "inconsistent numbers of samples"),
        ({"drugs": ["x"] * 4}, "at least 2 distinct drugs. Got only 'x'"),
        ({"drugs": ["x", "y", None, "y"]}, r"drugs must .* indices 2"),
        ({"embeddings": [[np.inf], [1], [2], [3]]}, "embeddings contains infinity"),
        ({"confidence_level": 1.0}, "confidence_level"),
    ],
)
def test_errors(change, match):
    good = {
        "embeddings": [[0], [1], [2], [3]],
        "cell_lines": ["A", "A", "B", "B"],
        "n_neighbors": 1,
        "metric": "euclidean",
    }
    with pytest.raises(ValueError, match=match):
        cell_line_mixing(**{**good, **change})
