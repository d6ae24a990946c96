"""SoftTargetInfoNCELoss: profiles that are alike share their molecules."""

from numbers import Real

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._info_nce import info_nce
from sklearn_molge.alignment.losses._terms import (
    TEMPERATURE_CONSTRAINTS,
    AllPairsLoss,
    cosine_similarities,
)

__all__ = ["SoftTargetInfoNCELoss"]


class SoftTargetInfoNCELoss(AllPairsLoss):
    r"""InfoNCE whose targets are shared among molecules with profiles that are alike.

    Two drugs of one mechanism induce similar profiles. To name the molecule of a
    profile is then asked less strictly: the target is spread over the molecules by how
    similar their profiles, as the expression tower is given them, are to this one.

    Parameters
    ----------
    min_similarity : float, default=0.5
        Pearson correlation from which on profiles of two drugs count as alike, in
        [-1, 1]. With -1 all do, as in Srinivasa et al.; near 1 hardly any.
    temperature : float, default=0.1
        Divides the cosines, at least 0.01.
    learn_temperature : bool, default=True
        Whether the temperature is a parameter of the training, on the log scale and
        never below 0.01.

    See Also
    --------
    InfoNCELoss : Every other drug is a negative.

    Notes
    -----
    From profiles to molecules this is the continuously weighted contrastive loss
    (Srinivasa et al. 2023) as CellCLIP uses it (Lu et al. 2025): for profiles i and k
    of two drugs, with correlation :math:`r_{ik}`,

    .. math:: w_{ik} = \begin{cases} (1 + r_{ik}) / 2 & r_{ik} \ge r_\text{min} \\
        0 & \text{otherwise} \end{cases}

    The weight :math:`w_{ij}` of molecule j is the mean over its profiles k, and 1 for
    molecules of the profile's own drug. With :math:`s_{ij}` the cosine over the
    temperature,

    .. math:: L_{g \to m} = - \frac{1}{n} \sum_i
        \frac{\sum_j w_{ij} \log \big( \exp s_{ij} / \sum_l \exp s_{il} \big)}
        {\sum_j w_{ij}}

    where l runs over all molecules of the batch. From molecules to profiles it is
    :class:`InfoNCELoss`, also as in CellCLIP, and the loss is the mean of both
    (CellCLIP: the sum). Without the threshold, which MolPhenix (Fradkin et al. 2024)
    has too, the many unrelated profiles of a batch, with weights near 1/2, hold most of
    the target: 99% of it with 417 random signatures of L1000 (level 5, z-scores), but
    about 20% with a threshold of 0.5. CellCLIP takes the cosine; the correlation does
    not see the mean level of a profile. Where the inputs include the control, profiles
    of one plate are alike.

    References
    ----------
    R. S. Srinivasa et al., "CWCL: Cross-modal transfer with continuously weighted
    contrastive loss", NeurIPS 2023.

    M. Lu et al., "CellCLIP: Learning perturbation effects in Cell Painting via
    text-guided contrastive learning", NeurIPS 2025.

    P. Fradkin et al., "How molecules impact cells: Unlocking contrastive
    phenomolecular retrieval" (MolPhenix), NeurIPS 2024.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import SoftTargetInfoNCELoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     profiles=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0, 2.0], [2.0, 0.0, 4.0]]),
    ... )

    The profiles correlate perfectly: half of the target is on the other molecule.

    >>> loss = SoftTargetInfoNCELoss(temperature=1.0, learn_temperature=False)
    >>> loss(batch)
    tensor(0.5633)
    >>> loss.targets(batch)
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """

    @validate_params(
        TEMPERATURE_CONSTRAINTS
        | {"min_similarity": [Interval(Real, -1, 1, closed="both")]},
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        *,
        min_similarity: float = 0.5,
        temperature: float = 0.1,
        learn_temperature: bool = True,
    ):
        super().__init__(temperature, learn_temperature)
        self.min_similarity = min_similarity

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        logits = self.logits(batch)
        to_molecules = cross_entropy(logits, self.targets(batch))
        return (to_molecules + info_nce(logits.T, batch.positives.T)) / 2

    @torch.no_grad()
    def targets(self, batch: EmbeddedBatch) -> Tensor:
        """Return each profile's weights of the molecules, which sum to 1.

        Parameters
        ----------
        batch : EmbeddedBatch
            Molecules and profiles.

        Returns
        -------
        targets : Tensor of shape (n_profiles, n_molecules)
        """
        centred = batch.inputs - batch.inputs.mean(1, keepdim=True)
        similarities = cosine_similarities(centred, centred)
        alike = similarities >= self.min_similarity
        weights = torch.where(alike, (1 + similarities) / 2, 0)
        of_molecule = one_hot(batch.molecule_index, len(batch.molecules))
        of_molecule = of_molecule.to(weights.dtype)
        weights = weights @ of_molecule / of_molecule.sum(0)
        weights = weights.masked_fill(batch.positives, 1).to(batch.profiles.dtype)
        return weights / weights.sum(1, keepdim=True)
