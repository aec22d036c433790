"""The route of map tiles: read in a few threads of their own, each of which keeps its files open."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from jaxcd.base.errors import ImageError, SceneError
from jaxcd.labelling import imagery
from jaxcd.labelling.server.security import refused
from jaxcd.labelling.server.served import Here, Pair, Shown

router = APIRouter()
_TYPE = "image/webp"
_Byte = Annotated[int, Query(ge=0, le=255)]


@router.get("/tiles/{pair}/{when}/{z}/{x}/{y}.webp", response_class=Response)
async def tile(
    request: Request,
    here: Here,
    shown: Pair,
    when: Literal["pre", "post"],
    z: Annotated[int, Path(ge=imagery.PICTURE_ZOOMS[0], le=imagery.DEEPEST)],
    x: Annotated[int, Path(ge=-(2**31), lt=2**31)],
    y: Annotated[int, Path(ge=-(2**31), lt=2**31)],
    low: _Byte = 0,
    high: _Byte = 255,
) -> Response:
    """Return a map tile as WebP, transparent where nothing was seen; low and high stretch its contrast."""
    headers = {"ETag": shown.imagery.etag(when, z, x, y, low, high), "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    try:
        async with here.turns:
            if await request.is_disconnected():  # the page has moved on while the tile waited
                return Response(status_code=499)
            content = await asyncio.get_running_loop().run_in_executor(
                here.readers, _content, shown, when, z, x, y, low, high
            )
    except (ImageError, SceneError, OSError):
        return refused(404, f"the {when} image cannot be read there: its file is damaged, was moved or changed")
    return Response(content, media_type=_TYPE, headers=headers)


def _content(shown: Shown, when: str, z: int, x: int, y: int, low: int, high: int) -> bytes:
    found = shown.imagery.tile(when, z, x, y)
    return imagery.empty() if found is None else imagery.encoded(found, low, high)
