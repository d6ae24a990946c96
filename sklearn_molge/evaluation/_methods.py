"""The rows of the paper's tables, as estimators by name."""

from dataclasses import dataclass
from typing import Any

from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge.alignment import (
    CCA,
    PRESETS,
    CoordinatedEmbedder,
    FittedTower,
)
from sklearn_molge.evaluation._aligned_view import AlignedView
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.molecules import ChempropEmbedder, MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)

__all__ = ["Method", "finlayson2020_methods", "profile_features"]

TABLES = ("table1", "table2", "ablations")
TRAINING_ROWS = ("train", "oracle_train_lines", "oracle_test_lines")


@dataclass(frozen=True)
class Method:
    """A row of a table: an estimator, what it sees, and how it is labelled.

    Parameters
    ----------
    estimator : estimator or list of estimator
        A two-view estimator or a Pipeline that ends in one, of SMILES and profiles;
        :class:`AlignedView` may stand for a shared embedder. Of a list, each is fitted
        and the one with the best mean reciprocal rank on the validation rows is kept.
    expression, molecules, method : str, default=""
        Labels: what represents the profiles, the molecules, and what compares them.
    tables : tuple of {"table1", "table2", "ablations"}, default=("table1",)
        The tables in which it stands.
    train : {"train", "oracle_train_lines", "oracle_test_lines"}, default="train"
        The rows it is fitted on; the others are for oracles, which look at the test
        drugs in the training lines, or at the test rows.
    shuffle_molecules : bool, default=False
        Fit on molecules in random order: what is left is chance.

    Raises
    ------
    ValueError
        If `tables` or `train` is none of these, or the list is empty.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.evaluation import Method
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> row = Method(
    ...     make_pipeline(MorganFingerprinter(radius=3), CCA(20)),
    ...     expression="raw", molecules="Morgan, radius 3", method="CCA",
    ... )
    >>> row.tables
    ('table1',)
    """

    estimator: Any
    expression: str = ""
    molecules: str = ""
    method: str = ""
    tables: tuple[str, ...] = ("table1",)
    train: str = "train"
    shuffle_molecules: bool = False

    def __post_init__(self) -> None:
        if self.train not in TRAINING_ROWS:
            raise ValueError(f"train must be one of {TRAINING_ROWS}. Got {self.train}.")
        unknown = sorted(set(self.tables) - set(TABLES))
        if unknown or not self.tables:
            raise ValueError(f"tables must be of {TABLES}. Got {self.tables}.")
        if not self.candidates:
            raise ValueError("estimator must hold at least one estimator. Got [].")

    @property
    def candidates(self) -> list[Any]:
        """The estimators to select from."""
        if isinstance(self.estimator, list | tuple):
            return list(self.estimator)
        return [self.estimator]

    @property
    def is_classical(self) -> bool:
        """Whether it may be the baseline: it is fitted honestly, without an embedder.

        What the best of these reaches is what a trained tower has to beat.
        """
        labels = (self.expression, self.molecules)
        return (
            "table1" in self.tables
            and self.train == "train"
            and not self.shuffle_molecules
            and "aligned" not in labels
            and not any(_has_embedder(estimator) for estimator in self.candidates)
        )


def _has_embedder(estimator: Any) -> bool:
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(
        isinstance(part, AlignedView | CoordinatedEmbedder | FittedTower)
        for part in parts
    )


def profile_features(level: int | None, *, controls: bool, preset: str) -> Any:
    """Return the transformer of profiles that a study of this level wants."""
    if level != 3:  # z-scores are relative to their plate already
        return FunctionTransformer()
    if not controls:
        return StandardScaler()
    if preset == "paper":
        return L1000Featurizer(["control", "treated", "log2_fold_change"])
    return L1000Featurizer(["difference"])


@validate_params(
    {
        "expression": "no_validation",
        "n_components": [int],
        "weights": "no_validation",
        "embedder": [str],
        "metric": [StrOptions({"correlation", "cosine", "dot", "euclidean"})],
    },
    prefer_skip_nested_validation=True,
)
def finlayson2020_methods(
    expression: Any = None,
    *,
    n_components: int = 50,
    weights: Any = "random",
    embedder: str = "aligned",
    metric: str = "correlation",
) -> dict[str, Method]:
    """Return every row of the paper's Tables 1 and 2, and what they lack.

    Table 1: raw and aligned profiles by Morgan, Chemprop and aligned molecules, ranked
    by D-NN and CCA, and the embedder's own correlation. Table 2: oracles of raw and
    aligned profiles in the training and the test lines, with the query left out, by
    the paper's metric (correlation in the training lines, Euclidean distance in the
    test lines) and all by correlation. Beside these: a strong classical Pipeline, and
    CCA fitted on shuffled molecules.

    Parameters
    ----------
    expression : transformer or None, default=None
        Of the raw profiles; None leaves them as they are.
    n_components : int, default=50
        Of CCA, at least 1 and at most the size of the embedding.
    weights : str, path-like or nn.Module, default="random"
        Graph network of :class:`~sklearn_molge.molecules.ChempropEmbedder`. The
        paper's own "Chemprop" rows most likely had random weights (see there).
    embedder : str, default="aligned"
        Name of the shared embedder.
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Common metric of the oracles.

    Returns
    -------
    methods : dict of str to Method
        For the parameter `methods` of :func:`evaluate_study`.

    References
    ----------
    Finlayson et al. 2020, Tables 1 and 2; Sections 3.2 and 4.

    Examples
    --------
    >>> from sklearn_molge.evaluation import finlayson2020_methods
    >>> list(finlayson2020_methods())[:3]
    ['D-NN, raw / Morgan', 'D-NN, raw / Chemprop', 'D-NN, raw / aligned']
    """
    raw = FunctionTransformer() if expression is None else expression
    profiles = {"raw": raw, "aligned": AlignedView("profiles", embedder=embedder)}
    molecules = {
        "Morgan": MorganFingerprinter(),
        "Chemprop": make_pipeline(ChempropEmbedder(weights), StandardScaler()),
        "aligned": AlignedView("molecules", embedder=embedder),
    }
    rows = {}
    for kind in ("D-NN", "CCA"):
        for seen, transformer in profiles.items():
            for name, features in molecules.items():
                if kind == "CCA":
                    retriever: Any = CCA(n_components)
                else:
                    bits = name == "Morgan"
                    retriever = DoubleNNRetriever("jaccard" if bits else "correlation")
                rows[f"{kind}, {seen} / {name}"] = Method(
                    _pipeline(features, retriever, transformer), seen, name, kind
                )
    rows["Corr, aligned / aligned"] = Method(
        AlignedView("both", embedder=embedder), "aligned", "aligned", "Corr",
        tables=("table1", "table2"),
    )  # fmt: skip
    rows |= _strong_rows(raw, n_components)
    return rows | _oracle_rows(profiles, metric)


def _pipeline(features: Any, retriever: Any, transformer: Any) -> Any:
    target = TransformedTargetRetriever(retriever, clone(transformer))
    return make_pipeline(clone(features), target)


def _strong_rows(raw: Any, n_components: int) -> dict[str, Method]:
    """Return the strongest classical Pipeline that we know, and shuffled CCA."""
    joined = PRESETS["recommended"]["molecule_features"]
    unit = make_pipeline(clone(raw), Normalizer())
    candidates = [
        _pipeline(joined, CCA(n, correlation_power=power), unit)
        for n in (n_components, 2 * n_components)
        for power in (1, 2)
    ]
    shuffled = _pipeline(MorganFingerprinter(), CCA(n_components), raw)
    return {
        "CCA, raw / six features": Method(candidates, "raw", "six features", "CCA"),
        "CCA, shuffled molecules": Method(
            shuffled, "raw", "Morgan, shuffled", "CCA", shuffle_molecules=True
        ),
    }


def _oracle_rows(profiles: dict[str, Any], metric: str) -> dict[str, Method]:
    paper = {"train lines": "correlation", "test lines": "euclidean"}
    seen = {"train lines": "oracle_train_lines", "test lines": "oracle_test_lines"}
    rows = {}
    for lines, own_metric in paper.items():
        for name, transformer in profiles.items():
            for used in dict.fromkeys((own_metric, metric)):
                rows[f"oracle, {lines}, {name}, {used}"] = Method(
                    TransformedTargetRetriever(
                        OracleRetriever(used), clone(transformer)
                    ),
                    name, f"own profiles in the {lines}", f"oracle, {used}",
                    tables=("table2",), train=seen[lines],
                )  # fmt: skip
    return rows
