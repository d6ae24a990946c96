"""ModelCard: what a model file says of its model, as text and as HTML."""

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge._utils.messages import first_few, printable
from sklearn_molge._utils.trained_rows import TRAINED_ROWS
from sklearn_molge._utils.views import fitted_gene_names, resolve_views
from sklearn_molge.persistence._container import MANIFEST, read_manifest

__all__ = ["ModelCard", "check_scores", "describe_model", "facts_of"]

_TEXTS = ("description", "training_data", "data_licence", "created")
_COUNTS = (
    *("n_genes", "n_molecules", "n_profiles", "n_components"),
    *("n_background_profiles", "n_background_molecules"),
)


@dataclass(frozen=True, repr=False)
class ModelCard:
    """What a model file says of its model; see :func:`describe_model`.

    Attributes
    ----------
    name : str
        Class of the estimator, and of what is inside a Pipeline.
    parameters : str
        The estimator with its parameters, as Python would write it.
    description, training_data, data_licence : str or None
        As given to :func:`save_model`.
    scores : DataFrame
        Columns "score", "low" and "high"; NaN where no interval was given.
    genes : tuple of str
        Names of the genes in their order; empty where the model has none.
    n_genes, n_molecules, n_profiles, n_components : int or None
        Width of a profile, distinct molecules and profiles of `fit`, and dimensions of
        the joint space; None where the model does not know.
    n_background_profiles, n_background_molecules : int or None
        Measured profiles, and molecules of the training, in the file, by which answers
        of an index are judged; None without a background.
    versions : dict of str
        Of the packages with which the file was written.
    created : str or None
        When, in UTC.
    identity : str
        SHA-256 of all that the model consists of: equal for equal models.
    n_bytes : int
        Size of the file.
    """

    name: str
    parameters: str
    description: str | None
    training_data: str | None
    data_licence: str | None
    scores: pd.DataFrame = field(compare=False)
    genes: tuple[str, ...]
    n_genes: int | None
    n_molecules: int | None
    n_profiles: int | None
    n_components: int | None
    n_background_profiles: int | None
    n_background_molecules: int | None
    versions: dict[str, str]
    created: str | None
    identity: str
    n_bytes: int

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return _template().render(card=self, whole=False)

    def facts(self) -> dict[str, str]:
        """Return what is known, in words, in the order in which cards show it."""
        found = {
            "Model": self.name,
            "Description": self.description,
            "Training data": self.training_data,
            "Licence of the data": self.data_licence or "not stated",
            "Trained on": self._trained_on(),
            "Holds data": self._background(),
            "Genes": self._genes(),
            "Dimensions of the joint space": _number(self.n_components),
            **{
                f"Score: {name}": _score(*row)
                for name, *row in self.scores.itertuples(name=None)
            },
            "Parameters": self.parameters,
            "Written": self.created,
            "With": ", ".join(f"{k} {v}" for k, v in self.versions.items()),
            "Size": f"{self.n_bytes:,} bytes",
            "Identity (SHA-256)": self.identity,
        }
        return {name: text for name, text in found.items() if text}

    def _trained_on(self) -> str | None:
        counts = {"molecules": self.n_molecules, "profiles": self.n_profiles}
        known = [f"{n:,} distinct {what}" for what, n in counts.items() if n]
        return " and ".join(known) or None

    def _background(self) -> str | None:
        if self.n_background_profiles is None:
            return None
        return (
            f"{self.n_background_profiles:,} measured profiles and "
            f"{self.n_background_molecules or 0:,} molecules of the training, to judge "
            "answers by"
        )

    def _genes(self) -> str | None:
        if self.n_genes is None:
            return None
        named = first_few(self.genes, write=str, n=5) or "without names"
        return f"{self.n_genes:,} ({named})"

    def to_text(self) -> str:
        """Return the card as lines of text, without control characters."""
        width = max(map(len, self.facts()))
        lines = []
        for name, text in self.facts().items():
            first, *more = printable(text).split("\n")
            lines.append(f"{printable(name):<{width}}  {first}".rstrip())
            lines += [f"{'':<{width}}  {line}".rstrip() for line in more]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Return the card as a table of Markdown."""
        rows = [f"| {_cell(k)} | {_cell(v)} |" for k, v in self.facts().items()]
        return "\n".join([f"# {_cell(self.name)}", "", "| | |", "|---|---|", *rows, ""])

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the card as a page, and write it to `path` if that is given.

        The page forbids itself scripts and any network.
        """
        page = _template().render(card=self, whole=True)
        if path is not None:
            replace_bytes(path, page.encode("utf-8", "replace"))
        return page


@validate_params({"path": [str, os.PathLike]}, prefer_skip_nested_validation=True)
def describe_model(path: str | os.PathLike[str]) -> ModelCard:
    """Read what a model file says of its model; the model itself is not opened.

    Parameters
    ----------
    path : path-like
        A file of :func:`save_model`.

    Returns
    -------
    card : ModelCard
        Shows itself as text, and in a notebook as a table.

    Raises
    ------
    CorruptFileError
        If it is no model file, or what it says of itself is damaged. The rest of the
        file is compared with its checksums by :func:`load_model`.
    FileNotFoundError
        If it is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_molge.expression import RankNormalizer
    >>> from sklearn_molge.persistence import describe_model, save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ranks.molge")
    ...     save_model(RankNormalizer(), path, description="Ranks of genes.")
    ...     card = describe_model(path)
    >>> card.description
    'Ranks of genes.'
    """
    manifest = read_manifest(path)
    with reading(path, MANIFEST):
        return _card_of(manifest, Path(path).stat().st_size)


def facts_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator tells of itself, in types of JSON."""
    steps = [estimator]
    try:
        inner = resolve_views(estimator, None, None)[0]
    except (TypeError, ValueError, AttributeError):  # of one view, or not fitted
        inner = estimator
    if inner is not estimator:
        steps.append(inner)
    names = dict.fromkeys(type(step).__name__ for step in steps)
    rows = _first(steps, TRAINED_ROWS)
    try:
        genes = [str(name) for name in fitted_gene_names(estimator)]
    except ValueError:
        genes = []
    n_genes = _first(steps, "n_genes_in_")
    return {
        "name": " of ".join(names),
        "parameters": repr(estimator),
        "is_fitted": _is_fitted(estimator),
        "genes": genes,
        "n_genes": len(genes) or (None if n_genes is None else int(n_genes)),
        "n_molecules": None if rows is None else len(rows.molecules.hashes),
        "n_profiles": None if rows is None else len(rows.profiles.hashes),
        "n_components": _whole(_first(steps, "n_components_")),
    }


def _first(steps, name: str) -> Any:
    for step in steps:
        if getattr(step, name, None) is not None:
            return getattr(step, name)
    return None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _is_fitted(estimator) -> bool:
    try:
        check_is_fitted(estimator)
    except (TypeError, ValueError):
        return False
    return True


def check_scores(scores: Any) -> dict[str, list[float | None]]:
    """Return scores as the manifest has them: number, lower and upper end.

    Raises
    ------
    ValueError
        If they are something else.
    """
    if scores is None:
        return {}
    if isinstance(scores, pd.DataFrame):
        if "score" not in scores:
            raise ValueError(
                'scores must have a column "score". Got the columns '
                f"{first_few(scores.columns)}."
            )
        ends = [scores[end] if end in scores else None for end in ("low", "high")]
        columns = [scores["score"], *(end for end in ends if end is not None)]
        scores = {
            str(name): row for name, *row in zip(scores.index, *columns, strict=True)
        }
    if not isinstance(scores, Mapping):
        raise ValueError(
            "scores must be a mapping of names to numbers, or to (score, low, high), "
            f"or a DataFrame with a column 'score'. Got {scores!r}."
        )
    return {str(name): _one_score(name, given) for name, given in scores.items()}


def _one_score(name: object, given: Any) -> list[float | None]:
    values = [given] if isinstance(given, Real) else list(np.ravel(given))
    if len(values) not in (1, 3) or not all(isinstance(v, Real) for v in values):
        raise ValueError(
            f"scores[{name!r}] must be a number, or (score, low, high). Got {given!r}."
        )
    numbers = [v if np.isfinite(v) else None for v in map(float, values)]
    if len(numbers) == 3 and None not in numbers:
        low, high = numbers[1:]
        if not low <= high:  # type: ignore[operator]
            raise ValueError(f"scores[{name!r}] has the interval {low} to {high}.")
    return [*numbers, None, None][:3]


# -- reading -------------------------------------------------------------------------


def _card_of(manifest: Mapping[str, Any], n_bytes: int) -> ModelCard:
    """Return the card of a manifest, which anybody may have written."""
    texts = {name: manifest.get(name) for name in _TEXTS}
    counts = {name: manifest.get(name) for name in _COUNTS}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name} is no text")
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 0):
            raise ValueError(f"{name} is {count!r}")
    genes, versions = manifest.get("genes", []), manifest.get("versions", {})
    if not isinstance(genes, list) or not all(isinstance(g, str) for g in genes):
        raise ValueError("genes are no texts")
    if not isinstance(versions, dict):
        raise ValueError("versions are no mapping")
    scores = manifest.get("scores", {})
    rows = [_read_score(name, row) for name, row in scores.items()]
    table = pd.DataFrame(
        rows, columns=["score", "low", "high"], index=list(scores), dtype=float
    )
    return ModelCard(
        name=str(manifest.get("name")),
        parameters=str(manifest.get("parameters")),
        scores=table,
        genes=tuple(genes),
        versions={str(k): str(v) for k, v in versions.items()},
        identity=manifest["identity"],
        n_bytes=n_bytes,
        **texts,
        **counts,
    )


def _read_score(name: str, row: Any) -> list[float]:
    if not isinstance(row, list) or len(row) != 3:
        raise ValueError(f"score {name!r} is no number with an interval")
    return [np.nan if value is None else float(value) for value in row]


# -- writing -------------------------------------------------------------------------


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _score(value: float, low: float, high: float) -> str:
    interval = "" if np.isnan(low) or np.isnan(high) else f" ({low:.3g} to {high:.3g})"
    return f"{value:.3g}{interval}"


def _cell(text: str) -> str:
    """Write a text into a cell of Markdown, where HTML and bars count."""
    escaped = html.escape(printable(text), quote=False).replace("|", "\\|")
    return escaped.replace("\n", "<br>")


_PAGE = """\
{%- if whole -%}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{{ card.name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
</style>
</head>
<body>
<main>
<h1>{{ card.name }}</h1>
{%- endif %}
<table style="border-collapse: collapse; text-align: left">
{%- for name, text in card.facts().items() %}
<tr><th scope="row" style="vertical-align: top; text-align: left;
 padding: .2em 1em .2em 0; font-weight: 600">{{ name }}</th>
<td style="text-align: left; white-space: pre-wrap; overflow-wrap: anywhere">
{{- text }}</td></tr>
{%- endfor %}
</table>
{%- if whole %}
</main>
</body>
</html>
{% endif %}
"""


def _template():
    from jinja2 import Environment, StrictUndefined  # a page is rare

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_PAGE)
