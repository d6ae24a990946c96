"""DMPNN against chemprop's BondMessagePassing and MeanAggregation, same weights.

OMP_NUM_THREADS=1 python benchmarks/bench_dmpnn.py
"""

import argparse

import torch
from _timing import compare, describe_machine, report
from bench_graphs import read_smiles
from chemprop.nn import BondMessagePassing, MeanAggregation

from sklearn_molge.molecules import DMPNN, GraphBatch, MoleculeGraphs


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


def bench(batch, hidden, options):
    torch.manual_seed(0)
    target = torch.randn(len(batch), hidden)
    reference = BondMessagePassing(d_h=hidden, depth=options.depth)
    aggregation = MeanAggregation()
    network = DMPNN(hidden_size=hidden, depth=options.depth)
    network.load_state_dict(reference.state_dict())

    def theirs(graphs):
        return aggregation(reference(graphs), graphs.batch)

    print(f"hidden {hidden}, largest error of outputs and of gradients:")
    for dtype in (torch.float32, torch.float64):
        graphs = GraphBatch(
            batch.V.to(dtype), batch.bond_features.to(dtype), batch.bonds, batch.n_atoms
        )
        network.to(dtype)
        reference.to(dtype)
        ours, gradients = outputs_and_gradients(network, network, graphs, target)
        peer, expected = outputs_and_gradients(theirs, reference, graphs, target)
        # A unit that rounding puts on the other side of the kink of relu shows in
        # float32's gradients, chemprop's as much as ours.
        errors = largest_error([ours], [peer]), largest_error(gradients, expected)
        print(f"  {dtype}: {errors[0]:.1e}, {errors[1]:.1e}")
    network.float()
    reference.float()
    with torch.no_grad():
        times = compare(
            lambda: network(batch), lambda: theirs(batch), repeats=options.repeats
        )
    report("forward", *times, goal="0.6")
    times = compare(
        lambda: outputs_and_gradients(network, network, batch, target),
        lambda: outputs_and_gradients(theirs, reference, batch, target),
        repeats=options.repeats,
    )
    report("forward and backward", *times, goal="0.6")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--molecules", type=int, default=256, help="of the batch")
    parser.add_argument("--hidden", type=int, nargs="+", default=[300])
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--smiles", help="text file, one SMILES a line")
    options = parser.parse_args()
    describe_machine("torch", "chemprop")
    print(f"  torch: {torch.get_num_threads()} threads")
    smiles = read_smiles(options.smiles, options.molecules)
    batch = MoleculeGraphs.from_smiles(smiles).take(range(len(smiles)))
    print(f"{len(batch)} molecules, {len(batch.V)} atoms, {len(batch.E)} bonds")
    for hidden in options.hidden:
        bench(batch, hidden, options)


if __name__ == "__main__":
    main()
