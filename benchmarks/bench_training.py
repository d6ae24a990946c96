"""A training step of CoordinatedEmbedder against a port of the paper's released code.

python benchmarks/bench_training.py --threads 1 --library compoundinfo.txt.gz
"""

import argparse
import itertools
import os
import statistics

import numpy as np
import threadpoolctl
import torch
from _authors_port import AuthorsItems, AuthorsLoss, AuthorsNet, AuthorsTraining
from _stopwatch import Stopwatch, gpu_use, in_turn
from _timing import describe_machine, report
from _training_data import (
    CONTROLS_A_PLATE,
    N_GENES,
    make_features,
    make_wells,
    read_molecules,
)

from sklearn_molge.alignment import CoordinatedEmbedder, SampledBatch, Triplets
from sklearn_molge.alignment.losses import InfoNCELoss, QuadrupletLoss
from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
)

# The paper's final model (Table A2), with a graph network of 300 units.
LAYERS, EMBEDDING, DROPOUT, LR = (677, 1159), 51, 0.02, 5.6e-4
MARGIN, BETA = 0.31, 1.3
PROFILES_A_DRUG = 8  # of a drug-balanced batch
CALLS_A_PORT_CALL = 5


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
        3 * N_GENES, LAYERS, EMBEDDING, hidden=options.hidden, depth=3, dropout=dropout
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
    smiles = read_molecules(options.library, 30, rng)
    # One control a plate: then both sides have the same features.
    treated, controls = make_wells(700, smiles, 1, rng)
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
    print(
        f"Same batch, same weights: losses differ by {loss_error:.0e}, gradients by "
        f"{error:.0e} (relative).\nNegatives of one anchor: total variation between "
        f"the samplers {distance:.3f}"
    )
    assert loss_error < 1e-5
    assert error < 1e-3
    assert distance < 0.04


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
    sampler.prepare(codes, profiles=features[:, N_GENES : 2 * N_GENES])
    rng = np.random.default_rng(0)
    ours = sampler._negative_drugs(np.zeros(n_draws, dtype=np.intp), rng)
    own = items.drug_smiles[0]
    theirs = np.array([items.draw_negative(own) for _ in range(n_draws)])
    counts = [np.bincount(x, minlength=len(items.drug_smiles)) for x in (ours, theirs)]
    return np.abs(counts[0] - counts[1]).sum() / (2 * n_draws)


# -- timing ----------------------------------------------------------------------------


PARTS = (
    "sampling, look-up",
    "graphs",
    "D-MPNN",
    "SNN",
    "loss",
    "backward, heads",
    "optimiser",
)


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


def print_steps(names, seconds, profiles, parts):
    print(f"\n{'':20}" + "".join(f"{name:>24}" for name in names))
    rows = {
        "step, s": [
            f"{statistics.median(s):.3f} [{min(s):.3f}, {max(s):.3f}]" for s in seconds
        ],
        "profiles/s": [
            f"{n / statistics.median(s):.0f}"
            for n, s in zip(profiles, seconds, strict=True)
        ],
    }
    for part in PARTS if any(parts[0]) else ():
        rows[f"  {part}, ms"] = [
            f"{1000 * statistics.median(p[part] for p in own):.1f}" for own in parts
        ]
    for name, cells in rows.items():
        print(f"{name:24}" + "".join(f"{cell:>24}" for cell in cells))
    print(flush=True)


def bench_steps(treated, controls, features, options):
    watch = Stopwatch(options.device)
    port = make_port(treated, controls, options)
    port.net.batch_graphs(np.unique(treated["smiles"]))  # their cache of graphs
    ours = make_ours(treated, features, options)
    balanced = make_balanced(treated, features, options)
    sides = (port, ours, balanced)
    if not watch.on_gpu:  # where parts overlap
        time_parts_of_port(port, watch)
        time_parts_of_ours(ours, watch)
        time_parts_of_ours(balanced, watch)
    seconds, parts = in_turn([s.step for s in sides], watch, options.repeats)
    drawn = balanced.history[-1, "batches", :, "train_batch_size"]
    profiles = [options.batch, options.batch, statistics.mean(drawn)]
    names = ("port", "same loss, sampling", "drug-balanced")
    print_steps(names, seconds, profiles, parts)
    report("step, same loss and sampling", seconds[1], seconds[0], goal="1/4")
    per_profile = [
        [1000 * t / n for t in s] for s, n in zip(seconds, profiles, strict=True)
    ]
    report("1,000 profiles, drug-balanced", per_profile[2], per_profile[0], "1/15")
    if watch.on_gpu:
        for name, side in zip(names, sides, strict=True):
            rate, used = gpu_use(side.steps)
            print(f"  {name}: {rate:.2f} steps/s, GPU used {used:.0f} % of the time")


def bench_data_path(sizes, studies, options):
    """Compare sampling and look-ups, and see whether they grow with the profiles."""
    watch = Stopwatch(options.device)
    functions = []
    for treated, controls, features in studies:
        ours = make_ours(treated, features, options)
        watch.time(ours, "next_batch", "sampling, look-up")
        watch.time(ours.dataset_.molecules.graphs, "take", "graphs")
        port = make_port(treated, controls, options)
        functions += [port.next_batch, *[ours.next_batch] * CALLS_A_PORT_CALL]
    seconds, parts = in_turn(functions, watch, options.repeats)
    times = [
        [p["sampling, look-up"] if p else t for p, t in zip(own, s, strict=True)]
        for own, s in zip(parts, seconds, strict=True)
    ]
    medians = []
    for i, n in enumerate(sizes):
        theirs, *ours = times[i * (CALLS_A_PORT_CALL + 1) :][: CALLS_A_PORT_CALL + 1]
        ours = [statistics.median(calls) for calls in zip(*ours, strict=True)]
        report(f"sampling and look-up, {n} profiles", ours, theirs, goal="1/100")
        medians.append(statistics.median(ours))
    growth = medians[-1] / medians[0]
    print(f"ours, {sizes[-1]} / {sizes[0]} profiles: {growth:.2f}; goal at most 1.3")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--profiles", type=int, nargs="+", default=[20_000, 97_210], help="ascending"
    )
    parser.add_argument("--drugs", type=int, default=3490)
    parser.add_argument("--batch", type=int, default=417)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", default="float32", choices=["float32", "tf32", "bfloat16"]
    )
    parser.add_argument(
        "--library", help="compoundinfo.txt of a LINCS release; simulated without it"
    )
    return parser.parse_args()


def main():
    options = read_options()
    torch.set_num_threads(options.threads)
    threadpoolctl.threadpool_limits(options.threads)
    describe_machine("torch", "chemprop", "pandas", "skorch")
    print(f"  torch: {torch.get_num_threads()} threads, load {os.getloadavg()}")
    check_same(options)
    rng = np.random.default_rng(0)
    smiles = read_molecules(options.library, options.drugs, rng)
    studies = []
    for n in options.profiles:
        treated, controls = make_wells(n, smiles, CONTROLS_A_PLATE, rng)
        studies.append((treated, controls, make_features(treated, controls, rng)))
    n_controls = len(controls["drugs"])
    print(
        f"{options.profiles[-1]} profiles of {options.drugs} drugs, {n_controls} "
        f"controls, batch {options.batch}, hidden {options.hidden}, {options.device}"
    )
    bench_steps(*studies[-1], options)
    bench_data_path(options.profiles, studies, options)
    print(f"load at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
