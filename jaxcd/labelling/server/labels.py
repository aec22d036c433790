"""Routes of labels: what lies in a box, what was changed, changes, undo, history."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from jaxcd.labelling.server.coordinates import Coordinates
from jaxcd.labelling.server.overview import overview as overview_of
from jaxcd.labelling.server.requests import OBJECT, Changes, ObjectEdit, Seq, Verdict
from jaxcd.labelling.server.served import Author, Here, Pair, Viewer, features
from jaxcd.labelling.store import KEEP, PAIR, Edit, Entry, Saved

router = APIRouter(prefix="/api/pairs/{pair}")
_JSON = "application/json"
_LAST = 2**53  # beyond the number of any change
_Degrees = Annotated[float, Query(allow_inf_nan=False)]


@router.get("/objects", response_class=Response)
def objects(
    here: Here,
    shown: Pair,
    viewer: Viewer,
    west: _Degrees,
    south: _Degrees,
    east: _Degrees,
    north: _Degrees,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 5000,
) -> Response:
    """Return footprints and drawn objects that touch a box, as GeoJSON with their labels."""
    pair = shown.opened.pair.id
    _, seq = here.store.since(pair, _LAST, viewer)  # before the objects: what changes meanwhile comes again
    box = shown.coordinates.box(west, south, east, north)
    found, total = here.store.objects(pair, box, viewer=viewer, limit=limit) if box else ([], 0)
    tail = json.dumps({"total": total, "complete": total <= limit, "seq": seq})[1:]
    made = features(found, shown.coordinates)
    return Response(f'{{"type":"FeatureCollection","features":{made},{tail}', media_type=_JSON)


@router.get("/object/{item}", response_class=Response)
def one_object(here: Here, shown: Pair, viewer: Viewer, item: Annotated[str, Path(pattern=OBJECT)]) -> Response:
    """Return one object with its label, as `/objects` does; an empty list where there is none."""
    found = here.store.labels(shown.opened.pair.id, viewer=viewer, ids=[item])
    made = features([label for label in found if label.geometry is not None], shown.coordinates)
    return Response(f'{{"type":"FeatureCollection","features":{made}}}', media_type=_JSON)


@router.get("/overview")
def overview(here: Here, shown: Pair, viewer: Viewer) -> dict[str, Any]:
    """Count objects and labels in cells, for zooms at which the objects themselves are too many."""
    pair = shown.opened.pair.id
    _, seq = here.store.since(pair, _LAST, viewer)
    cells = overview_of(here.store, pair, viewer=viewer)
    return {"cells": [[*shown.coordinates.bounds(cell.box), *cell[1:]] for cell in cells], "seq": seq}


@router.post("/changes", response_class=Response)
def change(here: Here, shown: Pair, author: Author, body: Changes) -> Response:
    """Save edits; the answer means that they are on disk."""
    edits = [_edit(each, shown.coordinates) for each in body.edits]
    return _told(here.store.save(shown.opened.pair.id, body.id, author, edits), shown.coordinates)


@router.get("/changes", response_class=Response)
def changes(here: Here, shown: Pair, viewer: Viewer, since: Annotated[Seq, Query()]) -> Response:
    """Return the labels that changed since a number, and how far the pair is."""
    pair = shown.opened.pair.id
    found, seq = here.store.since(pair, since, viewer)
    rest = json.dumps({"progress": here.store.progress(pair, viewer), "seq": seq})[1:]
    return Response(f'{{"labels":{features(found, shown.coordinates)},{rest}', media_type=_JSON)


@router.post("/verdict")
def judge(here: Here, shown: Pair, author: Author, body: Verdict) -> dict[str, Any]:
    """Say what the whole pair is."""
    edit = Edit(object=PAIR, base=body.base, level=body.verdict)
    saved = here.store.save(shown.opened.pair.id, body.id, author, [edit])
    label = next(label for label in saved.labels if label.object == PAIR)
    return {"verdict": label.level, "version": label.version}


@router.post("/undo", response_class=Response)
def undo(here: Here, shown: Pair, author: Author) -> Response:
    """Undo the person's last change."""
    return _told(here.store.undo(shown.opened.pair.id, author), shown.coordinates)


@router.post("/redo", response_class=Response)
def redo(here: Here, shown: Pair, author: Author) -> Response:
    """Do again what the person undid last."""
    return _told(here.store.redo(shown.opened.pair.id, author), shown.coordinates)


@router.get("/history/{item}")
def history(
    here: Here, shown: Pair, viewer: Viewer, item: Annotated[str, Path(pattern=rf"{OBJECT[:-2]}|pair)$")]
) -> dict[str, Any]:
    """Return all that was ever said of an object."""
    steps = here.store.history(shown.opened.pair.id, item, viewer)
    return {"history": [_step(step) for step in steps]}


def _step(step: Entry) -> dict[str, Any]:
    # Outlines are long, and the page tells only that they were changed.
    changes = {name: [None, None] if name == "geometry" else list(values) for name, values in step.changes.items()}
    return {"version": step.version, "kind": step.kind, "author": step.author, "at": step.at, "changes": changes}


def _edit(given: ObjectEdit, coordinates: Coordinates) -> Edit:
    there = given.model_fields_set
    return Edit(
        object=given.object,
        base=given.base,
        level=given.level if "level" in there else KEEP,
        geometry=coordinates.read(given.geometry) if given.geometry is not None else None,
        comment=(given.comment or "") if "comment" in there else KEEP,
        deleted=given.deleted,
    )


def _told(saved: Saved, coordinates: Coordinates) -> Response:
    made = features(saved.labels, coordinates)
    return Response(f'{{"labels":{made},"seq":{saved.seq}}}', media_type=_JSON)
