"""InfoLOOBLoss: the leave-one-out bound, whose gradient does not fade."""

from torch import Tensor

from sklearn_molge._compat import validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import (
    TEMPERATURE_CONSTRAINTS,
    AllPairsLoss,
    log_negatives,
    mean_over_positives,
)

__all__ = ["InfoLOOBLoss"]


class InfoLOOBLoss(AllPairsLoss):
    r"""InfoNCE without the positive in the denominator, in both directions.

    Parameters
    ----------
    temperature : float, default=0.1
        Divides the cosines, at least 0.01.
    learn_temperature : bool, default=False
        Whether the temperature is a parameter of the training, on the log scale and
        never below 0.01. Once the positives lead, the loss falls without end as the
        temperature does, so that a learned one runs to 0.01.

    See Also
    --------
    InfoNCELoss : The same with the positive in the denominator.

    Notes
    -----
    With the names of :class:`InfoNCELoss` (the leave-one-out bound of Poole et al.
    2019, as a loss in Fürst et al. 2022):

    .. math:: L_{g \to m} = \frac{1}{n} \sum_i \frac{1}{|P(i)|} \sum_{p \in P(i)}
        - \log \frac{\exp s_{ip}}{\sum_{j \in N(i)} \exp s_{ij}}

    and the mean with the other direction. It is negative where the positives lead. The
    pull on a positive does not fade as it is learnt, as that of InfoNCE does. CLOOB and
    CLOOME (Sanchez-Fernandez et al. 2023) put this loss on embeddings that were first
    retrieved from modern Hopfield networks; here it is on the embeddings themselves.
    Their sum of both directions times the temperature is twice this loss times the
    temperature.

    References
    ----------
    B. Poole et al., "On variational bounds of mutual information", ICML 2019.

    A. Fürst et al., "CLOOB: Modern Hopfield networks with InfoLOOB outperform CLIP",
    NeurIPS 2022.

    A. Sanchez-Fernandez et al., "CLOOME: contrastive learning unlocks bioimaging
    databases for queries with chemical structures", Nature Communications 14 (2023).

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import InfoLOOBLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     profiles=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    Cosine 1 to the own molecule, 0 to the other: 0 - 1.

    >>> InfoLOOBLoss(temperature=1.0)(batch)
    tensor(-1.)
    """

    @validate_params(TEMPERATURE_CONSTRAINTS, prefer_skip_nested_validation=True)
    def __init__(self, *, temperature: float = 0.1, learn_temperature: bool = False):
        super().__init__(temperature, learn_temperature)

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        logits, positives = self.logits(batch), batch.positives
        return (_info_loob(logits, positives) + _info_loob(logits.T, positives.T)) / 2


def _info_loob(logits: Tensor, positives: Tensor) -> Tensor:
    terms = log_negatives(logits, positives) - logits
    return mean_over_positives(terms, positives)
