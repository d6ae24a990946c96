import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_molge.alignment import CCA, PRESETS, CoordinatedEmbedder
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.inspection import gene_attribution
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

SMILES = np.array(
    ["CCO", "CCN", "CCCl", "c1ccccc1O", "CC(=O)O", "CC(C)N", "OCC(Cl)C", "CCCC"],
    dtype=object,
)
GE = np.random.default_rng(0).normal(size=(8, 12))
NAMES = [f"G{i}" for i in range(12)]
METHODS = ["occlusion", "gradient"]


class Linear:
    """Similarity is a weighted sum of the genes, whatever the molecule."""

    def __init__(self, weights):
        self.weights = np.asarray(weights)

    def similarity(self, X, y):
        assert y.shape[1] == len(self.weights)
        return (y @ self.weights)[:, None] + np.zeros(len(X))


def tiny_net(encoder=None, **params):
    tiny = {
        "module__expression_layers": (16,),
        "module__embedding_size": 8,
        "batch_size": 8,
        "max_epochs": 2,
        "lr": 0.01,
        "random_state": 0,
    }
    return CoordinatedEmbedder(encoder, **tiny | params)


def with_net(transformer, **params):
    last = TransformedTargetRetriever(tiny_net(**params), transformer=transformer)
    return make_pipeline(MorganFingerprinter(fp_size=32), last)


@pytest.fixture(scope="module")
def net():
    return with_net(None).fit(SMILES, GE)


def test_weight_times_value_of_a_linear_model():
    weights, profile = np.arange(-3.0, 3), np.array([1.0, 0, -2, 3, 0.5, 4])
    result = gene_attribution(Linear(weights), "CCO", profile)
    np.testing.assert_allclose(result.values, weights * profile, atol=1e-12)
    assert result.similarity == weights @ profile
    assert result.baseline_similarity == 0
    np.testing.assert_array_equal(result.genes, range(6))
    np.testing.assert_array_equal(result.expression, profile)


@pytest.mark.parametrize("baseline", ["zero", "mean", GE[1]], ids=["0", "m", "y"])
def test_weight_times_difference_of_cca(baseline):
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1, metric="dot")
    ).fit(SMILES, GE)
    start = {"zero": np.zeros(12), "mean": np.full(12, GE[0].mean())}
    start = GE[1] if not isinstance(baseline, str) else start[baseline]
    molecule = pipe.transform(["CCBr"])[0]
    cca = pipe[-1]
    # The embedding of a profile is affine: unit vectors show its weights.
    weights = (cca.transform_ge(np.eye(12)) - cca.transform_ge(np.zeros((1, 12)))) @ (
        molecule
    )
    result = gene_attribution(pipe, "CCBr", GE[0], baseline=baseline)
    np.testing.assert_allclose(result.values, weights * (GE[0] - start), atol=1e-10)
    np.testing.assert_allclose(
        result.values.sum(), result.similarity - result.baseline_similarity
    )


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("baseline", ["zero", "mean", GE[1]], ids=["0", "m", "y"])
def test_gradients_sum_to_the_change_of_similarity(metric, unit, baseline):
    net = with_net(
        StandardScaler(),
        metric=metric,
        module__unit_profiles=unit,
        module__normalize=metric != "euclidean",
    ).fit(SMILES, GE)
    options = {"method": "gradient", "baseline": baseline}
    result = gene_attribution(net, "CCBr", GE[0], **options)
    X = np.array(["CCBr"], dtype=object)
    np.testing.assert_allclose(
        result.similarity, similarity(net, X, GE[:1])[0, 0], rtol=1e-5
    )
    difference = result.similarity - result.baseline_similarity
    np.testing.assert_allclose(result.values.sum(), difference, rtol=0.01, atol=2e-3)
    again = gene_attribution(net, "CCBr", GE[0], **options)
    np.testing.assert_array_equal(again.values, result.values)


def test_gradients_of_linear_towers_are_weight_times_difference():
    net = tiny_net(module__expression_layers=(), module__normalize=False, metric="dot")
    net = make_pipeline(MorganFingerprinter(fp_size=32), net).fit(SMILES, GE)
    gradient, occlusion = (
        gene_attribution(net, "CCO", GE[0], method=method).values
        for method in ("gradient", "occlusion")
    )
    np.testing.assert_allclose(gradient, occlusion, rtol=1e-3, atol=1e-5)


def test_occlusion_agrees_with_a_loop():
    retriever = TransformedTargetRetriever(
        DoubleNNRetriever("cosine", n_neighbors=3), transformer=PCA(4)
    )
    pipe = make_pipeline(MorganFingerprinter(fp_size=32), retriever).fit(SMILES, GE)
    X = np.array(["CCO"], dtype=object)
    whole = similarity(pipe, X, GE[:1])[0, 0]
    expected = []
    for i in range(12):
        row = GE[:1].copy()
        row[0, i] = GE[1, i]
        expected.append(whole - similarity(pipe, X, row)[0, 0])
    result = gene_attribution(pipe, "CCO", GE[0], baseline=GE[1])
    np.testing.assert_allclose(result.values, expected, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_renumbering_the_genes_permutes_the_values(method):
    order = np.random.default_rng(1).permutation(12)
    nets = [with_net(None).fit(SMILES, GE) for _ in range(2)]
    tower = nets[1][-1].retriever_.module_.expression_tower
    tower.network[0].weight.data = tower.network[0].weight.data[:, order]
    for name in ("mean", "scale"):
        setattr(tower.scale, name, getattr(tower.scale, name)[order])
    a = gene_attribution(nets[0], "CCO", GE[0], method=method)
    b = gene_attribution(nets[1], "CCO", GE[0, order], method=method)
    np.testing.assert_allclose(a.values[order], b.values, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_genes_without_effect_have_no_value(method):
    net = with_net(None).fit(SMILES, GE)
    tower = net[-1].retriever_.module_.expression_tower
    tower.network[0].weight.data[:, 7] = 0
    result = gene_attribution(net, "CCO", GE[0], method=method)
    assert abs(result.values[7]) < 1e-6
    assert np.abs(np.delete(result.values, 7)).min() > 1e-6


def test_blocks_of_the_same_genes_are_taken_together():
    weights = np.array([1.0, 2, 3, 10, 20, 30])
    profile = np.array([1.0, 1, 2, 3, 5, 8])
    result = gene_attribution(
        Linear(weights), "CCO", profile, gene_names=["a", "b", "c"]
    )
    np.testing.assert_allclose(result.values, [31, 102, 246])
    np.testing.assert_array_equal(result.expression, [1, 1, 2])
    control = np.tile(profile[3:], 2)
    result = gene_attribution(
        Linear(weights), "CCO", profile, gene_names=["a", "b", "c"], baseline=control
    )
    np.testing.assert_allclose(result.values, [-2, -8, -18])


@pytest.mark.parametrize("normalize", [False, True])
def test_paired_profiles_of_the_paper(normalize):
    paired = np.hstack([GE, GE[::-1] / 2]) + 8
    blocks = ("control", "treated", "log2_fold_change")
    net = with_net(L1000Featurizer(blocks, normalize=normalize)).fit(SMILES, paired)
    control = np.tile(paired[0, 12:], 2)
    result = gene_attribution(
        net, "CCO", paired[0], method="gradient", baseline=control, gene_names=NAMES
    )
    assert result.values.shape == (12,)
    np.testing.assert_allclose(
        result.values.sum(), result.similarity - result.baseline_similarity, atol=2e-3
    )
    with pytest.raises(ValueError, match=r"stay apart .* 36 columns, that 24 genes"):
        gene_attribution(net, "CCO", paired[0], method="gradient")


@pytest.mark.parametrize(
    "transformer", [PCA(6), PCA(8), L1000Featurizer(rank_transform=True)]
)
def test_gradient_refuses_what_mixes_genes(transformer):
    net = with_net(transformer).fit(SMILES, GE)
    with pytest.raises(ValueError, match=r"stay apart .* Use method='occlusion'"):
        gene_attribution(net, "CCO", GE[0], method="gradient")
    assert gene_attribution(net, "CCO", GE[0]).values.shape == (12,)


def test_gradient_through_scalers_and_a_search():
    pipe = with_net(make_pipeline(StandardScaler(), Normalizer()))
    grid = {"transformedtargetretriever__retriever__max_epochs": [1]}
    search = GridSearchCV(pipe, grid, cv=2).fit(SMILES, GE)
    result = gene_attribution(search, "CCO", GE[0], method="gradient")
    inner = gene_attribution(search.best_estimator_, "CCO", GE[0], method="gradient")
    np.testing.assert_array_equal(result.values, inner.values)


def test_recommended_preset():
    net = CoordinatedEmbedder(
        **PRESETS["recommended"] | {"max_epochs": 1, "module__embedding_size": 3},
        random_state=0,
    )
    smiles = np.concatenate([SMILES, ["NCC" + text for text in SMILES]])
    net.fit(smiles, np.random.default_rng(1).normal(size=(16, 12)))
    result = gene_attribution(net, "CCBr", GE[0], method="gradient")
    np.testing.assert_allclose(
        result.values.sum(), result.similarity - result.baseline_similarity, atol=1e-3
    )


def test_trained_embedder_finds_the_genes_of_an_atom():
    chains = ["C" * n for n in range(1, 9)] + ["CC(C)C", "CCC(C)C", "CC(C)CC(C)C"]
    plain = [chain + end for chain in chains for end in ["O", "N", "C", "S"]]
    smiles = np.array(plain + ["Cl" + text for text in plain], dtype=object)
    ge = np.random.default_rng(0).normal(size=(len(smiles), 20))
    ge[len(plain) :, 5:10] += 4
    net = tiny_net("random", encoder__hidden_size=16, batch_size=32, max_epochs=10)
    net.fit(smiles, ge)
    profile = np.random.default_rng(1).normal(size=20)
    profile[5:10] += 4
    for method in METHODS:
        result = gene_attribution(net, "CCC(O)CC(Cl)CCN", profile, method=method)
        best = result.table.query("attribution > 0").head(3)
        assert set(best.index) <= {5, 6, 7, 8, 9}
        inside = result.values[5:10].sum()
        assert inside > abs(result.values.sum() - inside)


def test_table_is_sorted_by_size_with_ties_in_order():
    result = gene_attribution(
        Linear([1.0, -1, 3, 0]), "CCO", np.ones(4), gene_names=list("abcd")
    )
    assert result.table["gene"].tolist() == ["c", "a", "b", "d"]
    assert result.table["attribution"].tolist() == [3, 1, -1, 0]
    assert result.table["expression"].tolist() == [1, 1, 1, 1]
    assert result.table.index.tolist() == [2, 0, 1, 3]


def test_names_of_a_data_frame():
    frame = pd.DataFrame(GE, columns=NAMES)
    retriever = TransformedTargetRetriever(CCA(2, ridge=0.1), StandardScaler())
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), retriever)
    pipe.fit(SMILES, frame)
    a, b = (gene_attribution(pipe, "CCO", p) for p in (frame.iloc[0], frame[:1]))
    assert a.genes.tolist() == b.genes.tolist() == NAMES
    np.testing.assert_array_equal(a.values, b.values)


def test_vote_needs_candidates():
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=0.1))
    vote = VotingRetriever([("cca", pipe)]).fit(SMILES, GE)
    with pytest.raises(ValueError, match="candidates must be given"):
        gene_attribution(vote, "CCO", GE[0])
    result = gene_attribution(vote, "CCO", GE[0], candidates=SMILES[1:])
    whole = vote.similarity(SMILES, GE[:1])[0, 0]
    rows = np.where(np.eye(12), 0, GE[0])
    expected = whole - vote.similarity(SMILES, rows)[:, 0]
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(result.values, expected, atol=1e-10)


def test_wrong_parameters(net):
    with pytest.raises(InvalidSmilesError, match="index 0: 'C\\('"):
        gene_attribution(net, "C(", GE[0])
    with pytest.raises(ValueError, match=r"baseline must .* 12 columns .* Got 3"):
        gene_attribution(net, "CCO", GE[0], baseline=[1.0, 2, 3])
    with pytest.raises(ValueError, match="'baseline' parameter"):
        gene_attribution(net, "CCO", GE[0], baseline="median")
    with pytest.raises(ValueError, match=r"gene_names must .* Got 5 names for 12"):
        gene_attribution(net, "CCO", GE[0], gene_names=NAMES[:5])
    with pytest.raises(ValueError, match="2 are, at indices 0, 1"):
        gene_attribution(net, "CCO", GE[0], gene_names=[None, np.nan, *NAMES[2:]])
    with pytest.raises(ValueError, match=r"one profile, .* Got shape \(8, 12\)"):
        gene_attribution(net, "CCO", GE)
    with pytest.raises(TypeError, match=r"needs a CoordinatedEmbedder.*Got a Linear"):
        gene_attribution(Linear(np.ones(12)), "CCO", GE[0], method="gradient")


def test_incomplete_gradients_warn():
    net = with_net(None, module__activation="relu", metric="dot", max_epochs=20)
    net.set_params(transformedtargetretriever__retriever__module__normalize=False)
    with pytest.warns(ConvergenceWarning, match="Increase n_steps"):
        gene_attribution(
            net.fit(SMILES, GE), "CCO", 9 * GE[0], method="gradient", n_steps=1
        )


def test_more_genes_than_are_compared_at_a_time():
    rng = np.random.default_rng(0)
    weights, profile = rng.normal(size=(2, 2100))
    result = gene_attribution(Linear(weights), "CCO", profile)
    np.testing.assert_allclose(result.values, weights * profile, atol=1e-10)


def test_an_attribution_does_not_share_memory_with_the_profile():
    profile = np.array([1.0, 2.0, 3.0])
    result = gene_attribution(Linear(np.ones(3)), "CCO", profile)
    assert not np.shares_memory(result.expression, profile)
