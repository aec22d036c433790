"""Folders: images before, images after and masks, with the same names in all three."""

from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.sources.places import Discovery, LabelRules, Layout, SourcePost, folder_of, images_of, paired

if TYPE_CHECKING:
    from jaxcd.sources.reading import Label

_FOLDERS = (("A", "pre"), ("B", "post"), ("label", "mask", "masks"))


def find(source: Path) -> Discovery:
    """List the places: names that all three folders hold."""
    left_out: list[tuple[str, str]] = []
    pre, post, labels = (
        images_of(folder, left_out) for names in _FOLDERS if (folder := folder_of(source, names)) is not None
    )
    return paired(pre, post, labels, left_out)


def read_mask(post: SourcePost, size: tuple[int, int], rules: LabelRules) -> "Label":
    """Read a mask: of damage, or of the codes of a scale."""
    from jaxcd.sources.labels import check_size, read_mask_codes
    from jaxcd.sources.reading import Label

    codes = read_mask_codes(post.label, rules.scale)
    check_size(post.label, codes.shape, post.file, size)
    return Label(codes, post.date, None)


LAYOUT = Layout(
    folders=_FOLDERS,
    complete="a pre image, a post image and a mask of one name",
    find=find,
    read_label=read_mask,
)
