"""TripletCCALoss: deep CCA and a triplet loss together."""

from numbers import Real

from torch import Tensor, nn

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._deep_cca import CCA_CONSTRAINTS, DeepCCALoss
from sklearn_molge.alignment.losses._terms import ANCHORS, MARGIN_CONSTRAINTS
from sklearn_molge.alignment.losses._triplet import TripletLoss

__all__ = ["TripletCCALoss"]


class TripletCCALoss(nn.Module):
    r"""Deep CCA of all pairs of a batch plus a weighted triplet loss.

    Parameters
    ----------
    triplet_weight : float, default=2.0
        Weight :math:`w \ge 0` of the triplet loss.
    anchor : {"expression", "molecule", "expression_only"}, default="expression"
        What a triplet is; see :class:`TripletLoss`.
    margin : float, default=0.1
        Half-width of the band about `beta`, at least 0.
    beta : float, default=1.0
        Boundary between matching and other pairs, greater than 0.
    learn_beta : bool, default=False
        Whether `beta` is a parameter of the training, of which it is then the start.
    distance : {"euclidean", "cosine"}, default="euclidean"
        Distance of the triplets; "cosine" is 1 minus the cosine, from 0 to 2.
    average : {"active", "mean"}, default="mean"
        Divide by the number of triplets with at least one positive term, or by the
        number of triplets.
    ridge : float, default=1e-4
        Added to every variance of both embeddings, greater than 0.
    n_components : int or None, default=None
        How many of the largest correlations are summed; None sums all.

    See Also
    --------
    DeepCCALoss, TripletLoss : The two parts.

    Notes
    -----
    .. math:: L = L_\text{CCA} + w L_\text{triplet}

    as in the code released with Finlayson et al. 2020; the paper does not report it.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import TripletCCALoss
    >>> molecules = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> batch = EmbeddedBatch(
    ...     molecules=molecules,
    ...     profiles=molecules,
    ...     molecule_index=torch.arange(4),
    ...     molecule_drugs=torch.arange(4),
    ...     inputs=torch.eye(4),
    ... )

    Correlated perfectly, and every other molecule is at a distance of 1.41 or more.

    >>> TripletCCALoss(ridge=1e-8)(batch)
    tensor(-2.)
    """

    @validate_params(
        MARGIN_CONSTRAINTS
        | CCA_CONSTRAINTS
        | {
            "triplet_weight": [Interval(Real, 0, None, closed="left")],
            "anchor": [StrOptions(ANCHORS)],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        *,
        triplet_weight: float = 2.0,
        anchor: str = "expression",
        margin: float = 0.1,
        beta: float = 1.0,
        learn_beta: bool = False,
        distance: str = "euclidean",
        average: str = "mean",
        ridge: float = 1e-4,
        n_components: int | None = None,
    ):
        super().__init__()
        self.triplet_weight = triplet_weight
        self.cca = DeepCCALoss(ridge=ridge, n_components=n_components)
        self.triplet = TripletLoss(
            anchor=anchor,
            margin=margin,
            beta=beta,
            learn_beta=learn_beta,
            distance=distance,
            average=average,
        )
        self.needs_partners = self.triplet.needs_partners

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        return self.cca(batch) + self.triplet_weight * self.triplet(batch)
