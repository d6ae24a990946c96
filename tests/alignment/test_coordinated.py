import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from torch import nn

from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder
from sklearn_molge.exceptions import InvalidSmilesError, JointSpaceWarning
from sklearn_molge.metrics import (
    chance_scores,
    mean_reciprocal_rank,
    pairwise_similarity,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MoleculeFingerprinter,
    MorganFingerprinter,
)


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


# -- the two views -------------------------------------------------------------------


def test_shapes_types_and_names(fitted, data):
    X, y = data
    for embeddings in (fitted.transform(X[:5]), fitted.transform_ge(y[:5])):
        assert embeddings.shape == (5, 8)
        assert embeddings.dtype == np.float32
    assert fitted.similarity(X[:4], y[:3]).shape == (3, 4)
    assert fitted.n_genes_in_ == 30
    assert not hasattr(fitted, "n_features_in_")
    names = fitted.get_feature_names_out()
    assert names.tolist() == [f"coordinatedembedder{i}" for i in range(8)]


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
def test_similarity_is_that_of_the_embeddings(make_net, data, metric):
    X, y = data
    net = make_net(metric=metric, max_epochs=1).fit(X, y)
    expected = pairwise_similarity(net.transform_ge(y), net.transform(X), metric=metric)
    np.testing.assert_allclose(net.similarity(X, y), expected, rtol=1e-6)


def test_score_is_the_mean_reciprocal_rank(fitted, data):
    ranks = retrieval_ranks(fitted, *data)
    assert fitted.score(*data) == mean_reciprocal_rank(ranks)


def test_every_bad_entry_is_named_by_its_row(fitted):
    X = np.array(["CCO", "x", "CCO", None, "x", "-666", "CCN"], dtype=object)
    with pytest.raises(InvalidSmilesError) as caught:
        fitted.transform(X)
    assert caught.value.indices == [1, 3, 4, 5]
    assert caught.value.entries == ["x", None, "x", "-666"]


def test_training_learns(make_net, data):
    net = make_net(max_epochs=30, lr=3e-3, module__dropout=0.1).fit(*data)
    losses = net.history[:, "train_loss"]
    assert losses[-1] < losses[0] / 2
    assert net.score(*data) > 2 * chance_scores(20)["mrr"]


def test_rows_do_not_depend_on_their_neighbours(fitted, data):
    X, y = data
    order = np.random.default_rng(0).permutation(len(X))
    for method, view in ((fitted.transform, X), (fitted.transform_ge, y)):
        whole = method(view)
        np.testing.assert_allclose(method(view[order]), whole[order], atol=1e-5)
        np.testing.assert_allclose(method(view[7:8]), whole[7:8], atol=1e-5)


def test_order_of_rows_is_kept_beyond_a_batch(make_net, data):
    """More molecules than `batch_size` are embedded part by part."""
    X, y = data
    net = make_net(batch_size=3, max_epochs=1).fit(X, y)
    expected = np.concatenate([net.transform([s]) for s in X])
    np.testing.assert_allclose(net.transform(X), expected, atol=1e-5)


def test_lists_frames_and_columns(fitted, data):
    X, y = data
    expected = fitted.similarity(X[:3], y[:3])
    forms = [
        (X[:3].tolist(), y[:3].tolist()),
        (pd.Series(X[:3], dtype=object), pd.DataFrame(y[:3])),
        (X[:3, None], y[:3]),
        (np.asarray(X[:3], dtype=str), y[:3].astype(np.float64)),
    ]
    for molecules, profiles in forms:
        got = fitted.similarity(molecules, profiles)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_pandas_output(make_net, data):
    net = make_net(max_epochs=1).fit(*data)
    plain = net.transform(data[0]), net.similarity(*data)
    net.set_output(transform="pandas")
    frame = net.transform(data[0])
    assert frame.columns.tolist() == net.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame, plain[0])
    np.testing.assert_array_equal(net.similarity(*data), plain[1])


# -- bad input -----------------------------------------------------------------------


def test_molecules_that_are_none(make_net, fitted, data):
    X, y = data[0].copy(), data[1]
    X[[3, 7]] = "-666", "C1CC"
    for call in (lambda: make_net().fit(X, y), lambda: fitted.transform(X)):
        with pytest.raises(
            InvalidSmilesError, match="index 3: '-666', index 7: 'C1CC'"
        ):
            call()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_profiles_that_are_no_numbers(make_net, fitted, data, value):
    X, y = data[0], data[1].copy()
    y[3, 2] = value
    what = "NaN" if np.isnan(value) else "infinity"
    for call in (lambda: make_net().fit(X, y), lambda: fitted.transform_ge(y)):
        with pytest.raises(ValueError, match=f"Input y contains {what}"):
            call()


def test_too_few_drugs(make_net, data):
    X, y = np.full(6, "CCO", dtype=object), data[1][:6]
    with pytest.raises(ValueError, match="at least 2 drugs"):
        make_net().fit(X, y)
    with pytest.raises(ValueError, match=r"at least 2 drugs, .* Got 1 sample"):
        make_net().fit(X[:1], y[:1])


def test_a_validation_part_with_one_drug(make_net, study):
    split = DrugCellLineShuffleSplit(1, test_drugs=1, test_cell_lines=1, random_state=0)
    with pytest.raises(ValueError, match="at least 2 drugs"):
        make_net(train_split=split).fit(study.smiles, study.ge, groups=study.groups)


def test_views_that_do_not_fit(make_net, fitted, data):
    X, y = data
    with pytest.raises(ValueError, match=r"y has 29 genes, .* was fitted on 30"):
        fitted.transform_ge(y[:, :29])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_net().fit(X, y[:-1])
    with pytest.raises(ValueError, match=r"must be SMILES .* shape \(120, 30\)"):
        make_net().fit(y, y)
    with pytest.raises(ValueError, match=r"must be SMILES .* shape \(120, 30\)"):
        fitted.transform(y)
    with pytest.raises(ValueError, match="encoder=None is for features"):
        make_net(None).fit(X, y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        make_net().fit(X, None)


def test_groups_that_do_not_fit(make_net, study):
    for groups, match in (
        (study.groups[:, 0], r"shape \(n_samples, 2\)"),
        (study.groups[:-1], "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=match):
            make_net().fit(study.smiles, study.ge, groups=groups)


@pytest.mark.parametrize("content", [b"nonsense", b""])
def test_a_corrupt_pretrained_file(make_net, data, tmp_path, content):
    path = tmp_path / "encoder.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"encoder\.pt"):
        make_net(str(path)).fit(*data)


def test_before_fit(make_net, data):
    net = make_net()
    calls = [
        lambda: net.transform(data[0]),
        lambda: net.transform_ge(data[1]),
        lambda: net.similarity(*data),
        lambda: net.score(*data),
        net.molecule_encoder,
        net.expression_encoder,
        lambda: net.save_encoder("nowhere.pt"),
    ]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()


# -- molecule towers -----------------------------------------------------------------


def test_features_are_joined_to_the_graph_vector(make_net, data):
    union = FeatureUnion(
        [
            ("ecfp", MorganFingerprinter(fp_size=32)),
            ("maccs", MoleculeFingerprinter("maccs")),
        ]
    )
    net = make_net(molecule_features=union).fit(*data)
    width = union.fit(data[0]).transform(data[0][:1]).shape[1]
    assert net.module_.molecule_tower.head[0].in_features == 16 + width
    assert not hasattr(union.transformer_list[0][1], "n_features_in_")
    # A molecule's features, and not only its graph, are in its embedding.
    head = net.module_.molecule_tower.head[0].weight
    before = net.transform(data[0])
    with torch.no_grad():
        head[:, 16:] = 0
    assert not np.allclose(net.transform(data[0]), before)


def test_features_of_smiles_alone_or_from_a_pipeline(make_net, study):
    X, y, groups = study.smiles, study.ge, study.groups
    features = MorganFingerprinter(fp_size=512)
    net = make_net(None, molecule_features=features).fit(X, y, groups=groups)
    assert net.module_.molecule_tower.encoder is None
    pipe = Pipeline([("fp", features), ("net", make_net(None))])
    pipe.fit(X, y, net__groups=groups)
    np.testing.assert_allclose(net.transform(X), pipe.transform(X), atol=1e-4)
    assert pipe[-1].n_features_in_ == 512


def test_refitting_on_another_kind_of_molecules(make_net, data):
    """Nothing of the first training is left."""
    X, y = data
    net = make_net(None, molecule_features=MorganFingerprinter(fp_size=32)).fit(X, y)
    net.set_params(molecule_features=None).fit(y[:, :7], y)
    assert net.molecule_features_ is None
    assert net.n_features_in_ == 7
    net.set_params(encoder="random", encoder__hidden_size=16).fit(X, y)
    expected = make_net().fit(X, y)
    np.testing.assert_array_equal(net.transform(X), expected.transform(X))


class Composition(nn.Module):
    """Sums the atoms' features: any module can be the graph network."""

    output_size = 72

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, graphs):
        sums = graphs.V.new_zeros(len(graphs), 72)
        return self.factor * sums.index_add(0, graphs.batch, graphs.V)


def test_any_module_is_a_graph_network(make_net, data):
    encoder = Composition()
    net = make_net(encoder).fit(*data)
    assert encoder.factor.item() == 1.0  # a copy of it was trained
    assert net.module_.molecule_tower.encoder.factor.item() != 1.0
    # C4H10 and its isomer have the same atoms but not the same neighbours.
    assert np.ptp(net.transform(["CCCO", "CCOC"]), axis=0).max() > 0
    copy = clone(net).fit(*data)
    np.testing.assert_array_equal(copy.transform(data[0]), net.transform(data[0]))


def test_the_trained_graph_network_is_saved_and_loaded(
    fitted, data, tmp_path, make_net
):
    path = tmp_path / "encoder.pt"
    fitted.save_encoder(path)
    embedder = ChempropEmbedder(str(path)).fit(data[0])
    vectors = embedder.transform(data[0])
    tower = fitted.module_.molecule_tower
    with torch.no_grad():
        by_hand = tower.head(tower.scale_graph(torch.from_numpy(vectors))).numpy()
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(by_hand, fitted.transform(data[0]), atol=1e-4)
    again = make_net(str(path), lr=1e-12, max_epochs=1).fit(*data)
    weights = (net.module_.molecule_tower.encoder.W_h.weight for net in (again, fitted))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-9)


def test_without_a_graph_network_there_is_none_to_save(make_net, data, tmp_path):
    net = make_net(None, max_epochs=1).fit(data[1][:, :5], data[1])
    with pytest.raises(ValueError, match="save_encoder needs a graph network"):
        net.save_encoder(tmp_path / "encoder.pt")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", ["none", *PRESETS])
def test_trains_on_a_gpu_as_on_the_cpu(data, preset):
    X, y = data
    params = PRESETS.get(preset, {}) | {"max_epochs": 1, "random_state": 0}
    nets = [
        CoordinatedEmbedder(**params, device=device).fit(X, y)
        for device in ("auto", "cpu")
    ]
    assert next(nets[0].module_.parameters()).is_cuda
    losses = [net.history[-1, "train_loss"] for net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    on_gpu, on_cpu = (net.similarity(X, y) for net in nets)
    assert np.corrcoef(on_gpu.ravel(), on_cpu.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("size", [1, 2])
def test_a_joint_space_too_small_for_a_correlation(make_net, data, size):
    net = make_net(module__embedding_size=size, max_epochs=1)
    with pytest.warns(JointSpaceWarning, match=f"of rows of length {size} is "):
        net.fit(*data)
    found = net.similarity(data[0][:5], data[1][:5])
    assert set(np.abs(found).round(4).ravel()) == {size - 1.0}
    net.set_params(metric="cosine").fit(*data)
