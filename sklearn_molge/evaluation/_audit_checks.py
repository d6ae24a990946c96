"""The checks of audit_split: what two parts may share, and what they do."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets import Study

__all__ = ["Facts", "run_checks"]

_PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))
_N_EXAMPLES = 3
_N_LETTERS = 60

# One row for each (entity, key): entities are counted, keys are compared.
Keys = pd.DataFrame


@dataclass
class Facts:
    """What the checks look at."""

    study: Study
    parts: dict[str, NDArray[np.intp]]
    structures: pd.DataFrame  # by text
    molecules: pd.DataFrame  # by drug
    row_drugs: NDArray[np.object_] = field(init=False)
    drugs: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.structures["drug"].to_dict()
        # Rows in no part are not looked at: their SMILES may be anything.
        self.row_drugs = np.array([ids.get(s) for s in self.study.smiles], dtype=object)
        self.drugs = {p: set(self.row_drugs[rows]) for p, rows in self.parts.items()}

    def texts(self, part: str) -> pd.DataFrame:
        """Return the structures of a part, by text."""
        return self.structures.loc[
            pd.Index(self.study.smiles[self.parts[part]]).unique()
        ]

    def name(self, *entities: Any) -> str:
        """Name an entity and its counterpart: drugs with their SMILES."""
        return " ~ ".join(dict.fromkeys(map(self._name, entities)))

    def _name(self, entity: Any) -> str:
        if entity not in self.molecules.index:
            return str(entity)
        smiles = str(self.molecules.at[entity, "smiles"])
        shown = f"{smiles[:_N_LETTERS]}..." if len(smiles) > _N_LETTERS else smiles
        return f"{entity} {shown}"


@dataclass(frozen=True)
class _Check:
    """How to find the entities of one part that have a counterpart in another.

    `keys` returns those of the two parts named; it is None where nobody knows.
    """

    name: str
    reading: str
    keys: Callable[[str, str], tuple[Keys, Keys]] | None


def run_checks(facts: Facts, *, forbidden: Sequence[str]) -> pd.DataFrame:
    """Return the table of :class:`SplitAudit`."""
    pairs = [(a, b) for a, b in _PAIRS if a in facts.parts and b in facts.parts]
    rows = []
    for check in _checks(facts):
        for a, b in pairs:
            row: dict[str, Any] = {"check": check.name, "parts": f"{a}/{b}", "ok": None}
            if check.keys is not None:
                row |= _compare(*check.keys(a, b), facts)
                if check.name in forbidden:
                    row["ok"] = row["n_shared"] == 0
            rows.append(row | {"reading": check.reading})
    order = "check parts n_shared n_a n_b share ok examples reading".split()
    table = pd.DataFrame(rows)[order].astype({"ok": object})
    table["examples"] = table["examples"].fillna("")
    return table.astype(dict.fromkeys(["n_shared", "n_a", "n_b"], "Int64"))


def _compare(first: Keys, second: Keys, facts: Facts) -> dict[str, Any]:
    shared = second[second["key"].isin(first["key"])].drop_duplicates("entity")
    shown = shared.sort_values("entity", key=_as_text)[:_N_EXAMPLES]
    partner = first.drop_duplicates("key").set_index("key")["entity"]
    names = [
        facts.name(own, partner[key])
        for own, key in zip(shown["entity"], shown["key"], strict=True)
    ]
    more = len(shared) - len(names)
    n_b = second["entity"].nunique()
    return {
        "n_shared": len(shared),
        "n_a": first["entity"].nunique(),
        "n_b": n_b,
        "share": len(shared) / n_b if n_b else np.nan,
        "examples": "; ".join(names) + (f"; and {more} more" if more else ""),
    }


def _as_text(values: pd.Series) -> pd.Series:
    return values.astype(str)


def _checks(facts: Facts) -> Iterator[_Check]:
    rows = np.arange(len(facts.study))
    grouped = facts.study.groups[:, 0]
    yield _of_rows(facts, "rows", rows, "the same row is in both")
    yield _of_rows(facts, "drugs", facts.row_drugs, "molecules, by their SMILES")
    yield _of_rows(facts, "drugs, as grouped", grouped, "drugs of study.groups")
    yield _of_column(facts, "cell lines", "cell_line", "cell lines of obs")
    yield _of_column(facts, "perturbagen ids", "pert_id", "samples of one molecule")
    yield from _form_checks(facts)
    yield from _structure_checks(facts)
    yield _of_column(facts, "plates", "plate", "they share batch effect and controls")
    yield _control_wells(facts)
    yield _profiles(facts)


def _of_rows(facts: Facts, name: str, values: NDArray, reading: str) -> _Check:
    """Compare the values that the rows of the parts have; missing ones are left out."""
    column = pd.Series(values, dtype=object)
    found = {p: column.iloc[rows].dropna().unique() for p, rows in facts.parts.items()}
    return _of_parts(name, reading, {part: _keys(v) for part, v in found.items()})


def _of_column(facts: Facts, name: str, column: str, reading: str) -> _Check:
    obs = facts.study.obs
    if column not in obs:
        return _Check(name, f"unknown: obs has no {column}", None)
    if obs[column].isna().all():
        return _Check(name, f"unknown: no {column} is known in obs", None)
    return _of_rows(facts, name, obs[column].to_numpy(dtype=object), reading)


def _of_parts(name: str, reading: str, keys: dict[str, Keys]) -> _Check:
    return _Check(name, reading, lambda a, b: (keys[a], keys[b]))


def _keys(values: Any, entities: Any = None) -> Keys:
    entities = values if entities is None else entities
    columns = {"entity": list(entities), "key": list(values)}
    return pd.DataFrame(columns, dtype=object)


def _form_checks(facts: Facts) -> Iterator[_Check]:
    """Check drugs that are in both parts, in different forms; and mixtures."""
    forms = facts.structures.copy()
    forms["salt"] = [",".join(sorted(ids)) for ids in forms["partners"]]
    yield _Check(
        "salts", "one drug with another counter-ion",
        partial(_other_form_keys, facts, forms["salt"]),
    )  # fmt: skip
    yield _Check(
        "isomers", "one drug with another stereochemistry",
        partial(_other_form_keys, facts, forms["isomer"]),
    )  # fmt: skip
    yield _Check(
        "mixtures", "a further fragment is a drug of the other part",
        partial(_mixture_keys, facts),
    )  # fmt: skip


def _other_form_keys(
    facts: Facts, forms: pd.Series, a: str, b: str
) -> tuple[Keys, Keys]:
    """Return keys by which drugs meet that are not in one and the same form in both."""
    of_part = {p: _forms_by_drug(facts.texts(p)["drug"], forms) for p in (a, b)}
    first, second = of_part[a], of_part[b]
    changed = [
        drug if len(own | first.get(drug, own)) > 1 else None
        for drug, own in second.items()
    ]
    return _keys(list(first)), _keys(changed, list(second))


def _forms_by_drug(drugs: pd.Series, forms: pd.Series) -> dict[Any, frozenset[str]]:
    return forms.loc[drugs.index].groupby(drugs).agg(frozenset).to_dict()


def _mixture_keys(facts: Facts, a: str, b: str) -> tuple[Keys, Keys]:
    """Return keys by which a drug meets a fragment of another, either way round."""
    whole, fragments = {}, {}
    for part in (a, b):
        whole[part] = _keys(sorted(facts.drugs[part]))
        pairs = facts.texts(part)[["drug", "partners"]].explode("partners").dropna()
        fragments[part] = _keys(pairs["partners"], pairs["drug"])
    # Tagged, so that a fragment of `a` does not meet one of `b`.
    tagged = [
        _keys([("fragment of b", key) for key in keys["key"]], keys["entity"])
        for keys in (whole[a], fragments[b])
    ]
    return pd.concat([fragments[a], tagged[0]]), pd.concat([whole[b], tagged[1]])


def _structure_checks(facts: Facts) -> Iterator[_Check]:
    columns = {
        "protomer": ("protomers", "equal but for mobile hydrogens and charge"),
        "scaffold": ("scaffolds", "the same rings and linkers"),
        "fingerprint": ("fingerprints", "what the fingerprint cannot tell apart"),
        "fingerprint_512": (
            "fingerprints, 512 bits",
            "what the paper's fingerprint cannot tell apart (64 of 437 there)",
        ),
    }
    for column, (name, reading) in columns.items():
        keys = {}
        for part, drugs in facts.drugs.items():
            values = facts.molecules.loc[sorted(drugs), column].dropna()
            keys[part] = _keys(values, values.index)
        yield _of_parts(name, reading, keys)


def _control_wells(facts: Facts) -> _Check:
    name, reading = "control wells", "both are compared with them"
    controls, obs = facts.study.control_obs, facts.study.obs
    if controls is None:
        return _Check(name, "unknown: the study has no controls", None)
    if "plate" not in obs:
        return _Check(name, "unknown: obs has no plate", None)
    wells = np.arange(len(controls))
    keys = {
        part: _keys(wells[controls["plate"].isin(obs["plate"].iloc[rows].dropna())])
        for part, rows in facts.parts.items()
    }
    return _of_parts(name, reading, keys)


def _profiles(facts: Facts) -> _Check:
    """Compare digests of the values, which are equal for equal profiles."""
    keys = {}
    for part, rows in facts.parts.items():
        profiles = (facts.study.ge[row] + 0.0 for row in rows)  # -0.0 is 0.0
        digests = [hashlib.blake2b(p.tobytes()).digest() for p in profiles]
        keys[part] = _keys(digests, [f"row {row}" for row in rows])
    return _of_parts("profiles", "equal in every gene: a copied profile", keys)
