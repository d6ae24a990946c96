"""Pictures of molecules, for tables and Displays."""

from collections.abc import Mapping, Sequence
from typing import Any

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

__all__ = ["draw_molecule"]

_CANVASES = {"png": rdMolDraw2D.MolDraw2DCairo, "svg": rdMolDraw2D.MolDraw2DSVG}


def draw_molecule(
    mol: Chem.Mol,
    *,
    size: tuple[int, int],
    form: str,
    options: Mapping[str, Any] | None = None,
    atom_colors: Sequence[tuple[float, ...]] | None = None,
) -> Any:
    """Draw a molecule.

    Parameters
    ----------
    mol : Chem.Mol
    size : tuple of int
        Width and height in pixels.
    form : {"png", "svg"}
    options : mapping, default=None
        Of RDKit's ``MolDrawOptions``, by name.
    atom_colors : sequence of RGB tuples, default=None
        Colours that mean something, one an atom; elements are then black.

    Returns
    -------
    picture : bytes or str
        A PNG, or the text of an SVG.
    """
    drawer = _CANVASES[form](*size)
    drawing = drawer.drawOptions()
    for name, value in (options or {}).items():
        setattr(drawing, name, value)
    prepared = rdMolDraw2D.PrepareMolForDrawing(mol)
    if atom_colors is None:
        drawer.DrawMolecule(prepared)
    else:
        drawing.useBWAtomPalette()
        drawer.DrawMolecule(
            prepared,
            highlightAtoms=list(range(mol.GetNumAtoms())),
            highlightAtomColors=dict(enumerate(atom_colors)),
            highlightBonds=[],
        )
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
