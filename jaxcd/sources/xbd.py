"""xBD: images/NAME_{pre,post}_disaster.*, and polygons with levels of damage in labels/NAME_post_disaster.json."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.base.scales import BINARY, BUILDINGS, XBD
from jaxcd.sources.places import Discovery, LabelRules, Layout, SourcePost, images_of, paired

if TYPE_CHECKING:
    from jaxcd.sources.reading import Label

_LABEL = "_post_disaster.json"
_EVENT = re.compile(r"(?P<event>.+)_\d+")  # xBD numbers the places of an event
NAME = re.compile(r"(?P<place>.+)_(?P<when>pre|post)_disaster")


def find(source: Path) -> Discovery:
    """List the places: names with both images and a label of the post image."""
    left_out: list[tuple[str, str]] = []
    images: dict[str, dict[str, Path]] = {"pre": {}, "post": {}}
    for stem, file in images_of(source / "images", left_out).items():
        match = NAME.fullmatch(stem)
        if match:
            images[match["when"]][match["place"]] = file
        else:
            left_out.append((str(file), "the name ends neither in _pre_disaster nor in _post_disaster"))
    labels = {}
    for file in sorted((source / "labels").iterdir()):
        if file.name.endswith(_LABEL) and not file.name.startswith("."):
            labels[file.name.removesuffix(_LABEL)] = file
        # Labels of pre images belong to xBD, and say nothing about damage.
        elif not file.name.startswith(".") and not file.name.endswith("_pre_disaster.json"):
            left_out.append((str(file), f"not named *{_LABEL}"))
    return paired(images["pre"], images["post"], labels, left_out)


def event(place: str) -> str:
    """Return the event of a place: xBD's ids are EVENT_NUMBER."""
    match = _EVENT.fullmatch(place)
    return match["event"] if match else ""


def read_label(post: SourcePost, size: tuple[int, int], rules: LabelRules) -> "Label":
    """Draw the polygons of a label; the label also tells date and place of its image."""
    # Imported here because only builds read labels: opening a finished dataset must not need geospatial packages.
    from jaxcd.sources.geolocation import bounds_of_label
    from jaxcd.sources.labels import check_size, rasterise_xbd, read_xbd
    from jaxcd.sources.reading import Label

    label = read_xbd(post.label)
    check_size(post.label, label.size or size, post.file, size)
    height, width = size
    return Label(
        rasterise_xbd(label, height=height, width=width, rules=rules),
        label.date,
        bounds_of_label(label, height=height, width=width),
    )


LAYOUT = Layout(
    folders=(("images",), ("labels",)),
    complete="images/NAME_pre_disaster.*, images/NAME_post_disaster.* and labels/NAME_post_disaster.json",
    find=find,
    read_label=read_label,
    label_suffix=_LABEL,
    scales=(BINARY.name, BUILDINGS.name, XBD.name),
    has_levels=True,
    event=event,
)
