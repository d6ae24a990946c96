"""Which columns of a table hold the SMILES and the names."""

from collections.abc import Sequence
from os import PathLike

# Lower case, the most telling first.
SMILES_COLUMNS = (
    "smiles",
    "canonical_smiles",
    "isomeric_smiles",
    "canonical smiles",
    "cxsmiles",
    "smi",
    "structure",
)
NAME_COLUMNS = (
    "name",
    "cmap_name",
    "pert_iname",
    "compound_name",
    "pref_name",
    "title",
    "_name",
    "pert_id",
    "chembl_id",
    "molecule_chembl_id",
    "zinc_id",
    "zincid",
    "catalog_id",
    "compound_id",
    "idnumber",
    "cid",
    "id",
)

Column = str | int | None


def find_columns(
    path: str | PathLike, columns: Sequence[str], smiles: Column, name: Column
) -> tuple[int, int | None]:
    """Return the places of the SMILES and of the names (None if there are none).

    Raises
    ------
    ValueError
        With the columns that are there.
    """
    place = _find(columns, SMILES_COLUMNS) if smiles is None else _at(columns, smiles)
    if place is None:
        wanted = (
            f"a column of SMILES ({', '.join(SMILES_COLUMNS)}); name it by "
            "smiles_column"
            if smiles is None
            else f"the column {smiles!r} of smiles_column"
        )
        raise _missing(path, columns, wanted)
    if name is None:
        has_header = not isinstance(smiles, int)
        return place, _find(columns, NAME_COLUMNS) if has_header else None
    name_place = _at(columns, name)
    if name_place is None:
        raise _missing(path, columns, f"the column {name!r} of name_column")
    return place, name_place


def is_smiles_column(column: str) -> bool:
    """Whether a column of this name is known to hold SMILES."""
    return column.strip().lower() in SMILES_COLUMNS


def _find(columns: Sequence[str], known: Sequence[str]) -> int | None:
    lower = [column.strip().lower() for column in columns]
    return next((lower.index(name) for name in known if name in lower), None)


def _at(columns: Sequence[str], column: str | int) -> int | None:
    if isinstance(column, str):
        return columns.index(column) if column in columns else None
    return column if 0 <= column < len(columns) else None


def _missing(path: str | PathLike, columns: Sequence[str], wanted: str) -> ValueError:
    return ValueError(f"{path}: the table must have {wanted}. Got {list(columns)}.")
