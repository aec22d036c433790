"""The layouts of tiles on disk, by name, and the places that a source folder holds in one of them.

Only names of files are read here. Files that belong to no place are listed with the reason. A folder without a complete
place is an error.
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
# To add a layout, write a file like these and add a line here.
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
        ConfigError: the layout does not exist, or its labels cannot be read in the scale.
    """
    if layout not in NAMES:
        raise ConfigError(f"config.data.layout: expected one of {', '.join(NAMES)}, got {layout!r}")
    if layout in (PREPARED, SCENES):
        return  # a built dataset holds its scale, and labels of scenes can have any scale
    scales = (BINARY.name,) if layout == SIMULATED else LAYOUTS[layout].scales
    if scale not in scales:
        raise ConfigError(
            f"config.data.scale: labels of layout {layout} can be read in the scale {' or '.join(scales)}, "
            f"got {scale!r}"
        )


def may_publish(layout: str) -> bool:
    """Return whether places of a layout may have a published split; places of a built dataset always may."""
    return layout == PREPARED or (layout in LAYOUTS and LAYOUTS[layout].published)


def event_of(layout: str, place: str) -> str:
    """Return the event that a place's id names; empty if ids of the layout name no event."""
    event = LAYOUTS[layout].event if layout in LAYOUTS else None
    return event(place) if event else ""


def layout_of_tiles(layout: str) -> Layout:
    """Return the layout by its name; the tiles of a simulated town lie in layout folders."""
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
    missing = _missing_folders(LAYOUTS[layout], source)
    if missing:
        found = ", ".join(sorted(entry.name for entry in source.iterdir())[:8]) or "nothing"
        raise LayoutError(f"{source}: layout {layout} wants {missing}; found {found}{_hint(layout, source)}")
    discovery = LAYOUTS[layout].find(source)
    if not discovery.places:
        unused = discovery.incomplete + discovery.left_out
        reasons = "; ".join(f"{file}: {reason}" for file, reason in unused[:2]) or "the folders are empty"
        complete = LAYOUTS[layout].complete
        raise LayoutError(f"{source}: layout {layout}, but no place with {complete} ({reasons}){_hint(layout, source)}")
    return discovery


def listing(layout: str, source: Path) -> list[tuple[str, int, int]]:
    """List name, size and time of change of all images and labels that a layout reads from a source.

    Equal lists mean an unchanged source. The list is empty if the folders are missing, or have not been made yet.
    """
    if layout == SCENES:
        return _scene_files(source)
    if layout not in LAYOUTS:
        return []
    # Files that viewers leave beside images (.aux.xml, Thumbs.db) do not count as a change of the source.
    suffixes = tuple(filter(None, (*IMAGE_SUFFIXES, LAYOUTS[layout].label_suffix)))
    states = []
    for names in LAYOUTS[layout].folders:
        folder = folder_of(source, names)
        if folder is None:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file():
                    states.append(file_state(entry, f"{folder.name}/{entry.name}"))
    return sorted(states)


def _scene_files(source: Path) -> list[tuple[str, int, int]]:
    files = [source] if source.is_file() else source.rglob("*")
    suffixes = (*IMAGE_SUFFIXES, *_LAYER_SUFFIXES)
    states = []
    for file in files:
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file():
            states.append(file_state(file, str(file.relative_to(source.parent))))
    return sorted(states)


def _missing_folders(layout: Layout, source: Path) -> str | None:
    """Return a text with the folders that the layout needs and the source lacks; None if it lacks none."""
    missing = [names for names in layout.folders if folder_of(source, names) is None]
    return " and ".join("a folder " + " or ".join(f"{name}/" for name in names) for names in missing) or None


def _hint(name: str, source: Path) -> str:
    """Return a hint for the message: which layout would fit the source, or one of the folders in it."""
    if (source / "dataset.json").is_file():
        return ". This is a dataset built by jaxcd.prepare: use layout prepared"
    for folder in (source, *sorted(entry for entry in source.iterdir() if entry.is_dir())):
        for other, layout in LAYOUTS.items():
            with contextlib.suppress(OSError, LayoutError):  # a folder that cannot be read gives no hint
                if (
                    (other, folder) != (name, source)
                    and not _missing_folders(layout, folder)
                    and layout.find(folder).places
                ):
                    return f". {folder} has layout {other}: use that"
    return ""
