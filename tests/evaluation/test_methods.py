"""The default rows: all of the paper's tables, and embedders one change apart."""

from itertools import product

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss, QuadrupletLoss
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import (
    AlignedView,
    Method,
    PaperOptions,
    ablation_methods,
    finlayson2020_methods,
    reference_table,
)
from sklearn_molge.expression import L1000Featurizer


def test_every_row_of_table_1_is_there():
    methods = finlayson2020_methods()
    assert set(reference_table("table1").index) <= set(methods)
    cells = product(("D-NN", "CCA"), ("raw", "aligned"), ("Morgan", "Chemprop",
                                                          "aligned"))  # fmt: skip
    for kind, expression, molecules in cells:
        name = f"{kind.replace('-', '')}_{expression}_{molecules}".lower()
        row = methods[name]
        cells = (row.method, row.expression, row.molecules)
        assert cells == (kind, expression, molecules)
        assert row.label == f"{kind}, {expression} / {molecules}"
        parts = row.estimator.get_params().values()
        views = {part.view for part in parts if isinstance(part, AlignedView)}
        expected = {"profiles"} if expression == "aligned" else set()
        expected |= {"molecules"} if molecules == "aligned" else set()
        assert views == expected


def test_every_oracle_of_table_2_is_there():
    oracles = {
        name: m for name, m in finlayson2020_methods().items() if "oracle" in name
    }
    seen = {(m.train, m.expression, m.estimator.retriever.metric)
            for m in oracles.values()}  # fmt: skip
    assert seen == {
        ("oracle_train_lines", "raw", "correlation"),
        ("oracle_train_lines", "aligned", "correlation"),
        ("oracle_test_lines", "raw", "euclidean"),
        ("oracle_test_lines", "raw", "correlation"),
        ("oracle_test_lines", "aligned", "euclidean"),
        ("oracle_test_lines", "aligned", "correlation"),
    }
    for method in oracles.values():
        assert method.tables == ("table2",)
        assert method.estimator.retriever.leave_query_out
        assert not method.is_classical


def test_what_may_be_the_baseline():
    classical = [n for n, m in finlayson2020_methods().items() if m.is_classical]
    assert classical == [
        "dnn_raw_morgan",
        "dnn_raw_chemprop",
        "cca_raw_morgan",
        "cca_raw_chemprop",
        "cca_raw_six_features",
    ]


@pytest.mark.parametrize("preset", ["recommended", "paper", "quick"])
def test_ablations_differ_in_one_thing(preset):
    rows = ablation_methods(preset=preset, encoder="weights.pt")
    base = rows["base"].estimator.get_params(deep=False)
    changes = {
        "loss": {"criterion"},
        "sampler": {"sampler"},
        "descriptors joined": {"molecule_features"},
        "descriptors, no graph": {"molecule_features", "encoder"},
        "pretrained weights": {"encoder"},
        "pretrained weights, descriptors joined": {"molecule_features", "encoder"},
    }
    for name, method in rows.items():
        own = method.estimator.get_params(deep=False)
        keys = {
            key
            for key in set(base) | set(own)
            if not key.startswith(("criterion__", "encoder__", "sampler__"))
            and repr(base.get(key)) != repr(own.get(key))
        }
        if name != "base":
            assert keys == changes[method.label.split(":")[0]], name
        clone(method.estimator)
    assert len({name for name in rows if name.startswith("loss")}) == 9
    assert "pretrained_weights" in rows
    assert "pretrained_weights" not in ablation_methods(preset=preset)


def test_the_quintuplet_loss_gets_its_partners():
    rows = ablation_methods(preset="paper")
    quintuplet = rows["loss_quintuplet"].estimator
    assert quintuplet.get_params(deep=False)["sampler__partners"]
    study = make_perturbation_study(
        20, n_cell_lines=3, n_genes=12, level=5, random_state=0
    )
    quintuplet.set_params(
        max_epochs=1, module__expression_layers=(8,), encoder__hidden_size=8
    )
    quintuplet.fit(study.smiles, study.ge)
    assert np.isfinite(quintuplet.history_[0]["train_loss"])
    # In-batch negatives need none.
    assert "sampler__partners" not in (
        ablation_methods()["loss_quintuplet"].estimator.get_params(deep=False)
    )


@pytest.mark.parametrize(
    ("n_molecules", "n_genes", "expected", "ridge"),
    [(8, 20, 7, 1.0), (30, 12, 12, None), (80, 60, 50, None)],
)
def test_cca_of_the_rows_takes_what_the_training_rows_allow(
    n_molecules, n_genes, expected, ridge
):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(n_molecules, 90)), 2, axis=0)
    y = rng.normal(size=(2 * n_molecules, n_genes))
    row = finlayson2020_methods(n_components=50)["cca_raw_morgan"].estimator[-1]
    model = clone(row).fit(X, y).retriever_
    assert model.correlations_.shape == (expected,)
    assert model.get_params(deep=False) == CCA(50).get_params(deep=False)
    if ridge is not None:
        assert model.ridge_ == ridge
    # A gene that never varies, and one that is twice another, are none.
    y[:, 0], y[:, 1] = 3.0, 2 * y[:, 2]
    if expected == n_genes:
        assert len(clone(row).fit(X, y).retriever_.correlations_) == n_genes - 2


def test_preset_embedder_keeps_its_best_epoch():
    embedder = PaperOptions("paper", encoder="weights.pt").embedder(validated=True)
    assert isinstance(embedder, CoordinatedEmbedder)
    assert embedder.encoder == "weights.pt"
    assert embedder.criterion is QuadrupletLoss
    (callback,) = embedder.callbacks
    assert callback.load_best
    assert callback.patience == embedder.max_epochs
    plain = PaperOptions(encoder="weights.pt").embedder(validated=False)
    assert plain.encoder is None
    assert plain.criterion is InfoNCELoss
    assert plain.callbacks is None


def test_profile_features_by_level():
    paper, quick = PaperOptions("paper"), PaperOptions("quick")
    blocks = paper.expression(3, controls=True)
    assert isinstance(blocks, L1000Featurizer)
    assert list(blocks.blocks) == ["control", "treated", "log2_fold_change"]
    assert list(quick.expression(3, controls=True).blocks) == ["difference"]
    assert type(paper.expression(3, controls=False)).__name__ == "StandardScaler"
    for level in (4, 5, None):
        assert paper.expression(level, controls=False).func is None


def test_unknown_names():
    with pytest.raises(ValueError, match="preset"):
        ablation_methods(preset="best")
    with pytest.raises(ValueError, match="preset"):
        PaperOptions(preset="best")
    with pytest.raises(ValueError, match="metric"):
        finlayson2020_methods(metric="jaccard")
    assert AlignedView().view == "both"


def test_aligned_view_alone_says_what_to_use():
    with pytest.raises(TypeError, match="molecule_encoder"):
        AlignedView("molecules").fit(["CCO"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train": "all"}, "train must be one of"),
        ({"tables": ("table3",)}, "tables must be of"),
        ({"tables": ()}, "tables must be of"),
    ],
)
def test_method_says_what_is_wrong(options, match):
    with pytest.raises(ValueError, match=match):
        Method(CCA(2), **options)
    with pytest.raises(ValueError, match="at least one"):
        Method([])


def test_cca_of_six_features_takes_them_sparse():
    study = make_perturbation_study(30, n_cell_lines=2, level=5, random_state=0)
    row = finlayson2020_methods()["cca_raw_six_features"].estimator[0]
    row.set_params(transformedtargetretriever__retriever__random_state=0)  # its folds
    model = clone(row).fit(study.smiles, study.ge)
    features = model[0].transform(study.smiles)
    assert sparse.issparse(features)
    dense = clone(row[-1]).fit(features.toarray(), study.ge)
    np.testing.assert_allclose(
        model[-1].similarity(features[:9], study.ge[:9]),
        dense.similarity(features[:9].toarray(), study.ge[:9]),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip
