"""What is printed and drawn of counted programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarking.compiling.fit import CARDS, SHARE, Line
from benchmarking.compiling.targets import Target


def heading(target: Target, jaxlib: str, commit: str) -> str:
    """Say in two lines what the figures are, and what they are not."""
    return (
        f"compiled for {target.name} by jaxlib {jaxlib}; commit {commit}. Nothing ran: bytes and operations are "
        f"counted from XLA's text,\ntimes are a model ({target.bandwidth / 1e12:.2f} TB/s, tensor cores "
        f"{target.rates['bf16'] / 1e12:.1f} TFLOP/s in bfloat16, {target.rates['f32'] / 1e12:.1f} in float32), never a "
        "measurement"
    )


def program(row: Mapping[str, Any]) -> str:
    """Tell a program: sums, kinds, largest kernels."""
    pairs, ms = row["batch"], 1e3
    lines = [
        f"\n{row['case']}",
        f"  {row['bytes_per_pair'] / 1e9:.2f} GB a pair, {row['operations'] / pairs / 1e9:.0f} G operations a pair, "
        f"{row['kernels']} kernels, {row['temp_bytes'] / 1e9:.2f} GB temporary, "
        f"{row['needed_bytes'] / 1e9:.2f} GB in all; compiled in {row['compile_seconds']:.0f} s",
        f"  model: {row['memory_seconds'] * ms:.2f} ms for the bytes, {row['matrix_seconds'] * ms:.2f} ms for the "
        f"tensor cores, {row['bound_seconds'] * ms:.2f} ms kernel by kernel: at most "
        f"{pairs / row['bound_seconds']:.0f} pairs/s",
        f"  {'what for':<38}{'GB a pair':>10}{'share':>7}{'G op. a pair':>14}{'kernels':>9}",
    ]
    for name, each in sorted(row["kinds"].items(), key=lambda item: -item[1]["bytes"]):
        lines.append(
            f"  {name:<38}{each['bytes'] / pairs / 1e9:>10.3f}{each['bytes'] / row['bytes']:>7.1%}"
            f"{each['operations'] / pairs / 1e9:>14.2f}{each['kernels']:>9}"
        )
    lines.append(f"  {'largest kernels':<38}{'MB read':>10}{'written':>9}{'times':>7}  where")
    for each in row["largest"]:
        lines.append(
            f"  {each['kernel'][:37]:<38}{each['read'] / 1e6:>10.1f}{each['written'] / 1e6:>9.1f}{each['times']:>7}  "
            f"{each['source']}  {each['op_name'].partition('/')[2]} ({each['kind']})"
        )
    return "\n".join([*lines, *(f"  note: {note}" for note in row["notes"])])


def memory(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tell which batches fit cards.

    Args:
        rows: `case`, `variant`, `batches` (the two that were compiled), `fixed` and `each` of `fit.Line`.
    """
    lines = [
        f"\nlargest batch by memory (arguments, results, temporary) on {SHARE:.0%} of a card, what JAX takes if "
        "nothing else is set;\na straight line through the two batches that were compiled, without cuDNN's workspaces",
        f"  {'':<71}{'GB a pair':>9}{'fixed':>7}{'batches':>9}" + "".join(f"{card:>5} GiB" for card in CARDS),
    ]
    for row in rows:
        line = Line(row["fixed"], row["each"])
        fits = "".join(f"{line.largest(card * 2**30):>9}" for card in CARDS)
        batches = ", ".join(map(str, row["batches"]))
        lines.append(f"  {_named(row):<71}{line.each / 1e9:>9.3f}{line.fixed / 1e9:>7.2f}{batches:>9}{fits}")
    return "\n".join(lines)


def variants(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tell what accumulation and rematerialisation change, beside the step as it is."""
    lines = [
        "\nthe same step in other forms: config.train.accumulation (BatchNorm then sees micro-batches), and "
        "rematerialised, which is no\nsetting of jaxcd and tried here only (jax.checkpoint that keeps what "
        "convolutions and products give)",
        f"  {'':<71}{'GB temporary':>13}{'GB a pair':>11}{'ms (model)':>12}",
    ]
    for row in rows:
        lines.append(
            f"  {_named(row):<71}{row['temp_bytes'] / 1e9:>13.2f}{row['bytes_per_pair'] / 1e9:>11.2f}"
            f"{row['bound_seconds'] * 1e3:>12.2f}"
        )
    return "\n".join(lines)


def _named(row: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (row["case"], row["variant"])))


def plot(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Draw GB a pair by what kernels are for, a panel a program; returns what to say of it."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return " (no plot: needs matplotlib)"
    matplotlib.use("agg")
    from matplotlib import pyplot

    heights = [len(row["kinds"]) + 1.5 for row in rows]
    size = 9, 0.25 * sum(heights) + 0.8
    figure, panels = pyplot.subplots(
        len(rows), 1, figsize=size, height_ratios=heights, squeeze=False, layout="constrained"
    )
    widest = max(each["bytes"] / row["batch"] for row in rows for each in row["kinds"].values()) / 1e9
    for panel, row in zip(panels[:, 0], rows, strict=True):
        kinds = sorted(row["kinds"].items(), key=lambda item: -item[1]["bytes"])
        values = [each["bytes"] / row["batch"] / 1e9 for _, each in kinds]
        panel.barh([name for name, _ in kinds], values, color="#c2410c", height=0.7)
        for i, value in enumerate(values):
            panel.text(value, i, f" {value:.2f}", va="center", fontsize=8)
        panel.invert_yaxis()
        panel.set_xlim(0, 1.15 * widest)
        panel.set_title(f"{row['case']}: {row['bytes_per_pair'] / 1e9:.2f} GB a pair", loc="left", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f", {path}"
