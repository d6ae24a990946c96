"""make_app: the page and the REST interface as a FastAPI application."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import pandas as pd

from sklearn_molge._utils.answer_view import answer_to_csv, view_answer
from sklearn_molge._utils.messages import printable
from sklearn_molge._utils.pages import load_template
from sklearn_molge.app._guard import BusyError, Desk, Guard
from sklearn_molge.library import MoleculeIndex

try:
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
    from pydantic import BaseModel, Field
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    from sklearn_molge.app._service import Answer, Asked, Service, Why, genes_of
    from sklearn_molge.app._upload_store import UploadStore
except ImportError as error:
    raise ImportError(
        'sklearn_molge.app needs fastapi: pip install "sklearn-molge[app]"'
    ) from error

__all__ = ["make_app"]

_PACKAGE = "sklearn_molge.app"
# OpenChemLib 9.25.0, its editor of structures, as it is released (BSD-3-Clause).
_DRAWING = "openchemlib.js"
_SCRIPTS = dict.fromkeys(["page.js", "draw.js", _DRAWING], "text/javascript")
_STATIC = {"page.css": "text/css", **_SCRIPTS}
_GONE = "The file of this question is not kept any more: upload it again."


def make_app(
    index: MoleculeIndex,
    *,
    study: Any = None,
    token: str | None = None,
    hosts: Sequence[str] | None = ("localhost", "127.0.0.1", "[::1]"),
    title: str = "Molecules for a signature",
    n_permutations: int = 999,
    n_explained: int = 3,
    max_upload: int = 32 * 2**20,
    max_kept: int = 256 * 2**20,
    uploads: str | os.PathLike[str] | None = None,
    n_running: int | None = None,
    n_waiting: int = 100,
    timeout: float = 120.0,
) -> FastAPI:
    """Make a web application that answers questions about a library.

    Parameters
    ----------
    index : MoleculeIndex
        A fitted one, whose genes have names.
    study : Study, default=None
        Measured profiles, to which a molecule that is pasted is compared.
    token : str, default=None
        What every caller must know: ``?token=...`` once in a browser, which keeps a
        cookie then, or the header ``Authorization: Bearer ...``. None asks for none.
    hosts : sequence of str or None, \
            default=("localhost", "127.0.0.1", "[::1]")
        Names by which the server may be called, against DNS rebinding. None allows
        all, and needs a `token`.
    title : str, default="Molecules for a signature"
        Of the page.
    n_permutations : int, default=999
        As of :meth:`MoleculeIndex.query`.
    n_explained : int, default=3
        How many answers are explained, by the genes and atoms that speak for them,
        where somebody asks for that.
    max_upload : int, default=32 MiB
        Bytes that can be sent at once.
    max_kept : int, default=256 MiB
        Bytes of uploads that are kept in memory for their permalinks, the last ones.
    uploads : path-like, default=None
        Folder in which what was read of them is kept as well, within as many bytes, so
        that permalinks outlive the server. It is made where it is not there.
    n_running : int, default=None
        Questions that are worked on at once; None is the number of processors.
    n_waiting : int, default=100
        Questions that wait; more are refused with 503 and ``Retry-After``.
    timeout : float, default=120.0
        Seconds until a question is given up with 504.

    Returns
    -------
    app : FastAPI
        For uvicorn or any other server of ASGI.

    Raises
    ------
    ImportError
        If the extra ``app`` is not installed.
    OSError
        If the folder of the uploads cannot be written to.
    ValueError
        If the token is short, all `hosts` are allowed without one, or `study` lacks
        genes of the index.

    Warns
    -----
    DataWarning
        If files in the folder of the uploads are damaged, or of another model.

    See Also
    --------
    serve : Runs it.

    Notes
    -----
    No upload is unpickled, and none but a workbook unpacked; every answer has a
    Content-Security-Policy that allows no foreign script, style or picture, and no
    error shows a traceback. Threads cannot be stopped: a question that was given up
    keeps its thread until it is done.

    Examples
    --------
    >>> from sklearn_molge.app import make_app
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.library import MoleculeIndex
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn.pipeline import make_pipeline
    >>> study = make_perturbation_study(20, n_genes=30, level=5, random_state=0)
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=1.0))
    >>> index = MoleculeIndex(pipe.fit(study.smiles, study.ge), genes=study.genes)
    >>> app = make_app(index.fit(["CCO", "c1ccccc1O", "CC(=O)O"]))
    """
    if token is not None and len(token) < 8:
        raise ValueError(f"token must have 8 characters or more. Got {len(token)}.")
    if hosts is None and token is None:
        raise ValueError("hosts=None lets all names in, and needs a token. Got none.")
    service = Service(
        index, study=study, n_permutations=n_permutations, n_explained=n_explained,
        uploads=UploadStore(max_kept, genes_of(index), uploads),
    )  # fmt: skip
    desk = Desk(n_running or os.cpu_count() or 1, n_waiting, timeout)
    app = FastAPI(
        title=title,
        version=version("sklearn-molge"),
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_middleware(
        Guard,
        hosts=None if hosts is None else {host.lower() for host in hosts},
        token=token,
        max_bytes=max_upload,
    )
    pages = _Pages(title, service)
    _add_errors(app, pages)
    _add_answers(app, pages, service, desk)
    _add_other_pages(app, pages, service, desk)
    _add_interface(app, service, desk)
    return app


class _Pages:
    """Renders the templates."""

    def __init__(self, title: str, service: Service):
        self._shared = {"site": title, "service": service}

    def __call__(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        template = load_template(f"_{name}.html.jinja", _PACKAGE)
        return HTMLResponse(template.render(self._shared | values), status)

    def message(self, status: int, text: str) -> HTMLResponse:
        return self("message", status, text=printable(text))


# Errors


def _add_errors(app: FastAPI, pages: _Pages) -> None:
    """Show as text what the user can mend; of other errors Guard shows nothing."""

    def respond(request: Request, status: int, text: str, **headers: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": printable(text)}, status, headers)
        response = pages.message(status, text)
        response.headers.update(headers)
        return response

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return respond(request, error.status, str(error), **{"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return respond(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return respond(request, 422, f"{told}.")


def _told(function: Any) -> Any:
    """Turn what a user can mend into 400, and an upload that is gone into 410."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except KeyError as error:
            raise HTTPException(410, _GONE) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    return call


# Pages


def _add_answers(app: FastAPI, pages: _Pages, service: Service, desk: Desk) -> None:
    add: Any = {"include_in_schema": False}

    @app.post("/ask", **add)
    async def ask(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=40) as form:
            fields = {k: v for k, v in form.items() if isinstance(v, str)}
            file = form.get("file")
            if isinstance(file, UploadFile) and file.filename:
                content = await file.read()
                name = printable(Path(file.filename).name)[:80]
                fields["upload"] = await desk.run(_told(service.take), name, content)
        asked = _as_asked(fields)
        return RedirectResponse(f"/answer?{urlencode(_address(asked))}", 303)

    @app.get("/answer", **add)
    async def answer(asked: Annotated[Asked, Query()]) -> Response:
        def work() -> Response:
            found = service.answer(asked)
            views = list(view_answer(found.table)) if len(found.table) else []
            column, classes = service.enriched(found)
            return pages(
                "query", asked=asked, answer=found, views=views,
                counts=_counts(found.marks), column=column,
                map=service.map(found), classes=classes.to_dict("records"),
                address=urlencode(_address(asked)),
            )  # fmt: skip

        return await desk.run(_told(work))

    @app.get("/why", **add)
    async def why(asked: Annotated[Asked, Query()]) -> Response:
        def work() -> Response:
            address = urlencode(_address(asked))
            return pages("why", why=service.why(asked), address=address)

        return await desk.run(_told(work))

    @app.get("/answer.{form}", **add)
    async def download(form: str, asked: Annotated[Asked, Query()]) -> Response:
        write = _DOWNLOADS.get(form)
        if write is None:
            raise HTTPException(404, "There is no such page.")
        kind, text = await desk.run(_told(lambda: write(service.answer(asked))))
        name = f'attachment; filename="molecules.{form}"'
        return Response(text, media_type=kind, headers={"content-disposition": name})


def _add_other_pages(app: FastAPI, pages: _Pages, service: Service, desk: Desk) -> None:
    add: Any = {"include_in_schema": False}

    @app.get("/", **add)
    async def form(asked: Annotated[Asked, Query()]) -> Response:
        return pages("form", asked=asked)

    @app.get("/molecule", **add)
    async def molecule(smiles: Annotated[str, Query(max_length=500)] = "") -> Response:
        found = None
        if smiles.strip():
            found = await desk.run(_told(lambda: service.molecule(smiles.strip())))
        return pages("molecule", smiles=smiles, found=found)

    @app.get("/api", **add)
    async def interface() -> Response:
        return pages("interface", openapi=app.openapi())

    @app.get("/static/{name}", **add)
    async def static(name: str) -> Response:
        kind = _STATIC.get(name)
        if kind is None:
            raise HTTPException(404, "There is no such page.")
        if name == _DRAWING:
            text = files(_PACKAGE).joinpath("vendor", name).read_text("utf-8")
        else:
            text = load_template(f"_{name}.jinja", _PACKAGE).render()
        headers = {"cache-control": "max-age=3600"}
        return Response(text, media_type=kind, headers=headers)


def _as_asked(fields: dict[str, str]) -> Asked:
    known = {k: v for k, v in fields.items() if k in Asked.model_fields}
    try:
        return Asked.model_validate(known)
    except ValueError as error:
        told = "; ".join(
            f"{e['loc'][-1]}: {e['msg']}"
            for e in error.errors()  # type: ignore[attr-defined]
        )
        raise HTTPException(422, f"{told}.") from error


def _address(asked: Asked) -> dict[str, Any]:
    """Return what an address says; lists of genes with blanks."""
    fields = asked.set_fields()
    for name in ("up", "down"):
        if name in fields:
            fields[name] = " ".join(fields[name].split())
    return {name: "" if v is None else v for name, v in fields.items()}


def _counts(marks: pd.DataFrame) -> dict[str, int]:
    """Return how many genes were read how."""
    kinds = marks["status"].str.replace(r"^alias of .*", "alias", regex=True)
    return {str(kind): int(n) for kind, n in kinds.value_counts().items()}


def _csv(answer: Answer) -> tuple[str, str]:
    return "text/csv", answer_to_csv(answer.table)


def _html(answer: Answer) -> tuple[str, str]:
    return "text/html", answer.table.to_html()


def _sdf(answer: Answer) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="molge-") as folder:
        path = Path(folder) / "a.sdf"
        answer.table.to_sdf(path)
        return "chemical/x-mdl-sdfile", path.read_text(encoding="utf-8")


_DOWNLOADS = {"csv": _csv, "html": _html, "sdf": _sdf}


# The REST interface


class GenesQuestion(BaseModel):
    """Names of genes."""

    genes: list[str] = Field(max_length=5000)


class GeneMark(BaseModel):
    """How a name was read."""

    entry: str
    symbol: str | None = None
    status: str = Field(description="used, alias of X (how), not in the model, unknown")


class Found(BaseModel):
    """The answer to a question."""

    verdict: str
    better_than_noise: bool | None
    p_value: float | None
    q_value: float | None
    metric: str | None
    model: str | None
    n_molecules: int
    notes: list[str]
    genes: list[GeneMark]
    answers: list[dict[str, Any]] = Field(
        description="rank, molecule, name, score and the other columns of the table"
    )
    permalink: str


class GeneShare(BaseModel):
    """What a gene does for a match."""

    gene: str
    share: float = Field(description="of the similarity; above 0 it speaks for it")
    value: float = Field(description="in the query")


class Explained(BaseModel):
    """What speaks for a molecule."""

    rank: int
    molecule: str
    name: str
    genes: list[GeneShare] = Field(description="those that count most, first")
    atoms: list[float] = Field(
        description="share of each atom, in the order of the SMILES"
    )


class MoleculeQuestion(BaseModel):
    """A molecule."""

    smiles: str = Field(max_length=500)
    n: int = Field(25, ge=1, le=200)


class GeneValue(BaseModel):
    """A gene and a number."""

    gene: str
    value: float


class Expected(BaseModel):
    """What the model expects of a molecule."""

    how: str = Field(description="what the numbers of the genes are")
    up: list[GeneValue]
    down: list[GeneValue]
    signatures: list[dict[str, Any]] = Field(description="nearest measured profiles")


class Info(BaseModel):
    """What is asked here."""

    title: str
    version: str
    n_molecules: int
    n_genes: int
    metric: str
    reranks: bool
    columns: list[str]
    n_signatures: int


def _add_interface(app: FastAPI, service: Service, desk: Desk) -> None:
    @app.get("/api/info")
    async def info() -> Info:
        """Say what the library and the model are."""
        return Info(
            title=app.title, version=app.version,
            n_molecules=service.index.n_molecules_, metric=service.index.metric_,
            n_genes=len(service.gene_labels), reranks=service.index.reranks_,
            columns=service.columns,
            n_signatures=0 if service.study is None else len(service.study.ge),
        )  # fmt: skip

    @app.post("/api/genes")
    async def genes(question: GenesQuestion) -> list[GeneMark]:
        """Say of each name of a gene whether the model has it."""
        text = "\n".join(question.genes)
        return _marks(await desk.run(_told(service.mark), text, ""))

    @app.post("/api/query")
    async def query(asked: Asked) -> Found:
        """Rank the molecules of the library for up and down genes."""
        return await desk.run(_told(lambda: _found(service.answer(asked))))

    @app.post("/api/why")
    async def why(asked: Asked) -> list[Explained]:
        """Say which atoms and genes speak for the first molecules of a query."""
        return [_explained(each) for each in await desk.run(_told(service.why), asked)]

    @app.post("/api/molecule")
    async def molecule(question: MoleculeQuestion) -> Expected:
        """Say which genes a molecule moves, and which measured profiles are near."""
        found = await desk.run(_told(service.molecule), question.smiles, question.n)
        values = [
            [GeneValue(gene=gene, value=value) for gene, value in pairs]
            for pairs in (found.up, found.down)
        ]
        return Expected(
            how=found.how, up=values[0], down=values[1],
            signatures=_records(found.signatures),
        )  # fmt: skip


def _marks(table: pd.DataFrame) -> list[GeneMark]:
    return [
        GeneMark(entry=str(e), symbol=None if s is None else str(s), status=status)
        for e, s, status in zip(
            table["entry"], table["symbol"], table["status"], strict=True
        )
    ]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of plain values, with None for what is missing."""
    plain = pd.DataFrame(table).astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _explained(why: Why) -> Explained:
    genes = [GeneShare(gene=g, share=share, value=v) for g, share, v in why.genes]
    return Explained(
        rank=why.rank, molecule=why.smiles, name=why.name, genes=genes, atoms=why.atoms
    )


def _found(answer: Answer) -> Found:
    table = answer.table
    first: Any = table.iloc[0] if len(table) else {}
    compared = "better_than_noise" in first
    verdict = "No molecule passes the filters."
    if len(table):
        verdict = next(view_answer(table.head(1))).verdict
    return Found(
        verdict=verdict,
        better_than_noise=bool(first["better_than_noise"]) if compared else None,
        p_value=float(first["query_p_value"]) if compared else None,
        q_value=float(first["query_q_value"]) if compared else None,
        metric=table.attrs.get("metric"),
        model=table.attrs.get("model"),
        n_molecules=table.attrs.get("n_molecules", 0),
        notes=answer.notes,
        genes=_marks(answer.marks),
        answers=_records(table),
        permalink=f"/answer?{urlencode(_address(answer.asked))}",
    )
