"""What this library recommends, of what its benchmarks compared."""

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.utils import check_random_state

from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)
from sklearn_molge.retrieval._transformed import TransformedTargetRetriever
from sklearn_molge.retrieval._voting import VotingRetriever

__all__ = ["recommended_ensemble", "recommended_pipeline"]


def _joined_fingerprints():
    """Return six kinds of molecule features, counts on a log scale."""
    log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    counted = {
        "ecfp": MorganFingerprinter(2, count=True),
        "fcfp": MorganFingerprinter(2, count=True, feature_invariants=True),
        "atom_pair": MoleculeFingerprinter("atom_pair", count=True),
        "torsion": MoleculeFingerprinter("torsion", count=True),
    }
    union = FeatureUnion(
        [(name, make_pipeline(fp, log)) for name, fp in counted.items()]
        + [
            ("maccs", MoleculeFingerprinter("maccs")),
            ("descriptors", MoleculeDescriptors()),
        ]
    )
    # Whatever scikit-learn's `transform_output`: columns of its parts share names.
    return union.set_output(transform="default")


def _pipeline(molecules, retriever, transformer):
    """Join features of molecules and a retriever of profiles of unit length."""
    unit = Normalizer()
    profiles = unit if transformer is None else make_pipeline(clone(transformer), unit)
    target = TransformedTargetRetriever(retriever, profiles)
    return Pipeline([("molecules", molecules), ("retriever", target)])


def recommended_pipeline(
    *, model="gaussian_process", transformer=None, random_state=None
):
    """Make the best single estimator that this library knows, to be fitted.

    It takes SMILES and profiles, and has a joint space. A later release may return
    another.

    Parameters
    ----------
    model : {"gaussian_process", "linear"}, default="gaussian_process"
        - "gaussian_process":
          :class:`~sklearn_molge.alignment.GaussianProcessRetriever`, which ranks best
          and says how sure it is; 12 ms a molecule.
        - "linear": :class:`~sklearn_molge.alignment.CCA` of six kinds of molecule
          features (counts of ECFP, FCFP, atom pairs and torsions on a log scale, MACCS
          keys and descriptors) and of profiles scaled to unit length, 100 dimensions
          weighted by the square of their correlation.
    transformer : transformer, default=None
        Applied to the profiles first, such as
        :class:`~sklearn_molge.expression.L1000Featurizer` for a study with controls;
        None takes z-scores as they are.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result each time.

    Returns
    -------
    pipeline : Pipeline
        Its last step is "retriever".

    Raises
    ------
    ValueError
        If `model` is another one.

    See Also
    --------
    recommended_ensemble : Better, and slower.
    sklearn_molge.alignment.PRESETS : Settings of the towers that are trained.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.retrieval import recommended_pipeline
    >>> study = make_perturbation_study(
    ...     30, n_cell_lines=2, n_genes=60, level=5, random_state=0
    ... )
    >>> pipe = recommended_pipeline(random_state=0).fit(study.smiles, study.ge)
    >>> pipe.transform(["CCO"]).shape[0]
    1
    """
    if model == "linear":
        cca = CCA(100, correlation_power=2, random_state=random_state)
        return _pipeline(_joined_fingerprints(), cca, transformer)
    if model != "gaussian_process":
        raise ValueError(
            f"model must be 'gaussian_process' or 'linear'. Got {model!r}."
        )
    retriever = GaussianProcessRetriever(random_state=random_state)
    target = None if transformer is None else clone(transformer)
    return Pipeline([("retriever", TransformedTargetRetriever(retriever, target))])


def recommended_ensemble(*, transformer=None, random_state=None, n_jobs=None):
    """Make the best ensemble that this library knows, to be fitted.

    It takes SMILES and profiles, and needs a minute for some thousand profiles. Today:
    a :class:`VotingRetriever` of :func:`recommended_pipeline`, with weight 2, and of a
    :class:`~sklearn_molge.alignment.CoordinatedEmbedder` with the recommended settings.
    A later release may return another.

    Parameters
    ----------
    transformer : transformer, default=None
        As of :func:`recommended_pipeline`.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result each time.
    n_jobs : int, default=None
        Estimators that are fitted at a time.

    Returns
    -------
    ensemble : VotingRetriever
        Estimators "gaussian_process" and "tower".

    Examples
    --------
    >>> from sklearn_molge.retrieval import recommended_ensemble
    >>> [name for name, _ in recommended_ensemble(random_state=0).estimators]
    ['gaussian_process', 'tower']
    """
    # Here: torch is loaded for who asks for it.
    from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder

    seeds = [random_state] * 2
    if random_state is not None:
        draw = check_random_state(random_state)
        seeds = draw.randint(np.iinfo(np.int32).max, size=2).tolist()
    process = recommended_pipeline(transformer=transformer, random_state=seeds[0])
    tower = CoordinatedEmbedder(**PRESETS["recommended"], random_state=seeds[1])
    target = None if transformer is None else clone(transformer)
    return VotingRetriever(
        [
            ("gaussian_process", process),
            ("tower", TransformedTargetRetriever(tower, target)),
        ],
        weights=[2, 1],
        n_jobs=n_jobs,
    )
