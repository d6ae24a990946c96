import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.inspection import training_distances
from sklearn_molge.molecules import MoleculeDescriptors, MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever

X_TRAIN = np.array(["CCO", "CCN", "CCO", "c1ccccc1O", "CCCC", "CC=O"], dtype=object)
X_TEST = np.array(["CCCO", "OCC", "c1ccccc1", "CCCO"], dtype=object)
RNG = np.random.default_rng(0)
Y_TRAIN = RNG.normal(size=(6, 8)).astype(np.float32)
Y_TEST = RNG.normal(size=(4, 8)).astype(np.float32)


class Recorder(TransformerMixin, BaseEstimator):
    """Hands profiles on, and remembers how many came at a time."""

    def __init__(self, sizes=None):
        self.sizes = sizes

    def fit(self, X, y=None):
        self.n_fitted_ = len(X)
        return self

    def transform(self, X):
        self.sizes.append(len(X))
        return X


@pytest.fixture
def embedder():
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64),
        TransformedTargetRetriever(CCA(3, ridge=0.1), StandardScaler()),
    )
    return pipe.fit(X_TRAIN, Y_TRAIN)


def nearest(test, train, metric):
    return cdist(test, train, metric).min(axis=1)


def test_against_the_whole_distance_matrix(embedder):
    molecules = FunctionTransformer(
        lambda X: MorganFingerprinter(fp_size=32, count=True).transform(X)
    )
    distances = training_distances(
        X_TRAIN,
        Y_TRAIN,
        X_TEST,
        Y_TEST,
        molecules=molecules,
        expression=StandardScaler(),
        embedder=embedder,
    )
    bits = MorganFingerprinter()
    counts = MorganFingerprinter(fp_size=32, count=True)
    scaler = StandardScaler().fit(Y_TRAIN)
    target = embedder[-1]
    expected = {
        "fingerprint": nearest(
            bits.transform(X_TEST).astype(bool),
            bits.transform(X_TRAIN).astype(bool),
            "jaccard",
        ),
        "molecule_features": nearest(
            counts.transform(X_TEST), counts.transform(X_TRAIN), "correlation"
        ),
        "aligned_molecule": nearest(
            embedder.transform(X_TEST), embedder.transform(X_TRAIN), "correlation"
        ),
        "raw_expression": nearest(
            scaler.transform(Y_TEST), scaler.transform(Y_TRAIN), "correlation"
        ),
        "aligned_expression": nearest(
            target.transform_ge(Y_TEST), target.transform_ge(Y_TRAIN), "correlation"
        ),
    }
    pd.testing.assert_frame_equal(distances, pd.DataFrame(expected), atol=1e-6)


def test_equal_rows_have_distance_exactly_zero(embedder):
    y_test = np.vstack([Y_TRAIN[2:3], 3 * Y_TRAIN[:1] + 1])
    distances = training_distances(
        X_TRAIN,
        Y_TRAIN,
        ["OCC", "CC"],
        y_test,
        molecules=MorganFingerprinter(),
        embedder=embedder,
    )
    assert (distances.iloc[0] == 0).all()
    # Scaled and shifted: correlation 1, up to single precision.
    assert distances["raw_expression"][1] == 0
    assert (distances.loc[1, ["fingerprint", "molecule_features"]] > 0).all()


def test_what_is_not_given_is_not_there():
    distances = training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST)
    assert list(distances) == ["fingerprint", "raw_expression"]
    features = training_distances(Y_TRAIN, Y_TRAIN, Y_TEST, Y_TEST)
    assert list(features) == ["raw_expression"]


def test_order_of_training_rows_does_not_matter(embedder):
    order = RNG.permutation(len(X_TRAIN))
    arguments = {"molecules": MorganFingerprinter(), "embedder": embedder}
    one = training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, **arguments)
    other = training_distances(
        X_TRAIN[order], Y_TRAIN[order], X_TEST, Y_TEST, **arguments
    )
    pd.testing.assert_frame_equal(one, other)
    # Test rows of one molecule have one distance.
    np.testing.assert_array_equal(one.iloc[0, :3], one.iloc[3, :3])


def test_training_profiles_come_in_blocks():
    y_train = RNG.normal(size=(5000, 3))
    X_train = np.full(5000, "CCO", dtype=object)
    recorder = Recorder(sizes=[]).fit(y_train)
    distances = training_distances(
        X_train, y_train, X_TEST, Y_TEST[:, :3], expression=recorder
    )
    assert recorder.sizes == [4, 2048, 2048, 904]
    np.testing.assert_allclose(
        distances["raw_expression"],
        nearest(Y_TEST[:, :3], y_train, "correlation"),
        atol=1e-9,
    )


def test_unfitted_transformers_learn_from_the_training_rows():
    paired = RNG.normal(size=(6, 16)) + 8
    featurizer = L1000Featurizer(["treated"])
    fitted = L1000Featurizer(["treated"]).fit(paired)
    results = [
        training_distances(X_TRAIN, paired, X_TEST, paired[:4] ** 2, expression=each)
        for each in (featurizer, fitted)
    ]
    pd.testing.assert_frame_equal(*results)
    assert not hasattr(featurizer, "n_features_in_")


def test_feature_scaling_happens_on_distinct_molecules():
    scaled = make_pipeline(MorganFingerprinter(fp_size=16), StandardScaler())
    distances = training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, molecules=scaled)
    fitted = make_pipeline(MorganFingerprinter(fp_size=16), StandardScaler())
    distinct = np.unique(X_TRAIN.astype(str)).astype(object)
    fitted.fit(distinct)
    expected = nearest(
        fitted.transform(X_TEST), fitted.transform(distinct), "correlation"
    )
    np.testing.assert_allclose(distances["molecule_features"], expected, atol=1e-9)


def test_errors():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        training_distances(X_TRAIN, Y_TEST, X_TEST, Y_TEST)
    with pytest.raises(ValueError, match=r"must be as many.* Got 8 and 7"):
        training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST[:, :7])
    with pytest.raises(TypeError, match="embedder must have a joint space"):
        training_distances(
            X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, embedder=DoubleNNRetriever()
        )
    with pytest.raises(ValueError, match=r"raw_expression.* contains NaN"):
        training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST * np.nan)
    with pytest.raises(ValueError, match="X_train must have at least 1 row"):
        training_distances(X_TRAIN[:0], Y_TRAIN[:0], X_TEST, Y_TEST)
    with pytest.raises(ValueError, match="X_test must have at least 1 row"):
        training_distances(X_TRAIN, Y_TRAIN, X_TEST[:0], Y_TEST[:0])
    with pytest.raises(ValueError, match="'molecules' parameter"):
        training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, molecules="chemprop")


def test_descriptors_and_sparse_fingerprints():
    dense = training_distances(X_TRAIN, Y_TRAIN, X_TEST, Y_TEST)
    sparse = training_distances(
        X_TRAIN,
        Y_TRAIN,
        X_TEST,
        Y_TEST,
        fingerprinter=MorganFingerprinter(sparse_output=True),
        molecules=MoleculeDescriptors(),
    )
    np.testing.assert_allclose(sparse["fingerprint"], dense["fingerprint"], atol=1e-7)
    assert sparse["molecule_features"].between(0, 2).all()
