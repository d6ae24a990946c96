"""MoleculeIndex of ensembles, and of retrievers without a joint space."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.base import EmbedderMixin, TwoViewMixin
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.library import MoleculeIndex, MoleculeQueryDisplay, verify_index
from sklearn_molge.metrics import retrieval_ranks, similarity
from sklearn_molge.molecules import MorganFingerprinter, TanimotoKernel, drug_ids
from sklearn_molge.retrieval import (
    ConnectivityRetriever,
    DoubleNNRetriever,
    EvidenceRetriever,
    PredictedProfileRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

STUDY = make_perturbation_study(60, n_cell_lines=3, n_genes=40, level=5, random_state=0)
X, GE = STUDY.smiles, STUDY.ge
# One spelling a drug, so that rows of the index are the candidates of retrieval_ranks.
LIBRARY = X[np.sort(np.unique(STUDY.groups[:, 0], return_index=True)[1])]


def fingerprints():
    return MorganFingerprinter(fp_size=256)


def cca(**options):
    return make_pipeline(fingerprints(), CCA(8, ridge=0.1, **options))


def ridge(metric="correlation"):
    regressor = make_pipeline(fingerprints(), Ridge(10.0))
    return PredictedProfileRetriever(regressor, metric=metric)


def d_nn():
    return make_pipeline(fingerprints(), DoubleNNRetriever())


def vote(*members, **options):
    named = [(f"m{i}", member) for i, member in enumerate(members)]
    return VotingRetriever(named, **options)


class Shifted(EmbedderMixin, BaseEstimator):
    """Its similarity is more than a metric: some molecules are likelier than others."""

    metric = "correlation"

    def __init__(self, embedder, scale=0.5):
        self.embedder = embedder
        self.scale = scale

    def fit(self, X, y):
        self.embedder_ = clone(self.embedder).fit(X, y)
        return self

    def transform(self, X):
        return self.embedder_.transform(X)

    def transform_ge(self, y):
        return self.embedder_.transform_ge(y)

    def compare_to(self, X):
        compare = super().compare_to(X)
        lengths = np.array([len(smiles) for smiles in X]) / 50
        return lambda y: compare(y) + self.scale * lengths


EXACT = {
    "correlations": vote(cca(), ridge(), weights=[2, 1]),
    "three metrics": vote(cca(metric="cosine"), ridge("dot"), ridge()),
    "not standardised": vote(cca(), ridge("dot"), standardize=False, weights=[1, 0.1]),
    "weight 0": vote(cca(), d_nn(), weights=[1, 0]),
    "wrapped": TransformedTargetRetriever(
        vote(cca(), TransformedTargetRetriever(cca(), PCA(9, random_state=0))),
        PCA(20, random_state=0),
    ),
    "a process": GaussianProcessRetriever(
        TanimotoKernel(MorganFingerprinter(count=True)), heritability=0.7
    ),
    "a vote with a process": vote(
        GaussianProcessRetriever(
            TanimotoKernel(MorganFingerprinter(count=True)), heritability=0.7
        ),
        cca(),
        weights=[2, 1],
    ),
    "features": make_pipeline(fingerprints(), vote(CCA(5, ridge=1.0), CCA(8, ridge=1))),
}
RERANKED = {
    "with D-NN": vote(cca(), d_nn(), weights=[1, 2]),
    "euclidean": vote(cca(metric="euclidean"), ridge()),
    "only euclidean": vote(cca(metric="euclidean")),
    "own similarity": Shifted(ridge()),
    "a vote of it": vote(Shifted(ridge()), cca()),
}


@pytest.mark.parametrize("estimator", EXACT.values(), ids=EXACT)
def test_a_vote_of_embedders_is_one_product(estimator):
    model = clone(estimator).fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY)
    assert not index.reranks_
    expected = similarity(model, LIBRARY, GE)
    rows = np.arange(len(LIBRARY))
    np.testing.assert_allclose(
        index.similarity_to_rows(GE, rows), expected, rtol=1e-4, atol=2e-5
    )
    distances, found = index.kneighbors(GE, 5)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :5]
    assert (found == order).mean() > 0.99  # near-ties may change places
    np.testing.assert_allclose(
        -distances, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=2e-5
    )
    ranks = index.rank(GE, own_smiles())
    np.testing.assert_array_equal(ranks, retrieval_ranks(model, own_smiles(), GE))
    together = index.rank(GE, LIBRARY[0], groups=np.zeros(len(GE)))
    means = expected.mean(axis=0)
    np.testing.assert_array_equal(together, 1 + np.count_nonzero(means > means[0]))


def own_smiles():
    """The library's spelling of each profile's molecule."""
    spelling = dict(zip(drug_ids(LIBRARY), LIBRARY, strict=True))
    return np.array([spelling[drug] for drug in drug_ids(X)], dtype=object)


def test_a_vote_follows_the_library():
    model = EXACT["correlations"].fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY[:30]).partial_fit(LIBRARY[30:])
    index.remove(LIBRARY[:10])
    found = index.similarity_to_rows(GE[:7], np.arange(10, len(LIBRARY)))
    expected = similarity(model, LIBRARY[10:], GE[:7])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_vote_in_fewer_bytes(dtype):
    model = EXACT["correlations"].fit(X, GE)
    index = MoleculeIndex(model, dtype=dtype).fit(LIBRARY)
    found = index.similarity_to_rows(GE, np.arange(len(LIBRARY)))
    expected = similarity(model, LIBRARY, GE)
    np.testing.assert_allclose(found, expected, atol=0.15)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("name", ["a process", "a vote with a process"])
def test_what_reverses_a_process_is_what_mimics_the_opposite(name, tmp_path):
    model = clone(EXACT[name]).fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY)
    assert index.reverses_by_sign_
    reverse = index.query(GE[:3], 4, reverse=True, n_permutations=19)
    opposite = index.query(-GE[:3], 4, n_permutations=19)
    pd.testing.assert_frame_equal(reverse, opposite)
    path = tmp_path / "answer.html"
    reverse.to_html(path)
    page = path.read_text("utf-8")
    assert "most like its opposite first" in page
    assert "the estimator&#39;s own score" in page
    display = MoleculeQueryDisplay.from_table(reverse, query=0)
    assert "reversed: most like its opposite" in display.title_.get_text()
    assert not MoleculeIndex(cca().fit(X, GE)).fit(LIBRARY).reverses_by_sign_


@pytest.mark.parametrize("name", ["a process", "correlations"])
def test_what_has_a_product_of_its_own_takes_no_metric(name):
    model = clone(EXACT[name]).fit(X, GE)
    kind = type(model).__name__
    with pytest.raises(ValueError, match=f"metric must be 'auto' for a {kind}"):
        MoleculeIndex(model, metric="cosine").fit(LIBRARY)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_an_index_of_a_process_needs_no_structures(dtype, tmp_path):
    model = clone(EXACT["a process"]).fit(X, GE)
    index = MoleculeIndex(model, folder=tmp_path / "index", dtype=dtype).fit(LIBRARY)
    again = MoleculeIndex.open(tmp_path / "index")
    found = again.similarity_to_rows(GE, np.arange(len(LIBRARY)))
    np.testing.assert_array_equal(
        found, index.similarity_to_rows(GE, np.arange(len(LIBRARY)))
    )
    expected = model.similarity(LIBRARY, GE)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995
    atol = {"float32": 1e-5, "float16": 0.005, "int8": 0.2}[dtype]
    np.testing.assert_allclose(found, expected, atol=atol * np.abs(expected).max())
    # Several profiles are asked by the mean of their scores.
    together = again.query(GE[:4], 1, groups=np.zeros(4), n_permutations=0)
    best = expected[:4].mean(axis=0).max()
    np.testing.assert_allclose(together["score"], best, atol=2 * atol * abs(best))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("estimator", RERANKED.values(), ids=RERANKED)
def test_all_candidates_give_the_exact_order(estimator, reverse):
    model = clone(estimator).fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY)
    assert index.reranks_
    expected = model.similarity(LIBRARY, GE)
    rows = np.arange(len(LIBRARY))
    np.testing.assert_allclose(index.similarity_to_rows(GE, rows), expected, atol=1e-6)
    distances, found = index.kneighbors(GE, 7, reverse=reverse)
    scores = model.similarity(LIBRARY, -GE) if reverse else expected
    best = -np.sort(-scores, axis=1)[:, :7]
    np.testing.assert_allclose(distances, -best, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(scores, found, 1), best, atol=1e-6)
    own = np.array([np.flatnonzero(LIBRARY == s)[0] for s in own_smiles()])
    closer = scores > scores[np.arange(len(GE)), own][:, None]
    ranks = index.rank(GE, own_smiles(), reverse=reverse)
    np.testing.assert_allclose(ranks, 1 + closer.sum(axis=1), atol=2)
    assert (ranks == 1 + closer.sum(axis=1)).mean() > 0.9  # others tie


def test_candidates_are_those_of_the_joint_space():
    embedder, retriever = cca().fit(X, GE), d_nn().fit(X, GE)
    plain = MoleculeIndex(embedder).fit(LIBRARY)
    index = MoleculeIndex(retriever, candidates_by=embedder, n_candidates=9)
    index.fit(LIBRARY, names=[f"m{i}" for i in range(len(LIBRARY))])
    asked = GE[:8]
    exact = similarity(retriever, LIBRARY, asked)
    candidates = plain.kneighbors(asked, 9, return_distance=False)
    distances, found = index.kneighbors(asked, 9)
    for i, rows in enumerate(candidates):
        slow = sorted(rows, key=lambda row: (-exact[i, row], row))
        np.testing.assert_allclose(-distances[i], exact[i, slow])
        assert found[i].tolist() == slow
    table = index.query(asked, 3, n_permutations=19)
    np.testing.assert_array_equal(table["index_row"], found[:, :3].ravel())
    np.testing.assert_allclose(table["score"], -distances[:, :3].ravel())
    # Rows that are asked for are all candidates, as far as there is room for them.
    few = index.query(asked[:1], 2, among=found[0, 3:], n_permutations=0)
    assert few["index_row"].tolist() == found[0, 3:5].tolist()
    np.testing.assert_allclose(few["score"], -distances[0, 3:5])
    in_space = plain.similarity_to_rows(asked, np.arange(len(LIBRARY)))
    expected = np.take_along_axis(in_space, found[:, :3], 1).ravel()
    np.testing.assert_allclose(table["candidate_score"], expected, rtol=1e-6)
    assert "candidate_score" not in plain.query(asked[:1], 3)
    display = MoleculeQueryDisplay.from_table(table, query=0)
    assert display.axes_[0].texts[1].get_text().startswith("similarity ")
    # A molecule that is no candidate has its rank in the joint space.
    in_order = plain.kneighbors(asked, 20, return_distance=False)
    np.testing.assert_array_equal(index.rank(asked, LIBRARY[in_order[:, 14]]), 15)
    place = found[:, 4]
    ties = [np.flatnonzero(d == d[4]) for d in distances]
    np.testing.assert_allclose(
        index.rank(asked, LIBRARY[place]), [1 + t.mean() for t in ties]
    )
    with pytest.raises(ValueError, match="from 1 to 9, the number of candidates that"):
        index.kneighbors(asked, 10)


@pytest.mark.parametrize("nested", [False, True])
def test_an_answer_depends_on_its_query_alone(nested):
    model = clone(RERANKED["with D-NN"])
    model = (vote(model, cca()) if nested else model).fit(X, GE)
    index = MoleculeIndex(model, n_candidates=12).fit(LIBRARY)
    distances, rows = index.kneighbors(GE[:20], 5)
    for i in (0, 17):
        alone = index.kneighbors(GE[[i]], 5)
        np.testing.assert_allclose(alone[0][0], distances[i])
        np.testing.assert_array_equal(alone[1][0], rows[i])


def test_conditions_and_noise():
    model = RERANKED["with D-NN"].fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY).calibrate(X, GE)
    groups = STUDY.groups[:, 0]
    expected = model.similarity(LIBRARY, GE)
    labels = np.unique(groups)
    means = np.array([expected[groups == label].mean(axis=0) for label in labels])
    table = index.query(GE, 1, groups=groups, n_permutations=9)
    np.testing.assert_allclose(table["score"], means.max(axis=1), atol=1e-6)
    assert table["percentile"].between(0, 100).all()
    noise = index.significance(GE, groups=groups, n_permutations=9)
    np.testing.assert_array_equal(table["query_p_value"], noise["p_value"])


def by_own_score(model, profiles, members):
    """Scores of each condition with the library."""
    scores = similarity(model, LIBRARY, profiles)
    return np.array([scores[own].mean(axis=0) for own in members])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["with D-NN", "own similarity", "candidates_by"])
def test_p_values_and_percentiles_are_of_the_score_that_orders(name, reverse):
    """By a slow loop over permutations and over the background."""
    options = {}
    if name == "candidates_by":
        model = d_nn().fit(X, GE)
        options = {"candidates_by": cca().fit(X, GE), "n_candidates": 20}
    else:
        model = clone(RERANKED[name]).fit(X, GE)
    index = MoleculeIndex(model, **options).fit(LIBRARY).calibrate(y=GE[::2])
    asked, groups = GE[:4], np.array(["a", "b", "b", "c"])
    members = [np.array([0]), np.array([1, 2]), np.array([3])]
    table = index.query(
        asked, 3, groups=groups, reverse=reverse, n_permutations=19, random_state=1
    )
    draw = np.random.RandomState(1)
    orders = [np.arange(GE.shape[1])]
    orders += [draw.permutation(GE.shape[1]) for _ in range(19)]
    turned = -asked if reverse else asked
    scores = np.stack(
        [by_own_score(model, turned[:, order], members) for order in orders]
    )
    background = by_own_score(model, GE[::2], np.arange(len(GE[::2]))[:, None])
    for i, (_, answers) in enumerate(table.groupby("query")):
        rows = answers["index_row"].to_numpy()
        own = scores[:, i, rows]
        np.testing.assert_allclose(answers["score"], own[0], atol=1e-6)
        expected = (own >= own[0] - 1e-9).mean(axis=0)
        np.testing.assert_allclose(answers["p_value"], expected)
        known = background[:, rows]
        below = (known < own[0] - 1e-6).mean(axis=0) * 100
        equal = (np.abs(known - own[0]) <= 1e-6).mean(axis=0) * 100
        np.testing.assert_allclose(answers["percentile"], below + equal / 2)
        spread = scores[:, i].std(axis=0)
        standard = (scores[:, i] - scores[:, i].mean(axis=0)) / spread
        best = standard.max(axis=1)  # 1 % of 60 molecules is one
        p_value = (best >= best[0] - 1e-9).mean()
        np.testing.assert_allclose(answers["query_p_value"], p_value)
    noise = index.significance(
        asked, groups=groups, reverse=reverse, n_permutations=19, random_state=1
    )
    np.testing.assert_allclose(noise["p_value"], table["query_p_value"][::3])
    np.testing.assert_allclose(noise["q_value"], table["query_q_value"][::3])


class Oracle(TwoViewMixin, BaseEstimator):
    """Knows one molecule, and of that alone its similarity: the first gene."""

    def fit(self, X, y):
        self.n_genes_in_ = np.shape(y)[1]
        return self

    def compare_to(self, X):
        unknown = np.array([0 if smiles == LIBRARY[3] else -np.inf for smiles in X])
        return lambda y: np.asarray(y)[:, :1] + unknown


def test_what_is_minus_infinity_is_as_likely_under_noise():
    index = MoleculeIndex(Oracle().fit(X, GE), candidates_by=cca().fit(X, GE))
    index.fit(LIBRARY).calibrate(y=GE)
    asked = np.sort(GE[:1])[:, ::-1]  # the first gene is the largest
    table = index.query(asked, 3, n_permutations=9)
    assert table["index_row"][0] == 3
    assert table["p_value"].tolist() == [0.1, 1, 1]
    assert table["query_p_value"].tolist() == [0.1] * 3
    assert table["percentile"].tolist()[1:] == [50, 50]


def test_the_folder_keeps_the_background(tmp_path):
    model, embedder = d_nn().fit(X, GE), cca().fit(X, GE)
    index = MoleculeIndex(model, folder=tmp_path / "index", candidates_by=embedder)
    index.fit(LIBRARY).calibrate(y=GE[:20])
    expected = index.query(GE[:2], 3, n_permutations=0)["percentile"]
    again = MoleculeIndex.open(tmp_path / "index", verify=True)
    found = again.query(GE[:2], 3, n_permutations=0)["percentile"]
    np.testing.assert_array_equal(found, expected)


def test_the_folder_keeps_both(tmp_path):
    retriever, embedder = d_nn().fit(X, GE), cca().fit(X, GE)
    made = {"candidates_by": embedder, "n_candidates": 20}
    index = MoleculeIndex(retriever, folder=tmp_path / "index", **made).fit(LIBRARY)
    expected = index.kneighbors(GE[:5], 4)
    opened = MoleculeIndex.open(tmp_path / "index", n_candidates=20, verify=True)
    for again in (
        opened,
        pickle.loads(pickle.dumps(index)),
        MoleculeIndex.open(tmp_path / "index", estimator=retriever, **made),
    ):
        assert again.reranks_
        for a, b in zip(again.kneighbors(GE[:5], 4), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert verify_index(tmp_path / "index")
    opened.partial_fit(["CCCCCCCCCCCl"])
    assert opened.n_molecules_ == len(LIBRARY) + 1
    other = make_pipeline(fingerprints(), DoubleNNRetriever(n_neighbors=2)).fit(X, GE)
    with pytest.raises(ValueError, match="the retriever that made"):
        MoleculeIndex.open(tmp_path / "index", estimator=other, **made)
    with pytest.raises(ValueError, match="the retriever that made"):
        MoleculeIndex.open(tmp_path / "index", estimator=embedder)


def test_the_folder_of_a_vote(tmp_path):
    model = EXACT["correlations"].fit(X, GE)
    index = MoleculeIndex(model, folder=tmp_path / "index").fit(LIBRARY)
    opened = MoleculeIndex.open(tmp_path / "index")
    np.testing.assert_array_equal(opened.rank(GE, X), index.rank(GE, X))
    heavier = clone(model).set_params(weights=[1, 5]).fit(X, GE)
    with pytest.raises(ValueError, match="the embedder that made"):
        MoleculeIndex.open(tmp_path / "index", estimator=heavier)


def test_a_changed_retriever_answers_nothing():
    embedder = cca().fit(X, GE)
    index = MoleculeIndex(d_nn().fit(X, GE), candidates_by=embedder).fit(LIBRARY)
    index.estimator_[-1].n_neighbors = 2
    with pytest.raises(ValueError, match="estimator_ of this index was changed"):
        index.kneighbors(GE[:1], 2)


def test_what_has_no_joint_space_says_what_to_do():
    for model in (d_nn(), vote(d_nn()), vote(d_nn(), RandomRetriever(0))):
        with pytest.raises(TypeError, match="candidates_by=embedder"):
            MoleculeIndex(model.fit(X, GE)).fit(LIBRARY)
    fitted = cca().fit(X, GE)
    with pytest.raises(TypeError, match="candidates_by=embedder"):
        MoleculeIndex(fitted, candidates_by=d_nn().fit(X, GE)).fit(LIBRARY)
    voted = EXACT["correlations"].fit(X, GE)
    with pytest.raises(ValueError, match="metric must be 'auto' for a VotingRetriever"):
        MoleculeIndex(voted, metric="cosine").fit(LIBRARY)


class Unsure(TwoViewMixin, BaseEstimator):
    """Has no number for some molecules."""

    def fit(self, X, y):
        self.n_genes_in_ = np.shape(y)[1]
        return self

    def compare_to(self, X):
        known = np.array([np.nan if smiles == LIBRARY[3] else 1.0 for smiles in X])
        return lambda y: np.tile(known, (len(y), 1))


def test_nan_is_refused():
    index = MoleculeIndex(Unsure().fit(X, GE), candidates_by=cca().fit(X, GE))
    index.fit(LIBRARY)
    with pytest.raises(ValueError, match="similarities of 2 queries are NaN"):
        index.kneighbors(GE[:2], 2)


@pytest.mark.parametrize(
    "retriever",
    [
        GaussianProcessRetriever(
            TanimotoKernel(MorganFingerprinter(count=True, fp_size=256)),
            heritability=0.8,
        ),
        ConnectivityRetriever("cosine", unit="raw", summary="max"),
        EvidenceRetriever(cca(), n_splits=2, random_state=0),
    ],
    ids=lambda retriever: type(retriever).__name__,
)
def test_the_reverse_is_the_query_with_its_sign_turned(retriever):
    """Of a score that is not odd, the least one is no answer to that."""
    y = STUDY.profiles()
    model, embedder = clone(retriever).fit(X, y), cca().fit(X, y)
    index = MoleculeIndex(model, candidates_by=embedder, n_candidates=20)
    index.fit(LIBRARY).calibrate(y=y[:30])
    asked, options = y[:6], {"n_permutations": 19, "groups": np.arange(6) // 2}
    table = index.query(asked, 5, reverse=True, **options)
    expected = index.query(-asked, 5, **options)
    assert table.attrs["reverse"]
    assert table.equals(expected)
    assert index.rank(asked, LIBRARY[0], reverse=True).tolist() == (
        index.rank(-asked, LIBRARY[0]).tolist()
    )
    noise = index.significance(asked, reverse=True, n_permutations=9)
    assert noise.equals(index.significance(-asked, n_permutations=9))
    display = MoleculeQueryDisplay.from_table(table, query=0)
    assert "most like its opposite first" in display.title_.get_text()


@pytest.mark.parametrize("kind", [np.int64, np.uint8, object, pd.DataFrame, list])
def test_the_sign_of_any_profile_can_be_turned(kind):
    model = RERANKED["with D-NN"].fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY)
    counts = np.rint(np.abs(GE[:3])).astype(int)  # some of them are 0, as in a gene set
    makes = kind in (list, pd.DataFrame)
    asked = kind(counts.tolist()) if makes else counts.astype(kind)
    expected = index.kneighbors(-counts.astype(float), 5)
    for found, other in zip(
        index.kneighbors(asked, 5, reverse=True), expected, strict=True
    ):
        np.testing.assert_allclose(found, other)
    counts[1] += 1
    with pytest.raises(ValueError, match=r"needs profiles with a sign.*1 of 3.*\[1\]"):
        index.query(counts, 5, reverse=True)


def test_places_in_the_joint_space_are_no_background():
    """As versions kept them that did not compare scores of the estimator."""
    model = RERANKED["with D-NN"].fit(X, GE)
    index = MoleculeIndex(model).fit(LIBRARY).calibrate(X, GE)
    points = np.zeros((9, 17), dtype=np.float32)
    index.background_ = replace(index.background_, profiles=points)
    with pytest.raises(ValueError, match=r"has 17 numbers.*40 genes.*Call calibrate"):
        index.query(GE[:2], 3)
    assert len(index.calibrate(X, GE).query(GE[:2], 3)) == 6


def test_the_sample_of_the_library_is_prepared_once():
    model = d_nn().fit(X, GE)
    index = MoleculeIndex(model, candidates_by=cca().fit(X, GE), n_candidates=9)
    index.fit(LIBRARY)
    first = index.query(GE[:2], 3, n_permutations=19)
    again = index.query(GE[:2], 3, n_permutations=19)
    pd.testing.assert_frame_equal(first, again)
    # Another library, and another copy of the estimator, are other samples.
    index.remove(LIBRARY[:30])
    fewer = index.query(GE[:2], 3, n_permutations=19)
    anew = MoleculeIndex(model, candidates_by=index.candidates_by_, n_candidates=9)
    anew.fit(LIBRARY[30:])
    expected = anew.query(GE[:2], 3, n_permutations=19)
    columns = ["molecule", "score", "query_p_value", "p_value"]
    pd.testing.assert_frame_equal(fewer[columns], expected[columns])
