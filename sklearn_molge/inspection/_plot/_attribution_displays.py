"""Displays of attributions: a molecule with coloured atoms, and bars of genes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from rdkit import Chem

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.inspection._attribution import atom_attribution, gene_attribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap

__all__ = ["AtomAttributionDisplay", "GeneAttributionDisplay"]

_UNIT = "Change of similarity"
# Without its dark ends, on which the letters of atoms could not be read.
_CMAP, _CMAP_RANGE = "RdBu_r", (0.2, 0.8)
# Pixels of the picture of the molecule.
_SIZE = (900, 600)
_OPTIONS = {
    "highlightBondWidthMultiplier": 1,
    "highlightRadius": 0.4,
    "bondLineWidth": 3,
    "padding": 0.08,
}


class _AttributionDisplay(DisplayMixin):
    """What the two have in common; a subclass has `_attribute` and `plot`."""

    _attribute: Callable
    _plot_options: set[str]

    def __init__(self, attribution):
        self.attribution = attribution

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        smiles: str,
        profile: ArrayLike,
        *,
        ax: Axes | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the attribution and draw it.

        Parameters
        ----------
        estimator, smiles, profile
            As in :func:`~sklearn_molge.inspection.atom_attribution`.
        ax, name
            As in :meth:`plot`.
        **kwargs : dict
            Other parameters of :meth:`plot`, and those of
            :func:`~sklearn_molge.inspection.atom_attribution` or
            :func:`~sklearn_molge.inspection.gene_attribution`.

        Returns
        -------
        display : AtomAttributionDisplay or GeneAttributionDisplay
        """
        drawn = {key: kwargs.pop(key) for key in cls._plot_options & kwargs.keys()}
        display = cls(cls._attribute(estimator, smiles, profile, **kwargs))
        return display.plot(ax, name=name, **drawn)

    @abstractmethod
    def plot(self, ax: Axes | None = None, *, name: str | None = None) -> Self:
        """Draw the attribution."""

    def _title(self, name):
        told = f"similarity {self.attribution.similarity:.2f}"
        return told.capitalize() if name is None else f"{name}: {told}"


class AtomAttributionDisplay(_AttributionDisplay):
    """A molecule whose atoms are coloured by what they add to a match.

    Make one with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    attribution : AtomAttribution
        What :func:`~sklearn_molge.inspection.atom_attribution` returns.

    Attributes
    ----------
    svg_ : str
        The molecule as SVG, without the colour bar.
    image_ : matplotlib Artist
        The molecule.
    colorbar_ : matplotlib Colorbar
        What the colours mean, centred on 0.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    atom_attribution : The numbers.
    GeneAttributionDisplay : The same for the genes of the profile.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import AtomAttributionDisplay
    >>> class Chlorine:
    ...     def similarity(self, X, y):
    ...         return np.outer(y[:, 0], [text.count("Cl") for text in X])
    >>> display = AtomAttributionDisplay.from_estimator(Chlorine(), "ClCCO", [1.0])
    >>> display.colorbar_.ax.get_ylabel()
    'Change of similarity'
    >>> display.svg_[:5]
    '<?xml'
    """

    _attribute = staticmethod(atom_attribution)
    _plot_options = {"limit"}

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        limit: float | None = None,
    ) -> Self:
        """Draw the molecule.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name of the molecule, for the title.
        limit : float, default=None
            Value of the strongest colours, to compare pictures; by default the largest
            absolute value of this one.

        Returns
        -------
        display : AtomAttributionDisplay
            Itself, with the artists as attributes.
        """
        if limit is None:
            # Of values that are all 0 every limit paints white.
            limit = float(np.abs(self.attribution.values).max()) or 1.0
        if not limit > 0:
            raise ValueError(f"limit must be above 0. Got {limit!r}.")
        ax = self._use_axes(ax, layout="constrained")
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.image import imread

        colors = ScalarMappable(Normalize(-limit, limit), _colormap())
        rgb = colors.to_rgba(self.attribution.values)[:, :3]
        mol = Chem.MolFromSmiles(self.attribution.smiles)
        fills = list(map(tuple, rgb.tolist()))
        draw = partial(draw_molecule, mol, size=_SIZE, options=_OPTIONS)
        self.svg_, png = (draw(form=f, atom_colors=fills) for f in ("svg", "png"))
        self.image_ = ax.imshow(imread(BytesIO(png)), interpolation="antialiased")
        ax.set_axis_off()
        ax.set_title(self._title(name))
        self.colorbar_ = self.figure_.colorbar(colors, ax=ax, shrink=0.8, label=_UNIT)
        return self


class GeneAttributionDisplay(_AttributionDisplay):
    """Bars of the genes that add most to a match, for it or against it.

    Make one with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    attribution : GeneAttribution
        What :func:`~sklearn_molge.inspection.gene_attribution` returns.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        The genes, the largest absolute value on top.
    zero_line_ : matplotlib Artist
        No change.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    gene_attribution : The numbers.
    AtomAttributionDisplay : The same for the atoms of the molecule.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import GeneAttributionDisplay
    >>> class Weights:
    ...     def similarity(self, X, y):
    ...         return y @ np.outer([1.0, 0.5, 0.0], np.ones(len(X)))
    >>> display = GeneAttributionDisplay.from_estimator(
    ...     Weights(), "CCO", [2.0, -6.0, 1.0], gene_names=["TP53", "MYC", "EGFR"],
    ...     n_genes=2,
    ... )
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['MYC (−6.0)', 'TP53 (+2.0)']
    """

    _attribute = staticmethod(gene_attribution)
    _plot_options = {"n_genes"}

    def plot(
        self, ax: Axes | None = None, *, name: str | None = None, n_genes: int = 20
    ) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name of the molecule, for the title.
        n_genes : int, default=20
            How many genes to show, those with the largest absolute values.

        Returns
        -------
        display : GeneAttributionDisplay
            Itself, with the artists as attributes.
        """
        if n_genes < 1:
            raise ValueError(f"n_genes must be at least 1. Got {n_genes!r}.")
        shown = self.attribution.table.head(n_genes)
        size = (5.5, 1.4 + 0.22 * len(shown))
        ax = self._use_axes(ax, figsize=size, layout="constrained")
        values = shown["attribution"].to_numpy()
        colors = _colormap()(np.where(values < 0, 0.0, 1.0))
        labels = list(map(_gene_label, shown["gene"], shown["expression"]))
        places = np.arange(len(shown))
        self.bars_ = ax.barh(places, values, color=colors, height=0.75)
        self.zero_line_ = ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_yticks(places, labels)
        ax.locator_params(axis="x", nbins=5)
        ax.set(
            ylim=(len(shown) - 0.4, -0.6),
            xlabel=_UNIT,
            ylabel="Gene (expression)",
            title=self._title(name),
        )
        return self


def _colormap() -> ListedColormap:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[_CMAP](np.linspace(*_CMAP_RANGE, 256)))


def _gene_label(gene: object, expression: float) -> str:
    sign = "\N{MINUS SIGN}" if expression < 0 else "+"
    return f"{gene} ({sign}{abs(expression):.1f})"
