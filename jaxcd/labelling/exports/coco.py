"""Labels as COCO's annotations of objects: polygons in pixels of each pair's grid."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from jaxcd.base.files import write_whole
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import PAIR, STATES, Store, blind

_DIGITS = 3  # decimals of a pixel


def write(store: Store, path: Path, pairs: tuple[str, ...]) -> None:
    """Write the judged objects of pairs, each pair an image that is named after its first post image.

    Members of the blind sample are left out.
    """
    held = blind.held_by_pair(store)
    categories = {name: i for i, name in enumerate((*store.scale.levels, *STATES), start=1)}
    images, annotations = [], []
    for number, key in enumerate(pairs, start=1):
        pair = store.pairs[key]
        images.append(
            {
                "id": number,
                "file_name": Path(pair.post[0]).name,
                "pre_file_name": Path(pair.pre[-1]).name,
                "pair": key,
                "width": pair.width,
                "height": pair.height,
            }
        )
        others = {PAIR} | held.get(key, set())
        labels = [
            label
            for label in store.labels(key, viewer=None)
            if label.object not in others and label.level is not None and label.geometry is not None
        ]
        for label, outline in zip(labels, _in_pixels([label.geometry for label in labels], pair), strict=True):
            if label.level is None or not outline.area > 0:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories[label.level],
                    "segmentation": [_flat(part) for part in _solid(outline)],
                    "area": round(outline.area, _DIGITS),
                    "bbox": _bbox(outline),
                    "iscrowd": 0,
                    "object": label.object,
                    "author": label.author,
                    "comment": label.comment,
                }
            )
    content = {
        "info": {
            "description": f"damage in the scale {store.scale.name}, labelled with jaxcd",
            "date_created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "building"} for name, i in categories.items()],
    }
    write_whole(path, json.dumps(content))


def _in_pixels(outlines: Sequence[BaseGeometry | None], pair: Pair) -> list[BaseGeometry]:
    """Return outlines as far as they lie on the image; x to the right, y down."""
    a, b, c, d, e, f = tuple(~pair.transform)[:6]
    moved = shapely.transform(np.array(outlines, object), lambda xy: xy @ [[a, d], [b, e]] + [c, f])
    image = shapely.box(0, 0, pair.width, pair.height)
    return [outline if image.covers(outline) else shapely.intersection(outline, image) for outline in moved]


def _solid(outline: BaseGeometry) -> Iterator[shapely.Polygon]:
    """Cut an outline into polygons without holes, which COCO's polygons cannot have."""
    for part in shapely.get_parts(outline).tolist():
        if not isinstance(part, shapely.Polygon):
            continue
        if not part.interiors:
            yield part
            continue
        west, south, east, north = part.bounds
        middle = part.interiors[0].centroid.x
        for half in (shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)):
            yield from _solid(shapely.intersection(part, half))


def _flat(polygon: shapely.Polygon) -> list[float]:
    """Return the corners as x, y, x, y, ..., the last one not repeated."""
    return [round(float(value), _DIGITS) for xy in polygon.exterior.coords[:-1] for value in xy]


def _bbox(outline: BaseGeometry) -> list[float]:
    west, north, east, south = outline.bounds
    return [round(value, _DIGITS) for value in (west, north, east - west, south - north)]
