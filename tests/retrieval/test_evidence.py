import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import retrieval_ranks, similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    ConnectivityRetriever,
    EvidenceRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

PIPE = make_pipeline(MorganFingerprinter(fp_size=256), CCA(10, ridge=1.0))


@pytest.fixture(scope="module")
def data():
    study = make_perturbation_study(
        80, n_cell_lines=5, n_genes=60, level=5, random_state=0
    )
    new_line = study.groups[:, 1] == study.groups[0, 1]
    hidden = np.isin(study.groups[:, 0], np.unique(study.groups[:, 0])[::2])
    train = ~new_line & ~hidden
    fitted = EvidenceRetriever(PIPE, random_state=0).fit(
        study.smiles[train], study.ge[train], study.groups[train]
    )
    return study, train, new_line, hidden, fitted


def test_evidence_helps_the_measured_and_does_not_hurt_the_others(data):
    study, _, new_line, hidden, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    hidden = hidden[new_line]
    alone = 1 / retrieval_ranks(fitted.structure_, X, y)
    both = 1 / retrieval_ranks(fitted, X, y)
    assert both[~hidden].mean() > alone[~hidden].mean()
    np.testing.assert_array_equal(both[hidden], alone[hidden])
    assert (fitted.weights_ > 0).all()


def standard(scores, known):
    mean = known.mean(axis=1, keepdims=True)
    return (scores - mean) / known.std(axis=1, keepdims=True)


def normed(connectivity, reference, own):
    """T-norm, then Z-norm over training signatures of other molecules, by loops."""
    found = standard(connectivity, connectivity)
    reference = reference.copy()
    for i, is_own in enumerate(own):
        others = reference[i, ~is_own]
        reference[i] = (reference[i] - others.mean()) / others.std()
    for j, is_own in enumerate(own.T):
        others = reference[~is_own, j]
        found[:, j] = (found[:, j] - others.mean()) / others.std()
    return found


def test_measured_molecules_share_out_their_places_anew(data):
    study, train, new_line, _, fitted = data
    y, drugs = study.ge[new_line], np.unique(study.smiles)
    known = np.isin(drugs, study.smiles[train])
    structure = similarity(fitted.structure_, drugs, y)
    found = fitted.similarity(drugs, y)
    # Each that was not measured keeps its similarity, hence its rank, exactly.
    np.testing.assert_array_equal(found[:, ~known], structure[:, ~known])
    np.testing.assert_allclose(
        np.sort(found[:, known]), np.sort(structure[:, known]), atol=1e-6
    )
    # The places of the measured are those of the stated sum.
    connectivity = normed(
        similarity(fitted.connectivity_, drugs[known], y),
        similarity(fitted.connectivity_, drugs[known], study.ge[train]),
        study.smiles[train][:, None] == drugs[known],
    )
    s = structure[:, known]
    weights = fitted.weights_
    both = (
        weights["structure"] * standard(s, s) + weights["connectivity"] * connectivity
    )
    np.testing.assert_array_equal(np.argsort(found[:, known]), np.argsort(both))


def test_the_weights_make_held_out_profiles_likeliest():
    """Two lines are two folds; six drugs, by a slow loop."""
    rng = np.random.default_rng(0)
    X = np.repeat(np.array(["CCO", "CCN", "CCC", "CCCl", "CCCO", "CCS"], object), 8)
    lines = np.tile(np.repeat(["a", "b"], 4), 6)
    y = np.repeat(rng.normal(size=(6, 30)), 8, axis=0) + 3 * rng.normal(size=(48, 30))
    structure = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=10.0))
    groups = np.column_stack([X, lines])
    model = EvidenceRetriever(structure, n_splits=2, random_state=0).fit(X, y, groups)
    drugs = np.unique(X)
    choices = []
    for line in "ab":
        train, test = lines != line, lines == line
        rows = X[train], y[train]
        s = similarity(clone(structure).fit(*rows), drugs, y[test])
        known = clone(model.connectivity_).fit(*rows, groups[train])
        c = normed(
            known.similarity(drugs, y[test]),
            known.similarity(drugs, y[train]),
            X[train][:, None] == drugs,
        )
        choices.append((standard(s, s), c, X[test][:, None] == drugs))

    def likelihood(a, b):
        total = 0.0
        for s, c, own in choices:
            beliefs = np.exp(a * s + b * c)
            beliefs /= beliefs.sum(axis=1, keepdims=True)
            total += np.log(beliefs[own]).sum()
        return total

    a, b = model.weights_
    assert a > 0
    assert b > 0
    for step in (0.05, -0.05):
        assert likelihood(a + step, b) < likelihood(a, b)
        assert likelihood(a, b + step) < likelihood(a, b)


def test_many_signatures_are_no_advantage():
    """One of many signatures of noise is like any query."""
    rng = np.random.default_rng(0)
    X = np.append(np.repeat(["C" * n + "O" for n in range(1, 31)], 3), ["CCN"] * 60)
    y = rng.normal(size=(len(X), 10))
    structure = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=10.0))
    model = EvidenceRetriever(structure, random_state=0).fit(X.astype(object), y)
    asked = rng.normal(size=(300, 10))
    table = model.query(["CCN", "CCCO"], asked).set_index("molecule")["connectivity"]
    assert abs(table["CCN"].mean() - table["CCCO"].mean()) < 0.3
    raw = model.connectivity_.similarity(["CCN", "CCCO"], asked).mean(axis=0)
    assert raw[0] > raw[1] + 0.3


def test_with_a_weight_of_0_structure_ranks_alone(data):
    study, _, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    alone = pickle.loads(pickle.dumps(fitted))
    alone.weights_["connectivity"] = 0
    np.testing.assert_array_equal(
        alone.similarity(X, y), similarity(fitted.structure_, X, y)
    )


def test_metadata_reach_the_structure(data):
    study, train, _, _, _ = data
    X, y, groups = study.smiles[train], study.ge[train], study.groups[train]
    X = MorganFingerprinter(fp_size=256).transform(X)
    weight = np.random.default_rng(0).uniform(0.1, 1, len(X))
    cca = CCA(5, ridge=1.0)
    expected = clone(cca).fit(X, y, sample_weight=weight).correlations_
    model = EvidenceRetriever(cca, random_state=0)
    found = clone(model).fit(X, y, groups, sample_weight=weight)
    np.testing.assert_array_equal(found.structure_.correlations_, expected)
    plain = clone(model).fit(X, y, groups)
    assert (plain.structure_.correlations_ != expected).all()
    assert (plain.weights_ != found.weights_).all()  # the folds are weighted, too
    with config_context(enable_metadata_routing=True):
        cca.set_fit_request(sample_weight=True)
        routed = clone(model).fit(X, y, groups=groups, sample_weight=weight)
        np.testing.assert_array_equal(routed.weights_, found.weights_)
        in_pipe = make_pipeline(
            MorganFingerprinter(fp_size=256),
            clone(model).set_fit_request(groups=True),
        )
        in_pipe.fit(study.smiles[train], y, groups=groups, sample_weight=weight)
        np.testing.assert_array_equal(in_pipe[-1].weights_, found.weights_)
        cca.set_fit_request(sample_weight=None)
        with pytest.raises(ValueError, match=r"sample_weight.*are passed but are not"):
            clone(model).fit(X, y, groups=groups, sample_weight=weight)
        with pytest.raises(TypeError, match=r"unexpected.*colour"):
            clone(model).fit(X, y, groups=groups, colour=weight)


def test_groups_reach_a_structure_that_takes_them(data):
    study, train, _, _, _ = data
    rows = study.smiles[train], study.ge[train], study.groups[train]
    plain = EvidenceRetriever(PIPE, n_splits=2, random_state=0)
    twice = clone(plain).set_params(structure=plain).fit(*rows)
    plain.fit(*rows)
    np.testing.assert_array_equal(twice.structure_.weights_, plain.weights_)


def test_a_score_does_not_depend_on_the_other_candidates(data):
    study, _, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    few = fitted.similarity(X[:3], y)
    np.testing.assert_allclose(few, fitted.similarity(X, y)[:, :3], rtol=1e-4)


def test_table_says_by_what(data):
    study, _, new_line, hidden, fitted = data
    _, first = np.unique(study.smiles[new_line], return_index=True)
    hidden = hidden[new_line][first]
    X, y = study.smiles[new_line][first], study.ge[new_line][:3]
    texts = fitted.evidence(X)
    assert set(texts[hidden]) == {"structure"}
    assert set(texts[~hidden]) == {"4 cell lines and structure"}
    table = fitted.query(np.append(X, X[:5]), y)
    assert len(table) == 3 * len(X)
    found = fitted.similarity(X, y)
    for q, part in table.groupby("query"):
        part = part.set_index("molecule").loc[X]
        np.testing.assert_allclose(part["score"], found[q], rtol=1e-4, atol=1e-5)
        assert (part["evidence"] == texts).all()
        assert (part["connectivity"].isna() == hidden).all()
    assert fitted.query(X, y, n_answers=2)["rank"].tolist() == [1, 2] * 3


def test_salts_of_one_drug_answer_once(data):
    study, _, new_line, _, fitted = data
    X, y = np.unique(study.smiles[new_line]), study.ge[new_line][:2]
    salts = np.array([text + ".Cl" for text in X], dtype=object)
    found = fitted.query(np.concatenate([X, salts]), y)
    turned = fitted.query(np.concatenate([salts, X]), y)
    assert len(found) == 2 * len(X)
    columns = ["molecule", "score"]
    for q in (0, 1):
        one, other = (
            table[table["query"] == q].sort_values("molecule")[columns].to_numpy()
            for table in (found, turned)
        )
        np.testing.assert_array_equal(one[:, 0], other[:, 0])
        np.testing.assert_allclose(
            one[:, 1].astype(float), other[:, 1].astype(float), rtol=1e-4
        )


def test_named_genes(data):
    study, train, new_line, _, fitted = data
    y = study.profiles()
    named = clone(fitted).fit(study.smiles[train], y[train], study.groups[train])
    X, y = study.smiles[new_line], y[new_line]
    found = named.similarity(X, y)
    np.testing.assert_array_equal(found, fitted.similarity(X, study.ge[new_line]))
    assert named.query(X, y).equals(fitted.query(X, study.ge[new_line]))


def test_reverse_is_the_query_with_its_sign_turned(data):
    study, train, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    rows = study.smiles[train], study.ge[train], study.groups[train]
    reverse = clone(fitted).set_params(direction="reverse").fit(*rows)
    np.testing.assert_array_equal(reverse.similarity(X, y), fitted.similarity(X, -y))
    assert reverse.query(X, y).equals(fitted.query(X, -y))
    again = pickle.loads(pickle.dumps(reverse))
    np.testing.assert_array_equal(again.similarity(X, y), reverse.similarity(X, y))


def test_names_of_genes_do_not_change_the_answer():
    study = make_perturbation_study(
        30, n_cell_lines=4, n_genes=40, level=5, random_state=0
    )
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=1.0))
    named, plain = (
        EvidenceRetriever(pipe, random_state=0).fit(study.smiles, y, study.groups)
        for y in (study.profiles(), study.ge)
    )
    np.testing.assert_allclose(
        named.similarity(study.smiles, study.profiles()),
        plain.similarity(study.smiles, study.ge),
    )


def test_without_lines_rows_count(data):
    study, train, _, _, _ = data
    model = EvidenceRetriever(PIPE, ConnectivityRetriever(n_genes=10), random_state=0)
    model.fit(study.smiles[train], study.ge[train])
    assert model.evidence(study.smiles[train][:1]) == "8 signatures and structure"


def test_errors(data):
    study, train, _, _, _ = data
    X, y, groups = study.smiles[train], study.ge[train], study.groups[train]
    with pytest.raises(ValueError, match="n_splits=9 needs as many cell lines"):
        EvidenceRetriever(PIPE, n_splits=9).fit(X, y, groups)
    _, once = np.unique(X, return_index=True)
    with pytest.raises(ValueError, match="at least 10 profiles of molecules that were"):
        EvidenceRetriever(PIPE).fit(X[once], y[once])
    reverse = ConnectivityRetriever(direction="reverse")
    with pytest.raises(ValueError, match="connectivity must have direction='mimic'"):
        EvidenceRetriever(PIPE, reverse).fit(X, y, groups)
    with pytest.raises(ValueError, match="direction='reverse' needs profiles with a s"):
        EvidenceRetriever(PIPE, direction="reverse").fit(X, np.abs(y), groups)


CCAS = [("nine", CCA(9, ridge=1.0)), ("three", CCA(3, ridge=0.1))]
VOTE = make_pipeline(MorganFingerprinter(fp_size=256), VotingRetriever(CCAS))


@pytest.mark.parametrize(
    "structure",
    [
        VOTE,
        TransformedTargetRetriever(VOTE, PCA(9, random_state=0)),
        VotingRetriever([("vote", VOTE), ("cca", PIPE)], standardize=False),
    ],
    ids=["pipeline", "wrapped", "nested"],
)
def test_a_vote_standardises_over_measured_molecules(data, structure):
    study, train, new_line, _, _ = data
    model = EvidenceRetriever(structure, random_state=0)
    model.fit(study.smiles[train], study.ge[train], study.groups[train])
    X, y = study.smiles[new_line], study.ge[new_line][:5]
    found = model.similarity(X, y)
    for part in (slice(0, 1), slice(7, 9), slice(1, None, 2)):
        few = model.similarity(X[part], y)
        np.testing.assert_allclose(few, found[:, part], rtol=1e-4, atol=1e-6)


def test_the_scale_of_a_vote_is_its_own(data):
    study, train, new_line, hidden, _ = data
    vote = FrozenEstimator(VOTE.fit(study.smiles[train], study.ge[train]))
    model = EvidenceRetriever(vote, random_state=0)
    model.fit(study.smiles[train], study.ge[train], study.groups[train])
    X, y = study.smiles[hidden & new_line], study.ge[new_line]
    measured, X = map(VOTE[0].transform, (np.unique(study.smiles[train]), X))
    expected = VOTE[-1].compare_to(X, reference=measured)(y)
    found = model.similarity(study.smiles[hidden & new_line], y)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lines", [True, False])
def test_order_of_rows_does_not_matter(data, monkeypatch, lines):
    """Nor which of the spellings of a drug comes first, also where rows are drawn."""
    study, train, new_line, _, _ = data
    module = "sklearn_molge.retrieval._evidence"
    monkeypatch.setattr(f"{module}._MOST_QUERIES", 40)
    monkeypatch.setattr(f"{module}._MOST_MOLECULES", 30)
    X, y = study.smiles[train].copy(), study.ge[train]
    X[::2] += ".Cl"
    groups = study.groups[train]
    order = np.random.default_rng(0).permutation(len(X))
    model = EvidenceRetriever(PIPE, random_state=0)
    other = clone(model).fit(X[order], y[order], groups[order] if lines else None)
    model.fit(X, y, groups if lines else None)
    np.testing.assert_allclose(other.weights_, model.weights_, rtol=1e-5)
    asked = study.smiles[new_line], study.ge[new_line]
    np.testing.assert_allclose(
        other.similarity(*asked), model.similarity(*asked), rtol=1e-4, atol=1e-5
    )
