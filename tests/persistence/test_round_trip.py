"""A loaded model equals the saved one to the bit; what cannot be stored is named."""

import functools
import importlib
import inspect
import os
import re
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from hyperopt import hp
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EarlyStopping

from sklearn_molge.alignment import (
    CCA,
    CoordinatedEmbedder,
    FittedTower,
    GaussianProcessRetriever,
    losses,
)
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import AlignedView
from sklearn_molge.exceptions import UnstorableModelError
from sklearn_molge.expression import (
    GeneImputer,
    L1000Featurizer,
    RankNormalizer,
    SourceScaler,
)
from sklearn_molge.metrics import RetrievalScorer, similarity
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
    HyperoptSearchCV,
)
from sklearn_molge.molecules import (
    DMPNN,
    AnnotationKernel,
    ChempropEmbedder,
    KernelFeatures,
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
    StructureKernel,
    TanimotoKernel,
    annotation_matrix,
    save_encoder,
)
from sklearn_molge.persistence import describe_model, load_model, save_model
from sklearn_molge.retrieval import (
    ConformalRetriever,
    ConnectivityRetriever,
    DoubleNNRetriever,
    DrugBlindRetriever,
    EvidenceRetriever,
    OracleRetriever,
    PredictedProfileRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
    recommended_ensemble,
    recommended_pipeline,
)

STUDY = make_perturbation_study(20, n_cell_lines=3, n_genes=24, level=5, random_state=0)
X, Y, GROUPS = STUDY.smiles, STUDY.profiles(), STUDY.groups
NUMBERS = MorganFingerprinter(fp_size=32).fit_transform(X)


def fingerprints():
    return MorganFingerprinter(fp_size=32)


def cca(**params):
    return make_pipeline(fingerprints(), CCA(3, ridge=0.1, **params))


def net(encoder=None, **params):
    given = {
        "molecule_features": fingerprints(),
        "module__expression_layers": (8,),
        "module__embedding_size": 4,
        "max_epochs": 2,
        "random_state": 0,
    }
    return CoordinatedEmbedder(encoder, **{**given, **params})


def annotations():
    labels = np.zeros((len(X), 2))
    labels[::3, 0] = labels[1::3, 1] = 1
    return AnnotationKernel(X, labels)


# By SMILES.
TWO_VIEWS = {
    "cca": cca,
    "auto cca": lambda: cca(metric="dot").set_params(cca__n_components="auto"),
    "recommended": lambda: recommended_pipeline(random_state=0),
    "linear": lambda: recommended_pipeline(model="linear", random_state=0),
    "ensemble": lambda: recommended_ensemble(random_state=0),
    "annotations": lambda: recommended_pipeline(
        annotations=annotations(), random_state=0
    ),
    "kernels": lambda: GaussianProcessRetriever(
        0.75 * TanimotoKernel(fingerprints())
        + ConstantKernel(0.25) * StructureKernel(),
        heritability=0.8,
        random_state=np.random.RandomState(3),
    ),
    "committee": lambda: GaussianProcessRetriever(
        TanimotoKernel(fingerprints()),
        heritability=0.8, max_expert_size=8, random_state=0,
    ),
    "conformal": lambda: ConformalRetriever(cca(), random_state=0),
    "evidence": lambda: EvidenceRetriever(cca()),
    "voting": lambda: VotingRetriever([("a", cca()), ("b", RandomRetriever())]),
    "transformed": lambda: TransformedTargetRetriever(cca(), StandardScaler()),
    "random": lambda: RandomRetriever(random_state=0),
    "oracle": lambda: OracleRetriever(),
    "connectivity": lambda: ConnectivityRetriever(random_state=0),
    "kernel cca": lambda: make_pipeline(
        KernelFeatures(StructureKernel(), random_state=0), CCA(3, ridge=0.1)
    ),
    "predicted": lambda: make_pipeline(
        fingerprints(), PredictedProfileRetriever(Ridge())
    ),
    "predicted kernel": lambda: make_pipeline(
        fingerprints(),
        PredictedProfileRetriever(
            GaussianProcessRegressor(TanimotoKernel(), alpha=0.1, optimizer=None)
        ),
    ),
    "nearest": lambda: make_pipeline(fingerprints(), DoubleNNRetriever("correlation")),
    "drug-blind": lambda: DrugBlindRetriever(RandomRetriever(random_state=0)),
    "log": lambda: make_pipeline(
        fingerprints(), FunctionTransformer(np.log1p), CCA(3, ridge=0.1)
    ),
    "towers": net,
    "towers of graphs": lambda: net(
        "random", encoder__hidden_size=8, encoder__depth=2, molecule_features=None
    ),
    "towers of a loss with weights": lambda: net(
        criterion=losses.InfoNCELoss, module__start="cca",
        optimizer=torch.optim.SGD, module__dropout=0.1,
    ),
    "tower": lambda: make_pipeline(
        FittedTower(net().fit(X, Y, groups=GROUPS)), CCA(3, ridge=0.1)
    ),
}  # fmt: skip
TRANSFORMERS = {
    "chemprop": (ChempropEmbedder(hidden_size=8, random_state=0), X),
    "descriptors": (MoleculeDescriptors(), X),
    "fingerprints": (MoleculeFingerprinter("atom_pair", fp_size=64), X),
    "imputer": (GeneImputer(), Y),
    "featurizer": (L1000Featurizer(), Y),
    "ranks": (RankNormalizer(), Y),
    "sources": (SourceScaler(query_source="a"), Y),
}
OTHERS = [
    DrugCellLineKFold(),
    DrugCellLineShuffleSplit(),
    RetrievalScorer(),
    AlignedView(),
    GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=GroupKFold(2)),
]


def fitted(estimator):
    with_groups = "groups" in inspect.signature(estimator.fit).parameters
    return estimator.fit(X, Y, **({"groups": GROUPS} if with_groups else {}))


@functools.cache
def model(name):
    return fitted(TWO_VIEWS[name]())


def answers(estimator):
    found = {"similarity": similarity(estimator, X[:7], Y.iloc[:9])}
    if hasattr(estimator, "transform"):
        found["molecules"] = estimator.transform(X[:7])
    if hasattr(estimator, "transform_ge"):
        found["profiles"] = estimator.transform_ge(Y.iloc[:9])
    return found


def without_addresses(estimator):
    return re.sub("0x[0-9A-F]+", "", repr(estimator))


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a
    )


@pytest.mark.parametrize("name", TWO_VIEWS)
def test_answers_are_equal_to_the_bit(name, tmp_path):
    saved = model(name)
    save_model(saved, tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge")
    assert type(loaded) is type(saved)
    assert without_addresses(loaded) == without_addresses(saved)
    save_model(loaded, tmp_path / "b.molge")
    first, second = (describe_model(tmp_path / f"{k}.molge") for k in "ab")
    assert first.identity == second.identity
    assert same(answers(saved), answers(loaded))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_equal_to_the_bit(name, tmp_path):
    estimator, rows = TRANSFORMERS[name]
    sources = {"sources": np.repeat(["a", "b"], len(rows) // 2)}
    params = sources if name == "sources" else {}
    estimator.fit(rows, **params)
    save_model(estimator, tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge")
    a, b = (np.asarray(e.transform(rows, **params)) for e in (estimator, loaded))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("estimator", OTHERS, ids=lambda e: type(e).__name__)
def test_parameters_come_back(estimator, tmp_path):
    save_model(estimator, tmp_path / "a.molge")
    assert repr(load_model(tmp_path / "a.molge")) == repr(estimator)


def test_every_public_estimator_is_tried():
    tried = {type(e) for e in OTHERS} | {type(e) for e, _ in TRANSFORMERS.values()}
    tried |= {HyperoptSearchCV}  # refused, see below
    for make in TWO_VIEWS.values():
        estimator = make()
        params = {"": estimator, **estimator.get_params()}
        tried |= {type(value) for value in params.values()}
    packages = (
        "alignment expression inspection metrics model_selection molecules retrieval"
    )
    for package in packages.split():
        module = importlib.import_module(f"sklearn_molge.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                assert value in tried, name


ELSEWHERE = """
import sys
from pathlib import Path
import joblib
import sklearn_molge.persistence
assert "torch" not in sys.modules
from sklearn_molge.metrics import similarity
folder = Path(sys.argv[1])
X, y = joblib.load(folder / "rows.joblib")
found = {}
for name in sys.argv[2:]:
    model = sklearn_molge.persistence.load_model(folder / f"{name}.molge")
    assert name == "towers" or "torch" not in sys.modules, name
    found[name] = {"similarity": similarity(model, X, y)}
    if hasattr(model, "transform"):
        found[name]["molecules"] = model.transform(X)
    if hasattr(model, "transform_ge"):
        found[name]["profiles"] = model.transform_ge(y)
joblib.dump(found, folder / "found.joblib")
"""


def test_another_process_without_the_training_data_and_torch(tmp_path):
    names = ["cca", "ensemble", "towers"]
    for name in names:
        save_model(model(name), tmp_path / f"{name}.molge")
    joblib.dump((X[:7], Y.iloc[:9]), tmp_path / "rows.joblib")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path), *names]
    subprocess.run(command, check=True)
    found = joblib.load(tmp_path / "found.joblib")
    for name in names:
        assert same(answers(model(name)), found[name])


def test_what_is_shared_stays_shared(tmp_path):
    vote = VotingRetriever([("a", cca()), ("b", cca())]).fit(X, Y)
    save_model(vote, tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge")
    assert loaded.named_estimators_["a"] is loaded.estimators_[0]


def test_a_pretrained_encoder_is_not_needed_again(tmp_path):
    torch.manual_seed(0)
    save_encoder(DMPNN(hidden_size=8, depth=2), tmp_path / "encoder.pt")
    chemprop = ChempropEmbedder(tmp_path / "encoder.pt").fit(X)
    towers = fitted(net(tmp_path / "encoder.pt", molecule_features=None))
    save_model(chemprop, tmp_path / "a.molge")
    save_model(towers, tmp_path / "b.molge")
    (tmp_path / "encoder.pt").unlink()
    loaded = load_model(tmp_path / "a.molge")
    assert loaded.transform(X).tobytes() == chemprop.transform(X).tobytes()
    assert same(answers(load_model(tmp_path / "b.molge")), answers(towers))


def test_a_loaded_network_can_be_trained_further(tmp_path):
    towers = fitted(net())
    save_model(towers, tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge")
    assert loaded.history[:, "train_loss"] == towers.history[:, "train_loss"]
    before = loaded.transform(X)
    loaded.partial_fit(X, Y, groups=GROUPS)
    assert len(loaded.history) == 4
    assert not np.array_equal(loaded.transform(X), before)
    assert same(answers(loaded.fit(X, Y, groups=GROUPS)), answers(towers))


def test_an_unfitted_estimator(tmp_path):
    for estimator in (cca(), net()):
        save_model(estimator, tmp_path / "a.molge")
        loaded = load_model(tmp_path / "a.molge")
        assert same(answers(fitted(loaded)), answers(fitted(estimator)))


def test_labels_of_an_annotation_matrix_and_metadata_requests(tmp_path):
    import pandas as pd
    from sklearn import config_context

    table = pd.DataFrame({"smiles": X[::2], "moa": ["a", "b"] * (len(X[::2]) // 2)})
    matrix = annotation_matrix(X, table, columns=["moa"], smiles_column="smiles")
    with config_context(enable_metadata_routing=True):
        pipe = recommended_pipeline(
            annotations=AnnotationKernel(X, matrix), query_source="a", random_state=0
        )
        sources = np.repeat(["a", "b"], len(X) // 2)
        weights = np.ones(len(X))
        pipe.fit(X, Y, sources=sources, sample_weight=weights)
        save_model(pipe, tmp_path / "a.molge")
        loaded = load_model(tmp_path / "a.molge")
        assert same(answers(loaded), answers(pipe))
        again = loaded.fit(X, Y, sources=sources, sample_weight=weights)
        assert same(answers(again), answers(pipe))


def test_a_search_whose_parts_are_plain(tmp_path):
    search = GridSearchCV(
        make_pipeline(fingerprints(), CCA(3)), {"cca__ridge": [0.1, 1.0]},
        cv=GroupKFold(2),
    )  # fmt: skip
    search.fit(X, Y, groups=GROUPS[:, 0])
    save_model(search, tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge")
    assert same(answers(loaded), answers(search))
    assert loaded.cv_results_.keys() == search.cv_results_.keys()


class Foreign(BaseEstimator):
    """A class of the user."""

    def fit(self, X, y=None):
        return self


class ForeignNumbers(np.ndarray):
    """An array that is more."""


def opened(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        return file


REFUSED = {
    "lambda": (
        lambda _: make_pipeline(FunctionTransformer(lambda X: X), CCA()),
        r"estimator\.steps\[0\]\[1\]\.func: it is a lambda.*np\.log1p.*joblib",
    ),
    "function": (
        lambda _: FunctionTransformer(os.path.join),
        r"estimator\.func: it is a function, posixpath\.join",
    ),
    "partial": (
        lambda _: FunctionTransformer(functools.partial(np.clip, a_min=0)),
        r"estimator\.func: it is a functools\.partial",
    ),
    "class of the user": (
        lambda _: Pipeline([("mine", Foreign())]),
        r"estimator\.steps\[0\]\[1\]: it is a .*Foreign",
    ),
    "array of the user": (
        lambda _: FunctionTransformer(kw_args={"a": np.ones(3).view(ForeignNumbers)}),
        r"estimator\.kw_args\['a'\]: it is a .*ForeignNumbers",
    ),
    "file": (
        lambda folder: FunctionTransformer(kw_args={"file": opened(folder)}),
        r"estimator\.kw_args\['file'\]: it is a .*BufferedWriter",
    ),
    "callback": (
        lambda _: net(callbacks=[EarlyStopping()]),
        r"estimator\.callbacks\[0\]: it is a skorch.*EarlyStopping",
    ),
    "module": (
        lambda _: net(module=torch.nn.Linear),
        r"estimator\.module: it is the class torch\.nn",
    ),
    "loss": (
        lambda _: net(criterion=Foreign),
        r"estimator\.criterion: it is the class .*Foreign",
    ),
    "hook": (
        lambda _: hooked(),
        r"estimator\.module_\._forward_hooks: it is a hook",
    ),
    "trees": (
        lambda _: PredictedProfileRetriever(
            RandomForestRegressor(2, random_state=0)
        ).fit(NUMBERS, Y),
        r"regressor_\.estimators_\[0\]\.tree_: it is a sklearn\.tree.*Tree\. A forged",
    ),
    "search": (
        lambda _: HyperoptSearchCV(LogisticRegression(), {"C": hp.uniform("C", 0, 1)}),
        r"param_distributions\['C'\]: it is a hyperopt.*best_estimator_",
    ),
    "cache": (
        lambda folder: cca().set_params(memory=str(folder)),
        r"estimator: it is a Pipeline of which memory='.*memory=None",
    ),
    "checkpoints": (
        lambda folder: net(checkpoint_folder=folder),
        r"estimator: it is a CoordinatedEmbedder of which checkpoint_folder=",
    ),
    "circle": (lambda _: circle(), r"kw_args\['a'\]\[0\]: it is an object that holds"),
    "depth": (lambda _: deep(), r"nested more than \d+ levels deep"),
    "objects": (
        lambda _: FunctionTransformer(kw_args={"a": np.array([object()])}),
        r"kw_args\['a'\]\.flat\[0\]: it is a builtins\.object",
    ),
    "dates": (
        lambda _: FunctionTransformer(kw_args={"a": np.array(["2020"], "M8[D]")}),
        r"kw_args\['a'\]: it is an array of dtype datetime64",
    ),
    "shadow": (lambda _: shadowed(), r"CCA of which transform is a method of CCA"),
}


def hooked():
    towers = fitted(net())
    towers.module_.register_forward_hook(print)
    return towers


def circle():
    held = []
    held.append(held)
    return FunctionTransformer(kw_args={"a": held})


def deep():
    held = []
    for _ in range(100):
        held = [held]
    return FunctionTransformer(kw_args={"a": held})


def shadowed():
    estimator = CCA()
    estimator.transform = 1
    return estimator


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stored_is_named(name, tmp_path):
    make, message = REFUSED[name]
    estimator = make(tmp_path)
    with pytest.raises(UnstorableModelError, match=message):
        save_model(estimator, tmp_path / "a.molge")
    assert not (tmp_path / "a.molge").exists()


def test_odd_values_come_back(tmp_path):
    values = {
        "numbers": [0, -1, 2**70, 0.1, -0.0, float("inf"), True, None, "\ud800\0é"],
        "nan": float("nan"),
        "few": [1, True, 1.0, "1"],
        "keys": {1: "a", "1": "b", False: 3, None: 4, (1, "x"): 5, 2.5: 6},
        "empty": [(), [], {}, "", np.array([], dtype=object), np.zeros((0, 3))],
        "scalars": (np.float32(0.1), np.int64(3), np.bool_(True), np.str_("a")),
        "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([["a", None], [1, 2.5]], dtype=object),
        "texts": np.array(["a", "bc"]),
        "sets": (frozenset({3, 1}), {"b", "a"}),
        "slice": slice(1, None, 2),
        "types": (np.float32, float, np.dtype("<f4")),
    }
    save_model(FunctionTransformer(kw_args=values), tmp_path / "a.molge")
    loaded = load_model(tmp_path / "a.molge").kw_args
    assert list(loaded) == list(values)
    assert loaded["sets"] == values["sets"]
    for name in ("numbers", "few", "keys", "slice", "types", "scalars"):
        assert repr(loaded[name]) == repr(values[name]), name
    assert np.isnan(loaded["nan"])
    assert loaded["order"].flags.f_contiguous
    assert loaded["objects"].tolist() == values["objects"].tolist()
    assert loaded["empty"][4].dtype == object
    assert loaded["empty"][5].shape == (0, 3)
    assert list(map(type, loaded["scalars"])) == list(map(type, values["scalars"]))
