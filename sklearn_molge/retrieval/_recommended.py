"""What this library recommends, of what its benchmarks compared."""

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.utils import check_random_state

from sklearn_molge.alignment import CCA
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
    return FeatureUnion(
        [(name, make_pipeline(fp, log)) for name, fp in counted.items()]
        + [
            ("maccs", MoleculeFingerprinter("maccs")),
            ("descriptors", MoleculeDescriptors()),
        ]
    )


def _pipeline(molecules, retriever, transformer):
    """Join features of molecules and a retriever of profiles of unit length."""
    unit = Normalizer()
    profiles = unit if transformer is None else make_pipeline(clone(transformer), unit)
    target = TransformedTargetRetriever(retriever, profiles)
    return Pipeline([("molecules", molecules), ("retriever", target)])


def recommended_pipeline(*, transformer=None, random_state=None):
    """Make the best single estimator that this library knows, to be fitted.

    It takes SMILES and profiles, has a joint space, and needs a few seconds for some
    thousand profiles. Today: :class:`~sklearn_molge.alignment.CCA` of six kinds of
    molecule features (counts of ECFP, FCFP, atom pairs and torsions on a log scale,
    MACCS keys and descriptors) and of profiles scaled to unit length, 100 dimensions
    weighted by the square of their correlation. A later release may return another.

    Parameters
    ----------
    transformer : transformer, default=None
        Applied to the profiles first, such as
        :class:`~sklearn_molge.expression.L1000Featurizer` for a study with controls;
        None takes z-scores as they are.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result each time.

    Returns
    -------
    pipeline : Pipeline
        Steps "molecules" and "retriever".

    See Also
    --------
    recommended_ensemble : Better, and slower.
    sklearn_molge.alignment.PRESETS : Settings of the towers that are trained.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.retrieval import recommended_pipeline
    >>> study = make_perturbation_study(
    ...     150, n_cell_lines=2, n_genes=120, level=5, random_state=0
    ... )
    >>> pipe = recommended_pipeline(random_state=0).fit(study.smiles, study.ge)
    >>> pipe.transform(["CCO"]).shape
    (1, 100)
    """
    cca = CCA(100, correlation_power=2, random_state=random_state)
    return _pipeline(_joined_fingerprints(), cca, transformer)


def recommended_ensemble(*, transformer=None, random_state=None, n_jobs=None):
    """Make the best ensemble that this library knows, to be fitted.

    It takes SMILES and profiles, and needs minutes for some thousand profiles. Today: a
    :class:`VotingRetriever` of :func:`recommended_pipeline`, of
    :class:`~sklearn_molge.alignment.CCA` of Morgan fingerprints, and of three
    :class:`~sklearn_molge.alignment.CoordinatedEmbedder`: the recommended settings,
    which start from CCA, and twice the same from random weights. All have a joint
    space, so that a :class:`~sklearn_molge.library.MoleculeIndex` searches with it as
    fast as with one of them. A later release may return another.

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
        Estimators "cca", "cca_morgan", "tower", "tower_1" and "tower_2".

    Examples
    --------
    >>> from sklearn_molge.retrieval import recommended_ensemble
    >>> [name for name, _ in recommended_ensemble(random_state=0).estimators]
    ['cca', 'cca_morgan', 'tower', 'tower_1', 'tower_2']
    """
    # Here: torch is loaded for who asks for it.
    from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder

    seeds = [random_state] * 4
    if random_state is not None:
        draw = check_random_state(random_state)
        seeds = draw.randint(np.iinfo(np.int32).max, size=4).tolist()
    cca = CCA(50, correlation_power=1, random_state=seeds[0])
    estimators = [
        ("cca", recommended_pipeline(transformer=transformer, random_state=seeds[0])),
        ("cca_morgan", _pipeline(MorganFingerprinter(), cca, transformer)),
    ]
    random_start = {"module__start": "random", "lr": 1e-3, "max_epochs": 20}
    settings = {"tower": {}, "tower_1": random_start, "tower_2": random_start}
    for (name, more), seed in zip(settings.items(), seeds[1:], strict=True):
        options = PRESETS["recommended"] | more
        tower = CoordinatedEmbedder(**options, random_state=seed)
        target = None if transformer is None else clone(transformer)
        estimators.append((name, TransformedTargetRetriever(tower, target)))
    return VotingRetriever(estimators, n_jobs=n_jobs)
