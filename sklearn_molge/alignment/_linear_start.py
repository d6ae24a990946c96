"""Start the towers at the best linear alignment instead of at random weights."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_molge.alignment._cca import CCA

# Of 0, 1 and 2 the best for CCA with joined fingerprints, see docs/benchmarks.md.
_CORRELATION_POWER = 2


class WithLinearPath(nn.Module):
    """A network with a linear path beside it, both added up.

    The network's own last layer starts at zero, so that training starts from the
    linear path alone.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network
        self.linear = nn.Linear(network.n_in, network.n_out)
        nn.init.zeros_(network[-1].weight)
        if network[-1].bias is not None:
            nn.init.zeros_(network[-1].bias)

    def set_linear(self, mean: NDArray, rotations: NDArray) -> None:
        """Let the linear path be ``(x - mean) @ rotations``; unused outputs are 0."""
        n_used = rotations.shape[1]
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.zero_()
            self.linear.weight[:n_used] = torch.as_tensor(rotations.T)
            self.linear.bias[:n_used] = torch.as_tensor(-mean @ rotations)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both paths."""
        return self.network(x) + self.linear(x)


def start_at_cca(
    molecules: Any,
    profiles: Any,
    x: Tensor,
    y: Tensor,
    molecule_of: NDArray[np.intp],
    random_state: int,
) -> None:
    """Set the linear paths of both towers to the CCA of the training set.

    Parameters
    ----------
    molecules, profiles : WithLinearPath
        Of the two towers.
    x : Tensor of shape (n_molecules, n_features)
        What the molecule tower's paths are given, of the distinct molecules.
    y : Tensor of shape (n_profiles, n_genes)
        What the expression tower's paths are given.
    molecule_of : ndarray of shape (n_profiles,)
        The molecule of each profile.
    random_state : int
        Chooses the folds for the ridge.
    """
    X, Y = x.numpy()[molecule_of], y.numpy()
    largest = min(len(x) * 4 // 5 - 1, x.shape[1], y.shape[1])
    cca = CCA(
        min(molecules.linear.out_features, largest),
        correlation_power=_CORRELATION_POWER,
        random_state=random_state,
    ).fit(X, Y)
    power = cca.correlations_**cca.correlation_power
    for path, mean, rotations, rows in (
        (molecules, cca.x_mean_, cca.x_rotations_, X),
        (profiles, cca.y_mean_, cca.y_rotations_, Y),
    ):
        scaled = rotations * power
        size = np.sqrt(np.mean(((rows - mean) @ scaled) ** 2))
        path.set_linear(mean, scaled / size)
