"""QueryAnswer: the table that answers queries, as a page, as pictures, as SDF."""

from __future__ import annotations

import os
import re
from typing import Any

import pandas as pd
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor

from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge._utils.answer_view import NEEDED, answer_to_csv, view_answer
from sklearn_molge._utils.pages import data_uri, load_template
from sklearn_molge.molecules import check_smiles

__all__ = ["QueryAnswer"]

_PACKAGE = "sklearn_molge.library"
_CONTROL = re.compile("[\x00-\x1f\x7f]+")


class QueryAnswer(pd.DataFrame):
    """Molecules that answer queries: a DataFrame that shows structures.

    :meth:`MoleculeIndex.query` returns it, and says what its columns mean. All that
    works on a DataFrame works as it did; what is left when rows or columns are chosen
    is an answer again. In a notebook it shows the structures, as long as it has the
    columns ``query``, ``rank``, ``molecule``, ``name`` and ``score``; without one of
    them it is shown as any table is.

    ``attrs`` holds what the page says beside the table: ``metric``, ``reverse``,
    ``model``, ``n_molecules``, ``n_skipped``, ``n_permutations``, ``level`` and
    ``account``, lines about the genes.

    Parameters
    ----------
    data, index, columns, dtype, copy
        As of ``pandas.DataFrame``.

    See Also
    --------
    MoleculeIndex.query : Makes one.
    MoleculeQueryDisplay : Draws it with matplotlib.

    Examples
    --------
    >>> from sklearn_molge.library import QueryAnswer
    >>> answer = QueryAnswer(
    ...     {"query": ["A375", "A375"], "rank": [1, 2], "molecule": ["CCO", "CC(=O)O"],
    ...      "name": ["ethanol", "acetic acid"], "score": [0.61, 0.4]}
    ... )
    >>> answer.head(1).to_html().count("<img")
    1
    """

    @property
    def _constructor(self) -> type[QueryAnswer]:
        return QueryAnswer

    def to_html(self, buf=None, *, title=None, **kwargs) -> Any:
        """Write the answer as one page of HTML, or as pandas writes a table.

        The page needs no other file and no network: whether each query is better than
        noise, then the structures with all numbers, and the table as CSV. Any text
        of the library is shown as text. It is pandas' own table where one of pandas'
        options is given (``to_html(index=False)``), or a column is missing that an
        answer has.

        Parameters
        ----------
        buf : path-like or file-like, default=None
            Where to write; None returns the text.
        title : str, default=None
            Of the page; by default "Molecules for" and the first queries.
        **kwargs : dict
            Options of ``DataFrame.to_html``, such as `columns`.

        Returns
        -------
        html : str or None
            The text, where `buf` is None.
        """
        if kwargs or not self._is_answer:
            return pd.DataFrame(self).to_html(buf, **kwargs)
        views = list(view_answer(self))
        if title is None:
            title = "Molecules for " + ", ".join(view.name for view in views[:3])
            title += f" and {len(views) - 3} more" if len(views) > 3 else ""
        page = load_template("_answer_page.html.jinja", _PACKAGE).render(
            page=True,
            title=title,
            views=views,
            csv=data_uri("text/csv;charset=utf-8", answer_to_csv(self)),
        )
        if buf is None:
            return page
        if hasattr(buf, "write"):
            buf.write(page)
        else:
            replace_bytes(buf, page.encode("utf-8", "replace"))
        return None

    def to_sdf(self, path: str | os.PathLike[str]) -> None:
        """Write the molecules as SDF, the other columns as their properties.

        Parameters
        ----------
        path : path-like
            The file, which is replaced if it is there.

        Raises
        ------
        ValueError
            If a column is missing that an answer has.
        InvalidSmilesError
            With index and text of every bad molecule.
        """
        if not self._is_answer:
            missing = [name for name in NEEDED if name not in self]
            raise ValueError(f"The table must have the columns {missing} of an answer.")
        check_smiles(self["molecule"])
        lines: list[str] = []
        for answer in pd.DataFrame(self).to_dict("records"):
            with rdBase.BlockLogs():
                mol = Chem.MolFromSmiles(answer.pop("molecule"))
                rdDepictor.Compute2DCoords(mol)
            answer.pop("structure", None)
            name = answer["name"]
            mol.SetProp("_Name", "" if pd.isna(name) else _on_one_line(name))
            lines.append(Chem.MolToMolBlock(mol))
            for key, value in answer.items():
                if not pd.isna(value):
                    tag = re.sub("[<>]", "_", _on_one_line(key))
                    lines.append(f">  <{tag}>\n{_on_one_line(value)}\n\n")
            lines.append("$$$$\n")
        replace_bytes(path, "".join(lines).encode("utf-8", "replace"))

    def _repr_html_(self) -> str:
        if not self._is_answer:
            return pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
        most = pd.get_option("display.max_rows")
        views = list(view_answer(self, max_rows=most or None))
        template = load_template("_answer_page.html.jinja", _PACKAGE)
        return template.render(page=False, title="", views=views, csv="")

    @property
    def _is_answer(self) -> bool:
        return self.columns.is_unique and all(name in self.columns for name in NEEDED)


def _on_one_line(value: object) -> str:
    """Write a value so that it ends neither a property nor a record."""
    text = _CONTROL.sub(" ", str(value)).strip()
    return " " + text if text.startswith(("$$$$", ">")) else text
