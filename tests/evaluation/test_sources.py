"""evaluate_study over several sources: what is tested, how rows weigh, what is said."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.base import TwoViewMixin
from sklearn_molge.datasets import Study, join_studies, source_weights
from sklearn_molge.evaluation import AlignedView, Method, draw_split
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever, VotingRetriever

SPLIT = {"test_drugs": 0.3, "val_drugs": 0.15, "val_cell_lines": 1}


class NoWeights(TwoViewMixin, BaseEstimator):
    """Takes no weights."""

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def compare_to(self, X):
        return lambda y: np.zeros((len(y), len(X)))


class Weighed(NoWeights):
    """Notes the weights it is fitted with."""

    SEEN = []

    def fit(self, X, y, sample_weight=None):
        weights = None if sample_weight is None else np.array(sample_weight)
        self.SEEN.append(weights)
        return super().fit(X, y)


@pytest.fixture
def seen_weights():
    Weighed.SEEN.clear()
    return Weighed.SEEN


@pytest.fixture(scope="module")
def joined(study):
    """Ours, wells of other labs, and a consensus over all lines; weights in obs."""
    rng = np.random.default_rng(0)
    parts = {"ours": study}
    for name, n_rows in (("wells", 90), ("consensus", 60)):
        rows = rng.permutation(len(study))[:n_rows]
        obs = study.obs.iloc[rows][["cell_line"]].reset_index(drop=True)
        if name == "consensus":
            obs = obs.assign(cell_line="consensus", covered_lines="*")
        ge = study.ge[rows] + rng.normal(size=(n_rows, len(study.genes)))
        smiles = [f"{s}.Cl" for s in study.smiles[rows]]  # as others draw them
        parts[name] = Study(smiles, ge=ge, obs=obs, genes=study.genes, level=5)
    both = join_studies(parts)
    weights = source_weights(both, {"wells": 0.3, "consensus": 0.1})
    both.obs["weight"] = weights
    return both


@pytest.fixture(scope="module")
def report(joined, cca, run):
    methods = {"weighted": cca(), "plain": Method(cca(), sample_weight=False)}
    return run(
        joined, methods, split=SPLIT, test_sources="ours", sample_weight="weight"
    )


def test_other_sources_train_and_are_not_tested(joined, report):
    rows = report.ranks["row"].to_numpy()
    assert set(joined.obs["source"].iloc[rows]) == {"ours"}
    splits = report.tables["splits"]
    tested = splits.loc[splits["part"] != "train", "sources"]
    assert all(text.startswith("ours ") and "," not in text for text in tested)
    trained = splits.loc[splits["part"] == "train", "sources"]
    assert all("wells" in text and "consensus" in text for text in trained)
    assert not [note for note in report.notes if "Leak" in note]
    assert report.settings["test sources"] == "ours"
    assert report.description["Sources"].startswith("ours 600, wells 90, ")


def test_lines_that_a_consensus_covers_are_said(report, joined, cca, run):
    notes = " ".join(report.notes)
    assert "unseen for the test molecules alone" in notes
    assert "which training profiles of several lines cover" in notes
    kept = joined[(joined.obs["source"] != "consensus").to_numpy()]
    other = run(kept, {"CCA": cca()}, split=SPLIT, test_sources="ours", n_repeats=1)
    assert "cover" not in " ".join(other.notes[:3])
    # a line that was not held out is not unseen at all
    options = {"test_sources": "ours", "n_repeats": 1}
    drugs = run(joined, {"CCA": cca()}, split={"hold_out": "drugs"}, **options)
    assert "molecules alone" not in " ".join(drugs.notes)


def test_nothing_held_out_trains_in_any_source(joined, run, seen_weights):
    numbered = np.arange(1.0, len(joined) + 1)  # weights that tell the rows
    report = run(
        joined, {"one": Weighed()}, split=SPLIT, test_sources="ours",
        sample_weight=numbered,
    )  # fmt: skip
    assert len(seen_weights) == 2
    for repeat, weights in enumerate(seen_weights):
        train = joined.obs.iloc[weights.astype(int) - 1]
        tested = report.ranks[report.ranks["repeat"] == repeat]
        assert not set(train["drug"]) & set(tested["drug"])
        assert not set(train["cell_line"]) & set(tested["cell_line"])
        assert set(train["source"]) == {"ours", "wells", "consensus"}


def test_a_given_split_and_weights_by_a_plain_loop(joined, cca, run):
    obs, weights = joined.obs, joined.obs["weight"].to_numpy()
    split = drug_cell_line_split(obs, **SPLIT, test_sources="ours", random_state=3)
    report = run(
        joined, {"CCA": cca()}, split=split, n_repeats=1, sample_weight=weights,
        test_sources=["ours"],
    )  # fmt: skip
    X, y, drugs = joined.smiles, joined.ge, joined.groups[:, 0]
    train, test = split.train, split.test
    model = clone(cca()).fit(X[train], y[train], cca__sample_weight=weights[train])
    expected = retrieval_ranks(model, X[test], y[test], drugs=drugs[test])
    np.testing.assert_array_equal(report.ranks["CCA"], expected)


def test_weights_of_0_leave_rows_out_of_all_training(joined, study, cca, net, run):
    ours = (joined.obs["source"] == "ours").to_numpy()
    split = drug_cell_line_split(
        joined.obs, **SPLIT, test_sources="ours", random_state=0
    )
    alone = drug_cell_line_split(
        joined.obs[ours], **SPLIT, test_sources="ours", random_state=0
    )
    methods = {"CCA": cca(), "net": AlignedView(), "blind": cca(1)}
    methods["blind"] = Method(methods["blind"], drug_blind=True)
    options = {"embedders": {"aligned": net()}, "n_repeats": 1}
    weighted = run(
        joined, methods, split=split, sample_weight=ours.astype(float), **options
    )
    left = run(joined[ours], methods, split=alone, **options)
    for name in methods:
        np.testing.assert_array_equal(weighted.ranks[name], left.ranks[name])
    assert "of weight 0, are left out" in " ".join(weighted.notes)


def test_each_gets_the_weights_it_asks_for(joined, run, seen_weights):
    own = np.linspace(1, 2, len(joined))
    methods = {
        "shared": Weighed(),
        "none": Method(Weighed(), sample_weight=False),
        "own": Method(
            make_pipeline(MorganFingerprinter(fp_size=64), Weighed()), sample_weight=own
        ),
    }
    split = drug_cell_line_split(joined.obs, **SPLIT, random_state=0)
    run(joined, methods, split=split, n_repeats=1, sample_weight="weight")
    expected = joined.obs["weight"].to_numpy()[split.train]
    np.testing.assert_array_equal(seen_weights[0], expected)
    assert seen_weights[1] is None
    np.testing.assert_array_equal(seen_weights[2], own[split.train])


def test_results_of_other_weights_and_rows_are_not_taken(
    joined, run, tmp_path, seen_weights
):
    weights = joined.obs["weight"].to_numpy()
    options = {"split": SPLIT, "n_repeats": 1, "cache_folder": tmp_path}

    def n_fits(**given):
        seen_weights.clear()
        run(joined, {"one": given.pop("row", Weighed())}, **options, **given)
        return len(seen_weights)

    assert n_fits() == 1
    assert n_fits(test_sources="ours") == 1
    assert n_fits(test_sources="ours", sample_weight=weights) == 1
    assert n_fits(test_sources="ours", sample_weight=2 * weights) == 1
    assert n_fits(test_sources=["wells"], sample_weight=weights) == 1
    # and the same ones are
    assert n_fits(test_sources=["ours"], sample_weight="weight") == 0
    plain = Method(Weighed(), sample_weight=False)
    assert n_fits(test_sources="ours", sample_weight=weights, row=plain) == 0
    own = Method(Weighed(), sample_weight="weight")
    assert n_fits(test_sources="ours", row=own) == 0


def test_an_embedder_is_fitted_anew_with_other_weights(joined, net, run, tmp_path):
    options = {
        "split": SPLIT, "n_repeats": 1, "cache_folder": tmp_path,
        "embedders": {"aligned": net()}, "test_sources": "ours",
    }  # fmt: skip
    methods = {"net": AlignedView()}
    plain = run(joined, methods, **options)
    weighted = run(joined, methods, sample_weight="weight", **options)
    assert len(list(tmp_path.glob("embedder-*"))) == 2
    assert not plain.ranks["net"].equals(weighted.ranks["net"])
    again = run(joined, methods, sample_weight="weight", **options)
    assert again.ranks["net"].equals(weighted.ranks["net"])
    equal = run(joined, methods, sample_weight=np.full(len(joined), 0.3), **options)
    assert equal.ranks["net"].equals(plain.ranks["net"])


def test_who_takes_no_weights_is_named_before_any_fit(joined, run, seen_weights):
    methods = {
        "first": Weighed(),
        "mute": NoWeights(),
        "vote": VotingRetriever([("a", Weighed()), ("b", NoWeights())]),
        "fine": Method(NoWeights(), sample_weight=False),
        "old": FrozenEstimator(NoWeights().fit(["C"], [[0.0]])),
    }
    with pytest.raises(ValueError, match=r"methods\['mute'\], methods\['vote'\]\. Me"):
        run(joined, methods, sample_weight="weight")
    embedder = TransformedTargetRetriever(NoWeights())
    with pytest.raises(ValueError, match=r"metadata routing.*embedders\['aligned'\]"):
        run(
            joined, {"one": Weighed()}, embedders={"aligned": embedder},
            sample_weight="weight",
        )  # fmt: skip
    assert not seen_weights


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sample_weight": "heft"}, "a column of obs, which has .*. Got 'heft'"),
        ({"sample_weight": "cell_line"}, "sample_weight='cell_line' must hold numbers"),
        ({"sample_weight": [1.0]}, r"each of the 750 rows of the study. Got shape \(1"),
        ({"sample_weight": np.r_[-1, np.nan, [1] * 748]}, "Got -1.0 at row 0, and 1"),
        ({"sample_weight": np.zeros(750)}, "some above. Got 0 in all rows"),
        ({"test_sources": "theirs"}, "must name sources of groups.*Got 'theirs'"),
        ({"test_sources": "ours", "split": {"test_sources": "ours"}}, "given once"),
    ],
)
def test_bad_sources_and_weights(joined, run, seen_weights, given, match):
    with pytest.raises(ValueError, match=match):
        run(joined, {"one": Weighed()}, **given)
    own = given.get("sample_weight")
    if own is not None:
        with pytest.raises(ValueError, match=r"sample_weight of methods\['one'\]"):
            run(joined, {"one": Method(Weighed(), sample_weight=own)})
    assert not seen_weights


def test_a_split_of_other_sources_is_refused(joined, study, run):
    split = draw_split(joined.groups, random_state=0)
    with pytest.raises(ValueError, match=r"split 0 has test rows of other sources th"):
        run(joined, {"one": Weighed()}, split=split, test_sources="ours")
    with pytest.raises(ValueError, match="needs groups with the columns"):
        run(study, {"one": Weighed()}, test_sources="ours")
    with pytest.raises(ValueError, match="sample_weight must be weights"):
        Method(Weighed(), sample_weight=True)


def test_sizes_are_of_the_tested_source(joined):
    ours = joined.obs[joined.obs["source"] == "ours"]
    alone = draw_split(ours[["drug", "cell_line"]], random_state=0)
    split = draw_split(joined.obs, test_sources="ours", random_state=0)
    assert split.drugs["test"].tolist() == alone.drugs["test"].tolist()
    assert split.cell_lines["test"].tolist() == alone.cell_lines["test"].tolist()


def test_a_planted_leak_of_another_source_is_found(joined, cca, run):
    split = drug_cell_line_split(
        joined.obs, **SPLIT, test_sources="ours", random_state=0
    )
    tested = joined.obs["drug"].isin(split.drugs["test"])
    others = (joined.obs["source"] == "consensus") & tested
    parts = {"train": np.union1d(split.train, np.flatnonzero(others))}
    leaky = type(split)(**(vars(split) | parts))
    report = run(joined, {"CCA": cca()}, split=leaky, n_repeats=1, test_sources="ours")
    assert any("Leak in repeat 0: drugs in both parts" in n for n in report.notes)


def test_with_metadata_routing(joined, run, seen_weights):
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        asks = Weighed().set_fit_request(sample_weight=True)
        pipe = make_pipeline(MorganFingerprinter(fp_size=64), asks)
        options = {"split": SPLIT, "n_repeats": 1, "test_sources": "ours"}
        run(joined, {"asks": pipe}, sample_weight="weight", **options)
        assert isinstance(seen_weights[0], np.ndarray)
        silent = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=0.1))
        with pytest.raises(ValueError, match=r"request none.*methods\['silent'\]"):
            run(joined, {"silent": silent}, sample_weight="weight", **options)


def test_numbers_of_pandas_are_weights(joined, run, seen_weights):
    split = drug_cell_line_split(joined.obs, **SPLIT, random_state=0)
    weights = pd.Series(np.arange(len(joined)), index=joined.obs.index[::-1]) + 1
    run(joined, {"one": Weighed()}, split=split, n_repeats=1, sample_weight=weights)
    np.testing.assert_array_equal(seen_weights[0], split.train + 1)
