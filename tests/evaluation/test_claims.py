import numpy as np
import pandas as pd
import pytest

from sklearn_molge.evaluation import finlayson2020_methods

# No public name gives these ranks and slopes to the claims.
from sklearn_molge.evaluation.paper._findings import claim_tables
from sklearn_molge.metrics import paired_comparison

LABELS = {name: m.label for name, m in finlayson2020_methods().items()}


@pytest.fixture
def ranks():
    rng = np.random.default_rng(0)
    drugs = np.repeat([f"d{i:02}" for i in range(40)], 2)
    good = rng.integers(1, 4, size=80)
    return pd.DataFrame(
        {
            "drug": drugs,
            "cca_raw_morgan": good,
            "dnn_raw_morgan": good + 20,
            "cca_aligned_morgan": good + 20,
            "cca_raw_aligned": good,
            "cca_aligned_aligned": np.nan,
        }
    )


def test_verdicts(ranks):
    tables = claim_tables(ranks, LABELS)
    assert list(tables) == ["claims"]
    table = tables["claims"].set_index("measured")
    better = table.loc["MRR of CCA, raw / Morgan, less that of D-NN, raw / Morgan"]
    c = paired_comparison(
        ranks["cca_raw_morgan"], ranks["dnn_raw_morgan"], ranks["drug"],
        random_state=0,
    )  # fmt: skip
    assert (better["gain"], better["gain_low"], better["gain_high"]) == (
        c.difference, c.low, c.high,
    )  # fmt: skip
    assert better["holds"] == "yes"
    worse = table.loc["MRR of CCA, aligned / Morgan, less that of CCA, raw / Morgan"]
    assert worse["holds"] == "no: the opposite"
    equal = table.loc["MRR of CCA, raw / aligned, less that of CCA, raw / Morgan"]
    assert equal["gain"] == 0
    assert equal["holds"] == "undecided"
    # What is not there makes no claim; what failed says so.
    failed = table[table["gain"].isna()]["holds"]
    assert set(failed) == {"not judged: CCA, aligned / aligned has no ranks"}
    assert (len(table), len(failed)) == (5, 2)


def test_nothing_is_judged_among_too_few(ranks):
    slopes = pd.DataFrame([regression(0.1, 0.5)], index=["fingerprint"])
    tables = claim_tables(ranks, LABELS, slopes, too_few="too few candidates, 12")
    for table in tables.values():
        assert set(table["holds"]) == {"not judged: too few candidates, 12"}
    judged = claim_tables(ranks, LABELS)["claims"]
    assert tables["claims"]["gain"].equals(judged["gain"])


def regression(low, high, p_value=0.01):
    return {
        "label": "distance", "per": "drug", "slope": (low + high) / 2,
        "slope_low": low, "slope_high": high, "p_value": p_value,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "far_is_worse", "broad_is_easier"),
    [
        (0.1, 0.5, "yes", "no: the opposite"),
        (-0.5, -0.1, "no: the opposite", "yes"),
        (-0.1, 0.1, "undecided", "undecided"),
        (np.nan, np.nan, "cannot be said", "cannot be said"),
    ],
)
def test_slopes(ranks, low, high, far_is_worse, broad_is_easier):
    names = ["fingerprint", "n_genes"]
    slopes = pd.DataFrame([regression(low, high)] * 2, index=names)
    tables = claim_tables(ranks[["drug"]], LABELS, slopes)
    assert list(tables) == ["claims_slopes"]
    table = tables["claims_slopes"]
    assert table.index.tolist() == [
        "distance to training hurts", "broad effects are easier",
    ]  # fmt: skip
    assert table["holds"].tolist() == [far_is_worse, broad_is_easier]


def test_interval_and_p_must_agree(ranks):
    slopes = pd.DataFrame([regression(0.1, 0.5, 0.06)], index=["fingerprint"])
    tables = claim_tables(ranks[["drug"]], LABELS, slopes)
    assert tables["claims_slopes"]["holds"].tolist() == ["undecided"]


def test_nothing_to_claim(ranks):
    assert claim_tables(ranks[["drug"]], LABELS) == {}
