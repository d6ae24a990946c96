"""SigmoidLoss: tell of each pair by itself whether it matches."""

from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import TEMPERATURE_CONSTRAINTS, AllPairsLoss

__all__ = ["SigmoidLoss"]


class SigmoidLoss(AllPairsLoss):
    r"""Logistic loss of every pair of the batch (SigLIP).

    Parameters
    ----------
    temperature : float, default=0.1
        Divides the cosines, at least 0.01.
    bias : float, default=-10.0
        Added to the scaled cosines. The start is low since few pairs match.
    learn_temperature : bool, default=True
        Whether the temperature is a parameter of the training, on the log scale and
        never below 0.01.
    learn_bias : bool, default=True
        Whether the bias is a parameter of the training.

    See Also
    --------
    InfoNCELoss : Compares the pairs of a row and of a column.

    Notes
    -----
    With :math:`s_{ij}` the cosine of profile i and molecule j over the temperature,
    b the bias, and :math:`z_{ij} = 1` where the molecule is of the profile's drug,
    else -1 (Zhai et al. 2023, Section 3.2):

    .. math:: L = - \frac{1}{n} \sum_{i=1}^n \sum_j \log \sigma(z_{ij} (s_{ij} + b))

    over n profiles. There each profile has one molecule and n is the number of both;
    here one molecule may serve several profiles, and is compared with each once.

    References
    ----------
    X. Zhai et al., "Sigmoid loss for language image pre-training", ICCV 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import SigmoidLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     profiles=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    Each profile has one pair with cosine 1 and one with 0: log(1 + 1 / e) + log(2).

    >>> SigmoidLoss(temperature=1.0, bias=0.0)(batch).detach()
    tensor(1.0064)
    """

    @validate_params(
        TEMPERATURE_CONSTRAINTS
        | {
            "bias": [Interval(Real, None, None, closed="neither")],
            "learn_bias": ["boolean"],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        *,
        temperature: float = 0.1,
        bias: float = -10.0,
        learn_temperature: bool = True,
        learn_bias: bool = True,
    ):
        super().__init__(temperature, learn_temperature)
        self.bias = nn.Parameter(torch.tensor(float(bias)), requires_grad=learn_bias)

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        logits = self.logits(batch) + self.bias
        signed = torch.where(batch.positives, logits, -logits)
        return -logsigmoid(signed).sum() / len(logits)
