"""Pairs of images in a folder of tiles, labelled or not: what somebody can look at to label it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxcd.base.errors import LayoutError
from jaxcd.sources import airchange, paper, xbd
from jaxcd.sources.places import folder_of, images_of

NAMES = ("xbd", "paper", "folders", *airchange.LAYOUTS)
"""Layouts whose images are found without labels."""


class ImagePair(NamedTuple):
    """Two images of one place; `id` is that of the place, and of the post image where a place has several."""

    id: str
    pre: Path
    post: Path


def find_pairs(layout: str, source: Path) -> tuple[ImagePair, ...]:
    """List the pairs of a folder by names alone; images without a counterpart, and labels, are passed over.

    Args:
        layout: one of `NAMES`.
        source: the folder.

    Raises:
        LayoutError: the folder or one of its folders of images is missing, or it holds no pair.
    """
    if not source.is_dir():
        raise LayoutError(f"{source}: no such folder, expected one in layout {layout}")
    pre, post = _by_place(layout, source)
    found = []
    for place in sorted(set(pre) & set(post)):
        before, after = max(pre[place].items()), sorted(post[place].items())
        several = len(after) > 1
        found += [ImagePair(f"{place}_{date}" if several else place, before[1], file) for date, file in after]
    if not found:
        raise LayoutError(f"{source}: layout {layout}, but no place with an image before and one after")
    return tuple(found)


_Images = dict[str, dict[str, Path]]
"""Images by place and date; one date only, "", where names hold none."""


def _by_place(layout: str, source: Path) -> tuple[_Images, _Images]:
    if layout == "xbd":
        images = _folder(source, ("images",))
        pre, post = (dict(_matching(images, xbd.NAME, when)) for when in ("pre", "post"))
        return pre, post
    if layout == "paper":
        pre, post = (_dated(_folder(source, (name,))) for name in ("pre", "post"))
        return pre, post
    pre, post = (
        {stem: {"": file} for stem, file in _folder(source, names).items()} for names in (("A", "pre"), ("B", "post"))
    )
    return pre, post


def _folder(source: Path, names: tuple[str, ...]) -> dict[str, Path]:
    folder = folder_of(source, names)
    if folder is None:
        raise LayoutError(f"{source}: expected a folder {' or '.join(f'{name}/' for name in names)} with images")
    return images_of(folder, [])


def _matching(images: dict[str, Path], name: re.Pattern[str], when: str) -> Iterator[tuple[str, dict[str, Path]]]:
    for stem, file in images.items():
        match = name.fullmatch(stem)
        if match and match["when"] == when:
            yield match["place"], {"": file}


def _dated(images: dict[str, Path]) -> _Images:
    found: _Images = {}
    for stem, file in images.items():
        match = paper.NAME.fullmatch(stem)
        if match:
            found.setdefault(f"{match['quadkey']}_{match['tile']}", {})[match["date"]] = file
    return found
