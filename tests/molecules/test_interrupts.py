"""Ctrl-C comes, also after functions of RDKit that listen for it themselves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    drug_ids,
    smiles_from_inchi,
)

SMILES = ["CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)O", "OC(=O)c1ccccc1O"]
CALLS = {
    "identity": lambda: drug_ids(SMILES),
    "descriptors": lambda: MoleculeDescriptors().fit_transform(SMILES),
    "MACCS": lambda: MoleculeFingerprinter("maccs").fit_transform(SMILES),
    "InChI": lambda: smiles_from_inchi(["InChI=1S/C2H5NO/c1-2(3)4/h1H3,(H2,3,4)"]),
}


@pytest.fixture
def listener():
    """Count interrupts."""
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    yield came
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends a process of Windows")
@pytest.mark.parametrize("name", CALLS)
def test_interrupts_come_afterwards(listener, name):
    CALLS[name]()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)  # where Python looks for signals
    assert listener == [1]


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends a process of Windows")
@pytest.mark.parametrize("how", ["here", "thread", "ignored"])
def test_who_listens_is_as_before(how):
    code = f"""
import os, signal, threading
from rdkit import Chem
Chem.MolFromSmiles("CO").HasSubstructMatch(Chem.MolFromSmarts("C"))
from sklearn_molge.molecules import drug_ids
if {how!r} == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if {how!r} == "thread":
    thread = threading.Thread(target=drug_ids, args=({SMILES},))
    thread.start()
    thread.join()
else:
    drug_ids({SMILES})
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("went on" if how == "ignored" else "interrupted")
