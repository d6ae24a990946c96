"""InfoNCELoss: name the molecule among those of the batch, and the profile."""

from torch import Tensor
from torch.nn.functional import softplus

from sklearn_molge._compat import validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import (
    TEMPERATURE_CONSTRAINTS,
    AllPairsLoss,
    log_negatives,
    mean_over_positives,
)

__all__ = ["InfoNCELoss"]


class InfoNCELoss(AllPairsLoss):
    r"""Softmax cross-entropy of all pairs, in both directions, with many positives.

    Parameters
    ----------
    temperature : float, default=0.1
        Divides the cosines, at least 0.01.
    learn_temperature : bool, default=True
        Whether the temperature is a parameter of the training, on the log scale and
        never below 0.01, as in CLIP.

    See Also
    --------
    SoftTargetInfoNCELoss : Spares the molecules of profiles that are alike.
    SigmoidLoss : Judges each pair by itself.

    Notes
    -----
    With :math:`s_{ij}` the cosine of profile i and molecule j over the temperature,
    :math:`P(i)` the molecules of the profile's drug (isomers, salts) and :math:`N(i)`
    those of all other drugs of the batch, the direction from profiles to molecules is

    .. math:: L_{g \to m} = \frac{1}{n} \sum_i \frac{1}{|P(i)|} \sum_{p \in P(i)}
        - \log \frac{\exp s_{ip}}{\exp s_{ip} + \sum_{j \in N(i)} \exp s_{ij}}

    The denominator holds the positive that is scored and the negatives, never another
    positive (Feeney and Hughes 2023; with the other positives it is the loss of Khosla
    et al. 2020, which pushes positives apart). The other direction is the same over the
    columns, where P(j) are all profiles of the molecule's drug, and the loss is the
    mean of the two (Radford et al. 2021, Figure 3), each over its own rows.

    References
    ----------
    A. Radford et al., "Learning transferable visual models from natural language
    supervision" (CLIP), ICML 2021.

    P. Feeney and M. C. Hughes, "SINCERE: Supervised information noise-contrastive
    estimation revisited", arXiv 2309.14277.

    P. Khosla et al., "Supervised contrastive learning", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import InfoNCELoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     profiles=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    Cosine 1 to the own molecule, 0 to the other: log(1 + 1 / e).

    >>> InfoNCELoss(temperature=1.0, learn_temperature=False)(batch)
    tensor(0.3133)
    """

    @validate_params(TEMPERATURE_CONSTRAINTS, prefer_skip_nested_validation=True)
    def __init__(self, *, temperature: float = 0.1, learn_temperature: bool = True):
        super().__init__(temperature, learn_temperature)

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        logits, positives = self.logits(batch), batch.positives
        return (info_nce(logits, positives) + info_nce(logits.T, positives.T)) / 2


def info_nce(logits: Tensor, positives: Tensor) -> Tensor:
    """Return the loss from rows to columns, each positive alone with the negatives."""
    terms = softplus(log_negatives(logits, positives) - logits)
    return mean_over_positives(terms, positives)
