"""The presets are what they say, and are left as they are."""

import numpy as np
import pytest

from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder
from sklearn_molge.metrics import mean_reciprocal_rank, retrieval_ranks

SMALL = {"max_epochs": 1, "module__embedding_size": 4, "random_state": 0}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_fits_and_is_left_alone(name, study):
    before = repr(PRESETS[name])
    options = PRESETS[name] | SMALL
    if options["encoder"] is not None:
        options["encoder__hidden_size"] = 16
    net = CoordinatedEmbedder(**options).fit(study.smiles, study.ge)
    assert repr(PRESETS[name]) == before
    ranks = retrieval_ranks(net, study.smiles, study.ge)
    chance = np.mean(1 / np.arange(1, len(set(study.groups[:, 0])) + 1))
    assert mean_reciprocal_rank(ranks) > chance


def test_paper_is_table_a2():
    embedder = CoordinatedEmbedder(**PRESETS["paper"])
    params = embedder.get_params()
    assert params["max_epochs"] == 12
    assert params["lr"] == 5.6e-4
    assert params["batch_size"] == 417
    assert params["module__expression_layers"] == (677, 1159)
    assert params["module__embedding_size"] == 51
    assert params["module__dropout"] == 0.02
    assert params["module__bias"] is False
    assert params["criterion__beta"] == 1.3
    assert params["criterion__margin"] == 0.31
