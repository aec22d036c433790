"""A table of anything, row by row beside its published figure: what `tools/study.py --rows FILE` runs.

FILE is Python with `get_rows() -> dict[str, tuple[Config, float | None]]`: for each row its configuration and the
published F1 of its test split, if there is one. A row's name is that of its folders.
"""

import copy
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxcd.base.errors import ConfigError
from jaxcd.base.files import write_whole
from jaxcd.config import Config
from jaxcd.learn.objectives import check_maps
from studying.results import MEASURED, Result, failed, read_results, score_cells, table, write_csv
from studying.runs import Job, seeds_done
from studying.unseen import by_event, folder_of

_NAME = re.compile(r"[a-z0-9_.]+")


@dataclass(frozen=True, kw_only=True)
class RowStudy:
    """Rows that share nothing but their table.

    Attributes:
        mark: name of the file in the study's folder that holds the settings.
        settings: configuration of each row, by its name.
        published: F1 of each row that has one, 0 to 1.
        unseen: other data on which all are evaluated, by event; empty: none.
    """

    mark: ClassVar[str] = "rows.json"
    settings: Mapping[str, Config]
    published: Mapping[str, float]
    unseen: str = ""

    @classmethod
    def read(cls, file: Path, unseen: str = "") -> "RowStudy":
        """Read a file of rows.

        Raises:
            ConfigError: there is no such file, it fails, it gives no rows or something else, a row is wrong, or the
                other data are not there.
        """
        for part in filter(None, unseen.split(",")):
            if not Path(part).exists():
                raise ConfigError(f"--unseen: {part}: no such folder")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise ConfigError(f"{file}: no such Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            rows = {name: (config, published) for name, (config, published) in module.get_rows().items()}
        except Exception as error:  # whatever a user's code raises
            raise ConfigError(f"{file}: {' '.join(str(error).split()) or type(error).__name__}") from error
        if not rows:
            raise ConfigError(f"{file}: gives no rows")
        for name, (config, published) in rows.items():
            if not _NAME.fullmatch(name) or not isinstance(config, Config):
                raise ConfigError(f"{file}: row {name!r}: expected a name of a-z, 0-9, _ and ., and a Config")
            if published is not None and not (isinstance(published, int | float) and 0 <= published <= 1):
                raise ConfigError(f"{file}: row {name}: published F1: expected 0 to 1, got {published!r}")
            try:
                config.validate()
                check_maps(config, "config.task")
            except ConfigError as error:
                raise ConfigError(f"{file}: row {name}: {error}") from error
            config.data.resolve()
        return cls(
            settings={name: config for name, (config, _) in rows.items()},
            published={name: published for name, (_, published) in rows.items() if published is not None},
            unseen=unseen,
        )

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield all rows of the first seed, then of the next."""
        also = {folder_of(self.unseen): ("--data", self.unseen, "--split", "all")} if self.unseen else {}
        for seed in range(seeds):
            for name, base in self.settings.items():
                config = copy.deepcopy(base)
                config.seed += seed
                yield Job(name=f"{name}-{seed}", config=config, also=also)

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write the table of all rows, also those of an earlier call, and each run's scores."""
        runs = {name: [f"{name}-{seed}" for seed in range(seeds_done(out))] for name in recorded}
        rows = {name: read_results(out, own, failures) for name, own in runs.items()}
        write_csv(out / "study.csv", ("row",), {(name,): results for name, results in rows.items()})
        lines = [
            "# Scores on the test split",
            "",
            "At threshold 0.5, in %, mean ± standard deviation over the seeds.",
            "",
        ]
        lines += _table(rows, self.published)
        if self.unseen:
            lines += ["", *by_event(out, self.unseen, runs, failures)]
        lines += failed(failures)
        write_whole(out / "study.md", "\n".join(lines) + "\n")
        return "study.md, study.csv"


def _table(rows: Mapping[str, Sequence[Result | None]], published: Mapping[str, float]) -> list[str]:
    lines = []
    for name, results in rows.items():
        done = [result for result in results if result is not None]
        theirs = published.get(name)
        difference = None if theirs is None or not done else np.mean([r.scores.f1 for r in done]) - theirs
        compared = (
            "–" if theirs is None else f"{100 * theirs:.1f}",
            "–" if difference is None else f"{100 * difference:+.1f}",
        )
        lines.append([name, str(len(done)), *score_cells(done), *compared])
    return table(["row", "seeds", *MEASURED, "published F1", "difference"], lines)
