"""audit_split: what the parts of a split share, and must not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin

from sklearn_molge._compat import HasMethods, StrOptions, validate_params
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._audit_checks import (
    Facts,
    fingerprint_codes,
    nearest_molecules,
    run_checks,
    structure_table,
)
from sklearn_molge.evaluation._plan import Repeat
from sklearn_molge.model_selection import DrugCellLineSplit
from sklearn_molge.molecules import MorganFingerprinter

__all__ = ["SplitAudit", "audit_repeats", "audit_split"]

_PARTS = ("train", "val", "test")
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_FORBIDDEN = {
    "both": ("rows", "drugs", "drugs, as grouped", "cell lines"),
    "drugs": ("rows", "drugs", "drugs, as grouped"),
    "cell_lines": ("rows", "cell lines"),
}


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
    """

    table: pd.DataFrame
    neighbours: pd.DataFrame
    parts: pd.DataFrame

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
            f"{part} {row.profiles:,} profiles of {row.drugs:,} drugs in "
            f"{row.cell_lines:,} cell lines"
            for part, row in self.parts.iterrows()
        )
        quantiles = self.similarity_quantiles
        lines = [
            "Split: " + "; ".join(sizes) + ".",
            "Nearest training molecule of a test drug, Tanimoto similarity: median "
            f"{quantiles[0.5]:.2f}, 90 % are below {quantiles[0.9]:.2f}, largest "
            f"{quantiles[1.0]:.2f}.",
        ]
        if not self.violations:
            return [*lines, "No violation: what must not be shared is not."]
        return [*lines, *(f"VIOLATION: {text}" for text in self.violations)]

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
        return f"<SplitAudit: {len(self.violations)} violations>"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{escape(line)}</p>" for line in self._headline())
        return lines + self._summary_table().to_html()


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
        With the data frames `table` and `neighbours` and the list `violations`;
        ``print(audit)`` shows a summary.

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
    - "perturbagen ids", "plates", "control wells", and "profiles", equal in every gene.

    Structures are compared for the uncharged largest fragment, one for each drug.
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
    structures = structure_table(texts)
    molecules = _drug_table(structures)
    prints = MorganFingerprinter() if fingerprinter is None else fingerprinter
    parents = molecules["parent"].to_numpy(dtype=object)
    molecules["fingerprint"] = fingerprint_codes(parents, prints)
    # The fingerprint of the paper's D-NN.
    molecules["fingerprint_512"] = fingerprint_codes(
        parents, MorganFingerprinter(radius=2, fp_size=512)
    )
    facts = Facts(study, parts, structures, molecules)
    table = run_checks(facts, forbidden=_FORBIDDEN[hold_out])
    return SplitAudit(table, _neighbours(facts, prints), _part_sizes(facts))


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


def _part_sizes(facts: Facts) -> pd.DataFrame:
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


def _neighbours(facts: Facts, fingerprinter: TransformerMixin) -> pd.DataFrame:
    """Return the nearest training drug of each test drug."""
    train = facts.molecules.loc[sorted(facts.drugs["train"])]
    test = facts.molecules.loc[sorted(facts.drugs["test"])]
    nearest, similarity = nearest_molecules(
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


def _held_out(split: DrugCellLineSplit) -> str:
    """Return what a split keeps apart, by the labels that it gives to its parts."""
    if np.array_equal(split.cell_lines["train"], split.cell_lines["test"]):
        return "drugs"
    if np.array_equal(split.drugs["train"], split.drugs["test"]):
        return "cell_lines"
    return "both"


def audit_repeats(
    study: Study, repeats: Sequence[Repeat]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Audit each repeat; return tables, of what was shared most, and the leaks."""
    audits = [audit_split(study, r.split, hold_out=_held_out(r.split)) for r in repeats]
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
    return tables, leaks
