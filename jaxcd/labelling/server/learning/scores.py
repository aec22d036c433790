"""Routes of scores: how far they are, those of a pair, and the buildings to judge next."""

import math
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from jaxcd.labelling.learning.scoring import READY, State
from jaxcd.labelling.server.requests import PAIR_ID
from jaxcd.labelling.server.served import Here, Viewer, without_folders
from jaxcd.labelling.store import blind
from jaxcd.labelling.store.reading import hidden_areas, hidden_places

router = APIRouter(prefix="/api")
_Pair = Annotated[str, Query(pattern=PAIR_ID)]
_DIGITS = 3


@router.get("/scores")
def scores(
    here: Here,
    viewer: Viewer,
    pair: _Pair,
    since: Annotated[int, Query(ge=0, le=2**53)] = 0,
    source: Literal["head", "network"] | None = None,
) -> dict[str, Any]:
    """Return the probability of damage of a pair's footprints, but of the blind sample's and of those not seen."""
    _known(here, pair)
    state = here.scorer.state
    used = state.source(source)
    return {
        "state": READY if state.probabilities(used) is not None else state.phase,
        "reason": without_folders(state.reason) if state.reason else None,
        "done": state.done,
        "total": state.total,
        "labels": state.labels,
        "number": state.number,
        "sample": blind.state(here.store)[1],
        "source": used,
        "encoder": without_folders(state.encoder),
        "objects": None if since == state.number else _told(here, state, pair, viewer, used),
    }


@router.get("/next")
def following(
    here: Here,
    viewer: Viewer,
    pair: _Pair,
    order: Literal["uncertain", "diverse", "random"] = "uncertain",
    count: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    """Return footprints of a pair to judge next: never a member of the blind sample, none that is judged or unseen."""
    _known(here, pair)
    state = here.scorer.state
    if state.buildings is None or state.head is None:
        return {"objects": []}
    from jaxcd.active.queries import next_to_judge

    hidden = _hidden(here, pair, viewer)
    rows = {row: key for key, row in state.buildings.rows[pair].items() if key not in hidden}
    visible = np.zeros(len(state.buildings), bool)
    visible[list(rows)] = state.head.visible[list(rows)]
    found = next_to_judge(
        order, state.head.points, state.probabilities(),
        judged=state.judged, held=state.held, visible=visible, count=count, seed=0,
    )  # fmt: skip
    return {"objects": [rows[row] for row in found]}


def _told(here: Here, state: State, pair: str, viewer: int | None, source: str) -> dict[str, float]:
    found = state.probabilities(source)
    if found is None or state.buildings is None:
        return {}
    hidden = _hidden(here, pair, viewer)
    rows = ((key, row) for key, row in state.buildings.rows[pair].items() if row not in state.held)
    values = ((key, float(found[row])) for key, row in rows if key not in hidden)
    return {key: round(value, _DIGITS) for key, value in values if math.isfinite(value)}


def _hidden(here: Here, pair: str, viewer: int | None) -> frozenset[str]:
    """Return the objects that a viewer gives a second opinion of: a score tells what the first one said."""
    fid = here.store.row(pair)
    with here.store.reading() as db:
        where, values = hidden_places(hidden_areas(db, fid, viewer))
        query = f"SELECT id FROM object WHERE pair = :pair AND ({where})"
        return frozenset(key for (key,) in db.execute(query, {**values, "pair": fid})) if values else frozenset()


def _known(here: Here, pair: str) -> None:
    if pair not in here.pairs:
        raise HTTPException(404, "no such pair")
