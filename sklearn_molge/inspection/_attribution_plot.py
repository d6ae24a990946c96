"""Displays of attributions: a molecule with coloured atoms, and bars of genes."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge._utils.optional import import_pyplot
from sklearn_molge.inspection._atoms import AtomAttribution, atom_attribution
from sklearn_molge.inspection._genes import GeneAttribution, gene_attribution

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


class AtomAttributionDisplay:
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
        Axes with the molecule.
    figure_ : matplotlib Figure
        Figure with the molecule.

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

    def __init__(self, attribution: AtomAttribution):
        self.attribution = attribution

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        smiles: str,
        profile: ArrayLike,
        *,
        ax: Any = None,
        name: str | None = None,
        limit: float | None = None,
        **kwargs: Any,
    ) -> "AtomAttributionDisplay":
        """Compute the attribution and draw it.

        Parameters
        ----------
        estimator : estimator
            A fitted two-view estimator of SMILES, or a Pipeline, search or wrapper
            around one.
        smiles : str
            The molecule.
        profile : array-like of shape (n_genes,) or (1, n_genes)
            The query.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name of the molecule, for the title.
        limit : float, default=None
            Value of the strongest colours; by default the largest absolute value.
        **kwargs : dict
            Passed to :func:`~sklearn_molge.inspection.atom_attribution`.

        Returns
        -------
        display : AtomAttributionDisplay
        """
        attribution = atom_attribution(estimator, smiles, profile, **kwargs)
        return cls(attribution).plot(ax, name=name, limit=limit)

    def plot(
        self, ax: Any = None, *, name: str | None = None, limit: float | None = None
    ) -> "AtomAttributionDisplay":
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
        ax = _axes(ax, "AtomAttributionDisplay")
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.image import imread

        limit = _check_limit(limit, self.attribution.values)
        colors = ScalarMappable(Normalize(-limit, limit), _colormap())
        rgb = colors.to_rgba(self.attribution.values)[:, :3]
        mol = Chem.MolFromSmiles(self.attribution.smiles)
        self.svg_, png = (
            draw_molecule(
                mol,
                size=_SIZE,
                form=form,
                options=_OPTIONS,
                atom_colors=list(map(tuple, rgb.tolist())),
            )
            for form in ("svg", "png")
        )
        self.ax_, self.figure_ = ax, ax.figure
        self.image_ = ax.imshow(imread(BytesIO(png)), interpolation="antialiased")
        ax.set_axis_off()
        ax.set_title(_title(name, self.attribution.similarity))
        self.colorbar_ = ax.figure.colorbar(colors, ax=ax, shrink=0.8, label=_UNIT)
        return self


class GeneAttributionDisplay:
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
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure with the bars.

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

    def __init__(self, attribution: GeneAttribution):
        self.attribution = attribution

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        smiles: str,
        profile: ArrayLike,
        *,
        ax: Any = None,
        name: str | None = None,
        n_genes: int = 20,
        **kwargs: Any,
    ) -> "GeneAttributionDisplay":
        """Compute the attribution and draw it.

        Parameters
        ----------
        estimator : estimator
            A fitted two-view estimator of SMILES, or a Pipeline, search or wrapper
            around one.
        smiles : str
            The molecule.
        profile : array-like of shape (n_columns,) or (1, n_columns)
            The query.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name of the molecule, for the title.
        n_genes : int, default=20
            How many genes to show.
        **kwargs : dict
            Passed to :func:`~sklearn_molge.inspection.gene_attribution`.

        Returns
        -------
        display : GeneAttributionDisplay
        """
        attribution = gene_attribution(estimator, smiles, profile, **kwargs)
        return cls(attribution).plot(ax, name=name, n_genes=n_genes)

    def plot(
        self, ax: Any = None, *, name: str | None = None, n_genes: int = 20
    ) -> "GeneAttributionDisplay":
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
        height = 1.4 + 0.22 * len(shown)
        ax = _axes(ax, "GeneAttributionDisplay", figsize=(5.5, height))
        values = shown["attribution"].to_numpy()
        colors = _colormap()(np.where(values < 0, 0.0, 1.0))
        labels = [_gene_label(row) for row in shown.itertuples()]
        self.ax_, self.figure_ = ax, ax.figure
        places = np.arange(len(shown))
        self.bars_ = ax.barh(places, values, color=colors, height=0.75)
        self.zero_line_ = ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_yticks(places, labels)
        ax.locator_params(axis="x", nbins=5)
        ax.set(
            ylim=(len(shown) - 0.4, -0.6),
            xlabel=_UNIT,
            ylabel="Gene (expression)",
            title=_title(name, self.attribution.similarity),
        )
        return self


def _colormap() -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[_CMAP](np.linspace(*_CMAP_RANGE, 256)))


def _check_limit(limit: float | None, values: NDArray) -> float:
    if limit is None:
        # Of values that are all 0 every limit paints white.
        return float(np.abs(values).max()) or 1.0
    if not limit > 0:
        raise ValueError(f"limit must be above 0. Got {limit!r}.")
    return float(limit)


def _gene_label(row: Any) -> str:
    sign = "\N{MINUS SIGN}" if row.expression < 0 else "+"
    return f"{row.gene} ({sign}{abs(row.expression):.1f})"


def _title(name: str | None, similarity: float) -> str:
    told = f"similarity {similarity:.2f}"
    return told[0].upper() + told[1:] if name is None else f"{name}: {told}"


def _axes(ax: Any, display: str, **kwargs: Any) -> Any:
    if ax is not None:
        return ax
    return import_pyplot(display).subplots(layout="constrained", **kwargs)[1]
