"""Files of models, and forged ones whose checksums are right."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import save_model

STUDY = make_perturbation_study(20, n_cell_lines=2, n_genes=24, level=5, random_state=0)


@pytest.fixture(scope="session")
def study():
    return STUDY


@pytest.fixture(scope="session")
def pipe():
    pipe = make_pipeline(MorganFingerprinter(fp_size=32), CCA(3, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.profiles())


@pytest.fixture
def path(pipe, tmp_path):
    save_model(pipe, tmp_path / "model.molge")
    return tmp_path / "model.molge"


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, members, *, duplicate=None, compress=zipfile.ZIP_STORED):
    """Write members, sealed as a file of a model is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        archive.comment = bytes(64)
        for name, content in members.items():
            archive.writestr(name, content)
        if duplicate is not None:
            archive.writestr(duplicate, members[duplicate])
    content = buffer.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def sealed(parts, manifest):
    """Return members with the checksums of their parts."""
    sums = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    told = json.dumps({name: sums[name]["sha256"] for name in sorted(sums)})
    manifest = {
        **manifest,
        "parts": sums,
        "identity": hashlib.sha256(told.encode()).hexdigest(),
    }
    return {"manifest.json": json.dumps(manifest).encode(), **parts}


@pytest.fixture
def forge(path):
    """Return what changes a file as somebody would who knows the format."""

    def forge(change=None, *, parts=None, manifest=None):
        members = members_of(path)
        told = {**json.loads(members.pop("manifest.json")), **(manifest or {})}
        if change is not None:
            schema = json.loads(members["schema.json"])
            schema = change(schema) or schema
            members["schema.json"] = json.dumps(schema).encode()
        members.update(parts or {})
        write_zip(path, sealed(members, told))
        return path

    return forge


def nodes(schema):
    """Yield all nodes of a schema."""
    if isinstance(schema, dict):
        if "__loader__" in schema:
            yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()
