"""Routes of the fine-tuning: start, progress, cancel; and the polygons that its maps suggest."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import shapely
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jaxcd.labelling.learning.suggested import open_suggestions, reject
from jaxcd.labelling.learning.tuner import Busy, Tuner
from jaxcd.labelling.learning.tuning import TuneSettings
from jaxcd.labelling.server.requests import PAIR_ID, Strict
from jaxcd.labelling.server.served import Author, Here, Shown, Viewer, without_folders

router = APIRouter(prefix="/api")
_DRAWN = r"^d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_FEATURE = '{"type":"Feature","id":%s,"geometry":%s,"properties":%s}'


def _tuner(request: Request) -> Tuner:
    return request.app.state.tuner


Tuning = Annotated[Tuner, Depends(_tuner)]


class Wanted(Strict):
    """How to fine-tune; what is not given is as on the command line."""

    steps: Annotated[int, Field(ge=1, le=10**6)] | None = None
    batch: Annotated[int, Field(ge=1, le=10**4)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    encoder_lr_scale: Annotated[float, Field(ge=0, le=10)] | None = None


class Rejected(Strict):
    """Suggestions that somebody does not want, or wants again."""

    pair: Annotated[str, Field(pattern=PAIR_ID)]
    ids: Annotated[list[Annotated[str, Field(pattern=_DRAWN)]], Field(min_length=1, max_length=5000)]
    rejected: bool = True


@router.get("/fine_tune")
def progress(tuner: Tuning) -> dict[str, Any]:
    """Return how far the fine-tuning is."""
    found = tuner.progress()
    return {**found._asdict(), "message": without_folders(found.message)}


@router.post("/fine_tune")
def start(tuner: Tuning, author: Author, body: Wanted) -> dict[str, Any]:
    """Start a fine-tuning on the labels of now."""
    given = body.model_dump(exclude_none=True)
    try:
        tuner.start(TuneSettings(**{**asdict(TuneSettings()), **given}))
    except Busy as error:
        raise HTTPException(409, str(error)) from error
    return progress(tuner)


@router.delete("/fine_tune")
def cancel(tuner: Tuning, author: Author) -> dict[str, Any]:
    """Ask the fine-tuning to save and end; starting it again on the same labels goes on."""
    try:
        tuner.cancel()
    except Busy as error:
        raise HTTPException(409, str(error)) from error
    return progress(tuner)


@router.get("/suggestions", response_class=Response)
def suggestions(here: Here, viewer: Viewer, pair: Annotated[str, Query(pattern=PAIR_ID)]) -> Response:
    """Return the polygons that the fine-tuned network suggests and nobody has accepted or rejected."""
    shown = _shown(here, pair)
    found = open_suggestions(here.store, pair, viewer)
    shapes = shown.coordinates.written([shapely.from_wkb(one["outline"]) for one in found])
    made = [
        _FEATURE % (json.dumps(one["id"]), shape, json.dumps({k: one[k] for k in ("level", "probability")}))
        for one, shape in zip(found, shapes, strict=True)
    ]
    return Response(f'{{"type":"FeatureCollection","features":[{",".join(made)}]}}', media_type="application/json")


@router.post("/suggestions")
def decide(here: Here, author: Author, body: Rejected) -> dict[str, Any]:
    """Remember suggestions that somebody rejects, or forget that."""
    _shown(here, body.pair)
    return {"rejected": len(reject(here.store, body.pair, body.ids, rejected=body.rejected))}


def _shown(here: Here, pair: str) -> Shown:
    if pair not in here.pairs:
        raise HTTPException(404, "no such pair")
    return here.pairs[pair]
