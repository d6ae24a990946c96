"""``molge audit``: what the parts of a split share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_molge._command._options import (
    PATH,
    Output,
    option,
    output,
    seed,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import (
    check_paths,
    check_study,
    load_study,
    sizes_of_split,
    split_options,
    study_options,
)
from sklearn_molge._utils.messages import counted, first_few

if TYPE_CHECKING:
    from sklearn_molge.datasets import Study

__all__ = ["command"]

_EXAMPLES = """
molge audit --data path/to/lincs
molge audit --data study.h5ad --split split.csv
"""
_PART_COLUMNS = ("part", "split", "set", "subset", "fold")
_PARTS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
# Of a profile, which is the index of `obs`.
_ID_COLUMNS = ("id", "profile_id", "sig_id", "inst_id", "sample_id", "row")


@make_command(examples=_EXAMPLES)
@study_options()
@option(
    "Split",
    "--split",
    type=PATH,
    metavar="TABLE",
    help="a split of your own, instead of one that is drawn: a table (CSV or TSV) with "
    "a column 'part' (train, val, test) and one or more that say whose: 'drug', "
    "'pert_id', 'cell_line' or another column of the study, or the id of a profile",
)
@split_options()
@seed
@output()
def command(given: Any) -> int:
    """Say what the parts of a split share.

    Draws a split of a study, or reads yours, and looks for what its parts share: drugs,
    cell lines, salts, isomers, fingerprints, plates, copied profiles. The exit code is
    1 where a drug or a cell line is in two parts.
    """
    check_study(given)
    sizes = sizes_of_split(given)
    if given.split is not None:
        check_paths("--split", [given.split])
        if sizes:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in sizes)
            raise ValueError(f"{flags}: for a split that is drawn, not with --split.")
    from sklearn_molge.evaluation import audit_split, draw_split

    study, said = load_study(given), Output.of(given)
    split: Any
    if given.split is not None:
        split = _read_split(given.split, study, said)
    else:
        split = draw_split(study.groups, random_state=given.random_state, **sizes)
    audit = audit_split(study, split)
    facts = {
        "study": str(study),
        "violations": audit.violations,
        "table": audit.table.to_dict("records"),
        "parts": audit.parts.to_dict("index"),
    }
    said.result(f"{study}\n\n{audit}", facts)
    return 1 if audit.violations else 0


def _read_split(path: Path, study: Study, said: Output) -> dict[str, Any]:
    """Read the rows of each part from a table of drugs, profiles or both."""
    import pandas as pd

    from sklearn_molge._files.reading import reading

    with reading(path):
        table = pd.read_csv(path, sep=None, engine="python", dtype=str)
        table = table.rename(columns=lambda name: str(name).strip())
    part = next((name for name in _PART_COLUMNS if name in table), None)
    obs = study.obs.rename_axis("").reset_index(names="id").astype(str)
    ids = {name: "id" for name in _ID_COLUMNS if name not in study.obs}
    columns = {name: ids.get(name, name) for name in map(str, table)}
    keys = {name: own for name, own in columns.items() if own in obs}
    keys.pop(part or "", None)
    if part is None or not keys:
        raise ValueError(
            f"--split: {path} must have a column 'part', and one that the study has: "
            f"'id' or one of {first_few(study.obs)}. Got {list(table)}."
        )
    texts = table[part].str.strip().str.lower()
    table = table.assign(**{part: texts.replace(_PARTS)}).dropna(subset=[part])
    others = sorted(set(table[part]) - {"train", "val", "test"})
    if others:
        raise ValueError(
            f"--split: column {part!r} must hold train, val and test. Got "
            f"{first_few(others)}."
        )
    names = list(keys.values())
    table = table.rename(columns=keys).drop_duplicates([*names, part])
    found = obs.assign(row=range(len(obs))).merge(table[[*names, part]], on=names)
    unknown = table.merge(obs[names].drop_duplicates(), on=names, how="left",
                          indicator=True)["_merge"].eq("left_only")  # fmt: skip
    n_free = len(study) - found["row"].nunique()
    said.step(
        f"{path}, by {', '.join(names)}: {counted(n_free, 'profile')} in no part; "
        f"{counted(int(unknown.sum()), 'row')} of the table of nothing in the study"
    )
    return {str(name): rows.to_numpy() for name, rows in found.groupby(part)["row"]}
