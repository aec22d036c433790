"""The app: routes, what becomes of errors, and the guard before all."""

import asyncio
import errno
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

import jaxcd
from jaxcd.base.errors import DiskFullError, JaxcdError, LabelError, WriteError
from jaxcd.labelling.imagery import Imagery
from jaxcd.labelling.learning import tuning
from jaxcd.labelling.learning.scoring import Scorer
from jaxcd.labelling.learning.tuner import Tuner
from jaxcd.labelling.server import files, labels, people, tiles
from jaxcd.labelling.server.coordinates import Coordinates
from jaxcd.labelling.server.learning import fine_tuning, sample, scores
from jaxcd.labelling.server.security import Guard, Secrets, refused
from jaxcd.labelling.server.served import Served, Shown, features, served_of, without_folders
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Conflict, Store
from jaxcd.labelling.workspace import OpenPair

_NOTHING = ("nothing to undo", "nothing to redo", "no such object", "no such pair")


def create_app(opened: Sequence[OpenPair], store: Store, settings: LabelSettings, secrets: Secrets) -> FastAPI:
    """Make the app.

    Args:
        opened: the pairs.
        store: of their labels.
        settings: of the server.
        secrets: of `read_secrets`.
    """
    scorer = Scorer(store, opened, settings.run)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(scorer.stop)

    made = FastAPI(
        title="jaxcd.label",
        version=jaxcd.__version__,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=life,
    )
    threads = max(2, min(8, os.cpu_count() or 1))
    counts = store.units()
    made.state.served = Served(
        pairs={
            each.pair.id: Shown(
                each,
                Imagery(each, settings.scaling),
                Coordinates(each),
                counts[each.pair.id],
                counts[each.pair.id] if each.pair.footprints else None,
            )
            for each in opened
        },
        store=store,
        settings=settings,
        secrets=secrets,
        scorer=scorer,
        readers=ThreadPoolExecutor(threads, thread_name_prefix="tiles"),
        turns=asyncio.Semaphore(threads),
        files=asyncio.Semaphore(1),
    )
    folder = store.path.parent

    def show_network() -> None:
        if found := tuning.network_scores(folder):  # none of pairs without footprints
            scorer.show_network(found, tuning.network_run(folder))

    made.state.tuner = Tuner(folder, settings.run, settings.scaling, done=show_network)
    show_network()
    for part in (tiles, people, labels, files, scores, sample, fine_tuning):
        made.include_router(part.router)
    made.add_exception_handler(HTTPException, _http)
    made.add_exception_handler(RequestValidationError, _malformed)
    made.add_exception_handler(Conflict, _conflict)
    made.add_exception_handler(JaxcdError, _told)
    made.add_exception_handler(OSError, _unwritten)
    made.add_exception_handler(Exception, _failed)
    return made


def guarded(app: FastAPI, settings: LabelSettings, secrets: Secrets) -> ASGIApp:
    """Put the guard before an app."""
    return Guard(app, private=settings.private, secrets=secrets, read_only=settings.read_only)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, str(error.detail))


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return refused(422, f"{where[:100]}: {first['msg']}" if where else str(first["msg"]))


def _conflict(request: Request, error: Exception) -> Response:
    assert isinstance(error, Conflict)
    shown = served_of(request).pairs[request.path_params["pair"]]
    labels = features(error.labels, shown.coordinates)
    text = json.dumps({"error": str(error)})[:-1]
    return Response(f'{text},"labels":{labels}}}', 409, media_type="application/json")


def _told(request: Request, error: Exception) -> Response:
    text = without_folders(str(error))
    if isinstance(error, DiskFullError | WriteError):
        print(f"error: {error}", file=sys.stderr, flush=True)
        return refused(507, text)
    if isinstance(error, LabelError) and any(words in text for words in _NOTHING):
        return refused(404, text)
    return refused(422, text)


def _unwritten(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    print(f"error: {error}", file=sys.stderr, flush=True)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return refused(507, "the server's disk for temporary files is full; free some space and try again")
    return refused(422, "the server cannot read or write a file of this; what it printed says which")


def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this, and uvicorn prints the traceback.
    return refused(500, "the server failed; what it printed says why")
