"""Embedders by the name of a preset, and their ablations."""

from typing import Any

from sklearn.base import clone
from skorch.callbacks import EarlyStopping

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder, losses, samplers
from sklearn_molge.evaluation._methods import Method
from sklearn_molge.molecules import MoleculeDescriptors
from sklearn_molge.retrieval import TransformedTargetRetriever

__all__ = ["ablation_methods", "preset_embedder"]

# A graph network with the field's present loss: what can be trained in minutes.
_GRAPH: dict[str, Any] = {
    "encoder": "random",
    "criterion": losses.InfoNCELoss,
    "sampler": samplers.DrugBalancedSampler,
    "module__unit_profiles": True,
    "module__expression_layers": (512,),
    "module__head_input_dropout": 0.2,
    "module__input_dropout": 0.3,
    "max_epochs": 20,
}
_QUICK = _GRAPH | {
    "encoder__hidden_size": 64,
    "module__expression_layers": (128,),
    "module__embedding_size": 64,
    "max_epochs": 3,
}
_SETTINGS = PRESETS | {"quick": _QUICK}
_LOSSES = {
    "InfoNCE": losses.InfoNCELoss,
    "quadruplet": losses.QuadrupletLoss,
    "triplet": losses.TripletLoss,
    "quintuplet": losses.QuintupletLoss,
    "contrastive": losses.ContrastiveLoss,
    "sigmoid": losses.SigmoidLoss,
    "InfoLOOB": losses.InfoLOOBLoss,
    "soft-target InfoNCE": losses.SoftTargetInfoNCELoss,
    "deep CCA": losses.DeepCCALoss,
    "triplet + CCA": losses.TripletCCALoss,
}
_SAMPLERS: dict[str, type] = {
    "drug-balanced": samplers.DrugBalancedSampler,
    "uniform": samplers.UniformSampler,
    "distance-weighted": samplers.DistanceWeightedSampler,
}


def preset_embedder(preset: str, *, weights: Any, validated: bool) -> Any:
    """Return the embedder of a preset; with validation rows, its best epoch is kept."""
    settings = dict(_SETTINGS[preset])
    if weights is not None and settings["encoder"] is not None:
        settings["encoder"] = weights
    if validated:
        best = EarlyStopping(
            "valid_mrr", lower_is_better=False, load_best=True,
            patience=settings["max_epochs"], sink=_nowhere,
        )  # fmt: skip
        settings["callbacks"] = [best]
    return CoordinatedEmbedder(**settings)


def _nowhere(text: str) -> None:
    """Print nothing: a study has one progress bar."""


@validate_params(
    {
        "expression": "no_validation",
        "weights": "no_validation",
        "preset": [StrOptions(set(_SETTINGS))],
    },
    prefer_skip_nested_validation=True,
)
def ablation_methods(
    expression: Any = None, *, weights: Any = None, preset: str = "recommended"
) -> dict[str, Method]:
    """Return embedders that differ from one base in one thing each.

    The losses, the samplers, random or pretrained weights of the graph network, and
    descriptors joined to its vector or alone. The base is the graph tower of the
    preset; "recommended" has none, so that the one with InfoNCE stands in. Each is
    trained for the preset's number of epochs, and ranks by its own similarity.

    Parameters
    ----------
    expression : transformer or None, default=None
        Of the raw profiles; None leaves them as they are.
    weights : str or path-like, default=None
        Pretrained weights, see
        :class:`~sklearn_molge.molecules.ChempropEmbedder`; None leaves these rows out.
    preset : {"recommended", "paper", "quick"}, default="recommended"
        Which base.

    Returns
    -------
    methods : dict of str to Method
        For the parameter `methods` of :func:`evaluate_study`.

    Examples
    --------
    >>> from sklearn_molge.evaluation import ablation_methods
    >>> list(ablation_methods())[:3]
    ['base', 'loss: quadruplet', 'loss: triplet']
    """
    base = _GRAPH if preset == "recommended" else _SETTINGS[preset]
    base = base | {"encoder": "random", "molecule_features": None}
    joined = {"molecule_features": MoleculeDescriptors()}
    rows: dict[str, dict[str, Any]] = {"base": {}}
    for name, loss in _LOSSES.items():
        if loss is not base["criterion"]:
            rows[f"loss: {name}"] = {"criterion": loss}
    for name, sampler in _SAMPLERS.items():
        if sampler is not base["sampler"]:
            rows[f"sampler: {name}"] = {"sampler": sampler}
    rows["descriptors joined"] = joined
    rows["descriptors, no graph"] = joined | {"encoder": None}
    if weights is not None:
        rows["pretrained weights"] = {"encoder": weights}
        rows["pretrained weights, descriptors joined"] = {"encoder": weights} | joined
    return {
        name: _ablation(name, base, change, expression) for name, change in rows.items()
    }


def _ablation(name: str, base: dict, change: dict, expression: Any) -> Method:
    settings = base | change
    if change.get("criterion"):  # the base loss's own parameters go with it
        own = [key for key in settings if key.startswith("criterion__")]
        settings = {k: v for k, v in settings.items() if k not in own}
    if settings["encoder"] is None:
        graph = [key for key in settings if key.startswith("encoder__")]
        settings = {k: v for k, v in settings.items() if k not in graph}
    embedder: Any = CoordinatedEmbedder(**settings)
    if expression is not None:
        embedder = TransformedTargetRetriever(embedder, clone(expression))
    return Method(embedder, "aligned", "aligned", name, tables=("ablations",))
