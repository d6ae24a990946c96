"""The spaces draw settings that an embedder takes, and in the paper's shares."""

from collections import Counter

import numpy as np
import pytest
from hyperopt.pyll.stochastic import sample
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import (
    PRESETS,
    CoordinatedEmbedder,
    finlayson2020_search_space,
    recommended_search_space,
)
from sklearn_molge.alignment.losses import (
    InfoNCELoss,
    QuadrupletLoss,
    QuintupletLoss,
    TripletLoss,
)
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import DrugCellLineShuffleSplit, HyperoptSearchCV
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever

SMALL = {"max_epochs": 1, "batch_size": 64, "encoder__hidden_size": 8}
MARGIN_LOSSES = {TripletLoss, QuadrupletLoss, QuintupletLoss}


def flat(point):
    params = {}
    for name, value in point.items():
        params |= flat(value) if isinstance(value, dict) else {name: value}
    return params


def draw(space, n_points):
    rng = np.random.default_rng(0)
    return [flat(sample(space, rng=rng)) for _ in range(n_points)]


@pytest.mark.parametrize("variant", ["used", "committed"])
def test_ranges_of_the_paper(variant):
    points = draw(finlayson2020_search_space(variant=variant), 300)
    used = variant == "used"

    def values(name):
        return np.array([p[name] for p in points if name in p])

    assert set(values("criterion")) == MARGIN_LOSSES
    assert set(values("max_epochs")) == set(range(5 if used else 10, 31))
    assert values("batch_size").min() >= 16
    assert values("batch_size").max() <= 512
    assert all(type(p["batch_size"]) is int for p in points)
    median = 2e-4 if used else np.exp(-7)
    assert abs(np.log(np.median(values("lr")) / median)) < 0.1
    assert abs(np.log(values("lr")).std() - 0.5) < 0.05
    for tower, depths in (("expression", {1, 2, 3}), ("head", {0, 1, 2})):
        layers = [point[f"module__{tower}_layers"] for point in points]
        assert {len(each) for each in layers} == (depths if used else {0, 1, 2, 3, 4})
        widths = np.array([each[0] for each in layers if each])
        assert 32 <= widths.min() < 120
        assert 1950 < widths.max() <= 2048
        growth = [b / a for a, b, *_ in (each for each in layers if len(each) > 1)]
        assert 1 / 3.2 < min(growth) < 0.4
        assert 2.6 < max(growth) < 3.01
    assert ("criterion__margin" in points[0]) is used
    assert 0.45 < values("module__dropout").max() <= 0.5
    np.testing.assert_array_equal(
        values("module__dropout"), values("module__head_dropout")
    )


def test_shares_of_the_used_space():
    points = draw(finlayson2020_search_space(), 700)
    expected = {
        "criterion": {TripletLoss: 0.25, QuadrupletLoss: 0.5, QuintupletLoss: 0.25},
        "metric": {"euclidean": 0.73, "correlation": 0.27},
        "module__activation": {
            "selu": 0.58,
            "relu": 0.14,
            "tanh": 0.14,
            "sigmoid": 0.14,
        },
        "module__head_layers": {0: 0.67, 1: 0.165, 2: 0.165},
        "module__expression_layers": {1: 0.25, 2: 0.5, 3: 0.25},
        "module__bias": {False: 0.5, True: 0.5},
        "sampler__distance": {"expression": 0.5, "structure": 0.5},
    }
    for name, shares in expected.items():
        drawn = [point[name] for point in points]
        counts = Counter(len(v) if isinstance(v, tuple) else v for v in drawn)
        assert counts.keys() == shares.keys()
        for value, share in shares.items():
            assert abs(counts[value] / 700 - share) < 0.06, (name, value)


@pytest.mark.parametrize("variant", ["used", "committed"])
def test_parameters_come_with_what_they_belong_to(variant):
    for point in draw(finlayson2020_search_space(variant=variant), 200):
        triplet = point["criterion"] is TripletLoss
        assert ("criterion__anchor" in point) is triplet
        profile_pairs = point["criterion"] is QuintupletLoss or (
            point.get("criterion__anchor") == "expression_only"
        )
        assert point["sampler__partners"] is profile_pairs


def test_layers_are_rounded_down_and_none_is_narrower_than_4():
    for point in draw(finlayson2020_search_space(variant="committed"), 200):
        layers = point["module__expression_layers"]
        assert all(isinstance(width, int) and width >= 4 for width in layers)
        if len(layers) == 4 and min(layers) > 4:  # a geometric series
            growth = layers[1] / layers[0]
            assert abs(layers[3] - layers[0] * growth**3) < 0.12 * layers[3] + 2


def narrow(params):
    small = dict(SMALL)
    for name, value in params.items():
        if name.endswith("_layers"):
            small[name] = [width // 64 + 1 for width in value]
    return params | small


@pytest.mark.parametrize("variant", ["used", "committed"])
def test_points_of_the_paper_train(variant, study):
    points = draw(finlayson2020_search_space(variant=variant), 40)
    tried = set()
    for point in points:
        branch = point["criterion"], point.get("criterion__anchor")
        if branch in tried:
            continue
        tried.add(branch)
        net = CoordinatedEmbedder(**PRESETS["paper"], random_state=0)
        net.set_params(molecule_features=None)
        net.set_params(**narrow(point)).fit(study.smiles, study.ge)
        hidden = len(point["module__expression_layers"])
        linear = [m for m in net.module_.expression_tower.network if "Linear" in str(m)]
        assert len(linear) == hidden + 1
    assert len(tried) == (4 if variant == "used" else 5)


@pytest.mark.parametrize("tower", ["features", "graph"])
@pytest.mark.filterwarnings("ignore:module__start='cca' found")  # few drugs
def test_points_of_the_recommended_space_train(tower, study):
    points = draw(recommended_search_space(tower=tower), 30)
    starts = {p["module__start"]: p for p in points}
    assert starts.keys() == {"cca", "random"}
    for start, point in starts.items():
        rates = [p["lr"] for p in points if p["module__start"] == start]
        assert min(rates) >= (1e-6 if start == "cca" else 1e-4)
        assert max(rates) <= (3e-4 if start == "cca" else 3e-3)
        net = CoordinatedEmbedder(**PRESETS["recommended"], random_state=0)
        net.set_params(molecule_features=MorganFingerprinter(fp_size=64))
        point["max_epochs"] = 1
        if tower == "graph":
            point["encoder__hidden_size"] = 8
        net.set_params(**point).fit(study.smiles, study.ge)
        assert (net.get_params()["encoder"] == "random") is (tower == "graph")
        assert net.module_.embedding_size == point["module__embedding_size"]


def test_encoders():
    space = finlayson2020_search_space(encoders=["random", "admet-ai"])
    assert {p["encoder"] for p in draw(space, 30)} == {"random", "admet-ai"}


def test_it_searches_behind_a_prefix(study):
    net = CoordinatedEmbedder(None, criterion=InfoNCELoss, sampler=DrugBalancedSampler)
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64),
        TransformedTargetRetriever(net, transformer=StandardScaler()),
    )
    prefix = "transformedtargetretriever__retriever__"
    space = recommended_search_space(prefix=prefix)
    space["start"] = {f"{prefix}max_epochs": 1}
    search = HyperoptSearchCV(
        pipe,
        space,
        n_iter=2,
        cv=DrugCellLineShuffleSplit(1, test_drugs=0.5, random_state=0),
        scoring=RetrievalScorer("mrr"),
        error_score="raise",
        random_state=0,
    ).fit(study.smiles, study.ge, groups=study.groups)
    assert all(name.startswith(prefix) for name in search.best_params_)
    fitted = search.best_estimator_[-1].retriever_
    size = search.best_params_[f"{prefix}module__embedding_size"]
    assert fitted.module_.embedding_size == size


@pytest.mark.parametrize(
    ("function", "params"),
    [
        (finlayson2020_search_space, {"variant": "paper"}),
        (recommended_search_space, {"tower": "both"}),
    ],
)
def test_bad_choices(function, params):
    with pytest.raises(ValueError, match=f"{next(iter(params))!r} parameter"):
        function(**params)
