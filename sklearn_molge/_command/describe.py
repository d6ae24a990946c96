"""``molge describe``: what a file is, what of it is readable, what is odd."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._matrix import (
    is_saved_study,
    kind_of,
    matrix_of,
    read_anndata,
    read_matrix,
    shape_of,
)
from sklearn_molge._command._options import (
    PATH,
    Output,
    option,
    output,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import check_paths
from sklearn_molge._utils.messages import counted, first_few, shortened

if TYPE_CHECKING:
    import pandas as pd

    from sklearn_molge.datasets import GctData

__all__ = ["command"]

_EXAMPLES = """
molge describe vendor.sdf results.csv study.h5ad index
molge describe vendor.csv.gz --rows 100000 --json
"""
_N_PROFILES = 500  # of a matrix that are looked at
_ZIP = b"PK\x03\x04"
_MATRICES = (".gct", ".gctx", ".h5ad")
_TABLES = {
    "profiles": r"sig_?info|inst_?info",
    "compounds": r"compound_?info|pert_?info",
    "genes": r"gene_?info",
}


@dataclass
class _Found:
    """What a file is: facts of it, and what a person should look at."""

    kind: str
    facts: dict[str, Any]
    odd: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        width = max(map(len, self.facts), default=0)
        lines = [self.kind]
        for name, value in self.facts.items():
            if value not in (None, "", [], {}):
                lines.append(f"  {name.replace('_', ' '):{width}}  {_written(value)}")
        return "\n".join([*lines, *(f"  odd: {text}" for text in self.odd)])


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(each)}" for name, each in value.items())
    if isinstance(value, list):
        return first_few(value, write=str)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


@make_command(examples=_EXAMPLES)
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE...")
@option(
    "Look",
    "--rows",
    type=click.IntRange(min=1),
    default=2000,
    metavar="N",
    help="of a library, how many to look at",
)
@output(quiet=False)
def command(given: Any) -> int:
    """Say what files are, what of them is readable, and what is odd.

    Known are libraries of molecules, matrices of profiles, studies, tables of
    differential expression, models and indices. Nothing in a file is run. The exit code
    is 2 where one is nothing of these.
    """
    check_paths("FILE", given.files)
    said, all_found = Output.of(given), {}
    for path in given.files:
        all_found[str(path)] = found = _recognise(path, given.rows)
        said.text(f"{path}: {found}")
    if given.as_json:
        said.result("", {name: asdict(each) for name, each in all_found.items()})
    return 2 if any(each.kind == "unknown" for each in all_found.values()) else 0


def _recognise(path: Path, n_rows: int) -> _Found:
    """Ask one kind after the other; what warns tells what is odd."""
    reasons = []
    for recognise in _RECOGNISERS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = recognise(path, n_rows)
            except (ValueError, OSError, ImportError) as error:
                what = recognise.__name__.strip("_").replace("_", " ")
                reasons.append(f"no {what}: {error}")
                continue
        if found is not None:
            found.odd += [str(warning.message) for warning in caught]
            return found
    return _Found("unknown", {}, reasons)


# Folders


def _index(path: Path, n_rows: int) -> _Found | None:
    if not (path.is_dir() and (path / "index.sqlite").is_file()):
        return None
    from sklearn_molge._utils.views import resolve_views
    from sklearn_molge.library import MoleculeIndex

    index = MoleculeIndex.open(path)
    skipped = index.skipped_
    again = skipped["same_as"].notna()
    reasons = skipped["reason"].replace("missing", "without a structure")
    reasons = reasons.mask(again, "same drug as an earlier row")
    model = index.estimator_
    steps = [step for _, step in getattr(model, "steps", [("", model)])]
    inner = resolve_views(model, None, None)[0]
    facts = {
        "molecules": index.n_molecules_,
        "left_out": reasons.value_counts().to_dict(),
        "metric": index.metric_,
        "stored_as": index.dtype,
        "megabytes": round(index.nbytes_ / 1e6, 1),
        "model": [type(step).__name__ for step in [*steps[:-1], inner]],
        "calibrated": index.background_ is not None,
    }
    odd = [] if facts["calibrated"] else ["answers have no percentiles: molge index "
                                          "--data adds them"]  # fmt: skip
    return _Found("an index of molecules", facts, odd)


def _folder(path: Path, n_rows: int) -> _Found | None:
    if not path.is_dir():
        return None
    files = sorted(p for p in path.iterdir() if p.is_file())
    matrices = [p for p in files if kind_of(p)]
    tables = {
        what: [p.name for p in files if re.search(pattern, p.name, re.IGNORECASE)]
        for what, pattern in _TABLES.items()
    }
    if not matrices and not any(tables.values()):
        raise ValueError("it holds no matrix and no table of a LINCS release")
    facts = {
        "matrices": {p.name: "{:,} x {:,}".format(*shape_of(p)) for p in matrices},
        "tables": {what: names for what, names in tables.items() if names},
    }
    odd = [f"no table of {what}" for what, names in tables.items() if not names]
    odd += [] if matrices else ["no matrix"]
    return _Found("a folder in the layout of LINCS", facts, odd)


# Files of profiles


def _model(path: Path, n_rows: int) -> _Found | None:
    with open(path, "rb") as file:
        if file.read(4) != _ZIP or path.suffix.lower() in (".xlsx", ".npz", ".zip"):
            return None
    from sklearn_molge.persistence import describe_model

    card = describe_model(path)
    facts = {name: text for name, text in card.facts().items() if name != "Parameters"}
    return _Found("a model", facts)


def _study(path: Path, n_rows: int) -> _Found | None:
    if not is_saved_study(path):
        return None
    from sklearn_molge.datasets import Study

    study = Study.load(path)
    drugs, lines = (len(set(column)) for column in study.groups.T)
    n_controls = 0 if study.control_ge is None else len(study.control_ge)
    facts = {
        "profiles": len(study),
        "level": study.level,
        "drugs": drugs,
        "cell_lines": lines,
        "controls": n_controls,
        "columns": list(map(str, study.obs)),
        **_of_genes(study.genes.astype(str), study.ge.shape[1]),
    }
    return _Found("a study", facts, _odd_values(study.ge[:_N_PROFILES]))


def _matrix(path: Path, n_rows: int) -> _Found | None:
    kind = kind_of(path)
    if not kind:
        return None
    n_profiles, n_genes = shape_of(path)
    layers: dict[str, Any] = {}
    if kind == "h5ad":
        adata = read_anndata(path)
        layers = {"layers": list(adata.layers)} if len(adata.layers) else {}
        first = next(iter(adata.layers), None) if adata.X is None else None
        data = matrix_of(adata[:_N_PROFILES], first)
    else:
        data = read_matrix(path, min(_N_PROFILES, n_profiles))
    facts = {
        "format": kind.upper(),
        **layers,
        "profiles": n_profiles,
        **_level(path.name, data),
        **_of_genes(data.genes, n_genes),
        "columns": list(map(str, data.obs)),
    }
    odd = _odd_values(data.matrix)
    if not any("smiles" in str(name).lower() for name in data.obs):
        odd.append("no column of SMILES: for a study, a table of compounds is needed")
    repeated = data.obs.index[data.obs.index.duplicated()]
    odd += [f"ids of profiles that come twice: {first_few(repeated)}"] * (
        len(repeated) > 0
    )
    return _Found("a matrix of profiles", facts, odd)


def _level(name: str, data: GctData) -> dict[str, Any]:
    """Guess the level of LINCS by the values, and the name of the file."""
    import numpy as np

    values = data.matrix[np.isfinite(data.matrix)]
    if not values.size:
        return {"level": None}
    low, middle, high = np.quantile(values, [0, 0.5, 1]).round(2).tolist()
    named = re.search(r"level[ _-]?([345])", name, re.IGNORECASE)
    if named:
        level = f"{named[1]}, says the name"
    elif low >= 0 and middle > 2:
        level = "3 perhaps: no value is below 0"
    elif abs(middle) < 0.5:
        of_signatures = any("sig" in str(column).lower() for column in data.obs)
        level = f"{5 if of_signatures else '4 or 5'} perhaps: values around 0"
    else:
        level = "unknown"
    return {"level": level, "values": f"{low} to {high}, median {middle}"}


def _of_genes(table: pd.DataFrame, n_genes: int) -> dict[str, Any]:
    """Say by what genes are named, and how many are known."""
    from sklearn_molge._utils.genes import are_row_numbers
    from sklearn_molge.expression import match_genes

    columns = [table.index.astype(str), *(table[name].astype(str) for name in table)]
    columns = [c for c in columns if not are_row_numbers(c)] or [
        table.index.map("#{}".format)
    ]
    by_column = [match_genes(column, ["TP53"]) for column in columns]
    matched = max(by_column, key=lambda found: found["symbol"].notna().sum())
    known = matched["symbol"].notna()
    how = matched["how"].str.removesuffix(" of another gene").replace("name", "symbol")
    kinds = how.where(known, "unknown").value_counts().to_dict()
    marks = [name for name in table if "lm" in str(name) or "landmark" in str(name)]
    facts: dict[str, Any] = {
        "genes": n_genes,
        "named_by": kinds,
    }
    if marks:
        texts = table[marks[0]].astype(str).str.lower()
        facts["landmarks"] = int(texts.isin(["1", "1.0", "true", "yes", "y"]).sum())
    return facts


def _odd_values(values: Any) -> list[str]:
    import numpy as np

    odd = []
    n_missing = int(np.isnan(values).sum())
    if n_missing:
        odd.append(f"{counted(n_missing, 'missing value')} in {len(values):,} profiles")
    n_constant = int((np.ptp(np.nan_to_num(values), axis=1) == 0).sum())
    if n_constant:
        odd.append(f"{counted(n_constant, 'profile')} with one value throughout")
    return odd


# Tables


def _library(path: Path, n_rows: int) -> _Found | None:
    import numpy as np

    from sklearn_molge.library import MoleculeFile
    from sklearn_molge.molecules import identity_report, valid_smiles_mask

    library = MoleculeFile(path)
    told = library.describe(n_rows)
    if 2 * told.n_readable < told.n_looked_at or not told.n_readable:
        share = f"{told.n_readable:,} of {told.n_looked_at:,}"
        raise ValueError(f"{share} rows are molecules in column {told.smiles_column}")
    batches = islice(library.iter_batches(n_rows), 1)
    smiles = np.concatenate([batch.smiles for batch in batches])
    report = identity_report(smiles[valid_smiles_mask(smiles)])
    n_repeated = int(report["drug"].duplicated().sum())
    n_salts = int(report["reasons"].str.contains("counter-ion").sum())
    facts = {
        "format": told.format,
        "smiles_column": told.smiles_column,
        "name_column": told.name_column,
        "columns": list(told.columns),
        "rows": told.n_rows,
        "looked_at": told.n_looked_at,
        "readable": told.n_readable,
        "drugs": int(report["drug"].nunique()),
        "salts": n_salts,
        "first": [f"{text} {name}".strip() for text, name in told.examples[:3]],
    }
    odd = []
    if len(told.bad_rows):
        n_bad = told.n_missing + told.n_invalid
        some = [
            f"row {row.row} {shortened(row.entry)}"
            for row in told.bad_rows.head(5).itertuples()
        ]
        odd.append(f"{counted(n_bad, 'row')} without a molecule: {', '.join(some)}")
    if n_repeated:
        odd.append(
            f"{counted(n_repeated, 'row')} of a drug that came before (another salt, "
            "isomer or spelling); an index keeps the first"
        )
    if told.n_unnamed:
        odd.append(f"{counted(told.n_unnamed, 'row')} without a name")
    return _Found("a library of molecules", facts, odd)


def _table_of_genes(path: Path, n_rows: int) -> _Found | None:
    from sklearn_molge.datasets import read_de_table

    query = read_de_table(path)
    facts = {
        "written_by": query.kind,
        "columns": query.columns,
        "values": query.rule,
        "rows": len(query.genes),
        "genes_named_by": query.genes["how"].value_counts().to_dict(),
    }
    return _Found("a table of differential expression", facts)


def _table_of_profiles(path: Path, n_rows: int) -> _Found | None:
    from sklearn_molge.datasets import GctData, read_profiles

    profiles = read_profiles(path, missing="nan")
    names = profiles.T[[]]
    data = GctData(matrix=profiles.to_numpy(), obs=profiles[[]], genes=names)
    facts = {
        "profiles": len(profiles),
        **_level(path.name, data),
        **_of_genes(names, profiles.shape[1]),
    }
    return _Found("a table of profiles", facts, _odd_values(data.matrix))


_RECOGNISERS: tuple[Callable[[Path, int], _Found | None], ...] = (
    *(_index, _folder, _model, _study, _matrix),
    *(_library, _table_of_genes, _table_of_profiles),
)
