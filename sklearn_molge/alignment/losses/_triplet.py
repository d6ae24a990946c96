"""TripletLoss: an anchor nearer to its own drug than to another."""

from typing import ClassVar

from torch import Tensor

from sklearn_molge._compat import StrOptions
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import (
    ANCHORS,
    MARGIN_CONSTRAINTS,
    MarginLoss,
    triplet_distances,
)

__all__ = ["TripletLoss"]


class TripletLoss(MarginLoss):
    r"""Margin loss of an anchor, its match and one of another drug.

    Parameters
    ----------
    anchor : {"expression", "molecule", "expression_only"}, default="expression"
        With :math:`g_A, m_A` a profile and its molecule, :math:`g_A'` another profile
        of the drug and :math:`g_B, m_B` those of another drug, the triplet is
        :math:`(g_A, m_A, m_B)` for "expression", :math:`(m_A, g_A, g_B)` for
        "molecule" and :math:`(g_A, g_A', g_B)` for "expression_only", which leaves the
        molecules untrained.
    margin : float, default=0.1
        Half-width :math:`\alpha \ge 0` of the band about `beta`.
    beta : float, default=1.0
        Boundary between matching and other pairs, greater than 0.
    learn_beta : bool, default=False
        Whether `beta` is a parameter of the training, of which it is then the start.
    distance : {"euclidean", "cosine"}, default="euclidean"
        Distance :math:`D`; "cosine" is 1 minus the cosine, from 0 to 2.
    average : {"active", "mean"}, default="mean"
        Divide by the number of triplets with at least one positive term, or by the
        number of triplets. Without an active triplet the loss and its gradient are 0.

    Notes
    -----
    For anchor :math:`a`, positive :math:`p` and negative :math:`n`, with the
    margin-based loss of Wu et al. 2017:

    .. math:: L = \frac{1}{N} \sum \big[ (D(a, p) - \beta + \alpha)_+
        + (\beta - D(a, n) + \alpha)_+ \big]

    The code released with Finlayson et al. 2020 counts in N the *triplets* with an
    active term, not the terms, and divides 0 by 0 where there is none. It also adds
    1e-6 to every component difference to keep the gradient finite where two embeddings
    coincide; here that gradient is 0. Wu et al. normalise the embeddings and penalise
    a learned `beta`; neither is done here, as in the released code.

    References
    ----------
    C.-Y. Wu et al., "Sampling matters in deep embedding learning", ICCV 2017.

    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Section 3.3.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import TripletLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[0.0, 0.0], [2.0, 0.0]]),
    ...     profiles=torch.tensor([[0.0, 1.5], [2.0, 0.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    Of the two triplets one is active: its positive is at distance 1.5.

    >>> TripletLoss()(batch)
    tensor(0.3000)
    >>> TripletLoss(average="active")(batch)
    tensor(0.6000)
    """

    _parameter_constraints: ClassVar[dict] = MARGIN_CONSTRAINTS | {
        "anchor": [StrOptions(ANCHORS)]
    }

    def __init__(
        self,
        *,
        anchor: str = "expression",
        margin: float = 0.1,
        beta: float = 1.0,
        learn_beta: bool = False,
        distance: str = "euclidean",
        average: str = "mean",
    ):
        super().__init__(
            margin=margin,
            beta=beta,
            learn_beta=learn_beta,
            distance=distance,
            average=average,
            anchor=anchor,
        )
        self.anchor = anchor
        self.needs_partners = anchor == "expression_only"

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        positive, negative = triplet_distances(batch, self.anchor, self.distance)
        return self.average_terms(self.pull(positive), self.push(negative))
