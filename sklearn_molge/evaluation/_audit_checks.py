"""The checks of audit_split: what makes molecules alike, and what two parts share."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolHash
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.rdBase import BlockLogs
from sklearn.base import TransformerMixin, clone

from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import distinct_rows, row_batches
from sklearn_molge.datasets import Study
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import drug_ids, parent_molecule, parse_smiles

__all__ = [
    "Facts",
    "fingerprint_codes",
    "nearest_molecules",
    "run_checks",
    "structure_table",
]

_PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))
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

    def name(self, *entities: Hashable) -> str:
        """Name an entity and its counterpart: drugs with their SMILES."""
        return " ~ ".join(dict.fromkeys(map(self._name, entities)))

    def _name(self, entity: Hashable) -> str:
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
            row: dict[str, object] = {
                "check": check.name,
                "parts": f"{a}/{b}",
                "ok": None,
            }
            if check.keys is not None:
                row |= _compare(*check.keys(a, b), facts)
                if check.name in forbidden:
                    row["ok"] = row["n_shared"] == 0
            rows.append(row | {"reading": check.reading})
    order = "check parts n_shared n_a n_b share ok examples reading".split()
    table = pd.DataFrame(rows)[order].astype({"ok": object})
    table["examples"] = table["examples"].fillna("")
    return table.astype(dict.fromkeys(["n_shared", "n_a", "n_b"], "Int64"))


def _compare(first: Keys, second: Keys, facts: Facts) -> dict[str, object]:
    shared = second[second["key"].isin(first["key"])].drop_duplicates("entity")
    shared = shared.sort_values("entity", key=lambda values: values.astype(str))
    partner = first.drop_duplicates("key").set_index("key")["entity"]
    pairs = zip(shared["entity"], shared["key"], strict=True)
    n_b = second["entity"].nunique()
    return {
        "n_shared": len(shared),
        "n_a": first["entity"].nunique(),
        "n_b": n_b,
        "share": len(shared) / n_b if n_b else np.nan,
        "examples": first_few(
            pairs, write=lambda pair: facts.name(pair[0], partner[pair[1]]), n=3
        ),
    }


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


def _keys(
    values: Iterable[Hashable], entities: Iterable[Hashable] | None = None
) -> Keys:
    entities = values if entities is None else entities
    columns = {"entity": list(entities), "key": list(values)}
    return pd.DataFrame(columns, dtype=object)


def _form_checks(facts: Facts) -> Iterator[_Check]:
    """Check drugs that are in both parts, in different forms; and mixtures."""
    forms = facts.structures.copy()
    forms["salt"] = [",".join(sorted(ids)) for ids in forms["partners"]]
    for name, column, reading in (
        ("salts", "salt", "one drug with another counter-ion"),
        ("isomers", "isomer", "one drug with another stereochemistry"),
    ):
        yield _Check(name, reading, partial(_other_form_keys, facts, forms[column]))
    reading = "a further fragment is a drug of the other part"
    yield _Check("mixtures", reading, partial(_mixture_keys, facts))


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


def _forms_by_drug(
    drugs: pd.Series, forms: pd.Series
) -> dict[Hashable, frozenset[str]]:
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


def structure_table(texts: NDArray[np.object_]) -> pd.DataFrame:
    """Describe each distinct SMILES: one row a text.

    ``drug``, ``isomer``: identities without and with stereochemistry; ``parent``:
    SMILES of the uncharged largest fragment; ``partners``: drugs of its others;
    ``protomer``: equal for tautomers and charge states; ``scaffold``: of Bemis and
    Murcko, None for an acyclic molecule.
    """
    table = pd.DataFrame({"drug": drug_ids(texts)}, index=texts)
    table["isomer"] = drug_ids(texts, stereo=True)
    columns = ["parent", "protomer", "scaffold", "fragments"]
    with BlockLogs():
        mols = map(parse_smiles, texts)
        described = [_describe(mol) for mol in mols if mol is not None]
    for name, values in zip(columns, zip(*described, strict=True), strict=True):
        table[name] = list(values)
    table["partners"] = _partners(table["drug"], table.pop("fragments"))
    return table


def _describe(mol: Chem.Mol) -> tuple[str, str, str | None, tuple[str, ...]]:
    parent = parent_molecule(mol)
    text = Chem.MolToSmiles(parent)
    if parse_smiles(text) is None:  # a few metal complexes do not survive it
        text = Chem.MolToSmiles(mol)
    scaffold = Chem.MolToSmiles(
        MurckoScaffold.GetScaffoldForMol(parent), isomericSmiles=False
    )
    flat = Chem.Mol(parent)
    Chem.RemoveStereochemistry(flat)
    protomer = rdMolHash.MolHash(flat, rdMolHash.HashFunction.HetAtomProtomerv2)
    whole = Chem.MolToSmiles(mol)
    fragments = tuple(whole.split(".")) if "." in whole else ()
    return text, protomer, scaffold or None, fragments


def _partners(drugs: pd.Series, fragments: pd.Series) -> pd.Series:
    """Return the drugs of the fragments other than the molecule itself."""
    texts = sorted({f for several in fragments for f in several})
    readable = [text for text in texts if parse_smiles(text) is not None]
    ids = dict(zip(readable, drug_ids(readable) if readable else [], strict=True))
    partners = [
        frozenset(ids[f] for f in several if f in ids) - {drug}
        for drug, several in zip(drugs, fragments, strict=True)
    ]
    return pd.Series(partners, index=drugs.index, dtype=object)


def fingerprint_codes(
    parents: NDArray[np.object_], fingerprinter: TransformerMixin
) -> NDArray:
    """Give molecules with equal fingerprints one number."""
    return distinct_rows(clone(fingerprinter).fit_transform(parents))[1]


def nearest_molecules(
    queries: NDArray[np.object_],
    gallery: NDArray[np.object_],
    fingerprinter: TransformerMixin,
) -> tuple[NDArray[np.intp], NDArray]:
    """Return the position of the nearest of `gallery`, and Tanimoto's similarity."""
    both = np.concatenate([gallery, queries])
    features = clone(fingerprinter).fit_transform(both)
    known, asked = features[: len(gallery)], features[len(gallery) :]
    nearest, similarity = [], []
    for rows in row_batches(len(queries), max(len(gallery), 1)):
        block = pairwise_similarity(asked[rows], known, metric="tanimoto")
        best = block.argmax(axis=1)
        nearest.append(best)
        similarity.append(block[np.arange(len(best)), best])
    return np.concatenate(nearest), np.concatenate(similarity)
