"""What an object looks like as the last line of a notebook's cell."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd
from rdkit import Chem, rdBase

__all__ = ["facts_html"]

_SIZE = (180, 120)
# A longer text draws no picture that is worth its time.
_MAX_SMILES = 300


def facts_html(
    title: str,
    facts: Mapping[str, str],
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    molecules: Iterable[tuple[str, str]] = (),
) -> str:
    """Write facts, molecules and tables as a piece of HTML.

    Text has the colours of the page, light or dark; structures lie on white, since
    their bonds are black. All that comes from data is escaped.

    Parameters
    ----------
    title : str
    facts : mapping of str to str
        Empty ones are left out.
    tables : mapping of str to DataFrame, default=None
        By their captions; folded, and their first rows only.
    molecules : iterable of (SMILES, caption)
        Drawn side by side; what is no molecule is left out.

    Returns
    -------
    html : str
    """
    rows = "".join(
        f'<tr><th style="text-align: left">{escape(key)}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for key, value in facts.items()
        if value
    )
    pictures = "".join(_picture(smiles, caption) for smiles, caption in molecules)
    if pictures:
        pictures = f'<div style="display: flex; flex-wrap: wrap">{pictures}</div>'
    folded = "".join(
        f"<details><summary>{escape(caption)}</summary>"
        f"{table.to_html(max_rows=10, border=0)}</details>"
        for caption, table in (tables or {}).items()
        if len(table)
    )
    return (
        f'<div style="overflow-x: auto"><strong>{escape(title)}</strong>'
        f"<table>{rows}</table>{pictures}{folded}</div>"
    )


def _picture(smiles: str, caption: str) -> str:
    if not isinstance(smiles, str) or len(smiles) > _MAX_SMILES:
        return ""
    # Here, since RDKit's drawing takes a moment to import.
    from sklearn_molge._utils.drawing import draw_molecule

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or not mol.GetNumAtoms():
        return ""
    svg = b64encode(draw_molecule(mol, size=_SIZE, form="svg").encode()).decode()
    width, height = _SIZE
    return (
        f'<figure style="margin: 4px; width: {width}px">'
        f'<img src="data:image/svg+xml;base64,{svg}" alt="{escape(smiles)}" '
        f'title="{escape(smiles)}" width="{width}" height="{height}" '
        'style="background: white; border-radius: 4px">'
        '<figcaption style="text-align: center; overflow-wrap: anywhere">'
        f"{escape(caption)}</figcaption></figure>"
    )
