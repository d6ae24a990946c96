"""What the page and the REST interface ask: genes, molecules, and why."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from rdkit import Chem, rdBase
from sklearn.utils import gen_batches

from sklearn_molge._utils.answer_view import structure_uri
from sklearn_molge._utils.interrupts import one_by_one
from sklearn_molge._utils.messages import counted
from sklearn_molge._utils.views import fitted_gene_names, resolve_views
from sklearn_molge.app._upload_store import UploadStore
from sklearn_molge.app._uploads import MOST_NAME, gene_marks, read_query
from sklearn_molge.expression import match_genes, profile_from_genes
from sklearn_molge.inspection import (
    atom_attribution,
    class_enrichment,
    gene_attribution,
)
from sklearn_molge.library import MoleculeIndex, QueryAnswer
from sklearn_molge.metrics import pairwise_similarity, similarity
from sklearn_molge.molecules import MorganFingerprinter, check_smiles, smiles_from_inchi
from sklearn_molge.retrieval import PredictedProfileRetriever

__all__ = ["Answer", "Asked", "MoleculeAnswer", "Service", "Why", "genes_of"]

V = TypeVar("V")

_MOST_ANSWERS = 200
_MOST_GENES = 5000  # in a list
_MOST_LOOKED_AT = 20_000  # nearest molecules that filters look at
_N_KEPT = 64  # answers that are remembered
_N_BEST = 100  # nearest molecules whose classes are counted
_N_MEASURED = 4096  # profiles that are compared at a time
_N_MAP = 2000  # molecules of the map's background
_CLASSES = ("moa", "mechanism", "target")
_OF_SETS = ["conformal_p", "in_set", "set_size"]
_COLORS = {True: (0.25, 0.47, 0.85), False: (0.87, 0.35, 0.25)}  # for, against

# A form sends an empty text for a field that is left empty.
Share = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    BeforeValidator(lambda value: None if value == "" else value),
]
Genes = Annotated[
    str,
    BeforeValidator(
        lambda value: "\n".join(value) if isinstance(value, list) else value
    ),
    Field(max_length=100_000),
]


class Asked(BaseModel):
    """A question: genes or an upload, and which molecules may answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    up: Genes = Field("", description="genes that go up, as a text or a list")
    down: Genes = Field("", description="genes that go down")
    upload: str = Field(
        "", pattern="^([0-9a-f]{32})?$", description="a file that was uploaded"
    )
    reverse: bool = Field(False, description="look for what reverses the signature")
    n: int = Field(20, ge=1, le=_MOST_ANSWERS, description="how many molecules")
    mechanism: str = Field("", max_length=200, description="the mechanism contains it")
    target: str = Field("", max_length=200, description="the target contains it")
    column: str = Field("", max_length=200, description="a column of the library")
    how: Literal["contains", "equals"] = "contains"
    value: str = Field("", max_length=200, description="what that column contains")
    near_min: Share = Field(None, description="least similarity to training")
    near_max: Share = Field(None, description="most similarity to training")
    smarts: str = Field("", max_length=200, description="a substructure")
    like: str = Field(
        "", max_length=500, description="a similar structure, as SMILES or InChI"
    )
    like_min: Share = Field(0.3, description="least Tanimoto similarity to it")

    def set_fields(self) -> dict[str, Any]:
        """Return what is not at its default: what an address has to say."""
        return self.model_dump(exclude_defaults=True)


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes
    ----------
    asked : Asked
    table : QueryAnswer
        Without rows where no molecule passes the filters.
    marks : DataFrame
        Genes: part, entry, symbol, status.
    near : DataFrame
        The nearest molecules, whether they pass the filters or not.
    profile : ndarray of shape (n_genes,)
        What was asked: the mean of the profiles.
    notes : list of str
    """

    asked: Asked
    table: QueryAnswer
    marks: pd.DataFrame
    near: pd.DataFrame
    profile: NDArray
    notes: list[str]


@dataclass(frozen=True)
class Why:
    """Which genes and atoms speak for a match."""

    rank: int
    smiles: str
    name: str
    genes: list[tuple[str, float, float]]  # name, change of similarity, expression
    atoms: list[float]  # changes of similarity

    @property
    def picture(self) -> str:
        """The molecule, its atoms coloured by what they change."""
        colors = _atom_colors(np.asarray(self.atoms))
        return structure_uri(self.smiles, size=(320, 220), atom_colors=colors)


@dataclass(frozen=True)
class MoleculeAnswer:
    """A molecule asked for its profile.

    Attributes
    ----------
    smiles, picture, how : str
        `how` says what the numbers of the genes are.
    up, down : list of tuple
        Genes and their numbers, the strongest first.
    signatures : DataFrame
        The nearest measured profiles; none without a study.
    """

    smiles: str
    picture: str
    how: str
    up: list[tuple[str, float]]
    down: list[tuple[str, float]]
    signatures: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class _Map:
    """The plane of a library, and a sample of its molecules there, from 0 to 1."""

    centre: NDArray
    axes: NDArray
    low: NDArray
    span: NDArray
    sample: list[list[float]] = field(default_factory=list)

    @classmethod
    def make(cls, vectors: NDArray) -> _Map:
        """Find the two directions of largest variance."""
        centre = vectors.mean(axis=0)
        _, _, axes = np.linalg.svd(vectors - centre, full_matrices=False)
        axes = np.pad(axes, ((0, 2), (0, 0)))[:2].T  # one axis at least
        low, high = np.quantile((vectors - centre) @ axes, [0.005, 0.995], axis=0)
        plane = cls(centre, axes, low, np.where(high > low, high - low, 1))
        return replace(plane, sample=plane.places(vectors).tolist())

    def places(self, vectors: NDArray) -> NDArray:
        """Return x and y of vectors."""
        places = ((vectors - self.centre) @ self.axes - self.low) / self.span
        return np.clip(places, 0, 1)


class Remembered(Generic[V]):
    """The last values by their keys, for several threads.

    Who asks first computes a value, with no lock held; who asks for the same one in the
    meantime waits for it, and who asks for another does not. An error is told to all
    that wait, and not kept.

    Parameters
    ----------
    most : int
        How many values are kept.
    """

    def __init__(self, most: int):
        self._most = most
        self._known: OrderedDict[Hashable, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], V]) -> V:
        """Return the value of a key; `compute` is called if there is none."""
        with self._lock:
            future = self._known.get(key)
            is_first = future is None
            if future is None:
                future = self._known[key] = Future()
            self._known.move_to_end(key)
        if is_first:
            self._fulfil(key, future, compute)
        return future.result()

    def _fulfil(self, key: Hashable, future: Future[V], compute: Callable[[], V]):
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._known[key]
            future.set_exception(error)
            return
        future.set_result(value)
        with self._lock:
            # What is not there yet is kept: others wait for it.
            there = [k for k, each in self._known.items() if each.done()]
            for k in there[: max(0, len(self._known) - self._most)]:
                del self._known[k]


class Service:
    """Answers questions about an index; from several threads at once.

    Parameters
    ----------
    index : MoleculeIndex
    study : Study or None
        Measured profiles.
    n_permutations : int
    n_explained : int
        How many answers are explained.
    uploads : UploadStore
        Of the genes of the index.
    """

    def __init__(
        self,
        index: MoleculeIndex,
        *,
        study: Any,
        n_permutations: int,
        n_explained: int,
        uploads: UploadStore,
    ):
        self.index = index
        self.n_permutations = n_permutations
        self.n_explained = n_explained
        self.genes = genes_of(index)
        # What a reader calls them.
        self.gene_labels = _labels_of(index, self.genes)
        self.uploads = uploads
        self._names = _fitted_names(index.estimator_)
        self.study = study
        self._measured = None if study is None else self._measure(study)
        self._answers = Remembered[Answer](_N_KEPT)
        self._explanations = Remembered[list[Why]](_N_KEPT)
        self._class_sizes = Remembered[dict[str | None, int]](1)
        self._maps = Remembered[_Map](1)
        self.columns = _further_columns(index)

    # Genes

    def mark(self, text: str, part: str) -> pd.DataFrame:
        """Read a list of genes, as it was pasted."""
        if self.genes is None:
            raise ValueError(
                "This model does not know the names of its genes: make the index with "
                "MoleculeIndex(..., genes=study.genes)."
            )
        entries = [e for e in text.replace(",", " ").replace(";", " ").split() if e]
        if len(entries) > _MOST_GENES:
            raise ValueError(
                f"At most {_MOST_GENES:,} genes {part} are read. Got {len(entries):,}."
            )
        marks = gene_marks([entry[:MOST_NAME] for entry in entries], self.genes)
        return marks.assign(part=part)

    def _profile_of_genes(self, asked: Asked) -> tuple[NDArray, pd.DataFrame]:
        up, down = self.mark(asked.up, "up"), self.mark(asked.down, "down")
        marks = pd.concat([up, down], ignore_index=True)
        used = [np.unique(m["column"][m["column"] >= 0]) for m in (up, down)]
        both = np.intersect1d(used[0], used[1])
        labels = np.array(self.gene_labels, dtype=object)
        if both.size:
            raise ValueError(
                "A gene must be up or down. In both lists: "
                f"{', '.join(labels[both[:10]])}."
            )
        if not used[0].size and not used[1].size:
            given = ", ".join(marks["entry"].head(5))
            raise ValueError(
                f"None of {counted(len(marks), 'gene')} is in the model, which has "
                f"{len(labels):,}, such as {', '.join(labels[:3])}. Got {given}."
                if len(marks)
                else "Paste at least one gene, or choose a file."
            )
        # By their places, so that no name is read twice.
        places = [f"g{i}" for i in range(len(labels))]
        query = profile_from_genes(
            places, up=[places[i] for i in used[0]], down=[places[i] for i in used[1]]
        )
        return query.profile, marks

    # Molecules for profiles

    def take(self, name: str, content: bytes) -> str:
        """Read an uploaded file, unless it is known, and return its key.

        Raises
        ------
        ValueError
            As :func:`read_query`, or if the model does not know its genes.
        """
        if self.genes is None:
            raise ValueError("This model does not know the names of its genes.")
        key = self.uploads.key(content)
        if key not in self.uploads:
            self.uploads.put(key, read_query(name, content, self.genes))
        return key

    def answer(self, asked: Asked) -> Answer:
        """Answer a question, or remember the answer.

        Raises
        ------
        ValueError
            If the question cannot be understood.
        KeyError
            If its upload is not kept any more.
        """
        return self._answers.get(asked, lambda: self._answer(asked))

    def _answer(self, asked: Asked) -> Answer:
        notes: list[str] = []
        if asked.upload and (asked.up or asked.down):
            raise ValueError("Give genes or a file, not both: one of them is asked.")
        if asked.upload:
            upload = self.uploads.get(asked.upload)
            profiles, marks = upload.profiles, upload.marks.assign(part="")
            label, notes = upload.name, list(upload.notes)
            if len(profiles) > 1:
                notes.append(f"{len(profiles):,} profiles are asked as one condition.")
        else:
            profiles, marks = self._profile_of_genes(asked)
            label = "Your genes"
        n_used = int((marks["column"] >= 0).sum())
        account = f"{n_used:,} of {counted(len(marks), 'gene')} used."
        y, groups = self._named(profiles), [label] * len(profiles)
        among, near, told = self._filtered(asked, y, groups)
        # The nearest are wanted in any case, for their classes.
        n = min(max(asked.n, _N_BEST), self._most)
        if among is not None:
            n, notes = min(asked.n, len(among)), [*notes, told]
        table = QueryAnswer()
        if n:
            table = self.index.query(
                y, n, groups=groups, reverse=asked.reverse, among=among,
                n_permutations=self.n_permutations,
            )  # fmt: skip
            table.attrs["account"] = [account, *notes]
        if not asked.upload:  # a list of genes is no profile like those that calibrate
            table = table.drop(columns=_OF_SETS, errors="ignore")
            table.attrs.pop("coverage", None)
        near = table if among is None else near
        profile = profiles.mean(axis=0)
        return Answer(asked, table.head(asked.n), marks, near, profile, notes)

    @property
    def _most(self) -> int:
        """How many molecules can be answers at most."""
        most = self.index.n_molecules_
        return min(most, self.index.n_candidates) if self.index.reranks_ else most

    def _named(self, profiles: NDArray) -> Any:
        """Give profiles, in the order of the model, the names that it knows."""
        if self._names is None:
            return profiles
        return pd.DataFrame(profiles, columns=self._names)

    def _filtered(
        self, asked: Asked, y: Any, groups: list
    ) -> tuple[Any, pd.DataFrame, str]:
        """Return the nearest rows that pass the filters; None without filters.

        And the nearest molecules of all, and what was looked at.
        """
        filters = list(self._filters(asked))
        near = pd.DataFrame()
        if not filters:
            return None, near, ""
        most = min(_MOST_LOOKED_AT, self._most)
        k, seen, kept = min(most, max(200, 8 * asked.n)), 0, np.empty(0, np.intp)
        while True:
            rows = self.index.kneighbors(
                y, k, groups=groups, reverse=asked.reverse, return_distance=False
            )[0]
            table = self.index.get_molecules(rows[seen:])
            near = near if seen else table.head(_N_BEST)
            passed = np.ones(len(table), dtype=bool)
            for each in filters:
                passed[passed] = each(table[passed])
            kept = np.append(kept, rows[seen:][passed])
            seen = len(rows)
            if len(kept) >= asked.n or seen == most:
                break
            k = min(most, 8 * k)
        told = f"Filters: {len(kept):,} of the nearest {seen:,} molecules pass."
        return kept, near, told

    def _filters(self, asked: Asked) -> Iterator[Callable[[pd.DataFrame], Any]]:
        """Yield functions of a table of molecules that say which pass."""
        mechanism = next((c for c in _CLASSES[:2] if c in self.columns), "moa")
        if bool(asked.column) != bool(asked.value):
            raise ValueError(
                "A filter by a column needs the column and what it contains. "
                f"Got {asked.column!r} and {asked.value!r}."
            )
        wanted = [
            (mechanism, asked.mechanism, "contains"),
            ("target", asked.target, "contains"),
            (asked.column, asked.value, asked.how),
        ]
        for column, value, how in wanted:
            if value:
                if column not in (*self.columns, "name"):
                    raise ValueError(
                        f"The library has no column {column!r}. It has "
                        f"{', '.join(['name', *self.columns])}."
                    )
                yield _column_filter(column, value, how)
        if asked.near_min is not None or asked.near_max is not None:
            yield self._training_filter(asked.near_min, asked.near_max)
        if asked.smarts:
            yield _smarts_filter(asked.smarts)
        if asked.like:
            yield _like_filter(asked.like, asked.like_min or 0.0)

    def _training_filter(self, low: float | None, high: float | None):
        background = self.index.background_
        if background is None or not background.knows_training:
            raise ValueError(
                "The index does not know its training molecules: "
                "index.calibrate(study.smiles, study.ge)."
            )
        low, high = low or 0.0, 1.0 if high is None else high

        def passes(table: pd.DataFrame) -> Any:
            smiles = table["smiles"].to_numpy(dtype=object)
            if not len(smiles):
                return np.empty(0, dtype=bool)
            near, _ = background.nearest_training(smiles)
            return (near >= low) & (near <= high)

        return passes

    # Why

    def why(self, asked: Asked) -> list[Why]:
        """Explain the first answers to a question, where the model can; or remember it.

        Raises
        ------
        ValueError, KeyError
            As :meth:`answer`.
        """
        return self._explanations.get(asked, lambda: self._why(self.answer(asked)))

    def _why(self, answer: Answer) -> list[Why]:
        found: list[Why] = []
        profile = self._named(answer.profile[None])
        if answer.asked.reverse and self.index.reverses_by_sign_:
            profile = -profile
        for row in answer.table.head(self.n_explained).to_dict("records"):
            args = (self.index.estimator_, row["molecule"], profile)
            try:
                atoms = atom_attribution(*args).values
                genes = gene_attribution(*args).values
            except (TypeError, ValueError):
                return found
            order = np.argsort(-np.abs(genes), kind="stable")[:12]
            labels = self.gene_labels
            told = [
                (labels[i], float(genes[i]), float(answer.profile[i]))
                for i in order
                if genes[i]
            ]
            name = row["name"] if isinstance(row["name"], str) else ""
            found.append(Why(row["rank"], row["molecule"], name, told, atoms.tolist()))
        return found

    def enriched(self, answer: Answer) -> tuple[str, pd.DataFrame]:
        """Return the column of classes, and those that are many among the nearest."""
        column = next((c for c in _CLASSES if c in self.columns), "")
        near = answer.near
        if column not in near:
            return column, pd.DataFrame()
        try:
            found = class_enrichment(
                -np.arange(len(near)),
                [_classes(label) for label in near[column]],
                names=near["name"].fillna("").tolist(),
                statistic="hypergeometric",
                background=self._sizes_of(column),
            )
        except ValueError:  # no class is large enough
            return column, pd.DataFrame()
        table = found.table
        return column, table[table["n_hits"] > 1].head(8).reset_index()

    def _sizes_of(self, column: str) -> dict[str | None, int]:
        """Return how many molecules of the library are of each class; None: of any."""

        def count() -> dict[str | None, int]:
            labels = map(_classes, self.index.get_molecules()[column])
            known = [set(each) for each in labels if each]
            sizes = Counter[str | None](name for each in known for name in each)
            return dict(sizes) | {None: len(known)}

        return self._class_sizes.get((*self._state, column), count)

    @property
    def _state(self) -> tuple[int, int]:
        """What tells an index before a change from one after it."""
        return self.index.n_rows_, self.index.n_molecules_

    def map(self, answer: Answer) -> tuple[list, list] | None:
        """Return places (x, y from 0 to 1) of a sample of the library, and of hits."""
        rows = answer.table.get("index_row")
        if rows is None or self.index.n_molecules_ < 3:
            return None
        drawn = self._maps.get(self._state, self._map)
        vectors = self._vectors(rows.to_numpy())
        return drawn.sample, drawn.places(vectors).tolist()

    def _map(self) -> _Map:
        store = self.index.store_
        rows = np.arange(store.n_rows)
        rows = rows if store.active is None else rows[store.active]
        if len(rows) > _N_MAP:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(rows, _N_MAP, replace=False))
        return _Map.make(self._vectors(rows))

    def _vectors(self, rows: NDArray) -> NDArray:
        vectors = self.index.store_.stored(rows).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    # Genes for molecules

    def molecule(self, smiles: str, n: int = 25) -> MoleculeAnswer:
        """Say what the model expects of a molecule.

        Raises
        ------
        InvalidSmilesError
            If it is none.
        """
        X = _structure(smiles)
        smiles = X[0]
        estimator = self.index.estimator_
        inner, molecules, _ = resolve_views(estimator, X, None)
        n_genes = len(self.gene_labels)
        values: NDArray = np.empty(0)
        if isinstance(inner, PredictedProfileRetriever):
            values = np.asarray(inner.transform(molecules))[0]
            how = "the profile that the model predicts"
        if len(values) != n_genes:
            both = np.concatenate([np.eye(n_genes), -np.eye(n_genes)])
            scores = np.asarray(similarity(estimator, X, self._named(both)))[:, 0]
            values = (scores[:n_genes] - scores[n_genes:]) / 2
            how = (
                "half the difference in similarity between a profile in which this "
                "gene alone is up and one in which it alone is down"
            )
        order, labels = np.argsort(-values, kind="stable"), self.gene_labels
        pairs = [(labels[i], float(values[i])) for i in order]
        up = [pair for pair in pairs if pair[1] > 0][:n]
        down = [pair for pair in pairs[::-1] if pair[1] < 0][:n]
        picture = structure_uri(smiles, size=(320, 220))
        return MoleculeAnswer(smiles, picture, how, up, down, self._signatures(X, n))

    def _signatures(self, X: NDArray, n: int) -> pd.DataFrame:
        if self._measured is None:
            return pd.DataFrame()
        measured = self._measured
        scores = np.concatenate(
            [
                similarity(self.index.estimator_, X, self._named(measured[part]))[:, 0]
                for part in gen_batches(len(measured), _N_MEASURED)
            ]
        )
        best = np.argsort(-scores, kind="stable")[:n]
        shown = ["pert_name", "pert_id", "cell_line", "dose_um", "time_h", "moa"]
        obs = self.study.obs.iloc[best]
        columns = {name: obs[name].tolist() for name in shown if name in obs}
        return pd.DataFrame({"score": scores[best], **columns})

    def _measure(self, study: Any) -> NDArray:
        """Return the profiles of a study in the order of the genes of the model."""
        if self.genes is None:
            return study.ge
        columns = np.full(len(self.genes), -1)
        known = "gene_id" if "gene_id" in study.genes else "symbol"
        found = match_genes(study.genes[known].tolist(), self.genes)[
            "column"
        ].to_numpy()
        columns[found[found >= 0]] = np.flatnonzero(found >= 0)
        if (columns < 0).any():
            raise ValueError(
                f"study must have all {len(columns):,} genes of the index. It lacks "
                f"{(columns < 0).sum():,}."
            )
        in_order = np.array_equal(columns, np.arange(study.ge.shape[1]))
        return study.ge if in_order else study.ge[:, columns]


def genes_of(index: MoleculeIndex) -> Any:
    """Return the table of genes of an index, their names, or None."""
    genes = index.store_.identity["genes"]
    return _fitted_names(index.estimator_) if genes is None else pd.DataFrame(genes)


def _labels_of(index: MoleculeIndex, genes: Any) -> list[str]:
    """Return symbols of the genes of an index, or what else they are called."""
    if genes is None:
        n_genes = getattr(index.estimator_, "n_genes_in_", 0)
        return [f"gene {i}" for i in range(n_genes)]
    if isinstance(genes, pd.DataFrame):
        genes = genes[next(n for n in ("symbol", "name", "gene_id") if n in genes)]
    names = pd.Series([str(name) for name in genes], dtype=object)
    if not names.str.fullmatch(r"\d+|ENSG\d+").any():
        return names.tolist()
    symbols = match_genes(names, names.tolist())["symbol"]
    return symbols.where(symbols.notna(), names).tolist()


def _further_columns(index: MoleculeIndex) -> list[str]:
    """Return what its molecules are told with, of all libraries, as answers name it."""
    n_rows = index.n_rows_
    rows = np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, 1000)).astype(int))
    own = {"smiles", "name", "drug", "library", "library_row"}
    return [str(name) for name in index.get_molecules(rows) if name not in own]


def _fitted_names(estimator: Any) -> NDArray | None:
    try:
        return fitted_gene_names(estimator)
    except ValueError:
        return None


def _classes(label: object) -> list[str]:
    """Return the classes of a molecule, which are joined by | or by ;."""
    if not isinstance(label, str):
        return []
    sep = "|" if "|" in label else ";"
    return [each.strip() for each in label.split(sep) if each.strip()]


def _plain_text(value: Any) -> str:
    """Write a value as the library has it: whole numbers are floats beside gaps."""
    if pd.isna(value):
        return ""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if is_whole else value)


def _column_filter(column: str, value: str, how: str):
    wanted = value.casefold()
    if re.fullmatch(r"[-+]?\d{1,15}\.0+", wanted):
        wanted = str(int(float(wanted)))

    def passes(table: pd.DataFrame) -> Any:
        if column not in table:
            return np.zeros(len(table), dtype=bool)
        texts = [_plain_text(value).casefold() for value in table[column]]
        if how == "equals":
            return np.array([wanted in (t, *_classes(t)) for t in texts], dtype=bool)
        return np.array([wanted in t for t in texts], dtype=bool)

    return passes


def _smarts_filter(smarts: str):
    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts)
    if pattern is None or not pattern.GetNumAtoms():
        raise ValueError(f"The substructure must be SMARTS. Got {smarts!r}.")

    def passes(table: pd.DataFrame) -> Any:
        with rdBase.BlockLogs():
            mols = [Chem.MolFromSmiles(smiles) for smiles in table["smiles"]]
        found = [
            m is not None and m.HasSubstructMatch(pattern) for m in one_by_one(mols)
        ]
        return np.array(found, dtype=bool)

    return passes


def _structure(text: str) -> NDArray[np.object_]:
    """Return a structure, given as SMILES or InChI, as an array of one SMILES."""
    smiles = smiles_from_inchi([text])
    check_smiles(smiles)
    return smiles


def _like_filter(text: str, least: float):
    own = MorganFingerprinter().transform(_structure(text))

    def passes(table: pd.DataFrame) -> Any:
        if table.empty:
            return np.empty(0, dtype=bool)
        bits = MorganFingerprinter().transform(table["smiles"].to_numpy(dtype=object))
        return pairwise_similarity(own, bits, metric="tanimoto")[0] >= least

    return passes


def _atom_colors(values: NDArray) -> list[tuple[float, ...]]:
    """Return white for nothing, blue for what supports the match, red for the rest."""
    limit = np.abs(values).max(initial=0) or 1
    return [
        tuple(1 - min(abs(v) / limit, 1) * (1 - c) for c in _COLORS[bool(v > 0)])
        for v in values
    ]
