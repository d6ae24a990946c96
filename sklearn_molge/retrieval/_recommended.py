"""What this library recommends, of what its benchmarks compared."""

from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state

from sklearn_molge._utils.typing import RandomState
from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.expression import GeneImputer, RankNormalizer, SourceScaler
from sklearn_molge.molecules import (
    AnnotationKernel,
    KernelFeatures,
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
    StructureKernel,
)
from sklearn_molge.retrieval._transformed import TransformedTargetRetriever
from sklearn_molge.retrieval._voting import VotingRetriever

__all__ = ["recommended_ensemble", "recommended_pipeline"]

_SHARE_OF_ANNOTATIONS = 0.15


def _joined_fingerprints():
    """Return six kinds of molecule features, counts on a log scale; sparse.

    Dense, its 8,700 columns take 6.8 GB at 97,000 profiles.
    """
    log = FunctionTransformer(
        np.log1p, accept_sparse=True, feature_names_out="one-to-one"
    )
    options = {"count": True, "sparse_output": True}
    counted = {
        "ecfp": MorganFingerprinter(2, **options),
        "fcfp": MorganFingerprinter(2, feature_invariants=True, **options),
        "atom_pair": MoleculeFingerprinter("atom_pair", **options),
        "torsion": MoleculeFingerprinter("torsion", **options),
    }
    union = FeatureUnion(
        [(name, make_pipeline(fp, log)) for name, fp in counted.items()]
        + [
            ("maccs", MoleculeFingerprinter("maccs", sparse_output=True)),
            ("descriptors", MoleculeDescriptors()),
        ]
    )
    # Whatever scikit-learn's `transform_output`: columns of its parts share names.
    return union.set_output(transform="default")


def _profiles(transformer, query_source):
    """Return what is done to profiles: the user's own, ranks, sources made alike."""
    steps = [] if transformer is None else [clone(transformer)]
    steps.append(RankNormalizer())
    if query_source is not None:
        scaler = SourceScaler(
            query_source=query_source, with_std=False, unit_length=True
        )
        with config_context(enable_metadata_routing=True):
            scaler.set_fit_request(sources=True).set_transform_request(sources=True)
        steps += [scaler, GeneImputer()]
    return make_pipeline(*steps)


def _pipeline(steps, retriever, transformer, query_source):
    """Join features of molecules, if any, and a retriever of transformed profiles."""
    if query_source is not None:
        with config_context(enable_metadata_routing=True):
            retriever.set_fit_request(sample_weight=True)
    target = TransformedTargetRetriever(retriever, _profiles(transformer, query_source))
    return Pipeline([*steps, ("retriever", target)])


def _linear(random_state):
    return CCA("auto", correlation_power=2, random_state=random_state)


def recommended_pipeline(
    *,
    model: str = "gaussian_process",
    annotations: Any = None,
    query_source: Any = None,
    transformer: Any = None,
    random_state: RandomState = None,
) -> Pipeline:
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
          keys and descriptors), 100 dimensions weighted by the square of their
          correlation.
    annotations : AnnotationKernel or None, default=None
        Mechanisms and targets of known molecules; its share of the process's kernel
        becomes 0.15. Its `exclude` should hold the candidates.
    query_source : object or None, default=None
        For profiles of several sources, the source whose queries will come, see
        :class:`~sklearn_molge.expression.SourceScaler`. Each source is centred apart,
        and missing genes are filled. `fit` then takes `sources` and `sample_weight`
        (see :func:`~sklearn_molge.datasets.source_weights`), with scikit-learn's
        metadata routing enabled.
    transformer : transformer, default=None
        Applied to the profiles first, such as
        :class:`~sklearn_molge.expression.L1000Featurizer` for a study with controls;
        None takes z-scores as they are.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result each time.

    Returns
    -------
    pipeline : Pipeline
        Its last step is "retriever". Profiles are replaced by normal scores of their
        ranks, see :class:`~sklearn_molge.expression.RankNormalizer`.

    Raises
    ------
    ValueError
        If `model` is another one, or the linear one gets `annotations`.
    TypeError
        If `annotations` is no AnnotationKernel.

    See Also
    --------
    recommended_ensemble : A vote of several.
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
        if annotations is not None:
            raise ValueError(
                "annotations is for model='gaussian_process'. Got model='linear'."
            )
        steps = [("molecules", _joined_fingerprints())]
        return _pipeline(steps, _linear(random_state), transformer, query_source)
    if model != "gaussian_process":
        raise ValueError(
            f"model must be 'gaussian_process' or 'linear'. Got {model!r}."
        )
    kernel = None
    if annotations is not None:
        if not isinstance(annotations, AnnotationKernel):
            raise TypeError(
                "annotations must be an AnnotationKernel, such as "
                "AnnotationKernel(smiles, annotation_matrix(smiles, table), "
                f"exclude=candidates). Got {type(annotations).__name__}."
            )
        share = _SHARE_OF_ANNOTATIONS
        kernel = (1 - share) * StructureKernel() + share * clone(annotations)
    process = GaussianProcessRetriever(
        kernel, profile_scaling="unit_length", random_state=random_state
    )
    return _pipeline([], process, transformer, query_source)


def recommended_ensemble(
    *,
    annotations: Any = None,
    query_source: Any = None,
    transformer: Any = None,
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> VotingRetriever:
    """Make the best ensemble that this library knows, to be fitted.

    It takes SMILES and profiles. Today: a :class:`VotingRetriever` of
    :func:`recommended_pipeline` and of kernel CCA, which is
    :class:`~sklearn_molge.alignment.CCA` of
    :class:`~sklearn_molge.molecules.KernelFeatures`; with `annotations` also of a
    process that uses them. A later release may return another.

    Parameters
    ----------
    annotations : AnnotationKernel or None, default=None
        As of :func:`recommended_pipeline`.
    query_source : object or None, default=None
        As of :func:`recommended_pipeline`.
    transformer : transformer, default=None
        As of :func:`recommended_pipeline`.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result each time.
    n_jobs : int, default=None
        Estimators that are fitted at a time.

    Returns
    -------
    ensemble : VotingRetriever
        Estimators "gaussian_process" and "kernel_cca", and with `annotations`
        "annotated".

    Examples
    --------
    >>> from sklearn_molge.retrieval import recommended_ensemble
    >>> [name for name, _ in recommended_ensemble(random_state=0).estimators]
    ['gaussian_process', 'kernel_cca']
    """
    seeds = [random_state] * 4
    if random_state is not None:
        draw = check_random_state(random_state)
        seeds = draw.randint(np.iinfo(np.int32).max, size=4).tolist()
    data = {"transformer": transformer, "query_source": query_source}
    features = [("molecules", KernelFeatures(random_state=seeds[1]))]
    members = [
        ("gaussian_process", recommended_pipeline(**data, random_state=seeds[0])),
        ("kernel_cca", _pipeline(features, _linear(seeds[2]), **data)),
    ]
    if annotations is not None:
        annotated = recommended_pipeline(
            annotations=annotations, **data, random_state=seeds[3]
        )
        members.append(("annotated", annotated))
    return VotingRetriever(members, n_jobs=n_jobs)
