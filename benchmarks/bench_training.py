"""A training step against a port of the paper's code; D-MPNN, graphs against chemprop.

Before anything is timed, both sides must give equal losses and gradients, draw
negatives alike, and make equal graphs.
"""

import argparse
import itertools
import statistics
from collections import defaultdict

import numpy as np
import torch
from _authors_port import EPS, AuthorsItems, AuthorsLoss, AuthorsNet, AuthorsTraining
from _molecules import read_molecules
from _timing import clock, compare, in_turn, on_gpu, ratio_record, wait
from chemprop.data import BatchMolGraph
from chemprop.featurizers import (
    CuikmolmakerMolGraphFeaturizer,
    SimpleMoleculeMolGraphFeaturizer,
)
from chemprop.nn import BondMessagePassing, MeanAggregation
from rdkit import Chem

from sklearn_molge.alignment import CoordinatedEmbedder, SampledBatch, Triplets
from sklearn_molge.alignment.losses import InfoNCELoss, QuadrupletLoss
from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
)
from sklearn_molge.molecules import DMPNN, GraphBatch, MoleculeGraphs

# The paper's final model (Table A2), with a graph network of 300 units.
LAYERS, EMBEDDING, DROPOUT, LR = (677, 1159), 51, 0.02, 5.6e-4
MARGIN, BETA = 0.31, 1.3
PROFILES_A_DRUG = 8  # of a drug-balanced batch
CALLS_A_PORT_CALL = 5
N_LINES, PROFILES_A_PLATE, CONTROLS_A_PLATE = 6, 300, 20
SMOKE = {
    "profiles": [60, 120], "genes": 12, "drugs": 16, "batch": 32, "hidden": 16,
    "molecules": 12, "graph_molecules": 16,
}  # fmt: skip


def add_arguments(parser):
    add = parser.add_argument
    sizes = [20_000, 97_210]
    add("--profiles", type=int, nargs="+", default=sizes, help="ascending")
    add("--genes", type=int, default=978)
    add("--drugs", type=int, default=3490)
    add("--batch", type=int, default=417)
    add("--hidden", type=int, default=300)
    add("--molecules", type=int, default=256, help="of a batch of the D-MPNN alone")
    add("--graph-molecules", type=int, default=1000, help="whose graphs are made")
    precisions = ["float32", "tf32", "bfloat16"]
    add("--precision", default="float32", choices=precisions)


# -- a study of the paper's size: wells on plates, and a library's molecules -----------


def make_wells(n_profiles, smiles, controls_a_plate, n_genes, rng):
    """Make treated and control wells: only their number and layout matter."""
    n_drugs = len(smiles)
    drugs = np.concatenate(
        [np.arange(n_drugs), rng.integers(0, n_drugs, n_profiles - n_drugs)]
    )
    n_plates = -(-n_profiles // PROFILES_A_PLATE)
    plates = rng.integers(0, n_plates, n_profiles)
    control_plates = np.repeat(np.arange(n_plates), controls_a_plate)
    treated = _wells(drugs, plates, smiles[drugs], n_genes, rng)
    none = np.full(len(control_plates), -1)
    return treated, _wells(none, control_plates, "-666", n_genes, rng)


def _wells(drugs, plates, smiles, n_genes, rng):
    raw = rng.standard_normal((len(drugs), n_genes), dtype=np.float32)
    lines = plates % N_LINES
    raw = np.abs(8 + 1.5 * raw)
    return dict(drugs=drugs, plates=plates, lines=lines, smiles=smiles, raw=raw)


def make_features(treated, controls, rng):
    """Return control, treated and log2 ratio of each profile, with one control each."""
    order = np.argsort(controls["plates"], kind="stable")
    counts = np.bincount(controls["plates"])
    drawn = rng.integers(0, counts[treated["plates"]])
    rows = order[(np.cumsum(counts) - counts)[treated["plates"]] + drawn]
    both = np.concatenate([treated["raw"], controls["raw"]])
    mean, std = both.mean(0), both.std(0, ddof=1, dtype=np.float64)
    std = std.astype(np.float32)
    ratio = (treated["raw"] + EPS) / (controls["raw"][rows] + EPS)
    features = np.empty((len(drawn), 3, treated["raw"].shape[1]), dtype=np.float32)
    features[:, 0] = ((controls["raw"] - mean) / std)[rows]
    features[:, 1] = (treated["raw"] - mean) / std
    features[:, 2] = np.log2(ratio)
    return features.reshape(len(drawn), -1)


# -- both sides ------------------------------------------------------------------------


class OurTraining(CoordinatedEmbedder):
    """The embedder, which `fit` prepares and `step` trains on one batch."""

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Leave the loop over the batches to the caller."""
        self.dataset_ = X
        epochs = itertools.repeat(self.get_iterator(X, training=True))
        self.batches_ = itertools.chain.from_iterable(epochs)
        return self

    def next_batch(self):
        """Sample a batch and look its rows and graphs up."""
        return next(self.batches_)

    def step(self):
        """Train on one batch, as in an epoch."""
        self.steps(1)

    def steps(self, n):
        """Train on some batches, without a wait for the GPU between them."""
        batches = (self.next_batch() for _ in range(n))
        # As in `fit`, which puts it back; the port computes in float32.
        torch.backends.cuda.matmul.allow_tf32 = self.precision != "float32"
        self.run_single_epoch(batches, True, "train", self.train_step)
        torch.backends.cuda.matmul.allow_tf32 = False


def make_port(treated, controls, options, dropout=DROPOUT):
    torch.manual_seed(0)
    net = AuthorsNet(
        3 * options.genes,
        LAYERS,
        EMBEDDING,
        hidden=options.hidden,
        depth=3,
        dropout=dropout,
    ).to(options.device)
    return AuthorsTraining(
        AuthorsItems(treated, controls, seed=0),
        net,
        AuthorsLoss(MARGIN, BETA),
        lr=LR,
        batch_size=options.batch,
        seed=0,
    )


def prepare_ours(treated, features, options, **params):
    ours = OurTraining(
        encoder__hidden_size=options.hidden,
        module__embedding_size=EMBEDDING,
        module__expression_layers=LAYERS,
        module__bias=False,
        module__init="torch",
        module__scaling="none",
        module__normalize=False,
        batch_size=options.batch,
        lr=LR,
        device=options.device,
        precision=options.precision,
        random_state=0,
        **params,
    )
    groups = np.column_stack([treated["smiles"], treated["lines"]]).astype(object)
    ours.fit(treated["smiles"], features, groups=groups)
    ours.history.new_epoch()
    return ours


def make_ours(treated, features, options, dropout=DROPOUT):
    return prepare_ours(
        treated,
        features,
        options,
        criterion=QuadrupletLoss,
        criterion__margin=MARGIN,
        criterion__beta=BETA,
        criterion__variant="code",
        criterion__average="active",
        sampler=DistanceWeightedSampler,
        module__dropout=dropout,
    )


def make_balanced(treated, features, options):
    return prepare_ours(
        treated,
        features,
        options,
        criterion=InfoNCELoss,
        sampler=DrugBalancedSampler,
        sampler__drugs_per_batch=options.batch // PROFILES_A_DRUG,
        sampler__profiles_per_drug=PROFILES_A_DRUG,
        module__dropout=DROPOUT,
    )


# -- the same loss, the same sampling --------------------------------------------------


def check_same(options):
    """Assert equal losses and gradients of one batch, and equal odds of negatives."""
    small = argparse.Namespace(**vars(options))
    small.batch, small.device, small.precision = 60, "cpu", "float32"
    rng = np.random.default_rng(0)
    smiles = read_molecules(options, 30)
    # One control a plate: then both sides have the same features.
    treated, controls = make_wells(700, smiles, 1, options.genes, rng)
    features = make_features(treated, controls, rng)
    port = make_port(treated, controls, small, dropout=0.0)
    batch = port.next_batch()
    rows = torch.cat(batch[:2]).numpy()
    own, other = np.arange(len(rows)).reshape(2, -1)
    ours = make_ours(treated, features, small, dropout=0.0)
    layers = list(pairs_of_layers(port.net, ours.module_))
    for source, target in layers:
        target.data.copy_(source)
    theirs, _ = port.forward_and_back(batch)
    sampled = SampledBatch(rows, Triplets(own, other))
    step = ours.train_step_single((ours.dataset_.take(sampled), None))
    loss_error = abs(step["loss"].item() / theirs - 1)
    error = max(
        float((a.grad - b.grad).abs().max() / a.grad.abs().max()) for a, b in layers
    )
    distance = odds_apart(port.loader.dataset, treated, features)
    found = {
        "loss_error": float(loss_error), "gradient_error": error,
        "odds_apart": float(distance),
    }  # fmt: skip
    for (name, value), limit in zip(found.items(), (1e-5, 1e-3, 0.04), strict=True):
        if value > limit:
            raise AssertionError(f"{name} is {value:.1e}, more than {limit}")
    what = "loss, gradients, odds of negatives: ours and the port's"
    return {"what": what} | found


def pairs_of_layers(theirs, module):
    """Yield each weight of the port with ours of the same meaning."""
    tower = module.molecule_tower
    for name in ("W_i.weight", "W_h.weight", "W_o.weight", "W_o.bias"):
        yield theirs.encoder.get_parameter(name), tower.encoder.get_parameter(name)
    ours = (*module.expression_tower.parameters(), *tower.head.parameters())
    peers = (*theirs.expression.parameters(), *theirs.head.parameters())
    yield from zip(peers, ours, strict=True)


def odds_apart(items, treated, features, n_draws=20_000):
    """Total variation between the negatives that both sides draw for one drug."""
    codes = np.searchsorted(items.drug_smiles, treated["smiles"].astype(str))
    sampler = DistanceWeightedSampler()
    sampler.prepare(codes, profiles=np.split(features, 3, axis=1)[1])
    rng = np.random.default_rng(0)
    ours = sampler._negative_drugs(np.zeros(n_draws, dtype=np.intp), rng)
    own = items.drug_smiles[0]
    theirs = np.array([items.draw_negative(own) for _ in range(n_draws)])
    counts = [np.bincount(x, minlength=len(items.drug_smiles)) for x in (ours, theirs)]
    return np.abs(counts[0] - counts[1]).sum() / (2 * n_draws)


# -- timing ----------------------------------------------------------------------------


class Stopwatch:
    """Seconds spent in functions, less those in other timed functions they call."""

    def __init__(self, options):
        self.options, self.clock = options, clock(options)
        self.seconds = defaultdict(float)
        self.inner = [0.0]

    def time(self, owner, attribute, name):
        """Replace a method of an object by a timed one."""
        function = getattr(owner, attribute)

        def timed(*args, **kwargs):
            start = self.now()
            self.inner.append(0.0)
            result = function(*args, **kwargs)
            elapsed = self.now() - start
            self.seconds[name] += elapsed - self.inner.pop()
            self.inner[-1] += elapsed
            return result

        setattr(owner, attribute, timed)

    def now(self):
        """Return the time at which all work that was begun is done."""
        wait(self.options)
        return self.clock()

    def reading(self, function, parts):
        """Return `function`, which adds the seconds of its parts to a list."""

        def read():
            self.seconds = defaultdict(float)
            function()
            parts.append(self.seconds)

        return read


def time_parts_of_port(port, watch):
    watch.time(port, "next_batch", "sampling, look-up")
    watch.time(port.net, "batch_graphs", "graphs")
    watch.time(port.net, "encode", "D-MPNN")
    watch.time(port.net, "embed_profiles", "SNN")
    watch.time(port, "loss", "loss")
    watch.time(port, "forward_and_back", "backward, heads")
    watch.time(port, "step", "optimiser")


def time_parts_of_ours(ours, watch):
    graphs, towers = ours.dataset_.molecules.graphs, ours.module_
    take = graphs.take

    def take_with_bags(indices):
        batch = take(indices)
        _ = batch.bags  # made in the first layer otherwise
        return batch

    graphs.take = take_with_bags
    watch.time(ours, "next_batch", "sampling, look-up")
    watch.time(graphs, "take", "graphs")
    watch.time(towers.molecule_tower.encoder, "forward", "D-MPNN")
    watch.time(towers.expression_tower, "forward", "SNN")
    watch.time(ours, "get_loss", "loss")
    watch.time(ours, "train_step_single", "backward, heads")
    watch.time(ours, "step", "optimiser")


def step_records(treated, controls, features, options):
    """Yield the records of a step, and of where its time goes."""
    watch = Stopwatch(options)
    port = make_port(treated, controls, options)
    port.net.batch_graphs(np.unique(treated["smiles"]))  # their cache of graphs
    ours = make_ours(treated, features, options)
    balanced = make_balanced(treated, features, options)
    sides = {"port": port, "ours": ours, "drug-balanced": balanced}
    if not on_gpu(options):  # where parts overlap
        time_parts_of_port(port, watch)
        time_parts_of_ours(ours, watch)
        time_parts_of_ours(balanced, watch)
    parts = [[] for _ in sides]
    read = (
        watch.reading(s.step, p) for s, p in zip(sides.values(), parts, strict=True)
    )
    seconds = in_turn(list(read), options)
    drawn = balanced.history[-1, "batches", :, "train_batch_size"]
    per_profile = [
        [1000 * t / n for t in own]
        for own, n in zip(
            seconds, (options.batch, options.batch, statistics.mean(drawn)), strict=True
        )
    ]
    more = {
        "against": "port of the authors' code",
        "sizes": {"profiles": len(features), "drugs": options.drugs,
                  "batch": options.batch, "hidden": options.hidden},
        "clock": watch.clock.__name__, "device": options.device,
    }  # fmt: skip
    yield ratio_record(
        "step, same loss and sampling", seconds[1], seconds[0], goal=1 / 4, **more
    )
    yield ratio_record(
        "1,000 profiles, drug-balanced", per_profile[2], per_profile[0], goal=1 / 15,
        **more,
    )  # fmt: skip
    for (name, side), own in zip(sides.items(), parts, strict=True):
        if on_gpu(options):  # without a wait after each
            start = watch.now()
            side.steps(20)
            yield {"what": f"steps a second, {name}", "device": options.device,
                   "rate": 20 / (watch.now() - start)}  # fmt: skip
        else:
            own = own[1:]  # the first round warms up
            ms = {p: 1000 * statistics.median(o[p] for o in own) for p in own[0]}
            yield {"what": f"parts of a step, ms, {name}", "parts": ms}


def data_path_records(studies, options):
    """Yield sampling and look-ups beside the port's, and whether they grow."""
    watch = Stopwatch(options)
    functions, parts = [], []
    for treated, controls, features in studies:
        ours = make_ours(treated, features, options)
        watch.time(ours, "next_batch", "sampling, look-up")
        watch.time(ours.dataset_.molecules.graphs, "take", "graphs")
        port = make_port(treated, controls, options)
        for function in (port.next_batch, *[ours.next_batch] * CALLS_A_PORT_CALL):
            parts.append([])
            functions.append(watch.reading(function, parts[-1]))
    seconds = in_turn(functions, options)
    times = [
        [p["sampling, look-up"] if p else t for p, t in zip(own[1:], s, strict=True)]
        for own, s in zip(parts, seconds, strict=True)
    ]
    medians = []
    for study in studies:
        theirs, *ours = times[: CALLS_A_PORT_CALL + 1]
        times = times[CALLS_A_PORT_CALL + 1 :]
        ours = [statistics.median(calls) for calls in zip(*ours, strict=True)]
        medians.append(statistics.median(ours))
        yield ratio_record(
            "sampling and look-up", ours, theirs, goal=1 / 100,
            against="port of the authors' code", sizes={"profiles": len(study[-1])},
            clock=watch.clock.__name__, growth=medians[-1] / medians[0],
        )  # fmt: skip


# -- D-MPNN and graphs -----------------------------------------------------------------


def outputs_and_gradients(forward, network, graphs, target):
    network.zero_grad()
    vectors = forward(graphs)
    (vectors * target).sum().backward()
    return vectors.detach(), [weight.grad for weight in network.parameters()]


def largest_error(ours, theirs):
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1))
        for a, b in zip(ours, theirs, strict=True)
    )


def dmpnn_records(options):
    """Yield forward and backward passes beside chemprop's, with equal weights."""
    smiles = read_molecules(options, options.molecules)
    batch = MoleculeGraphs.from_smiles(smiles).take(range(len(smiles)))
    torch.manual_seed(0)
    reference = BondMessagePassing(d_h=options.hidden).to(options.device)
    network = DMPNN(hidden_size=options.hidden).to(options.device)
    network.load_state_dict(reference.state_dict())
    target = torch.randn(len(batch), options.hidden, device=options.device)
    aggregation = MeanAggregation()

    def theirs(graphs):
        return aggregation(reference(graphs), graphs.batch)

    def without_gradients(function, graphs):
        with torch.no_grad():
            return function(graphs)

    errors = {}
    for dtype in (torch.float64, torch.float32):
        graphs = GraphBatch(
            batch.V.to(dtype), batch.bond_features.to(dtype), batch.bonds, batch.n_atoms
        ).to(options.device)
        network.to(dtype)
        reference.to(dtype)
        ours, gradients = outputs_and_gradients(network, network, graphs, target)
        peer, expected = outputs_and_gradients(theirs, reference, graphs, target)
        # A unit that rounding puts on the other side of the kink of relu shows in
        # float32's gradients, chemprop's as much as ours.
        name = str(dtype).removeprefix("torch.")
        errors[f"{name}_error"] = largest_error([ours], [peer])
        errors[f"{name}_gradient_error"] = largest_error(gradients, expected)
    more = {
        "against": "chemprop's BondMessagePassing", "goal": 0.6, "memory": False,
        "sizes": {"molecules": len(smiles), "hidden": options.hidden},
        "device": options.device, **errors,
    }  # fmt: skip
    yield compare(
        "D-MPNN, forward",
        lambda: without_gradients(network, graphs),
        lambda: without_gradients(theirs, graphs),
        options, **more,
    )  # fmt: skip
    yield compare(
        "D-MPNN, forward and backward",
        lambda: outputs_and_gradients(network, network, graphs, target),
        lambda: outputs_and_gradients(theirs, reference, graphs, target),
        options, **more,
    )  # fmt: skip


def graph_records(options):
    """Yield graphs from SMILES beside both of chemprop's featurisers."""
    smiles = list(read_molecules(options, options.graph_molecules))
    featuriser, quick = (
        SimpleMoleculeMolGraphFeaturizer(), CuikmolmakerMolGraphFeaturizer("V2"),
    )  # fmt: skip
    theirs = [featuriser(Chem.MolFromSmiles(text)) for text in smiles]
    ours = MoleculeGraphs.from_smiles(smiles)
    batch, expected = ours.take(range(len(ours))), BatchMolGraph(theirs)
    for part in ("V", "E", "edge_index", "rev_edge_index", "batch"):
        if not torch.equal(getattr(batch, part), getattr(expected, part)):
            raise AssertionError(f"graphs differ from chemprop's in {part}")
    n = min(256, len(smiles))
    sizes = {"molecules": len(smiles)}
    cases = (
        ("graphs from SMILES", lambda: MoleculeGraphs.from_smiles(smiles),
         "chemprop's default featuriser", 1 / 4,
         lambda: [featuriser(Chem.MolFromSmiles(text)) for text in smiles]),
        ("graphs from SMILES", lambda: MoleculeGraphs.from_smiles(smiles),
         "chemprop's cuik featuriser", None, lambda: quick(smiles)),
        (f"a batch of {n}, ours with DMPNN's bags", lambda: ours.take(range(n)).bags,
         "chemprop's BatchMolGraph", 2.0, lambda: BatchMolGraph(theirs[:n])),
    )  # fmt: skip
    for what, own, against, goal, peer in cases:
        yield compare(
            what, own, peer, options, against=against, sizes=sizes, goal=goal,
            memory=False, new_thread=True, bytes_a_molecule=ours.nbytes / len(smiles),
        )  # fmt: skip


def run(options):
    rng = np.random.default_rng(0)
    smiles = read_molecules(options, options.drugs)
    studies = []
    for n in options.profiles:
        wells = make_wells(n, smiles, CONTROLS_A_PLATE, options.genes, rng)
        studies.append((*wells, make_features(*wells, rng)))
    return [
        check_same(options),
        *step_records(*studies[-1], options),
        *data_path_records(studies, options),
        *dmpnn_records(options),
        *graph_records(options),
    ]
