"""audit_split: what the parts of a split share, and must not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.Chem import rdMolHash
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.rdBase import BlockLogs
from sklearn.base import TransformerMixin, clone

from sklearn_molge._compat import HasMethods, StrOptions, validate_params
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.rows import distinct_rows, row_batches
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._divisions import Repeat
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.model_selection import DrugCellLineSplit
from sklearn_molge.molecules import (
    MISSING_SMILES,
    MorganFingerprinter,
    drug_ids,
    identity_report,
    name_conflicts,
    parent_molecule,
    parse_smiles,
    parsed_once,
)

__all__ = [
    "SplitAudit",
    "audit_repeats",
    "audit_split",
    "covered_lines",
    "held_out",
]

_PARTS = ("train", "val", "test")
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_FORBIDDEN = {
    "both": ("rows", "drugs", "drugs, as grouped", "cell lines"),
    "drugs": ("rows", "drugs", "drugs, as grouped"),
    "cell_lines": ("rows", "cell lines"),
}
_PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))
_N_LETTERS = 60
# Columns of obs by which a molecule is known.
_NAME_COLUMNS = ("pert_id", "pert_name")

# One row for each (entity, key): entities are counted, keys are compared.
Keys = pd.DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class SplitAudit:
    """What the parts of a split share: the answer of :func:`audit_split`.

    Attributes
    ----------
    table : DataFrame
        One row for each check and pair of parts: ``check``; ``parts`` ("train/test",
        "train/val" or "val/test"); ``n_a`` and ``n_b``, the distinct entries of the
        first and of the second part; ``n_shared``, how many of the `n_b` have a
        counterpart in the first part, and ``share``, their share (all four are missing
        where the study does not tell); ``ok``, True or False where sharing is forbidden
        and None where it is information only; ``examples``, a few of what is shared;
        ``reading``, what it means.
    neighbours : DataFrame
        One row for each test drug: ``drug``, ``smiles``, ``nearest_drug``,
        ``nearest_smiles`` and ``similarity`` (Tanimoto) of the nearest training drug,
        ``same_fingerprint`` and ``same_fingerprint_512``, whether any training drug has
        the same one.
    parts : DataFrame
        ``profiles``, ``drugs`` and ``cell_lines`` of each part.
    merged : DataFrame
        One row for each SMILES that is one drug with another SMILES of these rows:
        ``drug``, ``smiles``, ``parts`` that hold it, ``removed`` and ``reasons``, why
        it is not told from the others; see
        :func:`~sklearn_molge.molecules.identity_report`. Two spellings need no reason.
    kept_apart : DataFrame
        One row for each two drugs that have one name or id in `obs`: ``column`` and
        ``name``, ``drug_a``, ``drug_b``, ``smiles_a``, ``smiles_b``, ``parts_a``,
        ``parts_b``, and ``why`` they are two; see
        :func:`~sklearn_molge.molecules.name_conflicts`. To be looked at: one may be
        drawn wrongly, or both be one drug.
    """

    table: pd.DataFrame
    neighbours: pd.DataFrame
    parts: pd.DataFrame
    merged: pd.DataFrame
    kept_apart: pd.DataFrame

    @property
    def violations(self) -> list[str]:
        """What is shared and must not be; empty for an honest split."""
        broken = self.table[[ok is False for ok in self.table["ok"]]]
        return [
            f"{row.check} in both parts of {row.parts}: {row.n_shared} of {row.n_b} "
            f"({row.examples})"
            for row in broken.itertuples()
        ]

    @property
    def similarity_quantiles(self) -> pd.Series:
        """Quantiles over the test drugs of the similarity to the nearest one."""
        return self.neighbours["similarity"].quantile(list(_QUANTILES))

    def _headline(self) -> list[str]:
        sizes = (
            f"{part} {counted(row.profiles, 'profile')} of "
            f"{counted(row.drugs, 'drug')} in {counted(row.cell_lines, 'cell line')}"
            for part, row in self.parts.iterrows()
        )
        quantiles = self.similarity_quantiles
        lines = [
            "Split: " + "; ".join(sizes) + ".",
            "Nearest training molecule of a test drug, Tanimoto similarity: median "
            f"{quantiles[0.5]:.2f}, 90 % are below {quantiles[0.9]:.2f}, largest "
            f"{quantiles[1.0]:.2f}.",
        ]
        lines += self._identities()
        found = f"Training and test rows, {_found(self.table)}"
        if not self.violations:
            first = "No violation: what must not be shared is not."
            return [first, found, *lines]
        return [*(f"VIOLATION: {text}" for text in self.violations), found, *lines]

    def _identities(self) -> list[str]:
        """Say which molecules were merged and which names were kept apart, and why."""
        lines = []
        if len(self.merged):
            reasons = self.merged["reasons"].str.split(", ").explode()
            counts = reasons.replace("", "spelling").value_counts().items()
            why = ", ".join(f"{reason} {n:,}" for reason, n in counts)
            lines.append(
                f"{len(self.merged):,} SMILES are {self.merged['drug'].nunique():,} "
                f"drugs; they differ by {why}: see `merged`."
            )
        if len(self.kept_apart):
            pairs = self.kept_apart.itertuples()
            lines.append(
                f"{len(self.kept_apart):,} times one name or id is two drugs: "
                + first_few(pairs, write=_pair_text, n=3)
                + "; see `kept_apart`."
            )
        return lines

    def _summary_table(self) -> pd.DataFrame:
        table = self.table.assign(
            text=[_count_text(r) for r in self.table.itertuples()]
        )
        wide = table.pivot(index="check", columns="parts", values="text")
        return wide.loc[table["check"].unique(), table["parts"].unique()].rename_axis(
            index="shared", columns=None
        )

    def __str__(self) -> str:
        lines = (fill(t, 88, subsequent_indent="    ") for t in self._headline())
        return "\n".join([*lines, "", self._summary_table().to_string()])

    def __repr__(self) -> str:
        return f"<SplitAudit: {counted(len(self.violations), 'violation')}>"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{escape(line)}</p>" for line in self._headline())
        return lines + self._summary_table().to_html()


def _pair_text(pair) -> str:
    return f"{pair.name} ({pair.parts_a} | {pair.parts_b}, {pair.why})"


def _count_text(row) -> str:
    if pd.isna(row.n_shared):
        return "unknown"
    verdict = {False: " !", True: " ok"}.get(row.ok, "")
    return f"{row.n_shared:,} of {row.n_b:,}{verdict}"


@validate_params(
    {
        "study": [Study],
        "split": "no_validation",
        "fingerprinter": [HasMethods(["fit_transform"]), None],
        "hold_out": [StrOptions({"both", "drugs", "cell_lines"})],
    },
    prefer_skip_nested_validation=True,
)
@parsed_once()
def audit_split(
    study: Study,
    split: DrugCellLineSplit | Mapping[str, ArrayLike],
    *,
    fingerprinter: TransformerMixin | None = None,
    hold_out: str = "both",
) -> SplitAudit:
    """Look for what the training, validation and test rows of a study share.

    A score is honest if nothing of a test drug and of a test cell line was seen in
    training. A shared row, drug or cell line is a violation. The rest is information:
    it may be harmless, but it explains scores.

    Parameters
    ----------
    study : Study
        From :func:`~sklearn_molge.datasets.load_lincs`, for example. Its drugs are
        identified again from the SMILES; ``study.groups`` is looked at as well.
    split : object or mapping
        With the row positions, or masks, ``train``, ``test`` and perhaps ``val``: what
        :func:`~sklearn_molge.model_selection.drug_cell_line_split` returns, or
        ``dict(train=train, test=test)``.
    fingerprinter : transformer or None, default=None
        Of SMILES, for the similarity of molecules; None is
        ``MorganFingerprinter(radius=2, fp_size=2048)``.
    hold_out : {"both", "drugs", "cell_lines"}, default="both"
        What the parts must not share, as in `drug_cell_line_split`; the other is
        information only.

    Returns
    -------
    audit : SplitAudit
        With the data frames `table`, `neighbours`, `merged` and `kept_apart` and the
        list `violations`; ``print(audit)`` shows a summary.

    Raises
    ------
    ValueError
        If `split` has no training or test row, or a position outside the study.
    InvalidSmilesError
        If a SMILES of these rows is not a molecule.

    See Also
    --------
    sklearn_molge.model_selection.drug_cell_line_split : Makes such a split.

    Notes
    -----
    The checks, beside rows, drugs and cell lines:

    - "salts" and "isomers": drugs of both parts that have another counter-ion or
      another stereochemistry there: why a split by ``pert_id`` or SMILES leaks;
    - "mixtures": a further fragment of a molecule is a drug of the other part;
    - "protomers": molecules that differ by mobile hydrogens or charge alone (RDKit's
      hash ``HetAtomProtomerv2``), which the InChIKey may tell apart;
    - "scaffolds": drugs with a Bemis-Murcko scaffold of the other part; drugs without
      a ring are not counted;
    - "fingerprints" and "fingerprints, 512 bits": drugs that the fingerprint cannot
      tell from one of the other part. In the paper's split these are 64 of 437 test
      drugs, at 512 bits;
    - "names": drugs with a name or perturbagen id of another drug of the other part:
      one drug drawn in two ways, or a wrong structure;
    - "covered lines": lines of the second part that are among the ``covered_lines``
      of profiles of the first, such as a consensus over lines ("*": it may be any).
      With it, a held-out line is unseen for the held-out molecules, not for all;
    - "perturbagen ids", "plates", "control wells", and "profiles", equal in every gene.

    Structures are those of :func:`~sklearn_molge.molecules.parent_molecule`, one for
    each drug.
    Similarity is Tanimoto's; bits ignore stereochemistry.

    References
    ----------
    G. W. Bemis and M. A. Murcko, "The properties of known drugs. 1. Molecular
    frameworks", Journal of Medicinal Chemistry 39 (1996).

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.evaluation import audit_split
    >>> from sklearn_molge.model_selection import drug_cell_line_split
    >>> study = make_perturbation_study(30, n_cell_lines=4, level=5, random_state=0)
    >>> split = drug_cell_line_split(study.groups, random_state=0)
    >>> audit_split(study, split).violations
    []
    >>> leaky = {"train": split.train, "test": split.oracle_train_lines}
    >>> audit_split(study, leaky, hold_out="drugs")
    <SplitAudit: 0 violations>
    """
    parts = _part_rows(split, len(study))
    rows = np.unique(np.concatenate(list(parts.values())))
    texts = pd.unique(study.smiles[rows])
    structures = _structure_table(texts)
    molecules = _drug_table(structures)
    prints = MorganFingerprinter() if fingerprinter is None else fingerprinter
    parents = molecules["parent"].to_numpy(dtype=object)
    molecules["fingerprint"] = _fingerprint_codes(parents, prints)
    # The fingerprint of the paper's D-NN.
    molecules["fingerprint_512"] = _fingerprint_codes(
        parents, MorganFingerprinter(radius=2, fp_size=512)
    )
    facts = _Facts(study, parts, structures, molecules)
    table = _run_checks(facts, _FORBIDDEN[hold_out])
    return SplitAudit(
        table,
        _neighbours(facts, prints),
        _part_sizes(facts),
        _merged(facts),
        _kept_apart(facts),
    )


def _part_rows(
    split: DrugCellLineSplit | Mapping[str, ArrayLike], n_rows: int
) -> dict[str, NDArray[np.intp]]:
    """Return the positions of each part that is there."""
    parts = {}
    for part in _PARTS:
        rows = (
            split.get(part)
            if isinstance(split, Mapping)
            else getattr(split, part, None)
        )
        rows = np.asarray([] if rows is None else rows)
        try:
            positions = np.arange(n_rows)[rows] if rows.size else rows
        except IndexError as error:
            raise ValueError(
                f"The {part} rows of split must be positions in the {n_rows} rows of "
                f"study, or a mask of them: {error}."
            ) from error
        if positions.size:
            parts[part] = positions
        elif part != "val":
            raise ValueError(
                f"split must have rows to {part} on, as `split.{part}` or "
                f"split[{part!r}]. Got {split!r}."
            )
    return parts


def _drug_table(structures: pd.DataFrame) -> pd.DataFrame:
    """Return one row a drug; the first of its texts stands for it."""
    drugs, first = one_row_per_drug(
        structures["drug"].to_numpy(dtype=object),
        structures.index.to_numpy(dtype=object).astype(str),
        None,
    )
    chosen = structures.iloc[first]
    columns = ["parent", "protomer", "scaffold"]
    return chosen[columns].assign(smiles=chosen.index).set_axis(drugs, axis=0)


def _part_sizes(facts):
    lines = facts.study.obs["cell_line"].to_numpy(dtype=object)
    return pd.DataFrame(
        {
            part: {
                "profiles": len(rows),
                "drugs": len(facts.drugs[part]),
                "cell_lines": pd.Series(lines[rows]).nunique(),
            }
            for part, rows in facts.parts.items()
        }
    ).T


def _merged(facts: _Facts) -> pd.DataFrame:
    """Return the SMILES that are one drug with another one, and why."""
    texts = facts.structures["drug"]
    texts = texts[texts.duplicated(keep=False)].sort_values(kind="stable")
    columns = ["drug", "smiles", "parts", "removed", "reasons"]
    if texts.empty:
        return pd.DataFrame(columns=columns, dtype=object)
    report = identity_report(texts.index.to_numpy(dtype=object))
    parts = facts.parts_of(facts.study.smiles)
    return report.assign(parts=report["smiles"].map(parts))[columns]


def _kept_apart(facts: _Facts) -> pd.DataFrame:
    """Return pairs of drugs with one name or id, and why they are two."""
    rows = np.unique(np.concatenate(list(facts.parts.values())))
    parts = facts.parts_of(facts.row_drugs)
    found = [
        name_conflicts(facts.study.smiles[rows], facts.names(column)[rows]).assign(
            column=column
        )
        for column in _NAME_COLUMNS
        if column in facts.study.obs
    ]
    order = "column name drug_a drug_b smiles_a smiles_b parts_a parts_b why".split()
    pairs = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    pairs = pairs.reindex(columns=order)
    for side in "ab":
        pairs[f"parts_{side}"] = pairs[f"drug_{side}"].map(parts)
    return pairs


def _found(table: pd.DataFrame) -> str:
    """Say what training and test rows share that is no violation, in a sentence."""
    own = table[(table["parts"] == "train/test") & (table["n_shared"].fillna(0) > 0)]
    columns = (own[name] for name in ("check", "n_shared", "n_b", "ok"))
    shared = [
        f"{check!s} {n:,} of {of:,}"
        for check, n, of, ok in zip(*columns, strict=True)
        if ok is None
    ]
    return f"shared, to be judged: {', '.join(shared) or 'nothing'}."


def _neighbours(facts, fingerprinter):
    """Return the nearest training drug of each test drug."""
    train = facts.molecules.loc[sorted(facts.drugs["train"])]
    test = facts.molecules.loc[sorted(facts.drugs["test"])]
    nearest, similarity = _nearest_molecules(
        test["parent"].to_numpy(dtype=object),
        train["parent"].to_numpy(dtype=object),
        fingerprinter,
    )
    table = pd.DataFrame(
        {
            "drug": test.index,
            "smiles": test["smiles"].to_numpy(),
            "nearest_drug": train.index[nearest],
            "nearest_smiles": train["smiles"].to_numpy()[nearest],
            "similarity": similarity,
        }
    )
    for column in ("fingerprint", "fingerprint_512"):
        table[f"same_{column}"] = test[column].isin(train[column]).to_numpy()
    return table


@dataclass
class _Facts:
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

    def names(self, column: str) -> NDArray[np.object_]:
        return self.study.obs[column].to_numpy(dtype=object)

    def parts_of(self, values: NDArray) -> dict[Hashable, str]:
        """Return the parts that hold each value of the rows."""
        held: dict[Hashable, list[str]] = {}
        for part, rows in self.parts.items():
            for value in pd.unique(values[rows]):
                held.setdefault(value, []).append(part)
        return {value: ", ".join(parts) for value, parts in held.items()}

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


def _run_checks(facts, forbidden):
    """Return the table of :class:`SplitAudit`."""
    pairs = [(a, b) for a, b in _PAIRS if a in facts.parts and b in facts.parts]
    rows = []
    for check in _checks(facts):
        for a, b in pairs:
            row = dict[str, object](check=check.name, parts=f"{a}/{b}", ok=None)
            if check.keys is not None:
                row |= _compare(*check.keys(a, b), facts)
                if check.name in forbidden:
                    row["ok"] = row["n_shared"] == 0
            rows.append(row | {"reading": check.reading})
    order = "check parts n_shared n_a n_b share ok examples reading".split()
    table = pd.DataFrame(rows)[order].astype({"ok": object})
    table["examples"] = table["examples"].fillna("")
    return table.astype(dict.fromkeys(["n_shared", "n_a", "n_b"], "Int64"))


def _compare(first: Keys, second: Keys, facts: _Facts) -> dict[str, object]:
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


def _checks(facts: _Facts) -> Iterator[_Check]:
    rows = np.arange(len(facts.study))
    grouped = facts.study.groups[:, 0]
    yield _of_rows(facts, "rows", rows, "the same row is in both")
    yield _of_rows(facts, "drugs", facts.row_drugs, "molecules, by their SMILES")
    yield _of_rows(facts, "drugs, as grouped", grouped, "drugs of study.groups")
    yield _of_column(facts, "cell lines", "cell_line", "cell lines of obs")
    if "covered_lines" in facts.study.obs:
        yield _covered_lines(facts)
    yield _of_column(facts, "perturbagen ids", "pert_id", "samples of one molecule")
    yield _names(facts)
    yield from _form_checks(facts)
    yield from _structure_checks(facts)
    yield _of_column(facts, "plates", "plate", "they share batch effect and controls")
    yield _control_wells(facts)
    yield _profiles(facts)


def _of_rows(facts: _Facts, name: str, values: NDArray, reading: str) -> _Check:
    """Compare the values that the rows of the parts have; missing ones are left out."""
    column = pd.Series(values, dtype=object)
    found = {p: column.iloc[rows].dropna().unique() for p, rows in facts.parts.items()}
    return _of_parts(name, reading, {part: _keys(v) for part, v in found.items()})


def _of_column(facts: _Facts, name: str, column: str, reading: str) -> _Check:
    obs = facts.study.obs
    if column not in obs:
        return _Check(name, f"unknown: obs has no {column}", None)
    if obs[column].isna().all():
        return _Check(name, f"unknown: no {column} is known in obs", None)
    return _of_rows(facts, name, obs[column].to_numpy(dtype=object), reading)


def _covered_lines(facts: _Facts) -> _Check:
    """Compare lines with those that went into profiles of several lines."""
    obs = facts.study.obs

    def keys(a: str, b: str) -> tuple[Keys, Keys]:
        pairs = _covering(obs, facts.parts[a])
        first = _keys([line for line, _ in pairs], [label for _, label in pairs])
        return first, _keys(obs["cell_line"].iloc[facts.parts[b]].dropna().unique())

    reading = "in profiles of several lines: unseen for the molecules of the part alone"
    return _Check("covered lines", reading, keys)


def _covering(obs: pd.DataFrame, rows: NDArray[np.intp]) -> list[tuple[str, str]]:
    """Return lines that went into profiles of several lines, and these."""
    every = obs["cell_line"].dropna().unique()
    there = obs.iloc[rows][["cell_line", "covered_lines"]].dropna()
    return [
        (line, label)
        for label, covered in there.drop_duplicates().itertuples(index=False)
        if covered != label
        for line in (every if covered == "*" else str(covered).split("|"))
    ]


def covered_lines(study: Study, split: DrugCellLineSplit) -> list[str]:
    """Return the test lines that are unseen for the test molecules alone."""
    if "covered_lines" not in study.obs or held_out(split) == "drugs":
        return []
    covered = {line for line, _ in _covering(study.obs, split.train)}
    lines = study.obs["cell_line"].iloc[split.test].dropna().unique()
    return sorted(str(line) for line in lines if line in covered)


def _names(facts: _Facts) -> _Check:
    """Compare the names of drugs that are in one of two parts only."""
    reading = "one name, two drugs: one may be drawn wrongly, or both be one"
    columns = [column for column in _NAME_COLUMNS if column in facts.study.obs]
    if not columns:
        return _Check("names", "unknown: obs has no names", None)
    tables = {}
    for part, rows in facts.parts.items():
        table = pd.DataFrame({c: facts.names(c)[rows] for c in columns}, dtype=object)
        table = table.assign(drug=facts.row_drugs[rows]).melt("drug").dropna()
        texts = table["value"].astype(str).str.strip().str.lower()
        told = ~texts.isin(list(MISSING_SMILES))
        named = list(zip(table["variable"], texts, strict=True))
        tables[part] = _keys(named, table["drug"])[told.to_numpy()].drop_duplicates()

    def keys(a: str, b: str) -> tuple[Keys, Keys]:
        both = facts.drugs[a] & facts.drugs[b]
        first, second = (tables[p][~tables[p]["entity"].isin(both)] for p in (a, b))
        return first, second

    return _Check("names", reading, keys)


def _of_parts(name: str, reading: str, keys: dict[str, Keys]) -> _Check:
    return _Check(name, reading, lambda a, b: (keys[a], keys[b]))


def _keys(values, entities=None) -> Keys:
    entities = values if entities is None else entities
    columns = {"entity": list(entities), "key": list(values)}
    return pd.DataFrame(columns, dtype=object)


def _form_checks(facts: _Facts) -> Iterator[_Check]:
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


def _other_form_keys(facts, forms, a, b):
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


def _mixture_keys(facts: _Facts, a: str, b: str) -> tuple[Keys, Keys]:
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


def _structure_checks(facts: _Facts) -> Iterator[_Check]:
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


def _control_wells(facts: _Facts) -> _Check:
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


def _profiles(facts: _Facts) -> _Check:
    """Compare digests of the values, which are equal for equal profiles."""
    keys = {}
    for part, rows in facts.parts.items():
        profiles = (facts.study.ge[row] + 0.0 for row in rows)  # -0.0 is 0.0
        digests = [hashlib.blake2b(p.tobytes()).digest() for p in profiles]
        keys[part] = _keys(digests, [f"row {row}" for row in rows])
    return _of_parts("profiles", "equal in every gene: a copied profile", keys)


def _structure_table(texts: NDArray[np.object_]) -> pd.DataFrame:
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


def _fingerprint_codes(
    parents: NDArray[np.object_], fingerprinter: TransformerMixin
) -> NDArray:
    """Give molecules with equal fingerprints one number."""
    return distinct_rows(clone(fingerprinter).fit_transform(parents))[1]


def _nearest_molecules(
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


def held_out(split: DrugCellLineSplit) -> str:
    """Return what a split keeps apart, by the labels that it gives to its parts."""
    if np.array_equal(split.cell_lines["train"], split.cell_lines["test"]):
        return "drugs"
    if np.array_equal(split.drugs["train"], split.drugs["test"]):
        return "cell_lines"
    return "both"


def audit_repeats(
    study: Study, repeats: Sequence[Repeat]
) -> tuple[dict[str, pd.DataFrame], list[str], list[str]]:
    """Audit each repeat; return tables of what was shared most, leaks, and the rest."""
    audits = [audit_split(study, r.split, hold_out=held_out(r.split)) for r in repeats]
    everything = pd.concat([audit.table for audit in audits], ignore_index=True)
    keys = ["check", "parts"]
    worst = everything.sort_values("share", ascending=False, kind="stable")
    worst = worst.drop_duplicates(keys).set_index(keys)
    # Not every repeat has validation rows.
    order = everything[keys].drop_duplicates().itertuples(index=False, name=None)
    table = worst.loc[list(order)].reset_index("parts")
    # Leaks first, then what is shared and there to be judged.
    harmless = np.array([ok is not False for ok in table["ok"]])
    nothing = ~(table["n_shared"].fillna(0).to_numpy(dtype=float) > 0)
    table = table.iloc[np.lexsort((nothing, harmless))]
    found = f"Audit, train/test: {_found(table.reset_index())}"
    table = table.rename(columns={"n_a": "in_the_first", "n_b": "in_the_second"})
    near = pd.concat(
        [audit.neighbours.assign(repeat=i) for i, audit in enumerate(audits)]
    )
    molecules = near.sort_values("similarity", ascending=False).set_index("drug")
    similar = near.groupby("repeat").agg(
        test_drugs=("drug", "size"),
        median_similarity=("similarity", "median"),
        largest_similarity=("similarity", "max"),
        above_0_7=("similarity", lambda s: int((s > 0.7).sum())),
        same_fingerprint=("same_fingerprint", "sum"),
        same_fingerprint_512=("same_fingerprint_512", "sum"),
    )
    leaks = [
        f"Leak in repeat {i}: {text}"
        for i, audit in enumerate(audits)
        for text in audit.violations
    ]
    tables = {"audit": table, "similarity": similar, "test_molecules": molecules}
    return tables, leaks, [found]
