"""Routes of files: the page, labels that are taken out, existing labels that are brought in."""

import functools
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

import jaxcd.mapping.page
from jaxcd.base.errors import LabelError
from jaxcd.labelling import existing, exports
from jaxcd.labelling.server import uploads
from jaxcd.labelling.server.served import Author, Here, Pair, without_folders
from jaxcd.labelling.store import Conflict, Store

router = APIRouter()
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    "": "text/plain; charset=utf-8",
}
_ATTEMPTS = 3
_REVALIDATE = {"Cache-Control": "private, no-cache"}


@functools.cache
def page_files() -> dict[str, Path]:
    """List the files of the page by the address below /static/: what is not listed is not there."""
    found = {}
    own = Path(__file__).parents[1] / "page"
    leaflet = Path(jaxcd.mapping.page.__file__).parent / "vendor"
    for folder, below in ((own, ""), (leaflet, "vendor/")):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix in _TYPES and not file.name.startswith("."):
                found[below + file.relative_to(folder).as_posix()] = file
    return found


@router.get("/", response_class=FileResponse, include_in_schema=False)
def page() -> FileResponse:
    """Return the page."""
    return _file("index.html")


@router.get("/static/{name:path}", response_class=FileResponse, include_in_schema=False)
def static(name: str) -> FileResponse:
    """Return a file of the page."""
    return _file(name)


@router.get("/api/export/{kind}", response_class=FileResponse)
async def export(
    here: Here,
    kind: Literal["geojson", "gpkg", "coco", "masks"],
    pair: Annotated[str | None, Query(max_length=100)] = None,
) -> FileResponse:
    """Return the labels of all pairs, or of one, as a file."""
    if pair is not None and pair not in here.pairs:
        raise HTTPException(404, "no such pair")
    async with here.files:
        return await run_in_threadpool(_exported, here.store, kind, pair)


def _exported(store: Store, kind: str, pair: str | None) -> FileResponse:
    folder = Path(tempfile.mkdtemp(prefix="jaxcd-export-"))
    name = f"labels{'' if pair is None else f'-{pair}'}{exports.SUFFIXES[kind]}"
    try:
        exports.write(store, kind, folder / name, pair)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(folder / name, filename=name, background=gone)


@router.post("/api/pairs/{pair}/import")
async def bring_in(
    here: Here,
    shown: Pair,
    author: Author,
    file: UploadFile,
    attribute: Annotated[str, Form(max_length=100)] = "",
    values: Annotated[str, Form(max_length=10_000)] = "",
) -> dict[str, Any]:
    """Save the labels of a file as the person's own; lines VALUE=LEVEL of `values` say what its values mean."""
    async with here.files:
        return await run_in_threadpool(
            _brought_in, here.store, shown.opened.pair.id, author, file.file, attribute, _values(values)
        )


def _brought_in(
    store: Store, pair: str, author: int, file: IO[bytes], attribute: str, values: dict[str, str]
) -> dict[str, Any]:
    if store.gives_second_opinion(pair, author):
        raise LabelError(
            "you give a second opinion on this pair, and an import would tell what others said; take the next task "
            "first (Q)"
        )
    suffix = uploads.suffix_of(file)
    with tempfile.TemporaryDirectory(prefix="jaxcd-import-") as folder:
        path = Path(folder) / f"upload{suffix}"
        uploads.keep(file, path)
        # What others label between the look and the save is a conflict: then it is looked at again.
        for attempt in range(_ATTEMPTS):
            edits, left_out = existing.read(path, store, pair, attribute=attribute, values=values)
            try:
                if edits:
                    store.save(pair, str(uuid.uuid4()), author, edits)
                break
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
    return {"saved": len(edits), "left_out": [without_folders(each) for each in left_out]}


def _file(name: str) -> FileResponse:
    path = page_files().get(name)
    if path is None:
        raise HTTPException(404, "no such file")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_REVALIDATE)


def _values(lines: str) -> dict[str, str]:
    pairs = [line.rpartition("=") for line in lines.splitlines() if line.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise LabelError("values: expected lines VALUE=LEVEL")
    return {value.strip(): level.strip() for value, _, level in pairs}
