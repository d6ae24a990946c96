"""Files of HDF5 on a disk that is too small: a limit of their size stands for it."""

import errno
import os
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd
import pytest

from sklearn_molge._files.hdf5_writing import writing_hdf5
from sklearn_molge.datasets import (
    Study,
    load_lincs,
    make_perturbation_study,
    read_gctx,
    write_gctx,
)

resource = pytest.importorskip("resource", reason="limits are those of Unix")


@contextmanager
def files_of_at_most(n_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path, n):
    with writing_hdf5(path) as (file, check):
        for i in range(n):
            file.create_dataset(f"{i}", data=np.full(1000, i), compression=1)
            file.create_dataset(f"t{i}", data=["text"] * 100)
            check()


def test_what_is_written_can_be_read(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"old" * 100_000)
    write(path, 20)
    with h5py.File(path) as file:
        assert [file[f"{i}"][999] for i in range(20)] == list(range(20))
    assert path.stat().st_size < 200_000


def test_every_size(tmp_path):
    path = tmp_path / "a.h5"
    path.touch()
    write(path, 10)
    for size in range(0, path.stat().st_size, 997):
        with files_of_at_most(size), pytest.raises(OSError, match="too large") as e:
            write(path, 10)
        assert e.value.errno == errno.EFBIG


def test_an_error_of_the_block_passes(tmp_path):
    (tmp_path / "a.h5").touch()
    with pytest.raises(ZeroDivisionError), writing_hdf5(tmp_path / "a.h5"):
        1 / 0  # noqa: B018


# The callers. Before, HDF5 ended the process, or a mapped write did.


def make(n):
    return make_perturbation_study(
        n, n_cell_lines=2, n_genes=20, level=5, random_state=0
    )


def parts(study):
    ids = [f"p{i}" for i in range(len(study.ge))]
    genes = pd.DataFrame(index=[str(i + 1) for i in range(study.ge.shape[1])])
    return study.ge, study.obs.set_axis(ids), genes


def save(study, path):
    study.save(path)


def write_matrix(study, path):
    write_gctx(path, *parts(study))


@pytest.mark.parametrize(
    ("put", "read"),
    [
        (save, lambda path: Study.load(path).ge),
        (write_matrix, lambda path: read_gctx(path).matrix),
    ],
    ids=["Study.save", "write_gctx"],
)
def test_a_full_disk_leaves_the_old_file(tmp_path, put, read):
    if put is save:
        pytest.importorskip("anndata")
    path, old, new = tmp_path / "a.x", make(2), make(60)
    put(new, path)
    need = path.stat().st_size
    put(old, path)
    before = path.read_bytes()
    for size in np.linspace(0, need - 1, 12, dtype=int).tolist():
        with files_of_at_most(size), pytest.raises(OSError, match="as it was") as e:
            put(new, path)
        assert (e.value.errno, e.value.filename) == (errno.EFBIG, str(path))
        assert os.listdir(tmp_path) == ["a.x"]
        assert path.read_bytes() == before
    put(new, path)
    np.testing.assert_array_equal(read(path), new.ge)


def test_room_for_a_mapped_study_is_reserved(tmp_path):
    study, source = make(20), tmp_path / "release"
    source.mkdir()
    ge, obs, genes = parts(study)
    genes.index = [str(101 + i) for i in range(len(genes))]  # not as rows are counted
    write_gctx(source / "level5.gctx", ge, pd.DataFrame(index=obs.index), genes)
    table = pd.DataFrame({"pert_type": "trt_cp", "cell_id": "A375"}, index=obs.index)
    table["pert_id"] = table["canonical_smiles"] = study.smiles
    table.rename_axis("sig_id").to_csv(source / "sig_info.csv")
    path = tmp_path / "a.npy"
    options = {"level": 5, "landmark_only": False, "mmap_path": path}
    for size in (0, 100, 128, 1000, ge.nbytes):
        with files_of_at_most(size), pytest.raises(OSError, match="no file") as e:
            load_lincs(source, **options)
        assert e.value.filename == str(path)
        assert os.listdir(tmp_path) == ["release"]
    np.testing.assert_array_equal(np.sort(load_lincs(source, **options).ge, None),
                                  np.sort(ge, None))  # fmt: skip
