"""Describes a pairing as text: places with their acquisitions, and what stays unpaired and why."""

from collections import defaultdict
from collections.abc import Sequence

from jaxcd.scenes.dates import told
from jaxcd.scenes.pairing import Pairing
from jaxcd.scenes.raster import is_remote

_SHOWN = 5


def describe(pairing: Pairing, left_out: Sequence[tuple[str, str]]) -> str:
    """Describe a pairing: one line per acquisition, with its overlap, pixel size, angle and clouds.

    Args:
        pairing: of `jaxcd.scenes.pairing.pair`.
        left_out: files and rows that are not scenes, each with the reason.
    """
    lines = [f"{'place':<28}{'when':<6}{'date':<13}{'overlap':>8}{'m/px':>7}{'off nadir':>10}{'clouds':>8}  scene"]
    for place in pairing.places:
        for when, images in (("pre", place.pre), ("post", place.post)):
            for image in images:
                first = image.scenes[0]
                angle = "–" if first.off_nadir is None else f"{first.off_nadir:.1f}°"
                clouds = "–" if first.clouds is None else f"{first.clouds:g}%"
                name = first.catalog_id or first.location
                more = f" and {len(image.scenes) - 1} more beside it" if len(image.scenes) > 1 else ""
                lines.append(
                    f"{place.id:<28}{when:<6}{told([image.date]):<13}{image.overlap:>8.1%}{first.metres:>7.2f}"
                    f"{angle:>10}{clouds:>8}  {name}{more}"
                )
    pre, post = (
        sum(len(images) for images in found)
        for found in ([place.pre for place in pairing.places], [place.post for place in pairing.places])
    )
    remote = sum(is_remote(place.reference.location) for place in pairing.places)
    lines += ["", f"{len(pairing.places)} places with {pre} acquisitions before and {post} after the event"]
    if remote:
        lines.append(f"{remote} of them lie behind URLs; nothing of them has been read")
    alone = [(scene.location, reason) for scene, reason in (*pairing.unpaired, *pairing.unwanted)]
    reasons: dict[str, list[str]] = defaultdict(list)
    for where, reason in (*alone, *left_out):
        reasons[reason].append(where)
    lines.append(f"{len(alone) + len(left_out)} scenes, files and rows stay alone" + (":" if reasons else ""))
    for reason, where in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"  {len(where)} × {reason}")
        lines += [f"      {name}" for name in where[:_SHOWN]]
        if len(where) > _SHOWN:
            lines.append(f"      and {len(where) - _SHOWN} more")
    return "\n".join(lines)
