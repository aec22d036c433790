"""The report of the study of pretraining: table, paired bootstrap over test tiles, and a plot of the two claims."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxcd.base.errors import RunError
from jaxcd.base.files import replacing, write_whole
from studying.results import MEASURED, SCORES, Result, failed, score_cells, table, write_csv

NETWORKS = ("fc_ef", "fc_siam_conc", "fc_siam_diff")
STARTS = {
    "scratch": "from scratch",
    "pretrained": "pretrained",
    "frozen": "pretrained, frozen",
    "slow": "pretrained, encoder's rate × 0.1",
}
_TITLES = {"fc_ef": "FC-EF", "fc_siam_conc": "FC-Siam-Conc", "fc_siam_diff": "FC-Siam-Diff"}
# Published rows, % (docs/method.md, Published results): accuracy, precision, recall, F1, IoU.
PUBLISHED = {
    ("fc_ef", "scratch"): (94.45, 53.54, 53.15, 53.34, 36.37),
    ("fc_siam_conc", "scratch"): (94.58, 54.12, 55.95, 55.02, 37.95),
    ("fc_siam_diff", "scratch"): (94.99, 59.12, 52.50, 55.62, 38.52),
    ("fc_ef", "pretrained"): (94.76, 57.46, 47.21, 51.83, 34.98),
    ("fc_siam_conc", "pretrained"): (93.30, 45.09, 59.83, 51.42, 34.61),
    ("fc_siam_diff", "pretrained"): (93.20, 44.79, 58.87, 50.87, 34.11),
    ("fc_ef", "frozen"): (88.80, 26.64, 49.82, 34.71, 21.00),
    ("fc_siam_conc", "frozen"): (92.99, 41.69, 45.87, 43.68, 27.94),
    ("fc_siam_diff", "frozen"): (88.84, 25.47, 44.95, 32.52, 19.42),
}
_DIFFERENCES = (
    "The published rows (28 test places in Türkiye, large networks, 100 epochs) are of other data, by another method: "
    "their evaluation drew images at random, their frozen encoders' BatchNorm statistics drifted, accumulation lost "
    "half of FC-Siam-Diff's gradients, and FC-EF's pretraining saw places that were tested later. Here every test tile "
    "counts once, frozen means parameters and statistics, accumulation is true, and no encoder has seen a place that "
    "is held out."
)
_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


class Difference(NamedTuple):
    """A difference between two rows over the seeds that both have, with its 95 % interval."""

    seeds: int
    value: float
    low: float
    high: float


Rows = Mapping[tuple[str, str], Sequence[Result | None]]


def recall(counts: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
    """TP / (TP + FN); 0 where nothing is damaged."""
    return counts[..., 0] / np.maximum(counts[..., 0] + counts[..., 2], 1)


def f1(counts: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
    """2 TP / (2 TP + FP + FN); 0 where nothing is damaged or called."""
    return 2 * counts[..., 0] / np.maximum(2 * counts[..., 0] + counts[..., 1] + counts[..., 2], 1)


def paired_difference(
    ours: Sequence[Result | None],
    base: Sequence[Result | None],
    score: Callable[[Float[np.ndarray, "... 3"]], Float[np.ndarray, "..."]],
) -> Difference | None:
    """Estimate how much a score differs, by a paired bootstrap over test tiles.

    Each resample draws tiles with replacement, the same for both rows and all seeds; a score is of the summed counts of
    a seed, and averaged over the seeds that both rows have.

    Args:
        ours: a row, a result for each seed.
        base: the row that it is compared with.
        score: of counts TP, FP, FN.

    Returns:
        The difference in the score, and its 2.5th and 97.5th percentile; None where no seed has both.
    """
    pairs = [(a, b) for a, b in zip(ours, base, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    tiles = pairs[0][0].tiles
    if any(result.tiles != tiles for pair in pairs for result in pair):
        raise RunError("the study's runs were evaluated on different tiles; delete its results and run it again")
    drawn = np.random.default_rng(0).multinomial(len(tiles), np.full(len(tiles), 1 / len(tiles)), size=_RESAMPLES)
    weights = np.concatenate([np.ones((1, len(tiles))), drawn])  # the first: all tiles as they are
    sides = np.stack([[score(weights @ result.counts) for result in pair] for pair in pairs])
    differences = (sides[:, 0] - sides[:, 1]).mean(axis=0)
    low, high = np.percentile(differences[1:], _PERCENTILES)
    return Difference(len(pairs), float(differences[0]), float(low), float(high))


def write_report(out: Path, rows: Rows, failures: Mapping[str, str], setting: str) -> None:
    """Write `study.md`, `study.csv` and `claims.png`.

    Args:
        out: the study's folder.
        rows: results of each seed, by network and start.
        failures: why runs failed, by name.
        setting: what was run, in a line.
    """
    write_csv(out / "study.csv", ("network", "start"), rows)
    gains = {
        key: tuple(paired_difference(results, rows[key[0], "scratch"], score) for score in (recall, f1))
        for key, results in rows.items()
        if key[1] != "scratch"
    }
    tiles = next((len(result.tiles) for results in rows.values() for result in results if result), 0)
    lines = ["# Does contrastive pretraining help?", "", f"{setting}. Scores on {tiles} test tiles, %.", ""]
    lines += [*_table(rows), "", _DIFFERENCES, "", "## Against training from scratch", "", *_gains(gains), ""]
    lines += [
        "Differences in points over the seeds that both rows have, with 95 % intervals of a paired bootstrap over the "
        "test tiles (2000 resamples). They hold for these seeds and this split, and are too narrow where there are "
        "fewer than some twenty tiles. The paper's two claims are more recall and less F1.",
        "",
        "![Differences in recall and F1](claims.png)",
    ]
    lines += failed(failures)
    write_whole(out / "study.md", "\n".join(lines) + "\n")
    _plot(gains, out / "claims.png")


def _table(rows: Rows) -> list[str]:
    lines = []
    for (network, start), results in rows.items():
        done = [result for result in results if result is not None]
        published = PUBLISHED.get((network, start))
        theirs = " / ".join(f"{value:.1f}" for value in published[1:]) if published else "not in the paper"
        lines.append([_TITLES[network], STARTS[start], str(len(done)), *score_cells(done), theirs])
    heads = ["network", "encoder", "seeds", *MEASURED, "published: " + " / ".join(list(SCORES.values())[1:])]
    return table(heads, lines)


Gains = Mapping[tuple[str, str], tuple[Difference | None, ...]]


def _gains(gains: Gains) -> list[str]:
    lines = []
    for (network, start), both in gains.items():
        cells = [
            "–" if d is None else f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})" for d in both
        ]
        published = _published_gain(network, start)
        published_cell = f"{published[0]:+.1f}, {published[1]:+.1f}" if published else "not in the paper"
        seeds = both[0].seeds if both[0] else 0
        lines.append([_TITLES[network], STARTS[start], str(seeds), *cells, published_cell])
    return table(["network", "encoder", "seeds", "recall", "F1", "published: recall, F1"], lines)


def _published_gain(network: str, start: str) -> tuple[float, float] | None:
    if (network, start) not in PUBLISHED:
        return None
    ours, scratch = PUBLISHED[network, start], PUBLISHED[network, "scratch"]
    return ours[2] - scratch[2], ours[3] - scratch[3]


def _plot(gains: Gains, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    shown = list(dict.fromkeys(network for network, _ in gains))
    colours = dict(zip(list(STARTS)[1:], ("tab:blue", "tab:purple", "tab:green"), strict=True))
    for k, (axes, claim) in enumerate(zip(figure.subplots(1, 2), ("recall", "F1"), strict=True)):
        for (network, start), both in gains.items():
            x = shown.index(network) + 0.22 * (list(colours).index(start) - 1)
            if (d := both[k]) is not None:
                reach = [[100 * (d.value - d.low)], [100 * (d.high - d.value)]]
                axes.errorbar(x, 100 * d.value, reach, fmt="o", ms=5, capsize=3, color=colours[start])
            if published := _published_gain(network, start):
                axes.plot(x + 0.07, published[k], "D", ms=5, mfc="none", color=colours[start])
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(range(len(shown)), [_TITLES[network] for network in shown])
        axes.set(ylabel=f"{claim}: points against training from scratch")
        axes.grid(alpha=0.3, axis="y")
        if k == 0:
            for start, colour in colours.items():
                axes.plot([], [], "o", ms=5, color=colour, label=STARTS[start])
            axes.plot([], [], "D", ms=5, mfc="none", color="black", label="published, other data")
            axes.legend(frameon=False, fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
