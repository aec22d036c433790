"""The paper's tiles: pre/, post/ and masks/, all named {quadkey}_{date}_{catalogid}-visual_{tile}."""

import re
from collections import defaultdict
from pathlib import Path

from jaxcd.sources.folders import read_mask
from jaxcd.sources.places import Discovery, Layout, SourceImage, SourcePlace, SourcePost, images_of

NAME = re.compile(r"(?P<quadkey>[0-3]+)_(?P<date>\d{4}-?\d{2}-?\d{2})_(?P<catalog>[^_]+)-visual_(?P<tile>\d+)")


def find(source: Path) -> Discovery:
    """List the places (quadkey and tile), each with all its dates; a post image without a mask is left out."""
    left_out: list[tuple[str, str]] = []
    incomplete: list[tuple[str, str]] = []
    groups: dict[str, dict[str, list[tuple[str, Path]]]] = {}
    for name in ("pre", "post", "masks"):
        groups[name] = defaultdict(list)
        for stem, file in images_of(source / name, left_out).items():
            match = NAME.fullmatch(stem)
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
            # An event has many raw tiles and few labelled ones: only a lost label counts as incomplete.
            left_out += [(str(image.file), "no labelled post image of this place") for image in pre]
            incomplete += [(str(image.file), "no pre image of this place") for image in post]
    incomplete += [(str(file), f"no post/{file.stem}") for file in masks.values()]
    return Discovery(places=tuple(places), left_out=tuple(left_out), incomplete=tuple(incomplete))


LAYOUT = Layout(
    folders=(("pre",), ("post",), ("masks",)),
    complete="a pre image, and a post image with a mask, all named {quadkey}_{date}_{catalogid}-visual_{tile}",
    find=find,
    read_label=read_mask,
)
