"""Profiles are found by their ids in tables, whatever these look like."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sklearn_molge.datasets import load_lincs, write_gctx

# Two ids that the look-up gives one hash.
COLLIDING = ["MAP001_A375_24H:", "DYZJMCG8baa9CbdG"]
# Few letters, so that texts meet.
IDS = st.lists(st.text("ab\u00b5:", min_size=1, max_size=20), min_size=1, unique=True)


def load(folder, ids, named):
    """Load profiles with these ids; the table names the line of each of `named`."""
    path = folder / "level5.gctx"
    values = np.arange(len(ids), dtype=np.float32)[:, None]
    write_gctx(path, values, pd.DataFrame(index=ids), pd.DataFrame(index=["16"]))
    table = pd.DataFrame(
        {
            "cell_line": [f"LINE {name}" for name in named],
            "pert_id": "B1",
            "pert_type": "trt_cp",
            "smiles": "CCO",
        },
        index=pd.Index(named, dtype=object),
    )
    return load_lincs([path], level=5, landmark_only=False, metadata=table)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=IDS, others=IDS, data=st.data())
def test_find_is_a_look_up(tmp_path, ids, others, data):
    known = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    named = [*(name for name in others if name not in ids), *known]
    study = load(tmp_path, ids, named)
    assert study.obs.index.tolist() == [name for name in ids if name in known]
    lines = study.obs["cell_line"].tolist()
    assert lines == [f"LINE {name}" for name in study.obs.index]


@pytest.mark.parametrize("ids", [COLLIDING, COLLIDING[::-1], COLLIDING[:1]])
def test_equal_hashes_do_no_harm(tmp_path, ids):
    study = load(tmp_path, ids, COLLIDING)
    assert study.obs["cell_line"].tolist() == [f"LINE {name}" for name in ids]


def test_longer_and_shorter_ids_are_others(tmp_path):
    ids = [f"PLATE{i:03d}:A{i}" for i in range(50)]
    named = [*(f"{name} and something behind it" for name in ids), ids[0][:-1], ids[7]]
    study = load(tmp_path, ids, named)
    assert study.obs.index.tolist() == [ids[7]]


@pytest.mark.parametrize("n_rows", [2, 70_000])
def test_ids_that_stand_twice(tmp_path, n_rows):
    ids = [f"P{i}" for i in range(n_rows)]
    for name in ("level5_a.gctx", "level5_b.gctx"):
        frames = pd.DataFrame(index=ids), pd.DataFrame(index=["16"])
        write_gctx(tmp_path / name, np.zeros((n_rows, 1)), *frames)
        ids = [*ids[:-1], "other"]
    with pytest.raises(ValueError, match=f"{n_rows - 1:,} profiles stand twice, 'P0'"):
        load_lincs(tmp_path, level=5, landmark_only=False)
