"""``molge index``: a library of molecules, embedded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._options import (
    PATH,
    Output,
    jobs,
    option,
    output,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import (
    check_paths,
    check_study,
    load_study,
    of_changes,
    study_options,
)
from sklearn_molge._utils.messages import counted

if TYPE_CHECKING:
    from sklearn_molge.library import MoleculeFile, MoleculeIndex

__all__ = ["command"]

_EXAMPLES = """
molge index --model model.molge --library vendor.sdf --out index
molge index --model model.molge --library a.smi b.csv.gz --data study.h5ad --out index
"""


@make_command(examples=_EXAMPLES)
@option(
    "Index",
    "--model",
    type=PATH,
    required=True,
    metavar="FILE",
    help="what molge train wrote",
)
@option(
    "Index",
    "--library",
    type=PATH,
    multiple=True,
    required=True,
    metavar="FILE...",
    help="SMILES, CSV, TSV, SDF or Parquet, packed or not; see molge describe",
)
@option("Index", "--smiles-column", metavar="NAME", help="by default it is found")
@option("Index", "--name-column", metavar="NAME", help="by default it is found")
@option(
    "Index",
    "--dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    help="of a stored number: 4, 2 or 1 bytes",
)
@option(
    "Index",
    "--out",
    type=PATH,
    required=True,
    metavar="DIR",
    help="folder of the index; one that is there is gone on with, or added to",
)
@study_options(required=False)
@jobs
@output()
def command(given: Any) -> int:
    """Embed a library, in which molge search looks.

    A command that was stopped goes on when it is called again. Answers also tell how
    unusual a score is for a molecule (percentile), and the nearest molecule of the
    training, by the background in the model file, or by --data, the profiles that the
    model was trained on.
    """
    check_paths("--model", [given.model])
    check_paths("--library", given.library)
    if given.data:
        check_study(given)
    if given.out.exists() and not given.out.is_dir():
        raise NotADirectoryError(f"--out: {given.out} is a file, not a folder.")
    from sklearn_molge.library import MoleculeFile
    from sklearn_molge.persistence import load_background, load_model

    said = Output.of(given)
    columns = {"smiles_column": given.smiles_column, "name_column": given.name_column}
    libraries = [MoleculeFile(path, **columns) for path in given.library]
    background = of_changes(load_study(given), said) if given.data else None
    index = _index(load_model(given.model), libraries, given)
    if background is not None:
        said.step(f"Calibrating with {background}")
        index.calibrate(background.smiles, background.profiles())
    elif index.background_ is None:
        kept = load_background(given.model)
        if kept is not None:
            said.step(f"Calibrating with the background in {given.model}")
            index.calibrate(kept.smiles, kept.profiles)
    skipped = index.skipped_
    again = skipped["same_as"].notna()
    reasons = skipped["reason"].replace("missing", "without a structure")
    reasons = reasons.mask(again, "same drug as an earlier row")
    counts = reasons.value_counts().to_dict()
    if counts:
        told = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
        said.text(f"left out {counted(len(skipped), 'row')}: {told}")
    facts = {
        "out": given.out,
        "n_molecules": index.n_molecules_,
        "n_bytes": index.nbytes_,
        "skipped": counts,
        "calibrated": index.background_ is not None,
    }
    what = counted(index.n_molecules_, "molecule")
    said.result(f"The index {given.out} has {what}", facts)
    return 0


def _index(model: Any, libraries: Sequence[MoleculeFile], given: Any) -> MoleculeIndex:
    """Make an index of some libraries, or go on with the one that is there."""
    from sklearn_molge.library import MoleculeIndex

    progress = False if given.quiet else "auto"
    own = {"dtype": given.dtype, "n_jobs": given.n_jobs, "progress": progress}
    index, waiting = MoleculeIndex(model, folder=given.out, **own), deque(libraries)
    try:
        index.fit(waiting[0])
        waiting.popleft()
    except (FileExistsError, ValueError):  # others are there, or one is not finished
        index = MoleculeIndex.open(given.out, estimator=model, **own)
    refused = 0
    while waiting:
        library = waiting.popleft()
        try:
            index.partial_fit(library)
        except ValueError:  # where it was stopped at another one, that comes first
            refused += 1
            if refused > len(waiting):
                raise
            waiting.append(library)
        else:
            refused = 0
    return index
