"""``molge train``: a model of a study, with honest scores, in a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._options import (
    PATH,
    Output,
    check_out,
    option,
    output,
    seed,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import (
    check_study,
    load_study,
    of_changes,
    sizes_of_split,
    split_options,
    study_options,
)

if TYPE_CHECKING:
    from sklearn_molge.datasets import Study

__all__ = ["command"]

_EXAMPLES = """
molge train --data path/to/lincs --out model.molge
molge train --data study.h5ad --model cca --test-drugs 0.2 --out model.molge
molge train --data study.h5ad --coverage 0.9 --out model.molge
molge train --data study.h5ad --model mine.py:make_pipeline --out model.molge
"""
_MODELS = {
    "recommended": "what ranks best",
    "gp": "a Gaussian process of structures",
    "cca": "linear, needs seconds",
    "paper": "the networks of Finlayson et al., needs torch",
}


@make_command(examples=_EXAMPLES)
@study_options()
@option(
    "Model",
    "--model",
    default="recommended",
    metavar="MODEL",
    help="; ".join(f"{name}: {what}" for name, what in _MODELS.items())
    + "; or FILE.py:NAME, an estimator, or a function without parameters that makes "
    "one, of a file of your own, which is run",
)
@option(
    "Model",
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="calibrate sets that hold the molecule of a profile with this probability, on "
    "drugs and cell lines that are held out: about nine times the training; searches "
    "then say what can be left out",
)
@option(
    "Model",
    "--score/--no-score",
    default=True,
    help="first train on a part, and rank drugs that it has not seen, in cell lines "
    "that it has not seen",
)
@split_options()
@option("Model file", "--out", type=PATH, required=True, metavar="FILE")
@option("Model file", "--force", is_flag=True, help="replace a file that is there")
@option(
    "Model file",
    "--background",
    is_flag=True,
    help="keep the molecules and at most 2,000 profiles of the study in the file, by "
    "which molge index judges answers without --data: whoever has the file can read "
    "them",
)
@option("Model file", "--description", metavar="TEXT", help="what the file is to say")
@option("Model file", "--data-licence", metavar="TEXT", help="licence of the data")
@seed
@output()
def command(given: Any) -> int:
    """Train a model, and write it to a file that may be shared.

    It is trained on all profiles of the study. The scores in the file are those of the
    same model without a part of the drugs and cell lines, on which it was tested; sets
    of --coverage change no rank.
    Intensities (level 3) become z-scores first, since queries are changes.
    """
    check_out(given.out, force=given.force)
    check_study(given)
    make = _maker(given.model, given.random_state)
    sure = _calibrated(make(), given)
    _check_storable(sure)
    from sklearn_molge.persistence import save_model

    said = Output.of(given)
    study = of_changes(load_study(given), said)
    said.step(str(study))
    _warn_of_few(study)
    scores = _score(make(), study, given, said) if given.score else None
    said.step(f"Training on {len(study):,} profiles ...")
    if given.coverage:
        said.step("Calibrating its sets takes up to eight trainings more ...")
    model = _fit(sure, study)
    save_model(
        model,
        given.out,
        description=given.description or f"molge train --model {given.model}",
        training_data=f"{', '.join(given.data)}: {study}",
        scores=None if scores is None else _of_file(scores),
        data_licence=given.data_licence,
        background=study if given.background else None,
    )
    told = "" if scores is None else f"{_told(scores)}\n"
    facts = {"out": given.out, "study": str(study), "scores": scores}
    said.result(f"{told}The model is {given.out}", facts)
    return 0


def _warn_of_few(study: Study) -> None:
    """Say before the training that more drugs would help most."""
    from sklearn_molge.exceptions import FewDrugsWarning

    n_drugs = len(set(study.groups[:, 0]))
    if n_drugs < FewDrugsWarning.fewest:
        warnings.warn(FewDrugsWarning(n_drugs), stacklevel=2)


# The model


def _check_storable(model: Any) -> None:
    """Try, before any work, whether a model file can hold a model."""
    from sklearn_molge.exceptions import UnstorableModelError
    from sklearn_molge.persistence import save_model

    with TemporaryDirectory() as folder:
        try:
            save_model(model, Path(folder, "unfitted.molge"))
        except UnstorableModelError as error:
            raise ValueError(f"--model: {error}") from error


def _calibrated(model: Any, given: Any) -> Any:
    """Return what is fitted on all profiles: with --coverage also its sets."""
    if given.coverage is None:
        return model
    from sklearn_molge.retrieval import ConformalRetriever

    if isinstance(model, ConformalRetriever):
        raise ValueError("--coverage: the model of --model is calibrated already.")
    return ConformalRetriever(
        model, coverage=given.coverage, random_state=given.random_state
    )


def _maker(name: str, random_state: int) -> Callable[[], Any]:
    """Return a function that makes the estimator of this name."""
    path, _, attribute = name.rpartition(":")
    if path.endswith(".py"):
        return _own(Path(path), attribute)
    if name not in _MODELS:
        raise ValueError(
            f"--model must be one of {', '.join(_MODELS)} or FILE.py:NAME. Got {name}."
        )
    if name == "paper":
        from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder

        settings = {**PRESETS["paper"], "random_state": random_state}
        return lambda: CoordinatedEmbedder(**settings)
    from sklearn_molge.retrieval import recommended_pipeline

    kinds = {"gp": {"model": "gaussian_process"}, "cca": {"model": "linear"}}
    chosen = kinds.get(name, {})
    return lambda: recommended_pipeline(**chosen, random_state=random_state)


def _own(path: Path, name: str) -> Callable[[], Any]:
    """Run a user's file, and return what makes the estimator in it."""
    if not path.is_file():
        raise FileNotFoundError(f"--model: there is no {path}.")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, name)
        if isinstance(made, type) or not hasattr(made, "fit"):
            made = made()
        if not hasattr(made, "fit"):
            raise TypeError(f"{name} is no estimator")
    except Exception as error:
        raise ValueError(f"--model: {path}: {type(error).__name__}: {error}") from error
    from sklearn.base import clone

    return lambda: clone(made)


def _fit(model: Any, study: Study) -> Any:
    """Fit a model on profiles whose genes have names."""
    from sklearn.utils.validation import has_fit_parameter

    groups = {"groups": study.groups} if has_fit_parameter(model, "groups") else {}
    return model.fit(study.smiles, study.profiles(), **groups)


# How good it is


def _score(model: Any, study: Study, given: Any, said: Output) -> dict[str, Any]:
    """Rank unseen drugs in unseen cell lines."""
    from sklearn_molge.evaluation import draw_split
    from sklearn_molge.metrics import bootstrap_scores, chance_scores, retrieval_ranks

    # Nothing is selected, so no part is kept for that.
    sizes = {"val_drugs": 0, "val_cell_lines": 0} | sizes_of_split(given)
    split = draw_split(study.groups, random_state=given.random_state, **sizes)
    train, test = study[split.train], study[split.test]
    said.step(
        f"Scoring: trained on {len(train):,} profiles, tested on {len(test):,} of "
        "other drugs in other cell lines ..."
    )
    ranks = retrieval_ranks(_fit(model, train), test.smiles, test.profiles())
    drugs = test.groups[:, 0]
    names = ["mrr", "hits@10"]
    table = bootstrap_scores(
        ranks, drugs, scores=names, random_state=given.random_state
    )
    n_candidates = len(set(drugs))
    chance = chance_scores(n_candidates, scores=names)
    scores = {
        str(name): {
            "score": float(row["score"]),
            "low": float(row["low"]),
            "high": float(row["high"]),
            "chance": float(chance[str(name)]),
        }
        for name, row in table.iterrows()
    }
    return scores | {"n_candidates": n_candidates, "n_profiles": len(test)}


def _of_file(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores as a model file has them."""
    table = {}
    for name in ("mrr", "hits@10"):
        row = scores[name]
        table[name] = row["score"], row["low"], row["high"]
        table[f"{name} by chance"] = row["chance"]
    return table | {"drugs that were ranked": scores["n_candidates"]}


def _told(scores: dict[str, Any]) -> str:
    """Write scores in lines, with their intervals and what chance is."""
    words = {
        "mrr": "mean reciprocal rank of the right drug",
        "hits@10": "share of profiles whose drug is among the first 10",
    }
    lines = [
        f"{words[name]}: {row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
        f"chance {row['chance']:.3f}"
        for name, row in scores.items()
        if name in words
    ]
    lines.append(
        f"(of {scores['n_profiles']:,} profiles; {scores['n_candidates']:,} drugs are "
        "ranked, none of them, nor of their cell lines, was trained on; 95 % intervals)"
    )
    return "\n".join(lines)
