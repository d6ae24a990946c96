"""``molge convert``: from one format of profiles to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._matrix import matrix_of, read_matrix
from sklearn_molge._command._options import (
    PATH,
    Output,
    check_out,
    option,
    options,
    output,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import (
    check_paths,
    check_study,
    load_study,
    study_options,
)
from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.messages import counted
from sklearn_molge._utils.optional import import_optional

if TYPE_CHECKING:
    from sklearn_molge.datasets import GctData

__all__ = ["command"]

_EXAMPLES = """
molge convert plate.gct plate.gctx
molge convert path/to/lincs study.h5ad --study --level 5
"""
_ENDINGS = (".gct", ".gctx", ".h5ad")


def _filters() -> Any:
    """Declare the options of a study, whose files are the argument."""

    def decorate(function: Any) -> Any:
        function = study_options(required=False)(function)
        known = function.__click_params__
        known[:] = [p for p in known if p.name not in ("data", "molecules")]
        return function

    return decorate


@make_command(examples=_EXAMPLES)
@click.argument("source", type=PATH, metavar="IN")
@click.argument("target", type=PATH, metavar="OUT")
@option(
    "Study",
    "--study",
    "as_study",
    is_flag=True,
    help="keep treated profiles with a readable molecule and their controls, columns "
    "in our names and units, as every command reads a study; so it is with a folder. "
    "Without it all rows and columns stay as they are",
)
@options(_filters())
@option("Run", "--force", is_flag=True, help="replace OUT")
@output()
def command(given: Any) -> int:
    """Write profiles in another format.

    GCT, GCTX or .h5ad, by the ending of OUT.

    A study in .h5ad opens at once, in this and any other command, and in AnnData.
    """
    check_paths("IN", [given.source])
    if given.target.suffix.lower() not in _ENDINGS:
        raise ValueError(f"OUT must end in one of {', '.join(_ENDINGS)}. "
                         f"Got {given.target}.")  # fmt: skip
    check_out(given.target, force=given.force, flag="OUT")
    given.data, given.molecules = (str(given.source),), None
    said = Output.of(given)
    if given.as_study or given.source.is_dir():
        check_study(given)
        study = load_study(given)
        said.step(str(study))
        if given.target.suffix.lower() == ".h5ad":
            study.save(given.target)
        else:
            _write(given.target, matrix_of(study.to_anndata()))
        shape = study.ge.shape
    else:
        data = read_matrix(given.source, layer=given.layer)
        _write(given.target, data)
        shape = data.matrix.shape
    what = f"{counted(shape[0], 'profile')} of {counted(shape[1], 'gene')}"
    said.result(
        f"{given.target} has {what}",
        {"out": given.target, "n_profiles": shape[0], "n_genes": shape[1]},
    )
    return 0


def _write(path: Path, data: GctData) -> None:
    """Write a matrix with its tables in the format of the ending."""
    from sklearn_molge.datasets import write_gctx

    if path.suffix.lower() == ".gctx":
        write_gctx(path, data)
    elif path.suffix.lower() == ".gct":
        with replacing(path) as draft:
            _write_gct(draft, data)
    else:
        _write_h5ad(path, data)


def _write_h5ad(path: Path, data: GctData) -> None:
    """Write AnnData, whose texts are categories."""
    import pandas as pd

    from sklearn_molge._files.hdf5_writing import writing_hdf5

    anndata = import_optional("anndata", extra="anndata", needed_by="An .h5ad file")
    tables = []
    for table in (data.obs, data.genes):
        texts = table.select_dtypes(["object", "string"])
        codes = {str(name): pd.Categorical(texts[name].map(_text)) for name in texts}
        tables.append(table.assign(**codes).rename_axis(None))
    obs, var = tables
    with replacing(path) as draft, writing_hdf5(draft) as (file, _):
        anndata.io.write_elem(file, "/", anndata.AnnData(data.matrix, obs, var))


def _text(value: object) -> object:
    """Return a value among texts as text, but what is missing."""
    return None if value is None or value != value else str(value)


def _write_gct(path: Path, data: GctData) -> None:
    """Write GCT 1.3: genes are rows; numbers as they are read again exactly."""
    import numpy as np
    import pandas as pd

    obs, genes = data.obs.astype(object), data.genes.astype(object)
    sizes = data.matrix.shape[1], data.matrix.shape[0], genes.shape[1], obs.shape[1]
    values = pd.DataFrame(data.matrix.T.astype(object))
    head = pd.DataFrame(np.full((obs.shape[1], genes.shape[1]), "na", dtype=object))
    rows = pd.concat(
        [
            pd.concat([head, pd.DataFrame(obs.T.to_numpy(object))], axis=1),
            pd.concat([pd.DataFrame(genes.to_numpy(object)), values], axis=1),
        ]
    )
    rows.insert(0, "id", [*obs.columns, *genes.index], allow_duplicates=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("#1.3\n" + "\t".join(map(str, sizes)) + "\n")
        file.write("\t".join(["id", *map(str, genes.columns), *map(str, obs.index)]))
        file.write("\n")
        for row in rows.itertuples(index=False):
            file.write("\t".join(map(_cell, row)) + "\n")


def _cell(value: object) -> str:
    """Write a cell: of a text its words, of what is missing -666, as CMap does."""
    if value is None or value != value:
        return "-666"
    return " ".join(str(value).split())
