"""``molge search``: the molecules of an index, ranked by profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._matrix import kind_of, read_matrix
from sklearn_molge._command._options import (
    NAMES,
    PATH,
    Output,
    check_out,
    option,
    options,
    output,
    plain,
    seed,
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
from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.optional import import_optional

if TYPE_CHECKING:
    import pandas as pd

    from sklearn_molge.library import MoleculeIndex

__all__ = ["command"]

_EXAMPLES = """
molge search --index index --de results.csv --out answer.html
molge search --index index --up HMOX1,TXNRD1 --down CCND1 -n 20
molge search --index index --profile queries.gct --condition cell_id --out answer.csv
molge search --index index --de disease.csv --reverse --out answer.xlsx answer.sdf
"""
_ENDINGS = (".html", ".csv", ".xlsx", ".json", ".sdf")
_SHOWN = (
    "rank", "name", "molecule", "score", "p_value", "percentile", "in_set",
    "in_training",
)  # fmt: skip
_N_SHOWN, _WIDTH = 10, 40
_USED = ("used", "alias")


# Parameters of read_de_table.
_OF_TABLES = ("gene", "value", "group", "alpha", "min_abs_log2fc", "n_top", "sheet")
_table_options = options(
    option("Tables of --de", "--gene", metavar="COLUMN", help="of the genes' names"),
    option("Tables of --de", "--value", metavar="COLUMN", help="of the profile"),
    option(
        "Tables of --de", "--group", metavar="NAME",
        help="the one to read of a table of several groups, clusters or contrasts",
    ),
    option(
        "Tables of --de", "--alpha", metavar="P",
        type=click.FloatRange(0, 1, min_open=True),
        help="genes count whose adjusted p-value is below it",
    ),
    option(
        "Tables of --de", "--min-abs-log2fc", type=click.FloatRange(min=0), metavar="X",
        help="genes count whose log2 fold change is at least so large, up or down",
    ),
    option(
        "Tables of --de", "--n-top", type=click.IntRange(min=1), metavar="N",
        help="so many genes count, those furthest from 0",
    ),
    option("Tables of --de", "--sheet", metavar="NAME", help="of a workbook"),
)  # fmt: skip


@make_command(examples=_EXAMPLES)
@option(
    "Query",
    "--index",
    type=PATH,
    required=True,
    metavar="DIR",
    help="what molge index wrote",
)
@option(
    "Query",
    "--de",
    type=PATH,
    multiple=True,
    metavar="FILE...",
    help="tables of differential expression (DESeq2, limma, edgeR, Seurat, scanpy, or "
    "gene and value)",
)
@option(
    "Query",
    "--up",
    type=NAMES,
    metavar="A,B,...",
    help="up-regulated genes, or a file with one a line",
)
@option("Query", "--down", type=NAMES, metavar="A,B,...", help="down-regulated ones")
@option(
    "Query",
    "--profile",
    type=PATH,
    multiple=True,
    metavar="FILE...",
    help="profiles of z-scores: GCT, GCTX, .h5ad or a table",
)
@option(
    "Query",
    "--condition",
    metavar="COLUMN",
    help="profiles that agree in this column of what is told of them, in --profile or "
    "--data, are one query",
)
@option("Query", "--combine", is_flag=True, help="make all profiles one query")
@option(
    "Query",
    "--reverse",
    is_flag=True,
    help="look for what turns the profile around, as of a disease",
)
@_table_options
@study_options(required=False)
@option(
    "Answer",
    "-n",
    "--n-neighbors",
    type=click.IntRange(min=1),
    default=50,
    metavar="N",
    help="molecules for each query, or as many as there are",
)
@option(
    "Answer",
    "--out",
    type=PATH,
    multiple=True,
    metavar="FILE...",
    help=f"of the kinds {', '.join(_ENDINGS)}; several write several",
)
@option("Answer", "--force", is_flag=True, help="replace files that are there")
@option(
    "Answer",
    "--n-permutations",
    type=click.IntRange(min=0),
    default=999,
    metavar="N",
    help="of the genes, to tell answers from noise; 0 leaves that out",
)
@seed
@output()
def command(given: Any) -> int:
    """Rank the molecules of an index by what they would do to cells.

    Says of every gene whether it was used, of every query whether its answer is better
    than noise, and writes the ranked molecules. "No better than noise" is an answer,
    and no error.
    """
    _check(given)
    from sklearn_molge.library import MoleculeIndex

    said = Output.of(given)
    index = MoleculeIndex.open(given.index)
    profiles, groups, accounts = _queries(given, index, said)
    n = min(given.n_neighbors, index.n_molecules_)
    answer = index.query(
        profiles,
        n,
        groups=groups,
        reverse=given.reverse,
        n_permutations=given.n_permutations,
        random_state=given.random_state,
    )
    lines = {name: _told(account) for name, account in accounts.items()}
    answer.attrs["account"] = [f"{name}: {line}" for name, line in lines.items()]
    verdicts = _verdicts(answer)
    facts = {
        "index": given.index,
        "reverse": given.reverse,
        "genes": {name: _counts(account) for name, account in accounts.items()},
        "queries": verdicts,
        "answers": _records(answer),
    }
    for path in given.out:
        _write(path, answer, accounts, facts)
    said.text("\n".join(f"{name}: {line}" for name, line in lines.items()))
    said.text("\n".join(_shown(answer, verdicts, given.reverse)))
    written = ", ".join(map(str, given.out))
    if given.as_json:
        said.result("", facts)
    elif written:
        said.result(f"Written: {written}", {})
    return 0


def _check(given: Any) -> None:
    """Refuse what cannot be asked, before anything is loaded."""
    check_paths("--index", [given.index])
    check_paths("--de", given.de)
    check_paths("--profile", given.profile)
    asked = {
        "--de": given.de,
        "--up and --down": given.up or given.down,
        "--profile": given.profile,
        "--data": given.data,
    }
    flags = [flag for flag, value in asked.items() if value]
    if len(flags) != 1:
        raise ValueError(
            f"One of {', '.join(asked)} must be given. "
            f"Got {' and '.join(flags) or 'none'}."
        )
    of_tables = [name for name in _OF_TABLES if getattr(given, name) is not None]
    if of_tables and not given.de:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in of_tables)
        raise ValueError(f"{told}: for --de.")
    if given.condition and not (given.profile or given.data):
        raise ValueError("--condition is for --profile and --data.")
    if given.layer is not None and not (given.profile or given.data):
        raise ValueError("--layer is for --profile and --data.")
    if given.condition and given.combine:
        raise ValueError("--condition and --combine: give one of them.")
    if given.data:
        if not given.condition:
            raise ValueError("--data needs --condition, the column that names a query.")
        check_study(given)
    for path in given.out:
        if path.suffix.lower() not in _ENDINGS:
            raise ValueError(f"--out must end in {', '.join(_ENDINGS)}. Got {path}.")
        check_out(path, force=given.force)


# The queries


def _queries(
    given: Any, index: MoleculeIndex, said: Output
) -> tuple[Any, Any, dict[str, pd.DataFrame]]:
    """Return profiles, the conditions that they are of, and accounts of the genes."""
    import pandas as pd

    if given.up or given.down:
        return _of_genes(given, index)
    if given.de:
        tables = _of_tables(given, index)
        profiles = pd.concat([query.profile for query in tables.values()])
        profiles.index = pd.Index(list(tables))
        accounts = {name: query.genes for name, query in tables.items()}
    elif given.data:
        study = of_changes(load_study(given), said)
        profiles = study.profiles()
        return profiles, _conditions(study.obs, given.condition), {}
    else:
        parts = {
            str(path): _of_file(path, given.condition, given.layer, index)
            for path in given.profile
        }
        profiles = pd.concat([part for part, _ in parts.values()])
        if not profiles.index.is_unique and len(parts) > 1:
            whole = [(path, part.index) for path, (part, _) in parts.items()]
            names = [f"{path}: {name}" for path, own in whole for name in own]
            profiles.index = pd.Index(names)
        accounts = {name: part.attrs["genes"] for name, (part, _) in parts.items()}
        if given.condition:
            return profiles, [c for _, some in parts.values() for c in some], accounts
    groups = ["combined"] * len(profiles) if given.combine else None
    return profiles, groups, accounts


def _of_genes(given: Any, index: MoleculeIndex) -> tuple[Any, Any, dict]:
    from sklearn_molge.expression import profile_from_genes

    named = {"up": _listed(given.up), "down": _listed(given.down)}
    lists: dict[str, Any] = {part: genes for part, genes in named.items() if genes}
    query = profile_from_genes(_genes_of(index), **lists)
    entries = [gene for genes in lists.values() for gene in genes]
    return query, ["genes"], {"genes": _account(entries, index)}


def _listed(genes: list[str] | None) -> list[str]:
    """Return genes; those of a file, one a line, where one is named."""
    if genes and len(genes) == 1 and Path(genes[0]).is_file():
        return Path(genes[0]).read_text(encoding="utf-8-sig").split()
    return genes or []


def _of_tables(given: Any, index: MoleculeIndex) -> dict[str, Any]:
    """Read tables of differential expression, by the name of each."""
    from sklearn_molge.datasets import read_de_table

    chosen = {name: getattr(given, name) for name in _OF_TABLES}
    genes, tables = _genes_of(index), {}
    for path in given.de:
        query = read_de_table(path, genes=genes, **chosen)
        name = query.profile.index[0]
        tables[str(path) if name in tables else name] = query
    return tables


def _of_file(
    path: Path, condition: str | None, layer: str | None, index: MoleculeIndex
) -> tuple[pd.DataFrame, list]:
    """Read profiles, and the condition of each."""
    from sklearn_molge.datasets import read_profiles

    if condition and not kind_of(path):
        raise ValueError(f"--condition: {path} is a table, which has no such column.")
    profiles = read_profiles(path, genes=_genes_of(index), layer=layer)
    found = profiles.attrs["genes"]
    counts = {"used": found["found"], "without a value": found["filled"]}
    counts |= {"of no gene of the model": found["left_out"]}
    profiles.attrs = {"genes": {what: n for what, n in counts.items() if n}}
    if not condition:
        return profiles, []
    return profiles, _conditions(read_matrix(path, layer=layer).obs, condition)


def _conditions(obs: pd.DataFrame, column: str) -> list[str]:
    if column not in obs:
        raise ValueError(
            f"--condition must be one of {first_few(obs, write=str)}. Got {column}."
        )
    n_missing = int(obs[column].isna().sum())
    if n_missing:
        raise ValueError(
            f"--condition: no {column} is known of {counted(n_missing, 'profile')}."
        )
    return obs[column].astype(str).tolist()


# What became of the genes


def _genes_of(index: MoleculeIndex) -> Any:
    """Return the genes of an index as they are matched: a table, or a fitted model."""
    return index.estimator_ if index.genes is None else index.genes


def _account(names: Any, index: MoleculeIndex) -> pd.DataFrame:
    """Say of each name what became of it, in the words of match_genes."""
    from sklearn_molge.expression import match_genes

    return match_genes(names, _genes_of(index)).rename(columns={"entry": "gene"})


def _counts(account: Any) -> dict[Any, int]:
    """Return how many genes became what; of profiles nothing else is known."""
    is_table = hasattr(account, "columns")
    return account["status"].value_counts().to_dict() if is_table else account


def _told(account: Any) -> str:
    """Write an account in a line: how many were used, and what of the others."""
    counts = _counts(account)
    n_used = sum(counts.get(status, 0) for status in _USED)
    told = [f"{counted(n_used, 'gene')} used"]
    if counts.get("alias"):
        told[0] += f", {counts['alias']:,} of them by an alias"
    for status, n in counts.items():
        if status not in _USED:
            some = ""
            if hasattr(account, "columns"):
                genes = account.loc[account["status"] == status, "gene"]
                some = f" ({first_few(genes, write=str, n=5)})"
            told.append(f"{n:,} {status}{some}")
    return "; ".join(told)


# The answer


def _verdicts(answer: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return, of each query, whether its answer is better than noise."""
    columns = ["query", "better_than_noise", "query_p_value", "query_q_value"]
    known = [name for name in columns if name in answer]
    return answer[known].drop_duplicates("query").to_dict("records")


def _shown(answer: pd.DataFrame, verdicts: list[dict], reverse: bool) -> Iterator[str]:
    """Yield the lines that a person reads first."""
    import pandas as pd

    from sklearn_molge._utils.answer_view import set_text

    what = "turn it around" if reverse else "cause it"
    for verdict in verdicts:
        yield f"\n{verdict['query']}: molecules that may {what}"
        if "better_than_noise" in verdict:
            by_chance = f"p {verdict['query_p_value']:.3g} of the query as a whole"
            if len(verdicts) > 1:
                by_chance += f", false discovery rate {verdict['query_q_value']:.3g}"
            yield (
                f"better than noise ({by_chance})"
                if verdict["better_than_noise"]
                else f"NO BETTER THAN NOISE ({by_chance}): random genes get such "
                "answers, too"
            )
        own = answer[answer["query"] == verdict["query"]]
        yield from set_text(own)
        table = own.head(_N_SHOWN)
        shown = pd.DataFrame(table[[name for name in _SHOWN if name in table]])
        for name in ("name", "molecule"):
            texts = shown[name].fillna("").astype(str)
            shown[name] = [
                t if len(t) <= _WIDTH else f"{t[: _WIDTH - 3]}..." for t in texts
            ]
        yield shown.to_string(index=False, float_format="{:.3g}".format)


def _records(answer: pd.DataFrame) -> list[dict[Any, Any]]:
    import pandas as pd

    table = pd.DataFrame(answer).astype(object)
    return table.where(table.notna(), None).to_dict("records")


def _write(path: Path, answer: Any, accounts: dict, facts: dict) -> None:
    """Write the answer in the format of the ending."""
    import json

    from sklearn_molge._utils.answer_view import answer_to_csv

    kind = path.suffix.lower()
    if kind == ".html":
        answer.to_html(path)
    elif kind == ".sdf":
        answer.to_sdf(path)
    elif kind == ".xlsx":
        _write_workbook(path, answer, accounts, facts)
    else:
        with replacing(path) as draft:
            told = json.dumps(plain(facts), indent=1)
            text = answer_to_csv(answer) if kind == ".csv" else told
            draft.write_text(text, encoding="utf-8", newline="")


def _write_workbook(path: Path, answer: Any, accounts: dict, facts: dict) -> None:
    """Write sheets of answers, queries and genes; a text is never a formula."""
    import pandas as pd

    import_optional("openpyxl", extra="excel", needed_by="An .xlsx file")
    sheets = {"answers": answer, "queries": pd.DataFrame(facts["queries"])}
    tables = {
        name: table for name, table in accounts.items() if hasattr(table, "columns")
    }
    if tables:
        sheets["genes"] = pd.concat(tables, names=["query", "row"]).reset_index(0)
    with (
        replacing(path) as draft,
        open(draft, "wb") as file,
        pd.ExcelWriter(file, engine="openpyxl") as book,
    ):
        for name, table in sheets.items():
            pd.DataFrame(table).to_excel(book, sheet_name=name, index=False)
            for row in book.sheets[name].iter_rows():
                for cell in row:
                    if isinstance(cell.value, str):
                        cell.data_type = "s"
