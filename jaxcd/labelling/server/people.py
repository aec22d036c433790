"""Routes about who labels and what: the session, the pairs, the next task, the agreement of people."""

import dataclasses
import math
from typing import Any

from fastapi import APIRouter, Request, Response

import jaxcd
from jaxcd.base.scales import Scale
from jaxcd.labelling.agreement import agreement as agreement_of
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.server.requests import After, Name
from jaxcd.labelling.server.security import set_cookie
from jaxcd.labelling.server.served import PERSON_COOKIE, Author, Here, Shown, Viewer
from jaxcd.labelling.store import STATES, VERDICTS, blind
from jaxcd.labelling.store.counting import Progress

router = APIRouter(prefix="/api")
_STATE_COLOURS = ("#8c8c8c", "#f5f5f5")
_STATE_KEYS, _VERDICT_KEYS = ("u", "c"), ("D", "I", "B")


@router.get("/session")
async def session(request: Request, here: Here) -> dict[str, Any]:
    """Tell who asks, and what there is to say of buildings and pairs."""
    found = await here.person(request)
    return _session(here, None if found is None else found[0])


@router.post("/session")
def begin(request: Request, response: Response, here: Here, body: Name) -> dict[str, Any]:
    """Say who labels; a cookie keeps it."""
    name = " ".join(body.name.split())
    here.store.person(name)
    cookie = here.secrets.cookie(PERSON_COOKIE)
    set_cookie(response, cookie, here.secrets.signed(name), secure=request.url.scheme == "https")
    return _session(here, name)


@router.get("/pairs")
def pairs(here: Here, viewer: Viewer) -> dict[str, Any]:
    """List the pairs with what is known of them, and how far their labels are."""
    known = here.store.progress_of_all(viewer)
    return {"pairs": [_described(shown, known[key]) for key, shown in here.pairs.items()]}


@router.post("/next")
def following(here: Here, author: Author, body: After) -> dict[str, Any]:
    """Give the person something to label that nobody else is at."""
    queues = Queues(here.store, here.settings.second_opinions, pairs=here.pairs)
    task = queues.next(author, after=body.after if body.after in here.pairs else None)
    if task is None:
        return {"task": None}
    shown = here.pairs[task.pair_id]
    return {
        "task": {
            "pair": task.pair_id,
            "bounds": shown.coordinates.bounds(task.area) if task.area else list(shown.opened.bounds),
            "objects": task.objects,
            "second": task.second,
        }
    }


@router.get("/agreement")
def agreement(here: Here) -> dict[str, Any]:
    """Compare what people said of the same objects."""
    return {"agreement": _plain(agreement_of(here.store))}


def _session(here: Here, name: str | None) -> dict[str, Any]:
    scale: Scale = here.store.scale
    levels = [
        {"name": level, "colour": colour, "key": str(number)}
        for number, (level, colour) in enumerate(zip(scale.levels, scale.colours, strict=True), start=1)
    ]
    states = zip(STATES, _STATE_COLOURS, _STATE_KEYS, strict=True)
    return {
        "person": name,
        "read_only": here.settings.read_only,
        "scale": {"name": scale.name, "levels": levels, "damaged": scale.damaged},
        "states": [{"name": state, "colour": colour, "key": key} for state, colour, key in states],
        "verdicts": [{"name": verdict, "key": key} for verdict, key in zip(VERDICTS, _VERDICT_KEYS, strict=True)],
        "version": jaxcd.__version__,
        "store": here.store.id,
        "unit": blind.unit(here.store),
    }


def _described(shown: Shown, progress: Progress) -> dict[str, Any]:
    opened = shown.opened
    least, most = shown.imagery.zooms
    return {
        "id": opened.pair.id,
        "title": opened.pair.title,
        "georeferenced": opened.pair.epsg is not None,
        "bounds": list(opened.bounds),
        "size": [opened.pair.width, opened.pair.height],
        "min_zoom": least,
        "max_zoom": most,
        "footprints": shown.footprints,
        "units": shown.units,
        "shift": None if opened.shift is None else list(opened.shift),
        "dates": list(opened.dates),
        "progress": progress,
    }


def _plain(value: Any) -> Any:
    """Return dataclasses as dictionaries, and no number where there is none: JSON knows no NaN."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
