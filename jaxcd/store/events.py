"""Which disaster hit a place, where a table says so: events that names of places do not tell."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxcd.base.errors import DatasetError
from jaxcd.store.manifest import Sample

_COLUMNS = ("place", "event")


def with_events(samples: Sequence[Sample], table: Path) -> tuple[Sample, ...]:
    """Return places with the events of a CSV table; a place that it does not name keeps its own.

    Args:
        samples: places of a dataset.
        table: a file with the columns `place` (ids of places) and `event`.

    Raises:
        DatasetError: the file cannot be read, lacks a column, names a place twice, or names none of the places.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise DatasetError(f"{table}: no column {missing[0]}; expected a CSV table with {', '.join(_COLUMNS)}")
            events: dict[str, str] = {}
            for row in rows:
                if row["place"] in events:
                    raise DatasetError(
                        f"{table}: line {rows.line_num} names {row['place']} again; keep one of the lines"
                    )
                events[row["place"]] = row["event"] or ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: cannot be read as a CSV table ({error}); set config.data.events") from error
    if not any(sample.id in events for sample in samples):
        raise DatasetError(
            f"{table}: names none of the {len(samples)} places, such as {samples[0].id}; its column place must hold "
            "their ids, as places.json of the dataset has them"
        )
    return tuple(dataclasses.replace(sample, event=events.get(sample.id, sample.event)) for sample in samples)
