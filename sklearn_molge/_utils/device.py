"""Where to compute, and the seeds of what is drawn there."""

import numpy as np
import torch
from sklearn.utils import check_random_state

from sklearn_molge._utils.typing import RandomState

# Molecules whose hidden vectors stay in the cache of a core between two layers.
_FORWARD_SIZE = 32


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the named device; "auto" and None are the GPU where there is one.

    Raises
    ------
    ValueError
        If no device has that name, or this machine has not got it.
    """
    if device is None or str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            "device must be 'auto' or a name that torch.device takes, as 'cpu' or "
            f"'cuda:0'. Got {device!r}."
        ) from error
    n_found = torch.cuda.device_count()
    if named.type == "cuda" and (named.index or 0) >= n_found:
        raise ValueError(
            f"device must be one of this machine, where torch finds {n_found} GPU(s): "
            f"'auto' and 'cpu' always are. Got {str(device)!r}."
        )
    return named


def forward_size(batch_size: int, device: torch.device) -> int:
    """Return how many molecules to run through a network at once.

    At most `batch_size`; on a CPU more than a few take up to 1.5 times as long each.
    """
    if device.type != "cpu":
        return batch_size
    return min(batch_size, _FORWARD_SIZE * torch.get_num_threads())


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators that a training on `device` draws from, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def derive_seed(*parts: int) -> int:
    """Return a seed that depends on all of `parts`."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def draw_seed(random_state: RandomState) -> int:
    """Return the seed of one training."""
    if random_state is None:
        random_state = np.random.RandomState()  # fresh, not numpy's global one
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
