"""Layouts, and the places that they find in a source. They read only names of files, not the files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxcd.base.errors import LayoutError
from jaxcd.base.scales import SCALES, Scale

if TYPE_CHECKING:
    from jaxcd.sources.reading import Label

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """One acquisition of a place; `date` is text that sorts by time, or "" if the file's name has no date."""

    file: Path
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class SourcePost(SourceImage):
    """An acquisition after the event with its label file."""

    label: Path


class LabelRules(NamedTuple):
    """How labels are read.

    Attributes:
        scale: scale of the codes that labels become.
        damage_levels: levels that count as damage, if labels have levels and the scale is `binary`.
    """

    scale: Scale
    damage_levels: tuple[str, ...] = ()


class Part(NamedTuple):
    """A rectangle of images, in pixels.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
        image: height and width that the whole images must have.
    """

    top: int
    left: int
    height: int
    width: int
    image: tuple[int, int]

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, kw_only=True)
class SourcePlace:
    """A place: at least one image before the event and one labelled image after it.

    Attributes:
        id: unique in its source.
        pre: images before the event, oldest first.
        post: labelled images after the event, oldest first.
        block: spatial block that the file names give (the quadkey of the paper's tiles), or None.
        part: rectangle of the images and labels that is the place; None: they are used whole.
        split: train, validation or test where the source has a published split, or None.
    """

    id: str
    pre: tuple[SourceImage, ...]
    post: tuple[SourcePost, ...]
    block: str | None = None
    part: Part | None = None
    split: str | None = None

    @property
    def files(self) -> list[Path]:
        """Paths of the place's images and labels."""
        return [image.file for image in (*self.pre, *self.post)] + [post.label for post in self.post]


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """The places and other files that a layout finds in a source.

    Attributes:
        places: complete places, by id.
        left_out: files that no place needs, each with the reason.
        incomplete: images and labels whose counterpart is missing, each with the name of the counterpart.
    """

    places: tuple[SourcePlace, ...]
    left_out: tuple[tuple[str, str], ...]
    incomplete: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout: how tiles and their labels are arranged in a folder.

    Attributes:
        folders: the required folders, each with the names that it may have.
        complete: text of messages that names what a complete place needs.
        find: lists the places of a source folder that has all these folders.
        read_label: `(post, size, rules) -> Label`, where `size` is the image's height and width. It raises `LabelError`
            if the label can't be read as classes of the scale, and `ImageError` if it has another size.
        scales: names of the scales in which its labels can be read.
        label_suffix: end of the names of label files that are not images; empty where labels are images.
        has_levels: whether its labels have levels; in the scale `binary`, `config.data.damage_levels` are damage.
        published: whether its places have a published split (`SourcePlace.split`).
        event: function that returns the event that a place's id names; None: ids name no event.
    """

    folders: tuple[tuple[str, ...], ...]
    complete: str
    find: Callable[[Path], Discovery]
    read_label: Callable[[SourcePost, tuple[int, int], LabelRules], "Label"]
    scales: tuple[str, ...] = tuple(SCALES)
    label_suffix: str = ""
    has_levels: bool = False
    published: bool = False
    event: Callable[[str], str] | None = None


def images_of(folder: Path, left_out: list[tuple[str, str]]) -> dict[str, Path]:
    """List the images of a folder by stem; other files are added to `left_out`, with the reason.

    Raises:
        LayoutError: two images have the same stem.
    """
    images: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.is_symlink() and not file.exists():
            left_out.append((str(file), "a broken link"))
        elif not file.is_file() or file.suffix.lower() not in IMAGE_SUFFIXES:
            left_out.append((str(file), f"not one of {', '.join(IMAGE_SUFFIXES)}"))
        elif file.stem in images:
            raise LayoutError(f"{file}: {images[file.stem].name} has the same name; keep one of the two")
        else:
            images[file.stem] = file
    return images


def folder_of(source: Path, names: tuple[str, ...]) -> Path | None:
    """Return the folder of a source that has one of the names, or None.

    Raises:
        LayoutError: two such folders exist.
    """
    found = [source / name for name in names if (source / name).is_dir()]
    if len(found) > 1:
        raise LayoutError(f"{source}: has both {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def paired(
    pre: dict[str, Path], post: dict[str, Path], labels: dict[str, Path], left_out: list[tuple[str, str]]
) -> Discovery:
    """Make a place of every name that has a pre image, a post image and a label."""
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
