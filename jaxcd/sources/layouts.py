"""The layouts of tiles on disk, by name, and the places that a source folder holds in one of them.

Only names are read here. Files that belong to no place are listed with the reason; a folder without a complete place
is refused.
"""

import contextlib
import os
from pathlib import Path

from jaxcd.base.errors import ConfigError, LayoutError
from jaxcd.base.fingerprints import file_state
from jaxcd.base.scales import BINARY
from jaxcd.sources import airchange, folders, labelled, paper, xbd
from jaxcd.sources.places import IMAGE_SUFFIXES, Discovery, Layout, folder_of
from jaxcd.sources.simulated import TILES, simulate_once

LABELLED = "labelled"
# A new layout is a file beside these and a line here.
LAYOUTS: dict[str, Layout] = {
    "xbd": xbd.LAYOUT,
    "paper": paper.LAYOUT,
    "folders": folders.LAYOUT,
    **airchange.LAYOUTS,
    LABELLED: labelled.LAYOUT,
}
SCENES, SIMULATED, PREPARED = "scenes", "simulated", "prepared"
NAMES = (*LAYOUTS, SCENES, SIMULATED, PREPARED)

_LAYER_SUFFIXES = (".geojson", ".gpkg", ".shp", ".dbf", ".shx", ".prj", ".json", ".parquet", ".tsv", ".msk", ".tfw")


def check(layout: str, scale: str) -> None:
    """Check that a layout exists, and that its labels can be read in a scale.

    Raises:
        ConfigError: it does not, or they cannot.
    """
    if layout not in NAMES:
        raise ConfigError(f"config.data.layout: expected one of {', '.join(NAMES)}, got {layout!r}")
    if layout in (PREPARED, SCENES):
        return  # a dataset tells; labels of scenes can be of any scale
    can = (BINARY.name,) if layout == SIMULATED else LAYOUTS[layout].scales
    if scale not in can:
        raise ConfigError(
            f"config.data.scale: labels of layout {layout} can be read in the scale {' or '.join(can)}, got {scale!r}"
        )


def may_publish(layout: str) -> bool:
    """Say whether places of a layout can have a published split; of a built dataset, only its places tell."""
    return layout == PREPARED or (layout in LAYOUTS and LAYOUTS[layout].published)


def event_of(layout: str, place: str) -> str:
    """Return the event that a place's id names; empty where ids of the layout name none."""
    tell = LAYOUTS[layout].event if layout in LAYOUTS else None
    return tell(place) if tell else ""


def layout_of_tiles(layout: str) -> Layout:
    """Return the layout of a source's tiles: those of a simulated town are in layout folders."""
    return LAYOUTS["folders" if layout == SIMULATED else layout]


def discover(layout: str, source: Path) -> Discovery:
    """List the places of a source folder; the simulated layout makes its tiles on first use.

    Args:
        layout: one of `LAYOUTS`, or simulated.
        source: the folder.

    Returns:
        Places sorted by id, and what was left out.

    Raises:
        LayoutError: the folder is missing, lacks the layout, or holds no complete place.
    """
    if layout == SIMULATED:
        simulate_once(source)
        return discover("folders", source / TILES)
    if not source.is_dir():
        raise LayoutError(f"{source}: no such folder, expected one in layout {layout}")
    missing = _missing(LAYOUTS[layout], source)
    if missing:
        found = ", ".join(sorted(entry.name for entry in source.iterdir())[:8]) or "nothing"
        raise LayoutError(f"{source}: layout {layout} wants {missing}; found {found}{_hint(layout, source)}")
    discovery = LAYOUTS[layout].find(source)
    if not discovery.places:
        alone = discovery.incomplete + discovery.left_out
        reasons = "; ".join(f"{file}: {reason}" for file, reason in alone[:2]) or "the folders are empty"
        complete = LAYOUTS[layout].complete
        raise LayoutError(f"{source}: layout {layout}, but no place with {complete} ({reasons}){_hint(layout, source)}")
    return discovery


def listing(layout: str, source: Path) -> list[tuple[str, int, int]]:
    """List name, size and time of change of all images and labels that a layout reads from a source.

    Equal listings mean an unchanged source; the list is empty where the folders are missing (or not made yet).
    """
    if layout == SCENES:
        return _scene_files(source)
    if layout not in LAYOUTS:
        return []
    # Files that viewers leave beside images (.aux.xml, Thumbs.db) do not count as a change of the source.
    suffixes = tuple(filter(None, (*IMAGE_SUFFIXES, LAYOUTS[layout].label_suffix)))
    found = []
    for names in LAYOUTS[layout].folders:
        folder = folder_of(source, names)
        if folder is None:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file():
                    found.append(file_state(entry, f"{folder.name}/{entry.name}"))
    return sorted(found)


def _scene_files(source: Path) -> list[tuple[str, int, int]]:
    files = [source] if source.is_file() else source.rglob("*")
    suffixes = (*IMAGE_SUFFIXES, *_LAYER_SUFFIXES)
    found = []
    for file in files:
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file():
            found.append(file_state(file, str(file.relative_to(source.parent))))
    return sorted(found)


def _missing(layout: Layout, source: Path) -> str | None:
    """Name the folders that a layout wants and the source lacks."""
    missing = [names for names in layout.folders if folder_of(source, names) is None]
    return " and ".join("a folder " + " or ".join(f"{name}/" for name in names) for names in missing) or None


def _hint(name: str, source: Path) -> str:
    """Say which layout would fit, here or one folder down."""
    if (source / "dataset.json").is_file():
        return ". This is a dataset built by jaxcd.prepare: use layout prepared"
    for folder in (source, *sorted(entry for entry in source.iterdir() if entry.is_dir())):
        for other, layout in LAYOUTS.items():
            with contextlib.suppress(OSError, LayoutError):  # not a folder to look into, so no hint
                if (other, folder) != (name, source) and not _missing(layout, folder) and layout.find(folder).places:
                    return f". {folder} has layout {other}: use that"
    return ""
