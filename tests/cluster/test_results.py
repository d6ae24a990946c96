"""In two processes of Dask or Ray: the same results, also when one is killed."""

import os
import tempfile

import numpy as np
import pytest
from hyperopt import hp
from joblib import parallel_config
from joblib.parallel import ThreadingBackend
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.evaluation import AlignedView, evaluate_study
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    HyperoptSearchCV,
)
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.parallel import DaskBackend
from sklearn_molge.retrieval import VotingRetriever

pytestmark = pytest.mark.slow


def pipeline(step, n_components=4):
    return make_pipeline(
        MorganFingerprinter(fp_size=128), step, CCA(n_components, ridge=0.1)
    )


def cross_validated(study, step):
    scores = cross_validate(
        pipeline(step),
        study.smiles,
        study.ge,
        groups=study.groups,
        cv=DrugCellLineKFold(3, 2, random_state=0),
        scoring=RetrievalScorer(),
    )
    return {name: scores[name] for name in scores if name.startswith("test")}


def searched(study, step):
    search = HyperoptSearchCV(
        pipeline(step),
        {"cca__ridge": hp.loguniform("ridge", -3, 2)},
        n_iter=4,
        n_suggestions=2,
        cv=DrugCellLineKFold(2, 2, random_state=0),
        scoring=RetrievalScorer(),
        refit="mrr",
        random_state=0,
    ).fit(study.smiles, study.ge, groups=study.groups)
    similarities = search.best_estimator_[-1].similarity(
        search.best_estimator_[:-1].transform(study.smiles), study.ge
    )
    scores = search.cv_results_["mean_test_mrr"]
    drawn = search.cv_results_["param_cca__ridge"].astype(float)
    return {"similarities": similarities, "scores": scores, "drawn": drawn}


def evaluated(study, step):
    view = AlignedView("molecules", embedder="shared")
    report = evaluate_study(
        study,
        methods={
            "alone": pipeline(step),
            "shared": make_pipeline(view, CCA(3, ridge=0.1)),
        },
        embedders={"shared": pipeline(step)},
        n_repeats=2,
        inspect=False,
        figures=False,
    )
    assert report.tables["table1"].index.tolist() == ["chance", "alone", "shared"]
    return {"ranks": report.ranks.to_numpy(), "names": report.ranks.columns.to_numpy()}


def voted(study, step):
    voters = [(str(n), pipeline(step, n)) for n in (3, 4, 5, 6)]
    model = VotingRetriever(voters).fit(study.smiles, study.ge)
    return {"similarities": model.similarity(study.smiles[:20], study.ge[:20])}


def embedded(study, step):
    model = pipeline(step).fit(study.smiles, study.ge)
    library = np.concatenate([study.smiles, ["C1CC", "CCO"]]).astype(object)
    index = MoleculeIndex(model, unique_by=None, batch_size=20).fit(library)
    assert index.skipped_["library_row"].tolist() == [240]
    rows = np.arange(index.n_rows_)
    return {
        "similarities": index.similarity_to_rows(study.ge[:20], rows),
        "texts": index.get_molecules()["smiles"].to_numpy(dtype=object),
    }


# Each with the call at which a worker is killed.
JOBS = {
    cross_validated: {},
    searched: {},
    evaluated: {},
    voted: {"number": 1},
    embedded: {"number": 5, "method": "transform"},
}


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("backend", ["dask", DaskBackend])
def test_results_are_those_of_one_process(job, backend, client, study, hostage):
    expected = job(study, hostage())
    if not isinstance(backend, str):
        backend = backend(client)
    with parallel_config(backend=backend):
        assert_equal(job(study, hostage()), expected)


@pytest.mark.parametrize("job", JOBS)
def test_killed_worker_changes_nothing(job, mortal_client, study, hostage, killer):
    expected = job(study, hostage())
    workers = set(mortal_client.run(os.getpid).values())
    with parallel_config(backend=DaskBackend(mortal_client)):
        got = job(study, hostage(killer.folder, **JOBS[job]))
    assert killer.killed in workers
    assert killer.killed not in set(mortal_client.run(os.getpid).values())
    assert_equal(got, expected)


class AllAtTheEnd(ThreadingBackend):
    """Has no generators, like joblib's backends other than loky and Dask."""

    supports_return_generator = False


def test_a_study_without_generators(study):
    expected = evaluated(study, "passthrough")
    with parallel_config(backend=AllAtTheEnd(), n_jobs=2):
        assert_equal(evaluated(study, "passthrough"), expected)


@pytest.fixture(scope="module")
def ray():
    """Ray with two processes, where it is installed."""
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", folder)  # it keeps a token there
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        register_ray()
        yield ray
        ray.shutdown()


@pytest.mark.parametrize("job", [cross_validated, evaluated])
def test_results_under_ray_are_those_of_one_process(job, ray, study):
    expected = job(study, "passthrough")
    with parallel_config(backend="ray", n_jobs=2):
        assert_equal(job(study, "passthrough"), expected)
