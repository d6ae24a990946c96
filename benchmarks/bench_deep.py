"""Whether a graph network adds to a Gaussian process over structures, and what does.

Every row is fitted on the training part of each inner draw and ranks its test part: the
table gives scores and the paired difference to the Gaussian process alone. `--curve`
gives the mean reciprocal rank against the number of training drugs. Similarities are
kept in --cache, a file each, and a second call goes on from there. Mechanisms and
targets are those of --library.
"""

import argparse
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_quality import GRAPH
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler, normalize
from tqdm import tqdm

from sklearn_molge.alignment import (
    CCA,
    PRESETS,
    CoordinatedEmbedder,
    GaussianProcessRetriever,
)
from sklearn_molge.datasets import (
    join_studies,
    load_lincs,
    load_signatures,
    source_weights,
)
from sklearn_molge.expression import GeneImputer, RankNormalizer, SourceScaler
from sklearn_molge.metrics import paired_comparison
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import (
    DMPNN,
    AnnotationKernel,
    ChempropEmbedder,
    DescriptorKernel,
    KernelFeatures,
    MoleculeGraphs,
    StructureKernel,
    drug_ids,
    load_encoder,
    parsed_once,
    valid_smiles_mask,
)
from sklearn_molge.retrieval import recommended_pipeline

SMOKE = {
    "draws": 1, "rows": ["CCA", "*labels, 0.15"], "curve_sizes": [10, 20],
}  # fmt: skip
SEED = 100  # of the inner draws; 0 is that of the tables of other benchmarks
SHARES = (0.1, 0.2, 0.3)
LABEL_SHARE = 0.15
EXTRA_WEIGHT = 0.15
HERITABILITY = 0.85


@dataclass(frozen=True)
class Part:
    """One draw: what is trained on, what is asked, and what else may be known."""

    smiles: np.ndarray
    ge: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    candidates: np.ndarray
    queries: np.ndarray
    match: np.ndarray
    drugs: np.ndarray
    options: argparse.Namespace
    profile_scaling: str = "normal_scores"
    students: dict = field(default_factory=dict)  # by their start, for two members

    @cached_property
    def annotations(self):
        """SMILES and indicator of mechanisms and targets, of three drugs at least."""
        table = pd.read_csv(self.options.library, sep="\t", dtype=str)
        smiles = table["canonical_smiles"].fillna("").to_numpy(dtype=object)
        labels = [
            {
                f"{kind}:{text}"
                for kind in ("moa", "target")
                for text in split(row[kind])
            }
            for row in table.to_dict("records")
        ]
        known = valid_smiles_mask(smiles) & np.array([bool(row) for row in labels])
        labels = [row for row, keep in zip(labels, known, strict=True) if keep]
        indicator = MultiLabelBinarizer(sparse_output=True).fit_transform(labels)
        often = np.asarray(indicator.sum(axis=0)).ravel() >= 3
        return smiles[known], indicator.tocsr()[:, often]


def split(text):
    """Return the entries of a cell of a table, such as "a|b"."""
    return text.split("|") if isinstance(text, str) else []


def make_part(study, train, test, options, weights=None):
    """Divide a study; rows of other sources are of the training part."""
    drugs = study.groups[test, 0]
    _, first, match = np.unique(drugs, return_index=True, return_inverse=True)
    return Part(
        study.smiles[train],
        study.ge[train],
        study.groups[train],
        np.ones(len(train)) if weights is None else weights,
        study.smiles[test][first],
        study.ge[test],
        match,
        drugs,
        options,
    )


# -- members: a part to similarities of its queries to its candidates ------------------


def fit(estimator, part):
    """Fit an estimator that takes weights, and compare."""
    estimator.fit(part.smiles, part.ge, sample_weight=part.weights)
    return estimator.similarity(part.candidates, part.queries)


def linear(part):
    """CCA of joined fingerprints."""
    return canonical(recommended_pipeline(model="linear")["molecules"], part)


def kernel_cca(part):
    """CCA of the features of the structure kernel."""
    return canonical(KernelFeatures(), part)


def canonical(features, part):
    """Fit CCA of features of molecules, and compare."""
    features.fit(np.unique(part.smiles.astype(str)).astype(object))
    cca = CCA("auto", correlation_power=2, random_state=0)
    cca.fit(features.transform(part.smiles), scaled(part, part.ge), part.weights)
    return cca.similarity(
        features.transform(part.candidates), scaled(part, part.queries)
    )


def scaled(part, profiles):
    """Return profiles of unit length, of the ranks' normal scores if not yet so."""
    if part.profile_scaling == "normal_scores":
        profiles = RankNormalizer().fit_transform(profiles)
    return normalize(profiles)


def of_unit_length(model, part):
    """Fit a model on profiles of unit length, not on the normal scores of ranks."""
    return model(replace(part, profile_scaling="unit_length"))


def gaussian_process(part, kernel=None, share=0.0, **params):
    """Fit the Gaussian process; a share of its kernel may be another one."""
    structure = StructureKernel()
    if share:
        kernel = kernel(part)
        structure = kernel if share == 1 else (1 - share) * structure + share * kernel
    process = GaussianProcessRetriever(
        structure,
        heritability=HERITABILITY,
        profile_scaling=part.profile_scaling,
        random_state=0,
        **params,
    )
    return fit(process, part)


def graph_tower(start, seed=0):
    """Return a tower of the molecular graph, as in `bench_quality.py`."""
    return CoordinatedEmbedder(start, **GRAPH, random_state=seed)


def graph_alone(start, seed, part):
    """Fit the graph tower, and compare."""
    return fit(graph_tower(start, seed), part)


def recommended(seed, part):
    """Fit the recommended tower, and compare."""
    tower = CoordinatedEmbedder(**PRESETS["recommended"], random_state=seed)
    return fit(tower, part)


def shuffled(part):
    """Fit the Gaussian process with the molecules of the rows shuffled."""
    order = np.random.default_rng(0).permutation(len(part.smiles))
    return gaussian_process(replace(part, smiles=part.smiles[order]))


def drug_blind(part):
    """Fit the Gaussian process on the mean profile of each row's cell line."""
    means = pd.DataFrame(part.ge).groupby(part.groups[:, 1]).transform("mean")
    return gaussian_process(replace(part, ge=means.to_numpy()))


# -- kernels of vectors and of labels --------------------------------------------------


def vector_kernel(transformer):
    """Gaussian kernel of standardised vectors of a transformer of SMILES."""
    return DescriptorKernel(make_pipeline(transformer, StandardScaler()))


def fixed_vectors(start, part):
    """Return the kernel of a network that is not trained here."""
    return vector_kernel(ChempropEmbedder(start, random_state=0))


def tuned_vectors(start, part):
    """Return the kernel of the joint space of a trained graph tower."""
    tower = graph_tower(start).fit(part.smiles, part.ge, groups=part.groups)
    return vector_kernel(FrozenEstimator(tower))


def label_kernel(part):
    """Return the kernel of labels that other annotated molecules let expect."""
    return AnnotationKernel(*part.annotations, exclude=part.candidates)


# -- a network that learns targets of molecules ----------------------------------------


class GraphNetwork(TransformerMixin, BaseEstimator):
    """A D-MPNN with a head of two layers: `transform` is the vector below the head."""

    def __init__(self, start, *, loss="squared", epochs=15, lr=1e-3, seed=0):
        self.start = start
        self.loss = loss
        self.epochs = epochs
        self.lr = lr
        self.seed = seed

    def fit(self, X, y, weights=None):
        """Train on molecules X with targets y."""
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        random = self.start == "random"
        self.encoder_ = DMPNN() if random else load_encoder(self.start)[0]
        graphs = MoleculeGraphs.from_smiles(X)
        vectors = self._encode(graphs)
        self.mean_, self.scale_ = vectors.mean(0), vectors.std(0) + 1e-3
        self.head_ = torch.nn.Sequential(
            torch.nn.Dropout(0.1),
            torch.nn.Linear(vectors.shape[1], 300),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(300, y.shape[1]),
        )
        rates = [self.lr if random else self.lr / 3, self.lr]
        parts = (self.encoder_.parameters(), self.head_.parameters())
        optimizer = torch.optim.AdamW([{"params": part} for part in parts])
        n_batches = -(-len(X) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=self.epochs * n_batches
        )
        targets = torch.as_tensor(np.asarray(y), dtype=torch.float32)
        weights = np.ones(len(X)) if weights is None else weights
        weights = torch.as_tensor(weights, dtype=torch.float32)[:, None]
        self.encoder_.train()
        self.head_.train()
        for _ in range(self.epochs):
            for rows in np.array_split(rng.permutation(len(X)), n_batches):
                predicted = self.head_(self._scaled(self.encoder_(graphs.take(rows))))
                loss = self._loss(predicted, targets[rows]) * weights[rows]
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
                schedule.step()
        self.encoder_.eval()
        self.head_.eval()
        return self

    def _loss(self, predicted, targets):
        if self.loss == "squared":
            return (predicted - targets) ** 2
        return torch.nn.functional.binary_cross_entropy_with_logits(
            predicted, targets, reduction="none"
        ) * len(targets.T)

    @torch.no_grad()
    def _encode(self, graphs):
        self.encoder_.eval()
        rows = np.arange(len(graphs.n_atoms))
        batches = np.array_split(rows, -(-len(rows) // 256))
        return torch.cat([self.encoder_(graphs.take(batch)) for batch in batches])

    def _scaled(self, vectors):
        return (vectors - self.mean_) / self.scale_

    def transform(self, X):
        """Return the vectors of molecules."""
        return self._scaled(self._encode(MoleculeGraphs.from_smiles(X))).numpy()

    @torch.no_grad()
    def predict(self, X):
        """Return the targets of molecules."""
        return self.head_(torch.as_tensor(self.transform(X))).numpy()


def student(start, part):
    """Return the network of `teach`, which a part is given once."""
    if start not in part.students:
        part.students[start] = teach(start, part)
    return part.students[start]


def teach(start, part):
    """Teach a network the effects that the Gaussian process predicts of a library."""
    teacher = GaussianProcessRetriever(heritability=HERITABILITY, random_state=0)
    teacher.fit(part.smiles, part.ge)
    library = pd.read_csv(part.options.library, sep="\t", dtype=str)
    library = library["canonical_smiles"].dropna().unique().astype(object)
    rng = np.random.default_rng(0)
    library = rng.permutation(library[valid_smiles_mask(library)])
    library = library[: part.options.library_size]
    known = np.concatenate([part.smiles, part.candidates])
    library = library[~np.isin(drug_ids(library), drug_ids(known))]
    own, codes, n = np.unique(part.smiles, return_inverse=True, return_counts=True)
    profiles = teacher.transform_ge(part.ge)
    means = np.stack([np.bincount(codes, z) for z in profiles.T], axis=1) / n[:, None]
    taught = teacher.transform(library)
    spread = taught.std()
    network = GraphNetwork(start).fit(
        np.concatenate([library, own]),
        np.concatenate([taught, means]) / spread,
        np.concatenate([np.ones(len(library)), 0.1 * n / (n + 3)]),
    )
    return network, teacher


def student_alone(start, part):
    """Return the cosine of the student's predicted effects to the queries."""
    network, teacher = student(start, part)
    queries = teacher.transform_ge(part.queries)
    return normalize(queries) @ normalize(network.predict(part.candidates)).T


def student_vectors(start, part):
    """Return the kernel of the student's vectors."""
    return vector_kernel(FrozenEstimator(student(start, part)[0]))


def label_vectors(start, part):
    """Return the kernel of a network of labels, none of them of a test drug."""
    molecules, labels = part.annotations
    kept = ~np.isin(drug_ids(molecules), drug_ids(part.candidates))
    network = GraphNetwork(start, loss="logistic")
    network.fit(molecules[kept], labels[kept].toarray())
    return vector_kernel(FrozenEstimator(network))


# -- rows ------------------------------------------------------------------------------


def members(options):
    """Return what gives similarities, by name."""
    gp = gaussian_process
    found = {"CCA": linear, "kernel CCA": kernel_cca, "GP": gp}
    for name, model in list(found.items()):
        found[f"{name}, unit length"] = partial(of_unit_length, model)
    found["GP, 180 components"] = partial(gp, n_pca_components=180)
    found |= {"shuffled molecules": shuffled, "drug-blind": drug_blind}
    for seed in range(3):
        found[f"recommended tower, seed {seed}"] = partial(recommended, seed)
    found |= graph_members("random", "random", options)
    if options.weights:
        found |= graph_members("pretrained", str(options.weights), options)
    labels = partial(gp, kernel=label_kernel)
    if options.library:
        for share in (0.1, LABEL_SHARE, 0.2, 0.3):
            found[f"GP + labels, {share}"] = partial(labels, share=share)
    if options.extra:
        found["GP + sources"] = gp
        found["kernel CCA + sources"] = kernel_cca
    if options.library and options.extra:
        found["GP + sources + labels"] = partial(labels, share=LABEL_SHARE)
    return found


def graph_members(name, start, options):
    """Return the members that have a graph network with this start."""
    kernels = {f"{name} D-MPNN, {share}": (fixed_vectors, share) for share in SHARES}
    for share in SHARES:
        kernels[f"tuned {name} D-MPNN, {share}"] = tuned_vectors, share
    found = {}
    if options.library:
        kernels[f"{name} D-MPNN of labels, 0.2"] = label_vectors, 0.2
        kernels[f"{name} student, 0.2"] = student_vectors, 0.2
        found[f"{name} student"] = partial(student_alone, start)
    for text, (kernel, share) in kernels.items():
        found[f"GP + {text}"] = partial(
            gaussian_process, kernel=partial(kernel, start), share=share
        )
    found[f"{name} D-MPNN as the kernel"] = partial(
        gaussian_process, kernel=partial(fixed_vectors, start), share=1
    )
    for seed in range(3):
        found[f"{name} graph tower, seed {seed}"] = partial(graph_alone, start, seed)
    return found


def rows(names):
    """Return the rows of the table: the members of each, with their weights."""
    towers = [f"recommended tower, seed {seed}" for seed in range(3)]
    graphs = [f"{{}} graph tower, seed {seed}" for seed in range(3)]
    table = {name: {name: 1} for name in names}
    table["recommended tower, 3 seeds"] = dict.fromkeys(towers, 1)
    table["GP, recommended tower"] = {"GP": 1, **dict.fromkeys(towers, 1 / 3)}
    table["GP, CCA"] = {"GP": 1, "CCA": 1}
    table["GP, kernel CCA"] = {"GP": 1, "kernel CCA": 1}
    for start in ("random", "pretrained"):
        three = [name.format(start) for name in graphs]
        table[f"{start} graph tower, 3 seeds"] = dict.fromkeys(three, 1)
        table[f"GP, {start} graph tower"] = {"GP": 1, **dict.fromkeys(three, 1 / 3)}
        table[f"GP, {start} student"] = {"GP": 1, f"{start} student": 1}
    best = {"GP + sources": 1, f"GP + labels, {LABEL_SHARE}": 1}
    best["GP + sources + labels"] = 1
    table["GP + sources, GP + labels, both"] = best
    table["GP, GP + labels, kernel CCA"] = {
        "GP": 1, f"GP + labels, {LABEL_SHARE}": 1, "kernel CCA": 1,
    }  # fmt: skip
    table["GP + sources, kernel CCA + sources"] = {
        "GP + sources": 1, "kernel CCA + sources": 1,
    }  # fmt: skip
    table["GP + sources, kernel CCA + sources, GP + sources + labels"] = {
        "GP + sources": 1, "kernel CCA + sources": 1, "GP + sources + labels": 1,
    }  # fmt: skip
    table["the same, CCA, recommended tower"] = best | {
        "CCA": 1, **dict.fromkeys(towers, 1 / 3),
    }  # fmt: skip
    known = set(names)
    return {name: parts for name, parts in table.items() if known.issuperset(parts)}


def standardise(similarities):
    """Bring each query's similarities to mean 0 and variance 1."""
    centred = similarities - similarities.mean(axis=1, keepdims=True)
    return centred / centred.std(axis=1, keepdims=True)


def rank(similarities, match):
    """Return the mid-ranks of the matches."""
    own = similarities[np.arange(len(match)), match][:, None]
    closer, tied = (similarities > own).sum(1), (similarities == own).sum(1)
    return 1 + closer + (tied - 1) / 2


def cached(path, compute):
    """Return an array of a file, which is computed first where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part.npy")
        np.save(draft, np.asarray(compute(), dtype=np.float64))
        draft.replace(path)
    return np.load(path)


# -- other sources ---------------------------------------------------------------------


def read_extra(folder):
    """Return the other sources, NAME.npz and NAME.obs.csv each, by name.

    Of a consensus over cell lines the stronger half is taken.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.npz")):
        study = load_signatures(path, path.with_suffix(".obs.csv"))
        if (study.obs["covered_lines"] == "*").all():
            norms = np.linalg.norm(study.ge, axis=1)
            study = study[np.flatnonzero(norms > np.median(norms))]
        found[path.stem] = study
    return found


def with_sources(study, train, test, extra, options, *, n_drugs=None, seed=0):
    """Return a part with other sources, scaled and filled, or with so many drugs.

    With `n_drugs`, the study's own drugs come first, and others add new drugs only.
    """
    joined = join_studies({"primary": study, **extra})
    drugs, sources = joined.groups[:, 0], joined.obs["source"].to_numpy()
    mine = np.zeros(len(drugs), dtype=bool)
    mine[train] = True
    rest = (sources != "primary") & ~np.isin(drugs, drugs[: len(study)][test])
    if n_drugs is not None:
        rng = np.random.default_rng([0, seed])
        own = rng.permutation(np.unique(drugs[mine]))
        new = np.unique(drugs[rest & ~np.isin(drugs, drugs[: len(study)])])
        chosen = np.concatenate([own, rng.permutation(new)])[:n_drugs]
        mine, rest = (rows & np.isin(drugs, chosen) for rows in (mine, rest))
    used = np.flatnonzero(mine | rest)
    scaler = SourceScaler(query_source="primary", with_std=False, unit_length=True)
    scores = RankNormalizer().fit_transform(joined.ge[used])
    scaled = scaler.fit_transform(scores, sources=sources[used])
    imputer = GeneImputer().fit(scaled)
    known = imputer.explained_variance_ratio(scaled)
    weights = dict.fromkeys(set(sources[used]) - {"primary"}, EXTRA_WEIGHT)
    return replace(
        make_part(study, train, test, options),
        smiles=joined.smiles[used],
        ge=imputer.transform(scaled),
        groups=joined.groups[used],
        weights=known * source_weights(joined[used], weights),
        queries=scaler.transform(RankNormalizer().fit_transform(study.ge[test])),
        profile_scaling="unit_length",
    )


# -- tables ----------------------------------------------------------------------------


def slug(name):
    """Return a name for a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def score_records(study, draws, extra, options):
    """Compute what the chosen rows need, and return their records."""
    compute = members(options)
    table = {
        name: parts
        for name, parts in rows(compute).items()
        if any(fnmatch(name, pattern) for pattern in options.rows)
    }
    table = {"GP": {"GP": 1}, **table}
    needed = list(dict.fromkeys(member for parts in table.values() for member in parts))
    found, parts = {}, {}
    bar = tqdm(total=len(draws) * len(needed), unit="fit", disable=None)
    for draw, (train, test) in enumerate(draws):
        part = parts[draw] = make_part(study, train, test, options)
        for member in needed:
            bar.set_description(f"draw {draw}, {member}")

            def similarities(member=member, part=part, train=train, test=test):
                if "sources" in member:
                    part = with_sources(study, train, test, extra, options)
                return compute[member](part)

            path = options.cache / slug(member) / f"{draw}.npy"
            found[member, draw] = standardise(cached(path, similarities))
            bar.update()
    bar.close()
    ranks = {
        name: [
            rank(sum(w * found[m, draw] for m, w in weights.items()), part.match)
            for draw, part in parts.items()
        ]
        for name, weights in table.items()
    }
    drugs = np.concatenate([part.drugs for part in parts.values()])
    sizes = [len(part.candidates) for part in parts.values()]
    return [record(name, r, ranks["GP"], sizes, drugs) for name, r in ranks.items()]


def record(name, ranks, reference, n_candidates, drugs):
    """Return means over draws, and the paired difference to a reference."""
    pairs = zip(ranks, n_candidates, strict=True)
    gains = [
        np.mean(1 / a) - np.mean(1 / b) for a, b in zip(ranks, reference, strict=True)
    ]
    pooled = paired_comparison(
        np.concatenate(ranks), np.concatenate(reference), drugs, random_state=0
    )
    return {
        "what": name,
        "sizes": {"queries": len(drugs), "draws": len(ranks)},
        "mrr": float(np.mean([np.mean(1 / r) for r in ranks])),
        "median_rank_share": float(np.mean([np.median(r) / n for r, n in pairs])),
        "hits@10": float(np.mean([np.mean(r <= 10) for r in ranks])),
        "gain": [float(v) for v in (np.mean(gains), pooled.low, pooled.high)],
        "gain_error_of_draws": standard_error(gains),
    }


def standard_error(values):
    """Return the standard error of a mean, None of a single value."""
    n = len(values)
    return float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None


def curve_records(study, draws, extra, options):
    """Return MRR against the number of training drugs, and the gain of a doubling."""
    models = {
        "linear": linear,
        "kernel": gaussian_process,
        "graph": partial(graph_alone, "random", 0),
    }
    scores = {name: np.empty((len(draws), len(options.curve_sizes))) for name in models}
    sizes = np.empty((len(draws), len(options.curve_sizes)))
    bar = tqdm(total=scores["graph"].size * len(models), unit="fit", disable=None)
    for draw, (train, test) in enumerate(draws):
        for column, size in enumerate(options.curve_sizes):
            part = with_sources(
                study, train, test, extra, options, n_drugs=size, seed=draw
            )
            sizes[draw, column] = len(np.unique(part.groups[:, 0]))
            for name, compute in models.items():
                path = options.cache / f"curve-{name}-{size}" / f"{draw}.npy"
                similarities = cached(path, partial(compute, part))
                scores[name][draw, column] = np.mean(1 / rank(similarities, part.match))
                bar.update()
    bar.close()
    found = []
    columns = [f"{n:.0f}_drugs" for n in sizes.mean(axis=0)]
    for name, mrr in scores.items():
        slopes = [
            np.polyfit(np.log2(x), y, 1)[0] for x, y in zip(sizes, mrr, strict=True)
        ]
        row = {"what": f"MRR, {name}", "sizes": {"draws": len(draws)}}
        row |= dict(zip(columns, mrr.mean(axis=0).tolist(), strict=True))
        row |= {"a_doubling": float(np.mean(slopes))}
        found.append(row | {"a_doubling_error": standard_error(slopes)})
    return found


def add_arguments(parser):
    add = parser.add_argument
    add("--extra", type=Path, help="folder of NAME.npz, NAME.obs.csv")
    add("--library-size", type=int, default=3000, help="of students")
    add("--rows", nargs="+", default=["*"], help="patterns of names")
    add("--curve", action="store_true", help="against the number of training drugs")
    sizes = [150, 300, 500, 800, 1500]
    add("--curve-sizes", type=int, nargs="+", default=sizes, help="training drugs")
    add("--draws", type=int, default=10)
    add("--seed", type=int, default=SEED, help="of the draws")
    add("--cache", type=Path, default=Path("bench_deep"), help="of similarities")


def run(options):
    study = load_lincs(options.data, level=5)
    extra = read_extra(options.extra) if options.extra else {}
    cv = DrugCellLineShuffleSplit(
        options.draws, test_drugs=0.35, test_cell_lines=0.25, random_state=options.seed
    )
    draws = list(cv.split(study.smiles, groups=study.groups))
    found = []
    with parsed_once():
        if options.smoke or not options.curve:
            found += score_records(study, draws, extra, options)
        if options.smoke or options.curve:
            found += curve_records(study, draws, extra, options)
    return found
