"""Labelled: tiles whose outlines come from a store of labels (jaxcd.label), as jaxcd.prepare lays them out.

Three folders with the same names in all: `pre_images`, `post_images`, and `outlines` with a JSON file each: `scale`,
`height`, `width`, and `shapes`, each a code of the scale and an outline (WKB as hexadecimal text; x to the right,
y = -row). What no shape covers is of unknown class.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import INVALID, SCALES
from jaxcd.sources.places import Discovery, LabelRules, Layout, SourcePost, folder_of, images_of, paired

if TYPE_CHECKING:
    from jaxcd.sources.reading import Label

PRE, POST, OUTLINES = "pre_images", "post_images", "outlines"
_SUFFIX = ".json"
_FOLDERS = ((PRE,), (POST,), (OUTLINES,))


def find(source: Path) -> Discovery:
    """List the places: names that all three folders hold."""
    left_out: list[tuple[str, str]] = []
    pre, post = (images_of(folder, left_out) for names in _FOLDERS[:2] if (folder := folder_of(source, names)))
    labels = {file.stem: file for file in sorted((source / OUTLINES).glob(f"*{_SUFFIX}"))}
    return paired(pre, post, labels, left_out)


def read_outlines(post: SourcePost, size: tuple[int, int], rules: LabelRules) -> "Label":
    """Paint the outlines of a tile in the codes of a scale."""
    import shapely
    from affine import Affine

    from jaxcd.sources.labels import check_size, paint
    from jaxcd.sources.reading import Label

    try:
        content = json.loads(post.label.read_bytes())
        scale, own_size = SCALES[content["scale"]], (int(content["height"]), int(content["width"]))
        shapes = [(shapely.from_wkb(outline), int(code)) for code, outline in content["shapes"]]
    except (ValueError, KeyError, TypeError, shapely.errors.GEOSException) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{post.label}: no outlines of a tile ({reason}); build from the store of labels") from error
    check_size(post.label, own_size, post.file, size)
    table = scale.read_as(rules.scale)
    if table is None:
        raise LabelError(f"{post.label}: labels of the scale {scale.name} cannot be read as {rules.scale.name}")
    shapes = [(outline, int(table[code])) for outline, code in shapes]
    codes = paint(shapes, rules.scale, shape=size, transform=Affine.scale(1, -1), outside=INVALID)
    return Label(codes, post.date, None)


LAYOUT = Layout(
    folders=_FOLDERS,
    complete="a pre image, a post image and outlines of one name",
    find=find,
    read_label=read_outlines,
    label_suffix=_SUFFIX,
)
