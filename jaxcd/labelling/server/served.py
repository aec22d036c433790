"""What all routes share: the open pairs, the store, who asks; and errors as JSON in one line."""

import asyncio
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from jaxcd.labelling.imagery import Imagery
from jaxcd.labelling.learning.scoring import Scorer
from jaxcd.labelling.server.coordinates import Coordinates
from jaxcd.labelling.server.requests import PAIR_ID
from jaxcd.labelling.server.security import Secrets
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Label, Store
from jaxcd.labelling.workspace import OpenPair

PERSON_COOKIE = "jaxcd_person"
_FOLDERS = re.compile(r"(?:/[^\s/:;,()'\"]+)+/")
_FEATURE = '{"type":"Feature","id":%s,"geometry":%s,"properties":%s}'


@dataclass(frozen=True)
class Shown:
    """A pair with its tiles, its coordinates, and how many footprints or cells it has.

    `footprints` is None where it is labelled without footprints.
    """

    opened: OpenPair
    imagery: Imagery
    coordinates: Coordinates
    units: int
    footprints: int | None


@dataclass(frozen=True, kw_only=True)
class Served:
    """All that routes need; one for each app.

    Attributes:
        pairs: by id.
        store: of the labels.
        settings: of the server.
        secrets: sign cookies.
        scorer: learns from the labels.
        readers: threads that read tiles; each has its files open for itself.
        turns: one for each of them.
        files: held by the one import or export that may take place at a time: large ones take much memory.
    """

    pairs: dict[str, Shown]
    store: Store
    settings: LabelSettings
    secrets: Secrets
    scorer: Scorer
    readers: ThreadPoolExecutor
    turns: asyncio.Semaphore
    files: asyncio.Semaphore
    known: dict[str, int] = field(default_factory=dict)

    async def person(self, request: Request) -> tuple[str, int] | None:
        """Return who asks, by name and number in the store, or None."""
        name = self.secrets.read(request.cookies.get(self.secrets.cookie(PERSON_COOKIE), ""))
        if name is None:
            return None
        if name not in self.known:
            self.known[name] = await run_in_threadpool(self.store.person, name)
        return name, self.known[name]


def served_of(request: Request) -> Served:
    """Return what the app of a request serves."""
    return request.app.state.served


# These are coroutines, though few of them wait: FastAPI would run a function of each request in another thread.
async def _here(request: Request) -> Served:
    return served_of(request)


Here = Annotated[Served, Depends(_here)]


async def _shown(here: Here, pair: Annotated[str, Path(pattern=PAIR_ID)]) -> Shown:
    if pair not in here.pairs:
        raise HTTPException(404, "no such pair")
    return here.pairs[pair]


async def _viewer(request: Request, here: Here) -> int | None:
    found = await here.person(request)
    return None if found is None else found[1]


async def _author(request: Request, here: Here) -> int:
    found = await here.person(request)
    if found is None:
        raise HTTPException(403, "say first who you are")
    return found[1]


Pair = Annotated[Shown, Depends(_shown)]
Viewer = Annotated[int | None, Depends(_viewer)]
"""Number of who looks; None: somebody who has not said."""
Author = Annotated[int, Depends(_author)]


def features(labels: Iterable[Label], coordinates: Coordinates) -> str:
    """Write labels as a JSON list of GeoJSON features, in the page's coordinates."""
    labels = list(labels)
    shapes = coordinates.written([label.geometry for label in labels])
    made = []
    for label, shape in zip(labels, shapes, strict=True):
        properties: dict[str, Any] = {
            "level": label.level,
            "version": label.version,
            "author": label.author,
            "at": label.at,
            "comment": label.comment,
            "origin": label.origin,
        }
        if label.deleted:
            properties["deleted"] = True
        if label.opinions:
            properties["opinions"] = [list(each) for each in label.opinions]
        made.append(_FEATURE % (json.dumps(label.object), shape, json.dumps(properties)))
    return f"[{','.join(made)}]"


def without_folders(text: str) -> str:
    """Return a message without the folders of this machine, which are nobody else's business."""
    return _FOLDERS.sub("", text)
