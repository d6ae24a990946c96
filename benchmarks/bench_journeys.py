"""Whole journeys: what a user waits for, stage by stage, up to the paper's size.

A study is simulated, saved, and opened memory-mapped by each stage, which runs in a
process of its own: seconds of wall and of CPU, and the peak of its memory beyond the
imports, with the pages of the mapped file that it reads. A stage whose record lies in
``--folder`` already is not run again. Beside each stage is its floor: bytes over the
bandwidth of memory, products of matrices at the speed of one large product, one parse
and one InChI a distinct molecule, as measured on the same machine; what has no such
floor has none.
"""

import cProfile
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAPER_LINES, GENES, DOSES = 8, 978, (1.11, 3.33, 10.0)


@dataclass(frozen=True)
class Size:
    """Of a study: `controls` adds paired controls and the paper's 2,934 features."""

    n_profiles: int
    n_drugs: int
    epochs: int
    controls: bool = False


SIZES = {
    "smoke": Size(600, 60, 1, True),
    "tenth": Size(9_721, 436, 12),
    "tenth-controls": Size(9_721, 436, 12, True),
    "third": Size(32_403, 1_454, 1),
    "paper": Size(97_210, 4_363, 1),
    "paper-controls": Size(97_210, 4_363, 1, True),
    "large": Size(200_000, 20_000, 1),
}
SMOKE = {
    "sizes": ["smoke"],
    "stages": ["load", "drug_ids", "fit_and_save", "open_and_rank", "audit"],
}


# -- the study ----------------------------------------------------------------------


def make(size, folder):
    """Simulate a study, and save it."""
    from sklearn_molge.datasets import make_perturbation_study

    wells = size.n_drugs * PAPER_LINES * len(DOSES)
    study = make_perturbation_study(
        size.n_drugs,
        n_cell_lines=PAPER_LINES,
        n_genes=GENES,
        doses_um=DOSES,
        n_replicates=1,
        measured=min(1.0, 1.02 * size.n_profiles / wells),
        level=3 if size.controls else 5,
        random_state=0,
    )
    rows = np.random.default_rng(0).permutation(len(study))[: size.n_profiles]
    study = study[np.sort(rows)]
    study.save(folder / "study.h5ad")
    return {"profiles": len(study), "drugs": len(set(study.groups[:, 0]))}


def opened(folder):
    from sklearn_molge.datasets import Study

    return Study.load(folder / "study.h5ad")


def profiles_of(study):
    return study.ge if study.control_ge is None else study.paired_ge()


def split_of(study):
    """Return training and test rows, of other drugs in other lines."""
    from sklearn_molge.evaluation import draw_split

    shares = {"test_drugs": 0.2, "test_cell_lines": 2, "val_drugs": 0}
    return draw_split(study.groups, **shares, val_cell_lines=0, random_state=0)


def blocks_of(study):
    """Return what is done to the profiles: nothing, or the paper's blocks."""
    from sklearn_molge.expression import L1000Featurizer

    if study.control_ge is None:
        return None
    return L1000Featurizer(["control", "treated", "log2_fold_change"], paired=True)


# -- stages: each returns what it counted --------------------------------------------


def load(study, folder, size):
    total = study.ge.sum(dtype=np.float64)
    if study.control_ge is not None:
        total += profiles_of(study).sum(dtype=np.float64)
    return {"sum": float(total)}


def ids(study, folder, size):
    from sklearn_molge.molecules import drug_ids

    return {"distinct": len(set(drug_ids(study.smiles)))}


def fingerprints(study, folder, size):
    from sklearn_molge.molecules import MorganFingerprinter

    return {"bits": int(MorganFingerprinter().fit_transform(study.smiles).sum())}


def cross_validated(make_pipeline_of):
    def stage(study, folder, size):
        from sklearn.model_selection import cross_validate

        from sklearn_molge.metrics import RetrievalScorer
        from sklearn_molge.model_selection import DrugCellLineKFold

        found = cross_validate(
            make_pipeline_of(blocks_of(study)),
            study.smiles,
            profiles_of(study),
            groups=study.groups,
            cv=DrugCellLineKFold(3, 3, paired=True, random_state=0),
            scoring=RetrievalScorer(),
            error_score="raise",
        )
        return {"mrr": float(found["test_mrr"].mean()), "folds": 3}

    return stage


def linear(transformer):
    from sklearn_molge.retrieval import recommended_pipeline

    return recommended_pipeline(model="linear", transformer=transformer, random_state=0)


def double_nn(transformer):
    from sklearn.pipeline import make_pipeline

    from sklearn_molge.molecules import MorganFingerprinter
    from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever

    last = DoubleNNRetriever()
    if transformer is not None:
        last = TransformedTargetRetriever(last, transformer)
    return make_pipeline(MorganFingerprinter(), last)


def kernel_cca(transformer):
    from sklearn_molge.retrieval import recommended_ensemble

    ensemble = recommended_ensemble(transformer=transformer, random_state=0)
    return dict(ensemble.estimators)["kernel_cca"]


def trained(preset):
    def stage(study, folder, size):
        from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder
        from sklearn_molge.retrieval import TransformedTargetRetriever

        settings = PRESETS[preset] | {"max_epochs": size.epochs, "verbose": 0}
        model = CoordinatedEmbedder(**settings, random_state=0)
        if (blocks := blocks_of(study)) is not None:
            model = TransformedTargetRetriever(model, blocks)
        model.fit(study.smiles, profiles_of(study))
        net = getattr(model, "retriever_", model)
        seconds = [epoch["dur"] for epoch in net.history]
        return {"epochs": size.epochs, "epoch_s": statistics.median(seconds)}

    return stage


def gaussian_process(study, folder, size):
    from sklearn_molge.retrieval import recommended_pipeline

    pipe = recommended_pipeline(transformer=blocks_of(study), random_state=0)
    split, y = split_of(study), profiles_of(study)
    pipe.fit(study.smiles[split.train], y[split.train])
    return {"mrr": float(pipe.score(study.smiles[split.test], y[split.test]))}


def evaluate(study, folder, size):
    from sklearn_molge.evaluation import PaperOptions, evaluate_study

    report = evaluate_study(
        study,
        paper=PaperOptions(preset="quick", ablations=False),
        n_repeats=1,
        inspect=False,
        figures=False,
    )
    return {"mrr": float(report.tables["table1"]["mrr"].max())}


def audit(study, folder, size):
    from sklearn_molge.evaluation import audit_split

    return {"violations": len(audit_split(study, split_of(study)).violations)}


def fit_and_save(study, folder, size):
    import joblib

    study.save(folder / "again.h5ad")
    split, y = split_of(study), profiles_of(study)
    pipe = linear(blocks_of(study)).fit(study.smiles[split.train], y[split.train])
    joblib.dump(pipe, folder / "pipe.joblib")
    return {"disk_mib": (folder / "pipe.joblib").stat().st_size / 2**20}


def model_of(folder):
    import joblib

    return joblib.load(folder / "pipe.joblib")


def open_and_rank(study, folder, size):
    from sklearn_molge.metrics import retrieval_ranks

    split, y = split_of(study), profiles_of(study)
    rows = split.test
    ranks = retrieval_ranks(model_of(folder), study.smiles[rows], y[rows])
    return {"mrr": float((1 / ranks).mean())}


def distances(study, folder, size):
    from sklearn_molge.inspection import training_distances

    split, y = split_of(study), profiles_of(study)
    rows = split.train, split.test
    views = [view[part] for part in rows for view in (study.smiles, y)]
    expression = blocks_of(study)
    if expression is not None:
        expression = expression.fit(y[split.train])
    table = training_distances(*views, expression=expression, embedder=model_of(folder))
    return {"columns": table.shape[1]}


def neighbors(study, folder, size):
    from sklearn_molge.inspection import same_class_neighbors

    first = np.unique(study.groups[:, 0].astype(str), return_index=True)[1]
    vectors = model_of(folder).transform(study.smiles[first])
    labels = study.obs["moa"].iloc[first]
    found = same_class_neighbors(vectors, labels, random_state=0)
    return {"rate": float(found.rate)}


def mixing(study, folder, size):
    from sklearn_molge.inspection import cell_line_mixing

    rows = split_of(study).test
    vectors = model_of(folder)[-1].transform_ge(profiles_of(study)[rows])
    lines, drugs = study.groups[rows, 1], study.groups[rows, 0]
    found = cell_line_mixing(vectors, lines, drugs=drugs, random_state=0)
    return {"mixing": float(found.mixing)}


def latent(study, folder, size):
    from sklearn_molge.inspection import latent_map

    vectors = model_of(folder)[-1].transform_ge(profiles_of(study))
    return {"rows": len(latent_map(vectors, reducer="pca", random_state=0))}


def attribution(study, folder, size):
    from sklearn_molge.inspection import atom_attribution, gene_attribution

    pipe, profile = model_of(folder), profiles_of(study)[0]
    atoms = atom_attribution(pipe, study.smiles[0], profile)
    gene_attribution(pipe, study.smiles[0], profile)
    return {"atoms": len(atoms.values)}


# -- floors: what no program can do without ------------------------------------------


def counts_of(size):
    """Return bytes, flops, parses and the like that each stage cannot do without."""
    n, m = size.n_profiles, size.n_drugs
    g = 3 * GENES if size.controls else GENES
    p, n_folds, share = 8_700, 3, 4 / 9
    matrix = 4 * n * GENES
    joined = {"parses": m, "joined": m}
    moments = 2 * n * share * g**2 / 2 + 2 * (2 * m / 3) ** 2 * p / 2
    layers = g * 677 + 677 * 1159 + 1159 * 51
    small = g * 512 + 512 * 100 + p * 512 + 512 * 100
    bonds = 54 * 2 * 300**2  # two steps of messages along 54 bonds
    return {
        "load": {"bytes": matrix},
        "drug_ids": {"parses": m, "inchis": m},
        "fingerprints": {"parses": m, "morgans": m, "bytes": n * 2048},
        "cv_linear": joined | {"flops": n_folds * moments},
        "cv_double_nn": {
            "parses": m,
            "morgans": m,
            "bytes": n_folds * n * share * 4 * g,
            "flops": n_folds * 2 * (n / 9) * (2 * m / 3) * g,
        },
        "cv_kernel_cca": joined | {"flops": n_folds * moments},
        "train_paper": joined | {"flops": 3 * 2 * size.epochs * n * (layers + bonds)},
        "train_recommended": joined | {"flops": 3 * 2 * size.epochs * n * small},
        "gaussian_process": joined | {"flops": 9 * (0.8 * m) ** 3 + n * g**2},
        "audit": {"parses": m, "inchis": m, "morgans": m},
        "fit_and_save": joined | {"bytes": matrix, "flops": moments},
        "open_and_rank": {"parses": m / 5, "joined": m / 5},
        "inspect_distances": {"flops": 2 * (0.05 * n) * (0.6 * n) * g},
        "inspect_neighbors": joined | {"flops": 2 * m**2 * 100},
        "inspect_mixing": {"flops": 2 * (0.05 * n) ** 2 * 100},
        "inspect_map": {"bytes": matrix, "flops": 2 * n * g * 100},
    }


STAGES = {
    "load": load,
    "drug_ids": ids,
    "fingerprints": fingerprints,
    "cv_double_nn": cross_validated(double_nn),
    "cv_linear": cross_validated(linear),
    "cv_kernel_cca": cross_validated(kernel_cca),
    "train_paper": trained("paper"),
    "train_recommended": trained("recommended"),
    "gaussian_process": gaussian_process,
    "evaluate": evaluate,
    "audit": audit,
    "fit_and_save": fit_and_save,
    "open_and_rank": open_and_rank,
    "inspect_distances": distances,
    "inspect_neighbors": neighbors,
    "inspect_mixing": mixing,
    "inspect_map": latent,
    "inspect_attribution": attribution,
}


# -- growth: made-up drugs and molecules, ever more ----------------------------------


def vectors_of(n, n_columns=100):
    return np.random.default_rng(0).normal(size=(n, n_columns)).astype(np.float32)


def neighbors_of(n):
    from sklearn_molge.inspection import same_class_neighbors

    vectors, labels = vectors_of(n), np.arange(n) % 50
    return lambda: same_class_neighbors(vectors, labels, random_state=0)


def cca_of(n):
    from sklearn_molge.alignment import CCA

    rng = np.random.default_rng(0)
    X = (rng.random((n, 4096)) < 0.02).astype(np.uint8)
    hidden = X[:, :50] @ rng.normal(size=(50, GENES))
    y = (hidden + rng.normal(size=hidden.shape)).astype(np.float32)
    return lambda: CCA(20, random_state=0).fit(X, y)


def process_of(n):
    from sklearn_molge.alignment import GaussianProcessRetriever
    from sklearn_molge.molecules import TanimotoKernel

    rng = np.random.default_rng(0)
    X = np.repeat((rng.random((n, 1024)) < 0.03).astype(np.float64), 3, axis=0)
    y = X[:, :50] @ rng.normal(size=(50, GENES))
    y += rng.normal(size=y.shape)
    process = GaussianProcessRetriever(TanimotoKernel(), random_state=0)
    return lambda: process.fit(X, y)


def index_of(n):
    from sklearn.pipeline import make_pipeline

    from sklearn_molge.alignment import CCA
    from sklearn_molge.datasets import make_perturbation_study
    from sklearn_molge.library import MoleculeIndex
    from sklearn_molge.molecules import MorganFingerprinter

    study = make_perturbation_study(100, n_cell_lines=1, level=5, random_state=0)
    pipe = make_pipeline(MorganFingerprinter(fp_size=512), CCA(20, ridge=1.0))
    pipe.fit(study.smiles, study.ge)
    # Chains whose branches spell a number: quick to parse, and each another molecule.
    digits = [format(i, "b") for i in range(n)]
    library = ["C" + "".join(("N", "CN(C)C")[d == "1"] for d in t) for t in digits]
    index = MoleculeIndex(pipe, unique_by="smiles", progress=False)
    return lambda: index.fit(library)


GROWTH = {
    "same_class_neighbors, drugs": (neighbors_of, (1_250, 2_500, 5_000)),
    "CCA, ridge auto, drugs": (cca_of, (500, 1_000, 2_000)),
    "Gaussian process, drugs": (process_of, (500, 1_000, 2_000)),
    "MoleculeIndex.fit, molecules": (index_of, (2_500, 5_000, 10_000)),
}


def growth(options):
    """Return a record of each size, and the exponent between the two largest."""
    for name, (prepare, sizes) in GROWTH.items():
        seconds = []
        for n in sizes:
            work = prepare(n)
            forget_peak()
            before, start = resident_mib("VmRSS"), used_cpu()
            work()
            seconds.append(used_cpu() - start)
            peak = resident_mib("VmHWM") - before
            record = {"what": name, "sizes": {"n": n}}
            if len(seconds) > 1:
                # Sizes double.
                record["exponent"] = float(np.log2(seconds[-1] / seconds[-2]))
            yield record | {"cpu_s": seconds[-1], "ours_mib": peak}


def speeds(folder):
    """Measure how fast the machine does each thing that is counted, in CPU time."""
    from rdkit import Chem
    from rdkit.Chem import Descriptors
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    smiles = np.unique(opened(folder).smiles.astype(str))[:200]
    molecules = [Chem.MolFromSmiles(text) for text in smiles]
    morgan = GetMorganGenerator(radius=2, fpSize=2048)
    source = np.ones(2**25)
    target, square = np.empty_like(source), np.ones((1500, 1500), np.float32)
    each = len(smiles)
    return {
        # A copy reads and writes.
        "bytes": 2 * source.nbytes / quickest(lambda: np.copyto(target, source)),
        "flops": 2 * 1500**3 / quickest(lambda: square @ square),
        "parses": each / quickest(lambda: [Chem.MolFromSmiles(t) for t in smiles]),
        "inchis": each
        / quickest(lambda: [Chem.MolToInchiKey(m, "-SNon") for m in molecules]),
        "morgans": each
        / quickest(lambda: [morgan.GetFingerprintAsNumPy(m) for m in molecules]),
        "joined": each
        / quickest(lambda: [Descriptors.CalcMolDescriptors(m) for m in molecules]),
    }


def quickest(function, repeats=3):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


# -- one stage in its own process ------------------------------------------------------


def resident_mib(name):
    """Return the resident memory ("VmRSS"), or its peak ("VmHWM")."""
    try:
        with open("/proc/self/status") as lines:  # ru_maxrss is also the parent's
            return next(int(ln.split()[1]) for ln in lines if name in ln) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak of the imports counts as well


def used_cpu():
    ours, children = map(resource.getrusage, (resource.RUSAGE_SELF, -1))
    return sum(each.ru_utime + each.ru_stime for each in (ours, children))


def perform(stage, size, folder, profile=False):
    """Run one stage here; return its record."""
    # What it imports is no part of a stage.
    from sklearn_molge.evaluation import evaluate_study  # noqa: F401

    args = {"make": (size, folder), "speeds": (folder,)}.get(stage)
    if args is None:
        args = (opened(folder), folder, size)
    function = {"make": make, "speeds": speeds}.get(stage) or STAGES[stage]
    forget_peak()
    before = resident_mib("VmRSS")
    start, used = time.perf_counter(), used_cpu()
    if profile:
        profiler = cProfile.Profile()
        found = profiler.runcall(function, *args)
        profiler.dump_stats(folder / f"{stage}.prof")
    else:
        found = function(*args)
    if stage == "speeds":
        return found
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": used_cpu() - used,
        "ours_mib": max(0.0, resident_mib("VmHWM") - before),
    } | found


def in_process(stage, name, folder, options):
    """Run a stage in a new process, or read what it found; return that."""
    if options.smoke:
        return perform(stage, SIZES[name], folder)
    kept = folder / f"{stage}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    command = [sys.executable, "-W", "ignore", __file__, stage, name, str(folder)]
    command += ["--profile"] * options.profile
    # A file, not a pipe: it holds what libraries print as well.
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
        out.seek(0)
        said = out.read().strip().splitlines()
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"failed": f"exit status {done.returncode}: {last}"}
    kept.write_text(said[-1])
    return json.loads(said[-1])


def journey(name, folder, options):
    """Run the stages of one size; yield their records."""
    folder.mkdir(parents=True, exist_ok=True)
    size = SIZES[name]
    sizes = {"profiles": size.n_profiles, "drugs": size.n_drugs}
    if size.controls:
        sizes["features"] = 3 * GENES
    yield {"what": "make", "sizes": sizes} | in_process("make", name, folder, options)
    rates = in_process("speeds", name, folder, options)
    counts = counts_of(size)
    asked = set(options.stages)
    if asked & {"open_and_rank", *(s for s in STAGES if s.startswith("inspect_"))}:
        asked.add("fit_and_save")  # whose model they take
    for stage in [stage for stage in STAGES if stage in asked]:
        record = {"what": stage, "sizes": sizes}
        record |= in_process(stage, name, folder, options)
        if stage in counts:
            record["floor_s"] = sum(n / rates[k] for k, n in counts[stage].items())
        print(json.dumps(record), file=sys.stderr, flush=True)
        yield record


def add_arguments(parser):
    add = parser.add_argument
    add("--sizes", nargs="*", choices=SIZES, default=["tenth"], help="default: tenth")
    add("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    add("--growth", action="store_true", help="also what more drugs take, by exponents")
    add("--folder", help="of studies and records, kept; a temporary one by default")
    add("--profile", action="store_true", help="write a cProfile of each stage")


def run(options):
    records = []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(options.folder or temporary)
        for name in options.sizes:
            records += journey(name, base / name, options)
    return records + list(growth(options) if options.growth else [])


if __name__ == "__main__":
    stage, name, folder, *profile = sys.argv[1:]
    print(json.dumps(perform(stage, SIZES[name], Path(folder), bool(profile))))
