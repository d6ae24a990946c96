import pickle

import numpy as np
import pytest
import torch
from chemprop.models import MPNN
from chemprop.nn import BondMessagePassing
from joblib import parallel_config
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    DMPNN,
    ChempropEmbedder,
    MoleculeGraphs,
    save_encoder,
)

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "C",
    "C[C@H]([NH3+])C(=O)O.[Cl-]",
    "CCO",
    "OCC",
    "N[Pt](N)(Cl)Cl",
]


class Counts(nn.Module):
    """The numbers of atoms and bonds; remembers how many molecules it was given."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, graphs):
        self.sizes.append(len(graphs))
        bonds = torch.zeros(len(graphs))
        bonds.index_add_(
            0, graphs.batch[graphs.bonds[:, 0]], torch.ones(len(graphs.bonds))
        )
        return torch.stack((graphs.n_atoms, bonds), dim=1).double()


def test_features_are_the_network_s_output():
    encoder = DMPNN(hidden_size=10, aggregation="sum")
    features = ChempropEmbedder(encoder).fit_transform(SMILES)
    batch = MoleculeGraphs.from_smiles(SMILES).take(range(len(SMILES)))
    expected = encoder(batch).detach().numpy()
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_counts_by_hand():
    embedder = ChempropEmbedder(Counts())
    features = embedder.fit_transform(SMILES)
    expected = [[13, 13], [14, 15], [1, 0], [7, 5], [3, 2], [3, 2], [5, 4]]
    np.testing.assert_array_equal(features, expected)
    assert embedder.n_features_out_ == 2
    assert embedder.get_feature_names_out().tolist() == [
        "chempropembedder0",
        "chempropembedder1",
    ]


def test_each_distinct_text_once_in_batches():
    embedder = ChempropEmbedder(Counts(), batch_size=2).fit(SMILES)
    embedder.encoder_.sizes.clear()
    order = [0, 3, 0, 2, 2, 6, 0, 4]
    features = embedder.transform([SMILES[i] for i in order])
    assert embedder.encoder_.sizes == [2, 2, 1]
    np.testing.assert_array_equal(
        features, ChempropEmbedder(Counts()).fit_transform(SMILES)[order]
    )


def test_a_cpu_takes_a_few_at_once():
    n_at_once = 32 * torch.get_num_threads()
    smiles = [f"[{i}CH4]" for i in range(1, n_at_once + 4)]
    embedder = ChempropEmbedder(Counts(), batch_size=10**6, device="cpu").fit(smiles)
    embedder.encoder_.sizes.clear()
    embedder.transform(smiles)
    assert embedder.encoder_.sizes == [n_at_once, 3]


def test_the_given_module_is_left_alone():
    module = Counts()
    embedder = ChempropEmbedder(module).fit(SMILES)
    assert module.training
    assert module.sizes == []
    assert not embedder.encoder_.training


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_change_the_result(batch_size):
    expected = ChempropEmbedder(random_state=0).fit_transform(SMILES)
    embedder = ChempropEmbedder(random_state=0, batch_size=batch_size)
    np.testing.assert_allclose(
        embedder.fit_transform(SMILES), expected, rtol=0, atol=1e-6
    )


def test_n_jobs_does_not_change_the_result(monkeypatch):
    expected = ChempropEmbedder(random_state=0).fit_transform(SMILES)
    given = []
    from_smiles = MoleculeGraphs.from_smiles

    def record(smiles, *, n_jobs=None, mode="V2"):
        given.append(n_jobs)
        return from_smiles(smiles, n_jobs=n_jobs, mode=mode)

    monkeypatch.setattr(MoleculeGraphs, "from_smiles", record)
    embedder = ChempropEmbedder(random_state=0, n_jobs=2)
    with parallel_config("threading"):  # processes would import torch first
        np.testing.assert_array_equal(embedder.fit_transform(SMILES), expected)
    assert given[-1] == 2


def test_random_state():
    first = ChempropEmbedder(random_state=0).fit_transform(SMILES)
    again = ChempropEmbedder(random_state=0).fit_transform(SMILES)
    other = ChempropEmbedder(random_state=1).fit_transform(SMILES)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    state = np.random.RandomState(0)
    drawn = ChempropEmbedder(random_state=state).fit_transform(SMILES)
    np.testing.assert_array_equal(drawn, first)


def test_the_global_generator_is_not_touched():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    ChempropEmbedder(random_state=3).fit_transform(SMILES)
    assert torch.equal(torch.random.get_rng_state(), before)
    first = ChempropEmbedder(random_state=3).fit_transform(SMILES)
    torch.manual_seed(1)
    again = ChempropEmbedder(random_state=3).fit_transform(SMILES)
    np.testing.assert_array_equal(first, again)


def test_parameters_of_the_random_network():
    embedder = ChempropEmbedder(hidden_size=5, depth=2, aggregation="norm")
    network = embedder.fit(SMILES).encoder_
    assert network.hidden_size == 5
    assert network.depth == 2
    assert (network.aggregation, network.aggregation_norm) == ("norm", 100.0)
    assert embedder.mode_ == "V2"


def test_dropout_is_off():
    embedder = ChempropEmbedder(BondMessagePassing(d_h=8, dropout=0.9)).fit(SMILES)
    np.testing.assert_array_equal(
        embedder.transform(SMILES), embedder.transform(SMILES)
    )


@pytest.mark.parametrize(("width", "mode"), [(133, "V1"), (72, "V2"), (44, "ORGANIC")])
def test_file_in_each_mode(tmp_path, width, mode):
    encoder = DMPNN(atom_features=width, hidden_size=6)
    save_encoder(encoder, tmp_path / "encoder.pt")
    embedder = ChempropEmbedder(tmp_path / "encoder.pt")
    features = embedder.fit_transform(SMILES)
    assert embedder.mode_ == mode
    np.testing.assert_array_equal(
        features, ChempropEmbedder(encoder).fit_transform(SMILES)
    )
    (tmp_path / "encoder.pt").unlink()
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.transform(SMILES), features)
    with pytest.raises(FileNotFoundError):
        clone(embedder).fit(SMILES)


def test_real_pretrained_weights(admet_ai_checkpoint):
    features = ChempropEmbedder(str(admet_ai_checkpoint)).fit_transform(SMILES)
    model = MPNN.load_from_file(admet_ai_checkpoint, map_location="cpu").eval()
    batch = MoleculeGraphs.from_smiles(SMILES).take(range(len(SMILES)))
    with torch.no_grad():
        expected = model.fingerprint(batch).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert features.shape == (7, 300)
    assert np.abs(features[4] - features[5]).max() < 1e-6  # two spellings of ethanol


@pytest.mark.parametrize("entry", ["-666", None, np.nan, "", "C1CC", "CCO CCN"])
@pytest.mark.parametrize("method", ["fit", "fit_transform", "transform"])
def test_bad_entries_are_named_before_any_computing(entry, method):
    embedder = ChempropEmbedder(Counts()).fit(SMILES)
    embedder.encoder_.sizes.clear()
    message = "2 entries of X are not valid SMILES: index 2: "
    with pytest.raises(InvalidSmilesError, match=message) as caught:
        getattr(embedder, method)(["CCO", "CCO", entry, "CCN", entry])
    assert caught.value.indices == [2, 4]
    assert caught.value.entries[0] is entry
    assert embedder.encoder_.sizes == []


def test_no_molecules_in_fit():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        ChempropEmbedder().fit([])


def test_unknown_device():
    with pytest.raises(ValueError, match=r"device must be 'auto' or .*Got 'gpu0'"):
        ChempropEmbedder(device="gpu0").fit(SMILES)


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, graphs):
        return self.value


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.zeros(1), r"Got a Tensor of shape \(1,\)"),
        (torch.zeros(2, 5), r"Got a Tensor of shape \(2, 5\)"),
        (np.zeros((1, 5)), "Got a ndarray"),
    ],
    ids=["vector", "rows", "array"],
)
def test_modules_that_are_no_encoder(value, got):
    message = r"map a batch of 1 molecules to a tensor of shape \(1, n_features\)\. "
    with pytest.raises(ValueError, match=message + got):
        ChempropEmbedder(Constant(value)).fit(SMILES)


def test_a_step_of_a_pipeline():
    y = np.array([13.0, 14, 1, 7, 3, 3, 5])
    encoder = DMPNN(hidden_size=8, aggregation="sum")
    pipeline = make_pipeline(ChempropEmbedder(encoder), StandardScaler(), Ridge(1e-3))
    assert pipeline.fit(SMILES, y).score(SMILES, y) > 0.9
    scores = cross_val_score(pipeline, np.array(SMILES), y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    expected = ChempropEmbedder(random_state=0, device="cpu").fit_transform(SMILES)
    embedder = ChempropEmbedder(random_state=0, device="cuda")
    np.testing.assert_allclose(
        embedder.fit_transform(SMILES), expected, rtol=1e-3, atol=1e-4
    )
    assert next(embedder.encoder_.parameters()).device.type == "cpu"
