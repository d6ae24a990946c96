"""StudyReport: tables and figures of a study, as files, HTML and text."""

import json
import os
import re
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sklearn_molge.evaluation._html import (
    ordered_sections,
    render_fragment,
    render_page,
)
from sklearn_molge.evaluation._report_figure import ReportFigure
from sklearn_molge.evaluation._report_files import (
    table_from_json,
    table_to_json,
    write_whole,
)
from sklearn_molge.evaluation._report_tables import (
    check_frame,
    keeps_index,
    text_table,
)

__all__ = ["ReportFigure", "StudyReport"]

_WIDTH = 100
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]*", re.ASCII)
_METADATA = (
    "title captions sections description settings versions seconds command notes"
).split()


@dataclass(eq=False, repr=False)
class StudyReport:
    """What a study found: tables, figures, and what is needed to repeat them.

    :func:`~sklearn_molge.evaluation.evaluate_study` makes one. ``str(report)`` has the
    tables as text for a terminal, a notebook shows them as HTML, and :meth:`save`
    writes a page that needs no other file and no network, and the numbers as files.

    A table is tidy and numeric. Columns ``s``, ``s_low`` and ``s_high`` are shown as
    one, a number with its interval. Rows are marked that are chance (their name begins
    with "chance"), published (``source`` is not "this run") or failed (``error`` is
    not empty).

    Parameters
    ----------
    title : str
        Title of the report.
    tables : dict of str to DataFrame
        Tables by name. Names become names of files: letters, digits and any of
        ``_ . @ + -``.
    captions : dict of str to str, default={}
        One sentence for each table.
    figures : dict of str to ReportFigure, default={}
        Figures by name.
    sections : dict of str to list of str, default={}
        Title of each section, and the names of the tables and figures in it, in the
        order of the page. What is in no section comes last.
    description : dict of str to str, default={}
        The data: profiles, drugs, cell lines, genes, level.
    settings : dict of str to str, default={}
        How the study was run: split, seeds, preset, number of repeats.
    versions : dict of str to str, default={}
        Versions of the software.
    seconds : dict of str to float, default={}
        Run time of each stage, in s.
    command : str, default=""
        What repeats the study.
    notes : list of str, default=[]
        Caveats, shown before the results.
    ranks : DataFrame, default=DataFrame()
        One row a query: repeat, drug, row of the query, n_candidates, and the rank
        that each method gave to the true molecule. Saved, not shown.

    See Also
    --------
    evaluate_study : Makes a report from a study.
    ReportFigure : A figure of a report.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.evaluation import StudyReport
    >>> scores = pd.DataFrame(
    ...     {"mrr": [0.215, 0.04], "mrr_low": [0.178, None], "mrr_high": [0.255, None]},
    ...     index=pd.Index(["CCA", "chance"], name="method"),
    ... )
    >>> report = StudyReport("A study", {"scores": scores}, {"scores": "All methods."})
    >>> print(report)
    A study
    <BLANKLINE>
    All methods. (scores)
    method                   MRR
    CCA     0.215 [0.178, 0.255]
    chance                 0.040
    """

    title: str
    tables: dict[str, pd.DataFrame]
    captions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, ReportFigure] = field(default_factory=dict)
    sections: dict[str, list[str]] = field(default_factory=dict)
    description: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    command: str = ""
    notes: list[str] = field(default_factory=list)
    ranks: pd.DataFrame = field(default_factory=pd.DataFrame)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report and all of its numbers.

        The page is ``report.html``. Each table is ``tables/NAME.csv`` and
        ``tables/NAME.json`` (Table Schema, with all digits), each figure
        ``figures/NAME.svg`` and ``.png``; the ranks are ``ranks.csv``, and all else is
        in ``report.json``, which is written last. Each file appears whole or not at
        all; older files of the same name are replaced, other files are left alone.

        Parameters
        ----------
        folder : str or path-like
            Folder to write into; made where it is missing.

        Returns
        -------
        path : Path
            The page, ``folder/report.html``.

        Raises
        ------
        ValueError
            If a name cannot be that of a file, or if `sections` name what is neither a
            table nor a figure, or `captions` what is no table. Nothing is written then.
        """
        self._check()
        # All texts first: what cannot be written leaves no half of a report.
        files: dict[str, str | bytes] = {"report.html": render_page(self)}
        for name, frame in self.tables.items():
            files[f"tables/{name}.csv"] = frame.to_csv(
                index=keeps_index(frame), lineterminator="\n"
            )
            files[f"tables/{name}.json"] = table_to_json(frame)
        for name, figure in self.figures.items():
            files[f"figures/{name}.svg"] = figure.svg
            if figure.png:
                files[f"figures/{name}.png"] = figure.png
        files["ranks.csv"] = self.ranks.to_csv(index=False, lineterminator="\n")
        files["report.json"] = self._metadata_to_json()
        folder = Path(folder)
        for path, content in files.items():
            write_whole(folder / path, content)
        return folder / "report.html"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "StudyReport":
        """Read a report that :meth:`save` wrote.

        Parameters
        ----------
        folder : str or path-like
            The folder given to :meth:`save`.

        Returns
        -------
        report : StudyReport

        Raises
        ------
        FileNotFoundError
            If `folder` has no report, or a file of it is missing.
        ValueError
            If ``report.json`` was not written by :meth:`save`.
        """
        folder = Path(folder)
        path = folder / "report.json"
        metadata = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} must be a report of format {_FORMAT}. It is not.")
        figures = {}
        for name, words in metadata["figures"].items():
            svg = (folder / f"figures/{name}.svg").read_text(encoding="utf-8")
            picture = folder / f"figures/{name}.png"
            png = picture.read_bytes() if words.pop("png") else b""
            figures[name] = ReportFigure(**words, svg=svg, png=png)
        tables = {
            name: table_from_json(
                (folder / f"tables/{name}.json").read_text(encoding="utf-8")
            )
            for name in metadata["tables"]
        }
        ranks = pd.DataFrame()
        if metadata["has_ranks"]:
            ranks = pd.read_csv(folder / "ranks.csv", float_precision="round_trip")
        fields = {name: metadata[name] for name in _METADATA}
        return cls(tables=tables, figures=figures, ranks=ranks, **fields)

    def __str__(self) -> str:
        parts = [_wrap(self.title), *(_wrap(f"Note: {note}") for note in self.notes)]
        for _, names in ordered_sections(self):
            for name in filter(self.tables.__contains__, names):
                caption = self.captions.get(name)
                head = _wrap(f"{caption} ({name})" if caption else name)
                table = text_table(self.tables[name], width=_WIDTH)
                parts.append(f"{head}\n{table}")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return (
            f"StudyReport(title={self.title!r}, tables={list(self.tables)}, "
            f"figures={list(self.figures)})"
        )

    def _repr_html_(self) -> str:
        return render_fragment(self)

    def _check(self) -> None:
        """Refuse names that are no file's, wrong, or there twice."""
        names = [*self.tables, *self.figures]
        for name in names:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise ValueError(
                    "tables and figures must have names of letters, digits and any of "
                    f"'_.@+-', with a letter or digit first. Got {name!r}."
                )
        placed = [name for each in self.sections.values() for name in each]
        unknown = [name for name in placed if name not in names]
        if unknown:
            raise ValueError(f"sections must hold names among {names}. Got {unknown}.")
        unknown = [name for name in self.captions if name not in self.tables]
        if unknown:
            raise ValueError(
                f"captions must be of tables among {list(self.tables)}. Got {unknown}."
            )
        for parameter, used in (("tables and figures", names), ("sections", placed)):
            twice = [name for name, n in Counter(used).items() if n > 1]
            if twice:
                raise ValueError(
                    f"{parameter} must hold each name once. Got {twice} more than once."
                )
        for name, frame in self.tables.items():
            check_frame(name, frame)

    def _metadata_to_json(self) -> str:
        words = {
            name: {
                "title": figure.title,
                "caption": figure.caption,
                "alt": figure.alt,
                "png": bool(figure.png),
            }
            for name, figure in self.figures.items()
        }
        metadata = {
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _METADATA},
            "tables": list(self.tables),
            "figures": words,
            "has_ranks": bool(len(self.ranks.columns)),
        }
        return json.dumps(metadata, indent=1, allow_nan=False, ensure_ascii=False)


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH)
