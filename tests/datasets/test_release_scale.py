"""A release many times the size of a study: memory, parts, threads and memory maps."""

import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import load_lincs, write_gctx

N_PLATES, N_WELLS, N_GENES = 64, 250, 1000
FIRST = 1_000_001  # of the ids of genes; from 1 on they would be numbers of rows
LINES = ["A375", "PC3", "MCF7", "HT29"]
NAMES = (
    "sample_id det_plate det_well cell_iname pert_id pert_type pert_dose "
    "pert_dose_unit pert_time pert_time_unit cmap_name bead_batch qc_iqr project_code"
).split()


def table_of(n_plates, n_wells):
    """Wells as in LINCS 2020; every tenth well of a plate is a control."""
    rows = []
    for plate in range(n_plates):
        name = f"MAP{plate:03d}_{LINES[plate % 4]}_{(6, 24)[plate // 4 % 2]}H_X1_B22"
        time = (6, 24)[plate // 4 % 2]
        for well in range(n_wells):
            kind = "ctl_vehicle" if well % 10 == 0 else "trt_cp"
            pert = "DMSO" if well % 10 == 0 else f"BRD-K{well:08d}"
            dose = -666 if well % 10 == 0 else 10
            rows.append(
                (f"{name}:{well:03d}", name, f"{well:03d}", LINES[plate % 4], pert,
                 kind, dose, "uM", time, "h", pert, "b22", 9.68, "MAP")
            )  # fmt: skip
    return pd.DataFrame(rows, columns=NAMES)


def write_release(folder, n_plates, n_wells, n_genes, **layout):
    """Write it, and return the table and the values by sample."""
    table = table_of(n_plates, n_wells)
    is_control = table["pert_type"] == "ctl_vehicle"
    genes = pd.DataFrame(index=sorted(map(str, range(FIRST, FIRST + n_genes))))
    rng = np.random.default_rng(0)
    values = 9 + rng.standard_normal((len(table), n_genes), dtype=np.float32)
    for kind, mask in [("trt_cp", ~is_control), ("ctl", is_control)]:
        obs = pd.DataFrame(index=table.loc[mask, "sample_id"])
        path = folder / f"level3_beta_{kind}_n{len(obs)}x{n_genes}.gctx"
        write_gctx(path, values[mask.to_numpy()], obs, genes, **layout)
    table[::-1].to_csv(folder / "instinfo_beta.txt", sep="\t", index=False)
    pd.DataFrame(
        {
            "pert_id": [f"BRD-K{i:08d}" for i in range(n_wells)],
            "canonical_smiles": [f"{'C' * (i + 1)}O" for i in range(n_wells)],
        }
    ).to_csv(folder / "compoundinfo_beta.txt", sep="\t", index=False)
    pd.DataFrame(
        {
            "gene_id": range(FIRST, FIRST + n_genes),
            "gene_symbol": [f"G{i}" for i in range(FIRST, FIRST + n_genes)],
            "feature_space": ["landmark"] * min(978, n_genes - 1)
            + ["inferred"] * max(n_genes - 978, 1),
        }
    ).to_csv(folder / "geneinfo_beta.txt", sep="\t", index=False)
    return table, pd.DataFrame(values, index=table["sample_id"], columns=genes.index)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return folder, *write_release(folder, 8, 30, 40, chunks=(7, 9))


@pytest.fixture(scope="module")
def study(small):
    return load_lincs(small[0], level=3, pert_time=6)


def assert_same(study, other):
    np.testing.assert_array_equal(study.ge, other.ge)
    np.testing.assert_array_equal(study.control_ge, other.control_ge)
    pd.testing.assert_frame_equal(study.obs, other.obs)
    pd.testing.assert_frame_equal(study.control_obs, other.control_obs)
    pd.testing.assert_frame_equal(study.dropped, other.dropped)


def test_values_belong_to_their_wells(small, study):
    _, table, values = small
    names = study.genes["gene_id"].astype(str)
    assert len(study) == 4 * 27
    expected = table[(table["pert_type"] == "trt_cp") & (table["pert_time"] == 6)]
    assert study.obs.index.tolist() == expected["sample_id"].tolist()
    np.testing.assert_array_equal(study.ge, values.loc[study.obs.index, names])
    np.testing.assert_array_equal(
        study.control_ge, values.loc[study.control_obs.index, names]
    )


@pytest.fixture
def parts_of(monkeypatch):
    """Let tables be read in parts of so many rows; returns the parts that were read."""
    read_csv = pd.read_csv

    def install(n_rows):
        parts = []

        def read(path, *, chunksize=None, **options):
            if chunksize is None:
                return read_csv(path, **options)
            reader = read_csv(path, chunksize=n_rows, **options)
            get_chunk = reader.get_chunk

            def recording(size=None):
                parts.append(get_chunk(size))
                return parts[-1]

            reader.get_chunk = recording
            return reader

        monkeypatch.setattr(pd, "read_csv", read)
        return parts

    return install


@pytest.mark.parametrize("n_rows", [1, 2, 7, 10_000])
def test_tables_in_parts_of_any_size(small, study, parts_of, n_rows):
    parts = parts_of(n_rows)
    assert_same(load_lincs(small[0], level=3, pert_time=6), study)
    assert len(parts) == -(-len(small[1]) // n_rows)


def test_only_known_columns_of_a_part_are_read(small, parts_of):
    parts = parts_of(50)
    load_lincs(small[0], level=3, pert_time=6)
    assert [len(part) for part in parts] == [50] * 4 + [40]
    for part in parts:
        names = [NAMES[i] for i in part]
        assert set(names) <= {*NAMES} - {"bead_batch", "qc_iqr", "project_code"}
        assert part[NAMES.index("det_plate")].dtype == "category"


def test_the_first_of_repeated_rows_counts_whichever_part_it_is_in(tmp_path, parts_of):
    table, _ = write_release(tmp_path, 2, 10, 5)
    again = table.assign(cell_iname="WRONG", pert_dose=99)
    again["det_well"] = "Z99"
    path = tmp_path / "instinfo_beta.txt"
    table.loc[3, "det_well"] = ""  # missing in the first row, and stays missing
    pd.concat([table, again.iloc[[3, 4, 4]]]).to_csv(path, sep="\t", index=False)
    for n_rows in (1, 6, 100):
        parts_of(n_rows)
        with pytest.warns(UserWarning, match=r"3 rows repeat the id .*'MAP.*:003' for"):
            study = load_lincs(tmp_path, level=3, landmark_only=False)
        assert set(study.obs["cell_line"]) == {"A375", "PC3"}
        assert study.obs["well"].isna().tolist() == [False] * 2 + [True] + [False] * 15


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_threads_change_nothing(small, study, n_jobs):
    assert_same(load_lincs(small[0], level=3, pert_time=6, n_jobs=n_jobs), study)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_threads_in_the_context_of_any_backend(small, study, backend):
    with joblib.parallel_config(backend, n_jobs=2):
        assert_same(load_lincs(small[0], level=3, pert_time=6), study)


# ------------------------------------------------------------------- memory maps


def test_memory_mapped_study(small, study, tmp_path):
    path = tmp_path / "study.npy"
    mapped = load_lincs(small[0], level=3, pert_time=6, mmap_path=path, n_jobs=2)
    assert_same(mapped, study)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "study.controls.npy",
        "study.npy",
    ]
    np.testing.assert_array_equal(np.load(path), study.ge)
    np.testing.assert_array_equal(
        np.load(tmp_path / "study.controls.npy"), study.control_ge
    )
    assert isinstance(mapped.ge.base, np.memmap)
    assert not mapped.ge.flags.writeable
    assert_same(mapped[:50], study[:50])
    # A later load replaces the file; the earlier study keeps what it has.
    other = load_lincs(small[0], level=3, pert_time=24, mmap_path=str(path))
    np.testing.assert_array_equal(mapped.ge, study.ge)
    assert not np.array_equal(other.ge, study.ge)


def test_memory_map_without_controls(small, study, tmp_path):
    path = tmp_path / "study.npy"
    mapped = load_lincs(
        small[0], level=3, pert_time=6, mmap_path=path, control_types=()
    )
    assert mapped.control_ge is None
    np.testing.assert_array_equal(mapped.ge, study.ge)
    assert [p.name for p in tmp_path.iterdir()] == ["study.npy"]


def test_failed_read_leaves_the_earlier_file_and_no_other(
    small, study, tmp_path, monkeypatch
):
    path = tmp_path / "study.npy"
    load_lincs(small[0], level=3, pert_time=6, mmap_path=path, control_types=())

    class Failing(io.FileIO):
        def readinto(self, buffer):
            raise KeyboardInterrupt

    monkeypatch.setattr(io, "FileIO", Failing)
    with pytest.raises(KeyboardInterrupt):
        load_lincs(small[0], level=3, pert_time=24, mmap_path=path)
    assert [p.name for p in tmp_path.iterdir()] == ["study.npy"]
    np.testing.assert_array_equal(np.load(path), study.ge)


def test_bad_paths_of_a_memory_map(small, tmp_path):
    with pytest.raises(ValueError, match=r"must be .* a \.npy file.* Got '.*gctx'"):
        load_lincs(small[0], level=3, mmap_path=tmp_path / "x.gctx")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        load_lincs(small[0], level=3, mmap_path=tmp_path / "nowhere" / "x.npy")
    with pytest.raises(ValueError, match="'n_jobs' parameter of load_lincs"):
        load_lincs(small[0], level=3, n_jobs="all")


# ------------------------------------------------------------------------- memory

MEASURE = """
    import json, sys
    from sklearn_molge.datasets import load_lincs

    def kib(name):
        with open("/proc/self/status") as lines:
            return next(int(l.split()[1]) for l in lines if l.startswith(name))

    big, small, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    load_lincs(small, level=3)  # imports, RDKit's tables, buffers
    before = kib("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark begins anew
    study = load_lincs(big, level=3, pert_time=[6, 24], **options)
    peak = (kib("VmHWM") - before) * 1024
    frames = [study.obs, study.control_obs, study.genes]
    own = study.ge.nbytes + study.control_ge.nbytes
    own += sum(int(frame.memory_usage().sum()) for frame in frames)
    print(json.dumps({"n": len(study), "peak": peak, "own": own}))
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)
@pytest.mark.parametrize("layout", [{"chunks": (262, 500)}, {"chunks": None}])
def test_peak_memory_is_near_the_study(small, tmp_path, layout):
    """Of a fresh process; a study of 60 MB, of tables with other columns."""
    write_release(tmp_path, N_PLATES, N_WELLS, N_GENES, **layout)
    for options in ({}, {"n_jobs": 2}):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MEASURE), tmp_path, small[0],
             json.dumps(options)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        seen = json.loads(done.stdout)
        assert seen["n"] == N_PLATES * N_WELLS * 9 // 10
        assert seen["own"] > 60e6
        assert seen["peak"] <= 1.3 * seen["own"], seen
