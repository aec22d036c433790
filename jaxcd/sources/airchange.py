"""SZTAKI AirChange, one set of it: A/, B/ and label/ with SET_1, SET_2, ... and the split of Daudt et al. 2018.

The test is the top left of one image; the rest of that image, and the set's other images, train. The paper names no
validation: here it is one of the other images (docs/method.md, AirChange).
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from jaxcd.base.scales import BINARY
from jaxcd.sources import folders
from jaxcd.sources.places import Discovery, Layout, Part, SourcePlace

# Height and width, in pixels.
IMAGE, TEST = (640, 952), (448, 784)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A set of images of one region, numbered from 1.

    Attributes:
        images: how many.
        tested: number of the one whose top left is the test.
        validation: number of the one that validates.
    """

    images: int
    tested: int
    validation: int


SETS = {
    "szada": ImageSet(images=7, tested=1, validation=7),
    "tiszadob": ImageSet(images=5, tested=3, validation=4),
}


def find(name: str, source: Path) -> Discovery:
    """List the places of a set: test, right and bottom of the tested image, and the other images, whole."""
    found = folders.find(source)
    members = {f"{name}_{number}": number for number in range(1, SETS[name].images + 1)}
    places = [part for place in found.places if place.id in members for part in _parts(place, members[place.id], name)]
    incomplete = [entry for entry in found.incomplete if Path(entry[0]).stem in members]
    named = {place.id for place in found.places} | {Path(file).stem for file, _ in incomplete}
    if named & set(members):
        absent = [member for member in members if member not in named]
        incomplete += [(str(source / "A" / member), "not there, and the published split has it") for member in absent]
    others = [place for place in found.places if place.id not in members]
    left_out = [(str(file), f"not of the set {name}") for place in others for file in place.files]
    left_out += [entry for entry in found.incomplete if Path(entry[0]).stem not in members]
    return Discovery(
        places=tuple(sorted(places, key=lambda place: place.id)),
        left_out=(*found.left_out, *left_out),
        incomplete=tuple(incomplete),
    )


def _parts(place: SourcePlace, number: int, name: str) -> Iterator[SourcePlace]:
    """Yield the places that an image is cut into: rectangles that share no pixel and leave none out."""
    (height, width), (down, right) = IMAGE, TEST
    if number != SETS[name].tested:
        split = "validation" if number == SETS[name].validation else "train"
        yield dataclasses.replace(place, part=Part(0, 0, height, width, IMAGE), split=split)
        return
    for part, split, top, left, rows, columns in (
        ("test", "test", 0, 0, down, right),
        ("right", "train", 0, right, height, width - right),
        ("bottom", "train", down, 0, height - down, right),
    ):
        yield dataclasses.replace(
            place, id=f"{place.id}_{part}", part=Part(top, left, rows, columns, IMAGE), split=split
        )


LAYOUTS = {
    f"airchange_{name}": Layout(
        folders=folders.LAYOUT.folders,
        complete=f"a pre image, a post image and a mask named {name}_NUMBER",
        find=functools.partial(find, name),
        read_label=folders.LAYOUT.read_label,
        scales=(BINARY.name,),
        published=True,
    )
    for name in SETS
}
