"""Routes of files: the page, labels that are taken out, existing labels that are brought in."""

import functools
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

import jaxcd.mapping.page
from jaxcd.base.errors import JaxcdError, LabelError
from jaxcd.labelling.server.served import Author, Here, Pair, without_folders

router = APIRouter()
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    "": "text/plain; charset=utf-8",
}
_SQLITE, _PNG, _TIFF = b"SQLite format 3\0", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUFFIXES = {"geojson": ".geojson", "gpkg": ".gpkg", "coco": ".json", "masks": ".zip"}
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
def export(
    here: Here,
    kind: Literal["geojson", "gpkg", "coco", "masks"],
    pair: Annotated[str | None, Query(max_length=100)] = None,
) -> FileResponse:
    """Return the labels of all pairs, or of one, as a file."""
    from jaxcd.labelling import exports

    if pair is not None and pair not in here.pairs:
        raise HTTPException(404, "no such pair")
    folder = Path(tempfile.mkdtemp(prefix="jaxcd-export-"))
    name = f"labels{'' if pair is None else f'-{pair}'}{_SUFFIXES[kind]}"
    try:
        exports.write(here.store, kind, folder / name, pairs=None if pair is None else [pair])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(folder / name, filename=name, background=gone)


@router.post("/api/pairs/{pair}/import")
def bring_in(
    here: Here,
    shown: Pair,
    author: Author,
    file: UploadFile,
    attribute: Annotated[str, Form(max_length=100)] = "",
    values: Annotated[str, Form(max_length=10_000)] = "",
) -> dict[str, Any]:
    """Save the labels of a file as the person's own; lines VALUE=LEVEL of `values` say what its values mean."""
    from jaxcd.labelling import existing

    start = file.file.read(16)
    suffix = _suffix(start)
    if suffix is None:
        raise LabelError("the file is neither GeoJSON, GeoPackage nor a mask (PNG, GeoTIFF)")
    file.file.seek(0)
    with tempfile.TemporaryDirectory(prefix="jaxcd-import-") as folder:
        path = Path(folder) / f"upload{suffix}"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        try:
            edits, left_out = existing.read(
                path, shown.opened.pair, here.store.scale, attribute=attribute, values=_values(values)
            )
            saved = here.store.save(shown.opened.pair.id, str(uuid.uuid4()), author, edits) if edits else None
        except JaxcdError as error:
            # The name that the person gave is told, not that of our copy.
            raise _named(error, path, file.filename or "the file") from error
    return {"saved": 0 if saved is None else len(edits), "left_out": [without_folders(str(each)) for each in left_out]}


def _file(name: str) -> FileResponse:
    path = page_files().get(name)
    if path is None:
        raise HTTPException(404, "no such file")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_REVALIDATE)


def _suffix(start: bytes) -> str | None:
    """Say by its first bytes what a file is: its name may say anything."""
    if start == _SQLITE:
        return ".gpkg"
    if start.startswith(_PNG):
        return ".png"
    if start.startswith(_TIFF):
        return ".tif"
    return ".geojson" if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else None


def _values(lines: str) -> dict[str, str]:
    pairs = [line.rpartition("=") for line in lines.splitlines() if line.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise LabelError("values: expected lines VALUE=LEVEL")
    return {value.strip(): level.strip() for value, _, level in pairs}


def _named(error: JaxcdError, path: Path, name: str) -> JaxcdError:
    error.args = (str(error).replace(str(path), name[:100]),)
    return error
