"""What lies in a source folder: places with their images and labels, for every layout on disk.

Nothing is opened here, only names are read. Files that belong to no place are listed with the reason; a folder in
which nothing is complete does not have the layout it was announced with.
"""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxcd.errors import LayoutError
from jaxcd.files import locked

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_LAYER_SUFFIXES = (".geojson", ".gpkg", ".shp", ".dbf", ".shx", ".prj", ".json", ".parquet", ".tsv", ".msk", ".tfw")
_XBD_LABEL = "_post_disaster.json"
_XBD_NAME = re.compile(r"(?P<place>.+)_(?P<when>pre|post)_disaster")
_PAPER_NAME = re.compile(r"(?P<quadkey>[0-3]+)_(?P<date>\d{4}-?\d{2}-?\d{2})_(?P<catalog>[^_]+)-visual_(?P<tile>\d+)")
_SIMULATION = {"seed": 7, "size": 2048}
_SIMULATED_TILE = 256
_SIMULATED = ("scene", "tiles.partial", ".lock")


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """One acquisition of a place; `date` is text that sorts by time, or empty where the name holds none."""

    file: Path
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class SourcePost(SourceImage):
    """An acquisition after the event with its label file (xBD JSON or mask raster)."""

    label: Path


@dataclass(frozen=True, kw_only=True)
class SourcePlace:
    """A place: at least one image before the event and one labelled image after it, each oldest first.

    Attributes:
        id: unique in its source.
        pre: images before the event.
        post: labelled images after the event.
        block: spatial block that the names tell (the quadkey of the paper's tiles), or None.
    """

    id: str
    pre: tuple[SourceImage, ...]
    post: tuple[SourcePost, ...]
    block: str | None = None


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What lies in a source.

    Attributes:
        places: complete places, by id.
        left_out: files that are part of no place and need not be, each with the reason.
        incomplete: files whose counterpart is missing, each with what that is.
    """

    places: tuple[SourcePlace, ...]
    left_out: tuple[tuple[str, str], ...]
    incomplete: tuple[tuple[str, str], ...]


def discover(layout: str, source: Path) -> Discovery:
    """List the places of a source folder; the simulated layout makes its tiles on first use.

    Args:
        layout: xbd, paper, folders or simulated.
        source: the folder.

    Returns:
        Places sorted by id, and what was left out.

    Raises:
        LayoutError: the folder is missing, lacks the layout, or holds no complete place.
    """
    if layout == "simulated":
        _simulate(source)
        return discover("folders", source / "tiles")
    finder = _FINDERS[layout]
    if not source.is_dir():
        raise LayoutError(f"{source}: no such folder, expected one in layout {layout}")
    missing = _missing(layout, source)
    if missing:
        found = ", ".join(sorted(entry.name for entry in source.iterdir())[:8]) or "nothing"
        raise LayoutError(f"{source}: layout {layout} wants {missing}; found {found}{_hint(layout, source)}")
    discovery = finder(source)
    if not discovery.places:
        alone = discovery.incomplete + discovery.left_out
        reasons = "; ".join(f"{file}: {reason}" for file, reason in alone[:2]) or "the folders are empty"
        raise LayoutError(
            f"{source}: layout {layout}, but no place with {_COMPLETE[layout]} ({reasons}){_hint(layout, source)}"
        )
    return discovery


def listing(layout: str, source: Path) -> list[tuple[str, int, int]]:
    """List name, size and time of change of all images and labels that a layout takes from a source.

    Two equal listings are the same source; the list is empty where the folders are not there (or not made yet).
    """
    if layout == "scenes":
        return _scene_files(source)
    folders = [folder for names in _WANTED.get(layout, ()) if (folder := _folder(source, names)) is not None]
    found = []
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                # What viewers leave beside images (.aux.xml, Thumbs.db) makes no other source.
                wanted = entry.name.lower().endswith((*_IMAGE_SUFFIXES, _XBD_LABEL))
                if wanted and not entry.name.startswith(".") and entry.is_file():
                    stat = entry.stat()
                    found.append((f"{folder.name}/{entry.name}", stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _scene_files(source: Path) -> list[tuple[str, int, int]]:
    files = [source] if source.is_file() else source.rglob("*")
    wanted = (*_IMAGE_SUFFIXES, *_LAYER_SUFFIXES)
    found = []
    for file in files:
        if file.suffix.lower() in wanted and not file.name.startswith(".") and file.is_file():
            stat = file.stat()
            found.append((str(file.relative_to(source.parent)), stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _simulate(source: Path) -> None:
    tiles = source / "tiles"
    if tiles.is_dir():
        return
    from jaxcd.scenes import simulator  # brings scipy's filters along: only here

    foreign = [path.name for path in source.iterdir() if path.name not in _SIMULATED] if source.is_dir() else []
    if foreign:
        raise LayoutError(
            f"{source}: holds {foreign[0]!r}, and layout simulated makes a town in a folder of its own; set "
            "config.data.layout (--layout) to that of your tiles, or name a new folder"
        )
    source.mkdir(parents=True, exist_ok=True)
    with locked(source / ".lock", waiting=f"{source}: another process is simulating here; waiting for it"):
        if tiles.is_dir():
            return
        print(f"Simulating a scene of {_SIMULATION['size']} x {_SIMULATION['size']} pixels into {source}", flush=True)
        scene = simulator.simulate(source / "scene", **_SIMULATION)
        simulator.cut_tiles(scene, tiles, tile=_SIMULATED_TILE)


def _folder(source: Path, names: tuple[str, ...]) -> Path | None:
    found = [source / name for name in names if (source / name).is_dir()]
    if len(found) > 1:
        raise LayoutError(f"{source}: both {found[0].name} and {found[1].name} are there; keep one of them")
    return found[0] if found else None


def _missing(layout: str, source: Path) -> str | None:
    """Name the folders that a layout wants and the source lacks."""
    missing = [names for names in _WANTED[layout] if _folder(source, names) is None]
    return " and ".join("a folder " + " or ".join(f"{name}/" for name in names) for names in missing) or None


def _hint(layout: str, source: Path) -> str:
    """Say which layout would fit, here or one folder down."""
    if (source / "dataset.json").is_file():
        return ". This is a dataset built by jaxcd.prepare: use layout prepared"
    for folder in (source, *sorted(entry for entry in source.iterdir() if entry.is_dir())):
        for other, finder in _FINDERS.items():
            with contextlib.suppress(OSError, LayoutError):  # not a folder to look into, so no hint
                if (other, folder) != (layout, source) and not _missing(other, folder) and finder(folder).places:
                    return f". {folder} has layout {other}: use that"
    return ""


def _images(folder: Path, left_out: list[tuple[str, str]]) -> dict[str, Path]:
    """Index the images of a folder by stem."""
    images: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.is_symlink() and not file.exists():
            left_out.append((str(file), "a link to nowhere"))
        elif not file.is_file() or file.suffix.lower() not in _IMAGE_SUFFIXES:
            left_out.append((str(file), f"not one of {', '.join(_IMAGE_SUFFIXES)}"))
        elif file.stem in images:
            raise LayoutError(f"{file}: {images[file.stem].name} has the same name; keep one of the two")
        else:
            images[file.stem] = file
    return images


def _xbd(source: Path) -> Discovery:
    left_out: list[tuple[str, str]] = []
    images: dict[str, dict[str, Path]] = {"pre": {}, "post": {}}
    for stem, file in _images(source / "images", left_out).items():
        match = _XBD_NAME.fullmatch(stem)
        if match:
            images[match["when"]][match["place"]] = file
        else:
            left_out.append((str(file), "the name ends neither in _pre_disaster nor in _post_disaster"))
    labels = {}
    for file in sorted((source / "labels").iterdir()):
        if file.name.endswith(_XBD_LABEL) and not file.name.startswith("."):
            labels[file.name.removesuffix(_XBD_LABEL)] = file
        # Labels of pre images belong to xBD, and say nothing about damage.
        elif not file.name.startswith(".") and not file.name.endswith("_pre_disaster.json"):
            left_out.append((str(file), f"not named *{_XBD_LABEL}"))
    return _paired(images["pre"], images["post"], labels, left_out)


def _folders(source: Path) -> Discovery:
    left_out: list[tuple[str, str]] = []
    pre, post, labels = (
        _images(folder, left_out) for names in _WANTED["folders"] if (folder := _folder(source, names)) is not None
    )
    return _paired(pre, post, labels, left_out)


def _paired(
    pre: dict[str, Path], post: dict[str, Path], labels: dict[str, Path], left_out: list[tuple[str, str]]
) -> Discovery:
    """Make a place of every name that has all three files."""
    kinds = {"pre image": pre, "post image": post, "label": labels}
    places, incomplete = [], []
    for name in sorted(set(pre) | set(post) | set(labels)):
        absent = [kind for kind, files in kinds.items() if name not in files]
        if absent:
            reason = f"no {' and no '.join(absent)} named {name!r}"
            incomplete += [(str(files[name]), reason) for files in kinds.values() if name in files]
        else:
            posts = (SourcePost(file=post[name], label=labels[name]),)
            places.append(SourcePlace(id=name, pre=(SourceImage(file=pre[name]),), post=posts))
    return Discovery(places=tuple(places), left_out=tuple(left_out), incomplete=tuple(incomplete))


def _paper(source: Path) -> Discovery:
    left_out: list[tuple[str, str]] = []
    incomplete: list[tuple[str, str]] = []
    groups: dict[str, dict[str, list[tuple[str, Path]]]] = {}
    for name in ("pre", "post", "masks"):
        groups[name] = defaultdict(list)
        for stem, file in _images(source / name, left_out).items():
            match = _PAPER_NAME.fullmatch(stem)
            if match:
                groups[name][f"{match['quadkey']}_{match['tile']}"].append((match["date"], file))
            else:
                left_out.append((str(file), "the name is not {quadkey}_{date}_{catalogid}-visual_{tile}"))
    masks = {file.stem: file for files in groups["masks"].values() for _, file in files}
    places = []
    for place in sorted(set(groups["pre"]) | set(groups["post"])):
        pre = tuple(SourceImage(file=file, date=date) for date, file in sorted(groups["pre"][place]))
        post = []
        for date, file in sorted(groups["post"][place]):
            mask = masks.pop(file.stem, None)
            if mask is None:
                left_out.append((str(file), f"unlabelled: no masks/{file.stem}"))
            else:
                post.append(SourcePost(file=file, date=date, label=mask))
        if pre and post:
            quadkey = place.partition("_")[0]
            places.append(SourcePlace(id=place, pre=pre, post=tuple(post), block=quadkey))
        else:
            # The raw tiles of an event are many, the labelled ones few: only a label must not be lost in silence.
            left_out += [(str(image.file), "no labelled post image of this place") for image in pre]
            incomplete += [(str(image.file), "no pre image of this place") for image in post]
    incomplete += [(str(file), f"no post/{file.stem}") for file in masks.values()]
    return Discovery(places=tuple(places), left_out=tuple(left_out), incomplete=tuple(incomplete))


_FINDERS: dict[str, Callable[[Path], Discovery]] = {"xbd": _xbd, "paper": _paper, "folders": _folders}
_WANTED = {
    "xbd": (("images",), ("labels",)),
    "paper": (("pre",), ("post",), ("masks",)),
    "folders": (("A", "pre"), ("B", "post"), ("label", "mask", "masks")),
}
_COMPLETE = {
    "xbd": "images/NAME_pre_disaster.*, images/NAME_post_disaster.* and labels/NAME_post_disaster.json",
    "paper": "a pre image, and a post image with a mask, all named {quadkey}_{date}_{catalogid}-visual_{tile}",
    "folders": "a pre image, a post image and a mask of one name",
}
