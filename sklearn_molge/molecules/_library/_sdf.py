"""Libraries in SDF, record by record."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge.molecules._library._columns import NAME_COLUMNS
from sklearn_molge.molecules._library._text import open_text

__all__ = ["SdfRecords"]

_END = "$$$$"


class SdfRecords:
    """Records of structures, of which SMILES are written.

    Parameters
    ----------
    path : Path
        The file.
    smiles : str, default=None
        Data field that holds the SMILES; by default they are written of the structure.
    name : str, default=None
        Data field that holds the name, "_Name" for the title line; by default the
        title, and where it is empty the first known field.
    """

    def __init__(self, path: Path, smiles: str | None, name: str | None):
        self.path = path
        self.smiles = smiles
        self.name = name
        first = next(self._records(), None)
        if first is None:
            raise ValueError(f"{path}: the file has no record.")
        fields = ["_Name", *_fields(first)]
        for parameter, field in (("smiles_column", smiles), ("name_column", name)):
            if field is not None and field not in fields:
                raise ValueError(
                    f"{path}: {parameter} must be a field of the records. Got "
                    f"{field!r}; the first record has {fields}."
                )

    def _records(self) -> Iterator[list[str]]:
        with open_text(self.path) as file:
            record: list[str] = []
            for line in file:
                if line.startswith(_END):
                    yield record
                    record = []
                else:
                    record.append(line.rstrip("\r\n"))
            if any(map(str.strip, record)):  # the last one may lack its end
                yield record

    def rows(self, start: int) -> Iterator[tuple[str, str]]:
        """Yield SMILES and name of each record, from record `start` on."""
        for record in islice(self._records(), start, None):
            fields = {"_Name": record[0].strip() if record else "", **_fields(record)}
            name = self._name_of(fields)
            if self.smiles is None:
                yield _smiles_of(record, name), name
            else:
                yield fields.get(self.smiles, ""), name

    def _name_of(self, fields: dict[str, str]) -> str:
        if self.name is not None:
            return fields.get(self.name, "")
        known = {field.lower(): value for field, value in fields.items()}
        names = (known.get(name, "") for name in ("_name", *NAME_COLUMNS))
        return next(filter(None, names), "")


def _fields(record: list[str]) -> dict[str, str]:
    """Return the first line of each data field."""
    fields = {}
    for i, line in enumerate(record):
        if line.startswith(">") and "<" in line:
            name = line[line.index("<") + 1 : line.rfind(">")]
            fields[name] = record[i + 1].strip() if i + 1 < len(record) else ""
    return fields


def _smiles_of(record: list[str], name: str) -> str:
    """Write the structure as SMILES; a text that is no SMILES if it cannot be read."""
    end = next((i for i, line in enumerate(record) if line.startswith("M  END")), None)
    block = record if end is None else record[: end + 1]
    with BlockLogs():  # RDKit prints each error; the row is reported as bad
        try:
            mol = Chem.MolFromMolBlock("\n".join(block) + "\n")
        except RuntimeError:  # of a counts line that cannot be
            mol = None
        if mol is None:
            return f"unreadable record {name!r}"
        return Chem.MolToSmiles(mol)
