"""MoleculeQueryDisplay: the answer to a query as pictures."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from rdkit import Chem

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.molecules import check_smiles

__all__ = ["MoleculeQueryDisplay"]

# Inches: a cell of the default figure, of these for text, and the gap between cells.
_CELL = (2.4, 2.3)
_ABOVE, _BELOW, _GAP, _TITLE = 0.24, 0.36, 0.12, 0.4
_SIZES = {"title": 12.0, "name": 9.5, "told": 8.5}
# Pixels an inch of the pictures of molecules, which are drawn before the figure.
_RESOLUTION = 250
_OPTIONS = {
    "fixedBondLength": 70.0,
    "minFontSize": 16,
    "bondLineWidth": 3,
    "padding": 0.03,
    "clearBackground": False,
}
_SCORES = {"dot": "dot product", "euclidean": "distance"}


class MoleculeQueryDisplay(DisplayMixin):
    """Structures of the molecules that answer a query, best first.

    Each has its rank and name above, and below what the table knows: the score, its
    percentile or p-value, and how near the training set comes. The title tells whether
    the query is better than noise.

    Make one with :meth:`from_estimator` or :meth:`from_table`. All parameters are
    stored as attributes.

    Parameters
    ----------
    table : DataFrame of n_answers rows
        One query's rows of the table that ``MoleculeIndex.query`` returns.
    metric : str, default=None
        What the score is; by default what the table says.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_answers,)
        One an answer.
    images_ : ndarray of matplotlib Artists of shape (n_answers,)
        The structures.
    title_ : matplotlib Text
        The query.
    ax_ : matplotlib Axes
        Axes around all answers.
    figure_ : matplotlib Figure
        Figure with the answers.

    See Also
    --------
    MoleculeIndex : A library to ask.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.library import MoleculeQueryDisplay
    >>> table = pd.DataFrame(
    ...     {"query": "A375", "rank": [1, 2], "molecule": ["CCO", "CC(=O)O"],
    ...      "name": ["ethanol", "acetic acid"], "score": [0.61, 0.4]}
    ... )
    >>> display = MoleculeQueryDisplay.from_table(table, metric="correlation")
    >>> [ax.texts[0].get_text() for ax in display.axes_]
    ['1. ethanol', '2. acetic acid']
    >>> display.axes_[0].texts[1].get_text()
    'correlation 0.610'
    """

    def __init__(self, table: pd.DataFrame, *, metric: str | None = None):
        self.table = table
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        index: Any,
        y: Any,
        *,
        ax: Any = None,
        n_columns: int = 5,
        title: str | None = None,
        **kwargs: Any,
    ) -> MoleculeQueryDisplay:
        """Ask a library and draw the answer.

        Parameters
        ----------
        index : MoleculeIndex
            A fitted one.
        y : array-like of shape (1, n_genes)
            The query: one profile, or several of one condition with ``groups``.
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure by default.
        n_columns : int, default=5
            Answers side by side.
        title : str, default=None
            By default the name of the query.
        **kwargs : dict
            Passed to ``index.query``.

        Returns
        -------
        display : MoleculeQueryDisplay

        Raises
        ------
        ValueError
            If `y` is more than one query.
        """
        table = index.query(y, **kwargs)
        return cls.from_table(table, ax=ax, n_columns=n_columns, title=title)

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        query: Any = None,
        metric: str | None = None,
        ax: Any = None,
        n_columns: int = 5,
        title: str | None = None,
    ) -> MoleculeQueryDisplay:
        """Draw an answer that is there already.

        Parameters
        ----------
        table : DataFrame
            What ``MoleculeIndex.query`` returns, or rows of it.
        query : object, default=None
            Which query to draw, by its name in the column "query"; needed where there
            are several.
        metric : str, default=None
            What the score is; by default what the table says.
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure by default.
        n_columns : int, default=5
            Answers side by side.
        title : str, default=None
            By default the name of the query.

        Returns
        -------
        display : MoleculeQueryDisplay

        Raises
        ------
        ValueError
            If the table lacks a column, has no row, or `query` does not name one
            query of it.
        InvalidSmilesError
            With index and text of every bad molecule.
        """
        needed = ["query", "rank", "molecule", "name", "score"]
        missing = [name for name in needed if name not in table]
        if missing or table.empty:
            raise ValueError(
                f"table must have rows and the columns {needed}. Got {len(table)} rows "
                f"and no {missing or 'more'}."
            )
        asked = list(dict.fromkeys(table["query"]))
        if query is None and len(asked) == 1:
            query = asked[0]
        chosen = table[[name == query for name in table["query"]]]
        if chosen.empty or chosen["rank"].duplicated().any():
            raise ValueError(
                f"query must name one of the {len(asked)} queries of the table, "
                f"{', '.join(map(repr, asked[:10]))}. Got {query!r}, which has "
                f"{len(chosen)} rows."
            )
        check_smiles(chosen["molecule"])
        return cls(chosen, metric=metric).plot(ax, n_columns=n_columns, title=title)

    def plot(
        self, ax: Any = None, *, n_columns: int = 5, title: str | None = None
    ) -> MoleculeQueryDisplay:
        """Draw the answer.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; by default a new figure, 2.4 inches a column wide.
        n_columns : int, default=5
            Answers side by side.
        title : str, default=None
            By default the name of the query.

        Returns
        -------
        display : MoleculeQueryDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `n_columns` is not at least 1.
        """
        if not (isinstance(n_columns, int | np.integer) and n_columns >= 1):
            raise ValueError(
                f"n_columns must be an int, at least 1. Got {n_columns!r}."
            )
        n_columns = min(int(n_columns), len(self.table))
        n_rows = -(-len(self.table) // n_columns)
        size = (n_columns * _CELL[0], n_rows * _CELL[1] + _TITLE)
        is_new = ax is None
        ax = self._use_axes(ax, figsize=size)
        if is_new:
            ax.set_position((0, 0, 1, 1))
        ax.set_axis_off()
        # A layout decides only then how large the axes are.
        ax.figure.canvas.figure.draw_without_rendering()
        width, height = ax.bbox.size / ax.figure.dpi
        cell = width / n_columns, (height - _TITLE) / n_rows
        self.axes_ = np.empty(len(self.table), dtype=object)
        self.images_ = np.empty(len(self.table), dtype=object)
        for i, answer in enumerate(self.table.to_dict("records")):
            left = i % n_columns * cell[0] + _GAP / 2
            bottom = (n_rows - 1 - i // n_columns) * cell[1] + _BELOW + _GAP / 2
            size = cell[0] - _GAP, max(cell[1] - _ABOVE - _BELOW - _GAP, 0.3)
            box = (left / width, bottom / height, size[0] / width, size[1] / height)
            self.axes_[i] = ax.inset_axes(box)
            self.images_[i] = self._draw(self.axes_[i], answer, size)
        self.title_ = _text(
            ax, 1 - 0.05 / height, title or self._title(), width, size="title",
            verticalalignment="top",
        )  # fmt: skip
        return self

    def _draw(self, ax: Any, answer: Any, size: tuple[float, float]) -> Any:
        """Draw one answer; `size` is that of its axes in inches."""
        from matplotlib.image import imread

        ax.set_axis_off()
        pixels = round(size[0] * _RESOLUTION), round(size[1] * _RESOLUTION)
        mol = Chem.MolFromSmiles(answer["molecule"])
        png = draw_molecule(mol, size=pixels, form="png", options=_OPTIONS)
        image = ax.imshow(imread(BytesIO(png)), interpolation="antialiased")
        name = answer["name"]
        if pd.isna(name) or not name:  # a CSV file gives back NaN for no name
            name = answer["molecule"]
        line = 1.35 * _SIZES["told"] / 72 / size[1]
        _text(
            ax, 1 + 0.03 / size[1], f"{answer['rank']}. {name}", size[0], size="name",
            verticalalignment="bottom", fontweight="bold",
        )  # fmt: skip
        for i, told in enumerate(self._told(answer)):
            _text(ax, -i * line, told, size[0], size="told", verticalalignment="top")
        return image

    def _metric(self) -> str:
        return self.metric or self.table.attrs.get("metric") or "score"

    def _told(self, answer: Any) -> list[str]:
        """Return the lines below a structure."""
        metric = self._metric()
        score = -answer["score"] if metric == "euclidean" else answer["score"]
        told = f"{_SCORES.get(metric, metric)} {score:.3f}".replace(
            "-", "\N{MINUS SIGN}"
        )
        if "percentile" in answer:
            told += f", percentile {answer['percentile']:.1f}"
        elif "p_value" in answer:
            told += f", p {answer['p_value']:.3f}"
        if answer.get("in_training"):
            return [told, "in the training set"]
        if "nearest_similarity" in answer:
            nearest = f"nearest in training {answer['nearest_similarity']:.2f}"
            return [told, nearest]
        return [told]

    def _title(self) -> str:
        query = self.table["query"].iloc[0]
        name = query if isinstance(query, str) else f"Query {query}"
        title = str(name)
        if self.table.attrs.get("reverse"):
            scored = self.table.attrs.get("metric") == "similarity"
            order = "most like its opposite" if scored else "lowest similarity"
            title = f"{name}, reversed: {order} first"
        if "better_than_noise" in self.table:
            called = "" if self.table["better_than_noise"].iloc[0] else "not "
            q_value = self.table["query_q_value"].iloc[0]
            title += f" ({called}better than noise, q {q_value:.3f})"
        return title


def _text(ax: Any, y: float, text: str, width: float, *, size: str, **kwargs: Any):
    """Write a line in the middle of `ax`, cut to `width` inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    fontsize = _SIZES[size]
    font = FontProperties(size=fontsize, weight=kwargs.get("fontweight", "normal"))

    def fits(shown: str) -> bool:
        extent = text_to_path.get_text_width_height_descent(shown, font, False)
        return extent[0] <= 72 * width

    shown = text
    for n in range(len(text) - 1, 0, -1):
        if fits(shown):
            break
        shown = text[:n].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    style = {"horizontalalignment": "center", "fontsize": fontsize}
    return ax.text(
        0.5, y, shown, transform=ax.transAxes, parse_math=False, **style, **kwargs
    )
