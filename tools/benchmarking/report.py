"""What is shown of the figures: a heading, a line a row, a JSON file and a plot."""

import json
from pathlib import Path
from typing import Any

from jaxcd.base.files import write_whole

_GIB = 2**30
_RIVALS = {"loader": "the paper's pipeline", "prepare": "rasterio alone"}


def heading(machine: dict[str, Any]) -> str:
    """Say in two lines what this is measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['device']}; {machine['cpu']}, {machine['cores']} cores; {machine['commit']}\n{versions}"


def line(row: dict[str, Any]) -> str:
    """Say in a line what came out for a side of a case."""
    if row.get("failed"):
        return f"  {row['side']:<30} not measured: {row['failed'][:300]}"
    low, high = (1e3 * seconds for seconds in row["quartiles"])
    parts = [
        f"{row['seconds'] * 1e3:9.1f} ms ({low:.1f} to {high:.1f})",
        f"{row['pairs_per_second']:9.2f} pairs/s",
        f"{row['megapixels_per_second']:8.1f} MPix/s",
    ]
    if "times_rival" in row:
        rival = _RIVALS.get(row["suite"], "PyTorch's best")
        parts.append(f"{row['times_rival']:.2f} x {rival}")
    if "share_of_step" in row:
        parts.append(f"{row['share_of_step']:.0%} of the step alone")
    if "share_of_network" in row:
        parts.append(f"{row['share_of_network']:.0%} of the network alone")
        parts.append(f"{row['share_of_decoding']:.0%} of decoding alone")
    if "share_of_matmul" in row:
        parts.append(f"{row['share_of_matmul']:.0%} of matmul, {row['share_of_copy']:.0%} of copy")
    if "bytes_per_pair" in row:
        parts.append(f"{row['bytes_per_pair'] / 1e6:.2f} MB a pair")
    if "compile_seconds" in row:
        parts.append(f"compiled in {row['compile_seconds']:.1f} s")
    if "compile_cached_seconds" in row:
        parts.append(f"again in {row['compile_cached_seconds']:.1f} s")
    if row.get("convolutions", "XLA's") != "XLA's":
        parts.append(f"convolutions: {row['convolutions']}")
    if "peak_bytes" in row:
        parts.append(f"peak {row['peak_bytes'] / _GIB:.2f} GiB")
    return f"  {row['side']:<30} " + "  ".join(parts)


def write(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to `path`, whole."""
    write_whole(path, json.dumps(figures, indent=1) + "\n")


def plot(path: Path, measured: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """Draw pairs a second, a panel a case, with quartiles and ratios; returns what to say of it."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return " (no plot: needs matplotlib)"
    matplotlib.use("agg")
    from matplotlib import pyplot

    cases: dict[str, list[dict[str, Any]]] = {}
    for row in measured:
        if not row.get("failed"):
            cases.setdefault(row["case"], []).append(row)
    if not cases:
        return " (no plot: nothing was measured)"
    heights = [len(rows) + 1.2 for rows in cases.values()]
    size = 9, 0.32 * sum(heights) + 0.8
    figure, panels = pyplot.subplots(
        len(cases), 1, figsize=size, height_ratios=heights, squeeze=False, layout="constrained"
    )
    for panel, (name, rows) in zip(panels[:, 0], cases.items(), strict=True):
        rates = [row["pairs_per_second"] for row in rows]
        low = [row["pairs_per_second"] - row["batch"] / row["quartiles"][1] for row in rows]
        high = [row["batch"] / row["quartiles"][0] - row["pairs_per_second"] for row in rows]
        colours = ["#c2410c" if row["side"].startswith("jaxcd") else "#94a3b8" for row in rows]
        panel.barh([row["side"] for row in rows], rates, xerr=[low, high], color=colours, ecolor="#334155", height=0.7)
        for i, row in enumerate(rows):
            more = f"  {row['times_rival']:.2f} x" if "times_rival" in row else ""
            more = f"  {row['share_of_step']:.0%}" if "share_of_step" in row else more
            panel.text(rates[i] + high[i], i, f" {rates[i]:.3g}{more}", va="center", fontsize=8)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_title(name, loc="left", fontsize=9)
        panel.set_xlim(0, 1.25 * max(rates))
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Pairs a second; {machine['device']}, {machine['cpu']}, {machine['date']}", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f", {path}"
