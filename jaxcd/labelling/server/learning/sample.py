"""Routes of the blind sample: drawn once, judged in its order, and what is left of it."""

import random
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, model_validator
from starlette.exceptions import HTTPException

from jaxcd.base.errors import LabelError
from jaxcd.labelling.learning.scoring import DECIDES, HEAD, missing
from jaxcd.labelling.server.requests import Strict
from jaxcd.labelling.server.served import Author, Here, without_folders
from jaxcd.labelling.store import blind

router = APIRouter(prefix="/api")
_NEXT = 10
_ONE = "give the width of the intervals, or the size of the sample"


class Wanted(Strict):
    """A sample to draw: the width of its intervals, or its size."""

    width: Annotated[float, Field(ge=0.001, lt=1)] | None = None
    size: Annotated[int, Field(ge=1, le=10**7)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    strata: Literal["score", "none"] = "score"

    @model_validator(mode="after")
    def _one(self) -> "Wanted":
        if (self.width is None) == (self.size is None):
            raise ValueError(_ONE)
        return self


@router.get("/sample")
def sample(here: Here) -> dict[str, Any]:
    """Return how far the sample is judged, and which members come next, in the order of the plan.

    `held` has all objects that only its order may offer, by pair.
    """
    found = blind.plan(here.store)
    if found is None:
        return {"size": 0, "held": {}}
    _check_packages()
    from jaxcd.labelling.learning import sampling

    plan, answers = sampling.plan_of(found[1]), blind.answers(here.store)
    state = sampling.progress(plan, answers)
    left = [member.split("/", 1) for member in plan.members if member not in answers]
    return {
        "size": state.members,
        "judged": state.judged,
        "next": [{"pair": pair, "object": key} for pair, key in left if pair in here.pairs][:_NEXT],
        "random_so_far": state.random,
        "buildings": plan.buildings,
        "held": {pair: sorted(keys) for pair, keys in blind.held_by_pair(here.store).items() if pair in here.pairs},
        "seed": plan.seed,
        "strata": [
            {"name": each.name, "buildings": each.buildings, "members": len(each.members)} for each in plan.strata
        ],
    }


@router.get("/sample/size")
def size(
    here: Here,
    width: Annotated[float | None, Query(ge=0.001, lt=1)] = None,
    size: Annotated[int | None, Query(ge=1, le=10**7)] = None,
) -> dict[str, Any]:
    """Return how many members intervals of a width take, or what a size brings, and what it would cost the scores."""
    if (width is None) == (size is None):
        raise HTTPException(422, _ONE)
    _check_packages()
    from jaxcd.labelling.learning import sampling

    return sampling.size(here.store, here.scorer.state, width=width, count=size)._asdict()


@router.post("/sample")
def draw(here: Here, author: Author, body: Wanted) -> dict[str, Any]:
    """Draw the sample, in place of one that nobody has begun to judge."""
    _check_packages()
    from jaxcd.labelling.learning import sampling

    others = [pair for pair in here.store.pairs if pair not in here.pairs]
    if others:
        raise LabelError(
            f"blind sample: the store also holds {others[0]}, which is not shown; start with all of its pairs"
        )
    state = here.scorer.state
    count = body.size or sampling.size(here.store, state, width=body.width).size
    seed = random.SystemRandom().randrange(2**32) if body.seed is None else body.seed
    try:
        sampling.draw(here.store, state, count=count, seed=seed, strata=body.strata, person=author)
    except blind.SampleStands as error:
        raise HTTPException(409, str(error)) from error
    return sample(here)


@router.delete("/sample")
def remove(here: Here, author: Author) -> dict[str, Any]:
    """Take away a sample that nobody has begun to judge."""
    try:
        blind.remove(here.store)
    except blind.SampleStands as error:
        raise HTTPException(409, str(error)) from error
    return sample(here)


@router.get("/figures")
def figures(here: Here, source: Literal["head", "network"] | None = None) -> dict[str, Any]:
    """Return what the judged sample says of the scores: precision, recall, F1, damaged buildings, calibration."""
    _check_packages()
    from jaxcd.labelling.learning import figures as of_sample

    state = here.scorer.state
    used = state.source(source)
    scores, known = state.probabilities(used), state.buildings
    by_id = {}
    if scores is not None and known is not None:
        by_id = dict(zip((each.id for each in known.known), scores.tolist(), strict=True))
    called = {key for key, value in by_id.items() if value >= DECIDES}
    temperature = state.scores.temperature if used == HEAD and state.scores is not None else None
    found = of_sample.figures(here.store, of_sample.Said(by_id, called, temperature))
    why = state.reason or "there are no scores yet" if scores is None else None
    run = here.settings.run if used == HEAD else state.network_run
    if found["sample"] is not None and run is not None:
        from jaxcd.labelling.learning import leaks

        why = leaks.seen_by(run, here.store) or why
    if why is not None:
        found["estimates"] |= dict.fromkeys(("precision", "recall", "f1"))
        found |= {"called": None, "calibration": None, "reason": without_folders(why)}
    learned = state.labels if used == HEAD and found["called"] is not None else None
    return found | {"source": used, "labels": learned}


def _check_packages() -> None:
    lacking = missing()
    if lacking:
        raise LabelError(f"the blind sample needs {', '.join(lacking)}: pip install 'jaxcd[active]'")
