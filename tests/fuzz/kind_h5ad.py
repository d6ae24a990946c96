"""Studies in HDF5: files of Study.save, of AnnData, and made on purpose."""

import warnings

import h5py
import numpy as np
from harness import FileKind
from kind_gctx import Hostile, few_flips, mutate, pick

from sklearn_molge.datasets import Study, make_perturbation_study, read_profiles


def study():
    return make_perturbation_study(
        3, n_cell_lines=1, n_genes=4, level=3, random_state=0
    )


def all_of(study):
    tables = [study.obs, study.genes, study.control_obs]
    values = [study.smiles, np.array(study.ge), np.array(study.control_ge)]
    return values + [
        [table.to_dict("list"), [str(label) for label in table.index]]
        for table in tables
        if table is not None
    ]


class Saved(FileKind):
    """A file of Study.save; it has checksums."""

    name = "h5ad"
    sealed = True

    def make(self, folder):
        study().save(folder / "a.h5ad")

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return mutate(rng, content, self.max_bytes)
        return few_flips(rng, content)

    def read(self, folder):
        path = folder / "a.h5ad"
        return [all_of(Study.load(path, mmap_mode=mode)) for mode in (None, "r")]


class Foreign(Saved):
    """What AnnData writes: texts of any length, no checksums; values may change."""

    name = "h5ad-foreign"
    sealed = False

    def make(self, folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study().to_anndata().write_h5ad(folder / "a.h5ad")

    def read(self, folder):
        profiles = read_profiles(folder / "a.h5ad", missing="nan")
        loaded = Study.load(folder / "a.h5ad", mmap_mode=None)
        return [profiles.to_numpy(), all_of(loaded)]

    def judge(self, case, answer):
        with h5py.File(case) as file:
            if not np.array_equal(
                answer[0], file["X"][...].astype("f4"), equal_nan=True
            ):
                return "other values than h5py reads"
        return None


class Packed(Foreign):
    """The same, packed by gzip, in chunks."""

    name = "h5ad-packed"

    def make(self, folder):
        study().to_anndata().write_h5ad(folder / "a.h5ad", compression="gzip")


class HostileStudy(Foreign):
    """Files of AnnData changed through h5py, with their attributes."""

    name = "h5ad-hostile"

    def mutate(self, rng, path, content):
        changed = Hostile.mutate(self, rng, path, content)
        if rng.random() < 0.4:
            path.write_bytes(changed)
            with h5py.File(path, "r+") as file:
                change_attribute(rng, file)
            changed = path.read_bytes()
        return changed

    def judge(self, case, answer):
        if not answer[0].all():
            return "values that were never written"
        return super().judge(case, answer)


def change_attribute(rng, file):
    """Set an attribute to what AnnData does not expect."""
    node = file[pick(rng, file)]
    names = list(node.attrs) or ["encoding-type"]
    values = [
        "", "nonsense", "dataframe", "categorical", "csr_matrix", "string-array",
        "nullable-integer", "array", "dict", "awkward-array", "raw", "anndata", 7, -1,
        2.5, [1, 2], ["a", "a"], ["_index"], [], h5py.Empty("f4"), b"\xff", True,
    ]  # fmt: skip
    name = names[rng.integers(len(names))]
    value = values[rng.integers(len(values))]
    if isinstance(value, list) and not value:
        value = np.empty(0)
    node.attrs[name] = value


KINDS = [Saved(), Foreign(), Packed(), HostileStudy()]
