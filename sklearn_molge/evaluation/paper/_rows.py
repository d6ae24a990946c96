"""The rows of the paper's tables, what is compared beside them, and the embedder."""

import inspect
import re
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from skorch.callbacks import EarlyStopping

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.rows import distinct_rows
from sklearn_molge.alignment import CCA, PRESETS, CoordinatedEmbedder, losses, samplers
from sklearn_molge.evaluation._methods import TABLES, AlignedView, Method
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MoleculeDescriptors,
    MorganFingerprinter,
)
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)

__all__ = ["PaperOptions", "ablation_methods", "finlayson2020_methods"]

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


Encoder = str | PathLike[str]

_FEWEST_FOR_AUTO = 10  # distinct molecules, below which ridge="auto" has no folds


class SizedCCA(CCA):
    """CCA of the default rows, which must not fail where a study is small.

    `n_components` is the most that it takes: with views of a smaller rank it takes
    that. Of fewer than 10 distinct molecules ``ridge="auto"`` is 1.
    """

    def fit(self, X, y, sample_weight=None):
        """Fit with what the training rows allow; the parameters stay as they are."""
        asked = self.get_params(deep=False)
        X = X if sparse.issparse(X) else np.asarray(X)
        molecules = X[distinct_rows(X)[0]]
        allowed = min(_rank(view, self.n_components) for view in (molecules, y))
        few = self.ridge == "auto" and molecules.shape[0] < _FEWEST_FOR_AUTO
        ridge = 1.0 if few else self.ridge
        try:
            self.set_params(n_components=max(1, allowed), ridge=ridge)
            return super().fit(X, y, sample_weight)
        finally:
            self.set_params(**asked)


def _rank(rows, enough: int) -> int:
    """Return the rank of the centred rows, or `enough` where it is as much."""
    rows = rows if sparse.issparse(rows) else np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows.data if sparse.issparse(rows) else rows).all():
        return enough  # CCA says what is wrong
    for some in (rows[: 4 * enough], rows):  # few rows mostly are enough
        some = some.toarray() if sparse.issparse(some) else some
        centred = some - some.mean(axis=0)
        n, p = centred.shape
        gram = centred.T @ centred if p <= n else centred @ centred.T
        values = np.linalg.eigvalsh(gram)
        # Stricter than CCA, which must find no fewer.
        tiny = 4 * max(n, p) * np.finfo(np.float64).eps * values[-1]
        rank = np.count_nonzero(values > tiny)
        if rank >= enough:
            return enough
    return int(rank)


@dataclass(frozen=True)
class PaperOptions:
    """Which of the paper's rows, and which embedder, :func:`evaluate_study` takes.

    They matter where its own parameters leave the choice: `methods` None takes
    :func:`finlayson2020_methods` and :func:`ablation_methods`, `embedders` None the
    embedder of the preset.

    Parameters
    ----------
    preset : {"recommended", "paper", "quick"}, default="recommended"
        Settings of the embedder, see :data:`~sklearn_molge.alignment.PRESETS`; "quick"
        is a small network, to try things out.
    encoder : str, path-like or None, default=None
        Pretrained graph network, for the Chemprop rows, the ablations, and a preset
        with a graph; see :class:`~sklearn_molge.molecules.ChempropEmbedder`. None takes
        random weights.
    ablations : bool, default=True
        Add :func:`ablation_methods` to the rows.
    reference : bool, default=False
        Print the paper's numbers, which are from other data, below ours.

    Raises
    ------
    ValueError
        If `preset` is unknown.

    Examples
    --------
    >>> from sklearn_molge.evaluation import PaperOptions
    >>> quick = PaperOptions(preset="quick", ablations=False)
    >>> quick.methods(n_components=10)["cca_raw_morgan"].label
    'CCA, raw / Morgan'
    """

    preset: str = "recommended"
    encoder: Encoder | None = None
    ablations: bool = True
    reference: bool = False

    def __post_init__(self) -> None:
        if self.preset not in _SETTINGS:
            raise ValueError(
                f"preset must be one of {sorted(_SETTINGS)}. Got {self.preset!r}."
            )

    @property
    def chemprop(self) -> ChempropEmbedder:
        """The fixed representation of the Chemprop rows."""
        return ChempropEmbedder(self.encoder or "random", random_state=0)

    def expression(self, level: int | None, *, controls: bool) -> BaseEstimator:
        """Return the transformer of profiles that a study wants.

        Parameters
        ----------
        level : {3, 4, 5} or None
            Of the study.
        controls : bool
            Whether it has controls.

        Returns
        -------
        transformer : transformer
        """
        if level != 3:  # z-scores are relative to their plate already
            return FunctionTransformer()
        if not controls:
            return StandardScaler()
        if self.preset == "paper":
            return L1000Featurizer(["control", "treated", "log2_fold_change"])
        return L1000Featurizer(["difference"])

    def embedder(self, *, validated: bool) -> CoordinatedEmbedder:
        """Return the embedder of the preset.

        Parameters
        ----------
        validated : bool
            Whether there are validation rows, by which its best epoch is kept.

        Returns
        -------
        embedder : CoordinatedEmbedder
        """
        settings = dict(_SETTINGS[self.preset])
        if self.encoder is not None and settings["encoder"] is not None:
            settings["encoder"] = self.encoder
        if validated:
            kept = {"lower_is_better": False, "load_best": True, "sink": _nowhere}
            best = EarlyStopping("valid_mrr", settings["max_epochs"], **kept)
            settings["callbacks"] = [best]
        return CoordinatedEmbedder(**settings)

    def methods(
        self,
        expression: BaseEstimator | None = None,
        *,
        n_components: int = 50,
        embedder: str = "aligned",
    ) -> dict[str, Method]:
        """Return the rows.

        Parameters
        ----------
        expression : transformer or None, default=None
            Of the raw profiles; None leaves them as they are.
        n_components : int, default=50
            Of CCA.
        embedder : str, default="aligned"
            Name of the shared embedder.

        Returns
        -------
        methods : dict of str to Method
        """
        rows = finlayson2020_methods(
            expression,
            n_components=n_components,
            encoder=self.encoder or "random",
            embedder=embedder,
        )
        if self.ablations:
            rows |= ablation_methods(
                expression, encoder=self.encoder, preset=self.preset
            )
        return rows


def _nowhere(text: str) -> None:
    """Print nothing: a study has one progress bar."""


@validate_params(
    {
        "expression": "no_validation",
        "n_components": [int],
        "encoder": "no_validation",
        "embedder": [str],
        "metric": [StrOptions({"correlation", "cosine", "dot", "euclidean"})],
    },
    prefer_skip_nested_validation=True,
)
def finlayson2020_methods(
    expression: BaseEstimator | None = None,
    *,
    n_components: int = 50,
    encoder: Any = "random",
    embedder: str = "aligned",
    metric: str = "correlation",
) -> dict[str, Method]:
    """Return every row of the paper's Tables 1 and 2, and what they lack.

    Table 1: raw and aligned profiles by Morgan, Chemprop and aligned molecules, ranked
    by D-NN and CCA, and the embedder's own correlation. Table 2: oracles of raw and
    aligned profiles in the training and the test lines, with the query left out, by
    the paper's metric (correlation in the training lines, Euclidean distance in the
    test lines) and all by correlation. Beside these: a strong classical Pipeline, and
    two controls, which should be at chance and stand in each table: CCA fitted on
    shuffled molecules, and D-NN fitted on each profile's mean over its cell line
    ("drug-blind").

    Parameters
    ----------
    expression : transformer or None, default=None
        Of the raw profiles; None leaves them as they are.
    n_components : int, default=50
        Of CCA, at least 1. A row whose training rows allow fewer, for their rank,
        takes as many as they do; with fewer than 10 molecules its ridge is 1.
    encoder : str, path-like or nn.Module, default="random"
        Graph network of :class:`~sklearn_molge.molecules.ChempropEmbedder`. The
        paper's own "Chemprop" rows most likely had random weights (see there).
    embedder : str, default="aligned"
        Name of the shared embedder.
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Common metric of the oracles.

    Returns
    -------
    methods : dict of str to Method
        By identifier, for the parameter `methods` of :func:`evaluate_study`.

    References
    ----------
    Finlayson et al. 2020, Tables 1 and 2; Sections 3.2 and 4.

    Examples
    --------
    >>> from sklearn_molge.evaluation import finlayson2020_methods
    >>> methods = finlayson2020_methods()
    >>> list(methods)[:3]
    ['dnn_raw_morgan', 'dnn_raw_chemprop', 'dnn_raw_aligned']
    >>> methods["dnn_raw_morgan"].label
    'D-NN, raw / Morgan'
    """
    raw = FunctionTransformer() if expression is None else expression
    profiles = {"raw": raw, "aligned": AlignedView("profiles", embedder=embedder)}
    molecules = {
        "Morgan": MorganFingerprinter(),
        "Chemprop": make_pipeline(ChempropEmbedder(encoder), StandardScaler()),
        "aligned": AlignedView("molecules", embedder=embedder),
    }
    rows = {}
    for kind in ("D-NN", "CCA"):
        for seen, transformer in profiles.items():
            for name, features in molecules.items():
                retriever: BaseEstimator = SizedCCA(n_components)
                if kind == "D-NN":
                    bits = name == "Morgan"
                    retriever = DoubleNNRetriever("jaccard" if bits else "correlation")
                label = f"{kind}, {seen} / {name}"
                pipeline = _pipeline(features, retriever, transformer)
                rows[row_id(label)] = Method(pipeline, seen, name, kind, label)
    label, both = "Corr, aligned / aligned", AlignedView("both", embedder=embedder)
    views = ("aligned", "aligned", "Corr")
    rows[row_id(label)] = Method(both, *views, label, tables=("table1", "table2"))
    rows |= _strong_rows(raw, n_components)
    return rows | _oracle_rows(profiles, metric)


def row_id(label: str) -> str:
    """Return a row's identifier: that of "D-NN, raw / Morgan" is dnn_raw_morgan."""
    text = label.lower().replace("d-nn", "dnn").replace("+ ", "")
    return re.sub(r"[^a-z0-9]+", "_", text)


def _pipeline(features, retriever, transformer):
    target = TransformedTargetRetriever(retriever, clone(transformer))
    return make_pipeline(clone(features), target)


def _strong_rows(raw: BaseEstimator, n_components: int) -> dict[str, Method]:
    """Return the strongest classical Pipeline that we know, and two controls."""
    joined = PRESETS["recommended"]["molecule_features"]
    # Dense, its 8,600 columns take 6.7 GB at 97,000 profiles.
    outputs = [key for key in joined.get_params() if key.endswith("__sparse_output")]
    joined = clone(joined).set_params(**dict.fromkeys(outputs, True))
    unit = make_pipeline(clone(raw), Normalizer())
    candidates = [
        _pipeline(joined, SizedCCA(n, correlation_power=power), unit)
        for n in (n_components, 2 * n_components)
        for power in (1, 2)
    ]
    shuffled = _pipeline(MorganFingerprinter(), SizedCCA(n_components), raw)
    strong, chance = "CCA, raw / six features", "CCA, shuffled molecules"
    # Of means of lines CCA finds nothing, and says so, where every line has all drugs.
    blind, dnn = "D-NN, drug-blind", DoubleNNRetriever("jaccard")
    of_lines = _pipeline(MorganFingerprinter(), dnn, raw)
    return {
        row_id(strong): Method(candidates, "raw", "six features", "CCA", strong),
        row_id(chance): Method(
            shuffled,
            "raw",
            "Morgan, shuffled",
            "CCA",
            chance,
            tables=TABLES,
            shuffle_molecules=True,
        ),
        row_id(blind): Method(
            of_lines,
            "means of cell lines",
            "Morgan",
            "D-NN",
            blind,
            tables=TABLES,
            drug_blind=True,
        ),
    }


def _oracle_rows(profiles, metric):
    paper = {"train lines": "correlation", "test lines": "euclidean"}
    seen = {"train lines": "oracle_train_lines", "test lines": "oracle_test_lines"}
    rows = {}
    for lines, own_metric in paper.items():
        for name, transformer in profiles.items():
            for used in dict.fromkeys((own_metric, metric)):
                label = f"oracle, {lines}, {name}, {used}"
                oracle = TransformedTargetRetriever(
                    OracleRetriever(used), clone(transformer)
                )
                names = (name, f"own profiles in the {lines}", f"oracle, {used}")
                rows[row_id(label)] = Method(
                    oracle, *names, label, tables=("table2",), train=seen[lines]
                )
    return rows


@validate_params(
    {
        "expression": "no_validation",
        "encoder": "no_validation",
        "preset": [StrOptions(set(_SETTINGS))],
    },
    prefer_skip_nested_validation=True,
)
def ablation_methods(
    expression: BaseEstimator | None = None,
    *,
    encoder: Encoder | None = None,
    preset: str = "recommended",
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
    encoder : str, path-like or None, default=None
        Pretrained graph network, see
        :class:`~sklearn_molge.molecules.ChempropEmbedder`; None leaves these rows out.
    preset : {"recommended", "paper", "quick"}, default="recommended"
        Which base.

    Returns
    -------
    methods : dict of str to Method
        By identifier, for the parameter `methods` of :func:`evaluate_study`.

    Examples
    --------
    >>> from sklearn_molge.evaluation import ablation_methods
    >>> list(ablation_methods())[:3]
    ['base', 'loss_quadruplet', 'loss_triplet']
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
    if encoder is not None:
        rows["pretrained weights"] = {"encoder": encoder}
        rows["pretrained weights, descriptors joined"] = {"encoder": encoder} | joined
    return {
        row_id(label): _ablation(label, base, change, expression)
        for label, change in rows.items()
    }


def _ablation(label, base, change, expression):
    settings = base | change
    if change.get("criterion"):  # the base loss's own parameters go with it
        own = [key for key in settings if key.startswith("criterion__")]
        settings = {k: v for k, v in settings.items() if k not in own}
    if change.get("criterion") is losses.QuintupletLoss:
        # It compares an anchor with a second profile of its drug.
        if "partners" in inspect.signature(settings["sampler"]).parameters:
            settings["sampler__partners"] = True
    if settings["encoder"] is None:
        graph = [key for key in settings if key.startswith("encoder__")]
        settings = {k: v for k, v in settings.items() if k not in graph}
    embedder = CoordinatedEmbedder(**settings)
    if expression is not None:
        embedder = TransformedTargetRetriever(embedder, clone(expression))
    names = ("aligned", "aligned", label, label)
    return Method(embedder, *names, tables=("ablations",))
