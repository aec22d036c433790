"""A table of anything, row by row beside its published figure: what `tools/study.py --rows FILE` runs.

FILE is Python with `get_rows() -> dict[str, tuple[Config, float | None]]`: for each row its configuration and the
published F1 of its test split, if there is one. A row's name is that of its folders.
"""

import copy
import csv
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from study_report import SCORES, Result, read_results, spread
from study_runs import Job, seeds_done

from jaxcd.base.errors import ConfigError
from jaxcd.base.files import replacing, write_whole
from jaxcd.config import Config

_NAME = re.compile(r"[a-z0-9_.]+")


@dataclass(frozen=True, kw_only=True)
class RowStudy:
    """Rows that share nothing but their table.

    Attributes:
        settings: configuration of each row, by its name.
        published: F1 of each row that has one, 0 to 1.
    """

    settings: Mapping[str, Config]
    published: Mapping[str, float]

    @classmethod
    def read(cls, file: Path) -> "RowStudy":
        """Read a file of rows.

        Raises:
            ConfigError: there is no such file, it fails, it gives something else, or a row's configuration is wrong.
        """
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise ConfigError(f"{file}: no such Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            rows = {name: (config, published) for name, (config, published) in module.get_rows().items()}
        except Exception as error:  # whatever a user's code raises
            raise ConfigError(f"{file}: {' '.join(str(error).split()) or type(error).__name__}") from error
        for name, (config, _) in rows.items():
            if not _NAME.fullmatch(name) or not isinstance(config, Config):
                raise ConfigError(f"{file}: row {name!r}: expected a name of a-z, 0-9, _ and ., and a Config")
            try:
                config.validate()
            except ConfigError as error:
                raise ConfigError(f"{file}: row {name}: {error}") from error
            config.data.root, config.data.cache = (
                str(Path(p).resolve()) for p in (config.data.root, config.data.cache)
            )
        return cls(
            settings={name: config for name, (config, _) in rows.items()},
            published={name: published for name, (_, published) in rows.items() if published is not None},
        )

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield all rows of the first seed, then of the next."""
        for seed in range(seeds):
            for name, base in self.settings.items():
                config = copy.deepcopy(base)
                config.seed += seed
                yield Job(name=f"{name}-{seed}", config=config)

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write the table of all rows, also those of an earlier call, and each run's scores."""
        rows = {
            name: read_results(out, [f"{name}-{seed}" for seed in range(seeds_done(out))], failures)
            for name in recorded
        }
        with replacing(out / "study.csv") as partial, partial.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["row", "seed", *SCORES, "f1_at_validated_threshold", "training_pairs_per_second"])
            for name, results in rows.items():
                for seed, result in enumerate(results):
                    if result is not None:
                        values = [getattr(result.scores, score) for score in SCORES] + [result.best_f1, result.rate]
                        table.writerow([name, seed, *(f"{value:.6f}" for value in values)])
        lines = [
            "# Scores on the test split",
            "",
            "At threshold 0.5, in %, mean ± standard deviation over the seeds.",
            "",
        ]
        lines += _table(rows, self.published)
        if failures:
            lines += ["", "## Failed", "", *(f"- {name}: {reason}" for name, reason in failures.items())]
        write_whole(out / "study.md", "\n".join(lines) + "\n")
        return "study.md, study.csv"


def _table(rows: Mapping[str, Sequence[Result | None]], published: Mapping[str, float]) -> list[str]:
    head = ["row", "seeds", *SCORES.values(), "published F1", "difference", "F1 at the validated threshold", "pairs/s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, results in rows.items():
        done = [result for result in results if result is not None]
        cells = [spread([100 * getattr(result.scores, score) for result in done]) for score in SCORES]
        theirs = published.get(name)
        cells.append("–" if theirs is None else f"{100 * theirs:.1f}")
        difference = None if theirs is None or not done else np.mean([r.scores.f1 for r in done]) - theirs
        cells.append("–" if difference is None else f"{100 * difference:+.1f}")
        cells.append(spread([100 * result.best_f1 for result in done]))
        cells.append(f"{np.mean([result.rate for result in done]):.1f}" if done else "–")
        lines.append(f"| {name} | {len(done)} | " + " | ".join(cells) + " |")
    return lines
