import atexit
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings

collect_ignore = ["typed_calls.py"]  # it is read by mypy, and not run

# One thread each: two workers share two cores, and sums come out the same.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# No test asserts on time: a busy machine is no error.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

# The user's own cache and signing key are not those of the tests.
_HOME = tempfile.mkdtemp(prefix="sklearn_molge-home-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = os.path.join(_HOME, "cache")
os.environ["XDG_DATA_HOME"] = os.path.join(_HOME, "data")


def _data_root() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("SKLEARN_MOLGE_DATA", default))


@pytest.fixture
def read_in(monkeypatch):
    """Return a function: what RDKit parses while a call runs where nothing is known."""
    from rdkit import Chem

    read = []
    parse = Chem.MolFromSmiles

    def texts_of(call):
        read.clear()
        with monkeypatch.context() as patch, ThreadPoolExecutor(1) as new_thread:
            patch.setattr(
                Chem, "MolFromSmiles", lambda s, *a: read.append(s) or parse(s, *a)
            )
            new_thread.submit(call).result()
        return list(read)

    return texts_of


@pytest.fixture(scope="session")
def shared_data():
    """Folder with the real L1000 data; the test is skipped where it is absent."""
    root = _data_root()
    if not root.is_dir():
        pytest.skip(f"real data not found at {root} (set SKLEARN_MOLGE_DATA)")
    return root


@pytest.fixture(scope="session")
def level5_folder(shared_data):
    return shared_data / "lincs_level5_sample"


@pytest.fixture(scope="session")
def level3_folder(shared_data):
    return shared_data / "lincs_level3_plates"


@pytest.fixture(scope="session")
def admet_ai_checkpoint():
    """Path of a chemprop v2 file of admet-ai; skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "weights"
    root = Path(os.environ.get("SKLEARN_MOLGE_WEIGHTS", default))
    path = root / "admet_ai_classification_0.pt"
    if not path.is_file():
        pytest.skip(f"no pretrained weights at {path} (set SKLEARN_MOLGE_WEIGHTS)")
    return path
