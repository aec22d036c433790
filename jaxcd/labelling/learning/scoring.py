"""The worker behind the labelling page: a thread that computes features once, then scores anew as labels come."""

import importlib.util
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.base.errors import JaxcdError, LabelError
from jaxcd.labelling.store import Store, blind
from jaxcd.labelling.store.opening import MOST
from jaxcd.labelling.workspace import OpenPair

if TYPE_CHECKING:  # the server starts without what scores need
    import numpy as np

    from jaxcd.active.head import Head, Scores
    from jaxcd.labelling.learning.buildings import Buildings

OFF, FEATURES, LABELS, READY = "off", "features", "labels", "ready"
"""Phases: no scores, for a reason; features are computed; more labels are needed; there are scores."""
HEAD, NETWORK = "head", "network"
"""Sources of scores."""
DECIDES = 0.5
"""Probability from which on a building or cell is called damaged."""
LEAST = 10
"""Labels from which there are scores."""
_PACKAGES = ("sklearn", "statsmodels", "threadpoolctl")
_PAUSE = 0.5  # seconds between two looks at the store
_END = 2.0  # seconds that the end of the server waits for the thread; a block of a scene is kept whole or not at all


@dataclass(frozen=True, kw_only=True)
class State:
    """What the worker knows at one moment; it never changes, each step makes a new one.

    Attributes:
        phase: one of the phases above.
        reason: why there are no scores, for the user; None where there are.
        done: buildings whose features are there.
        total: buildings.
        labels: that the head learned from, or could learn from.
        number: counts up whenever scores change, also over restarts.
        buildings: in rows; None before they are read.
        head: with the features; None before these are there.
        scores: of the head.
        held: rows that nothing is learned from and no score is told of.
        judged: rows that have a label or state.
        encoder: what the features are from, for the user.
        network_run: folder of the run of the network.
        network: probabilities by pair and object of a network that was tuned on the labels.
    """

    phase: str
    reason: str | None = None
    done: int = 0
    total: int = 0
    labels: int = 0
    number: int = 0
    buildings: "Buildings | None" = None
    head: "Head | None" = None
    scores: "Scores | None" = None
    held: frozenset[int] = frozenset()
    judged: frozenset[int] = frozenset()
    encoder: str = ""
    network_run: Path | None = None
    network: "Mapping[str, Mapping[str, float]] | None" = field(default=None, repr=False)

    def source(self, wanted: str | None = None) -> str:
        """Return whose scores are told: those of the wanted source, else the network's where there are some."""
        return wanted or (HEAD if self.network is None else NETWORK)

    def probabilities(self, source: str | None = None) -> "np.ndarray | None":
        """Return the probability of damage row by row, NaN where there is none; None: there are no scores.

        Args:
            source: `HEAD` or `NETWORK`; None: the network's where there are some.
        """
        import numpy as np

        if self.source(source) == HEAD:
            return None if self.scores is None else self.scores.damaged
        if self.network is not None and self.buildings is not None:
            found = np.full(len(self.buildings), np.nan)
            for pair, rows in self.buildings.rows.items():
                known = self.network.get(pair, {})
                for key in known.keys() & rows.keys():
                    found[rows[key]] = known[key]
            return found
        return None


def missing() -> list[str]:
    """Name the packages of the extra `active` that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


class _Stopped(Exception):
    """The server ends."""


class Scorer:
    """Scores the footprints or cells of a store's pairs in a thread of its own, which the first question starts."""

    def __init__(self, store: Store, opened: Sequence[OpenPair], run: Path | None = None):
        """Set up the worker.

        Args:
            store: whose labels it learns from.
            opened: the pairs.
            run: folder of the run whose encoder is used; None: ImageNet's.
        """
        self._store, self._opened, self._run = store, tuple(opened), run
        self._state = State(phase=FEATURES, number=int(time.time()))  # larger than before a restart
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._fitted: tuple[int, int] | None = None

    @property
    def state(self) -> State:
        """What is known now; the first call starts the work."""
        with self._lock:
            if self._thread is None and not self._end.is_set():
                self._thread = threading.Thread(target=self._work, name="scores", daemon=True)
                self._thread.start()
            return self._state

    def show_network(self, scores: Mapping[str, Mapping[str, float]] | None, run: Path | None = None) -> None:
        """Tell a network's probabilities in place of the head's.

        Args:
            scores: by pair and object; None: the head's again.
            run: folder of its run.
        """
        with self._lock:
            self._state = replace(self._state, network=scores, network_run=run, number=self._state.number + 1)

    def stop(self) -> None:
        """End the work; what is computed is kept."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(_END)

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]

    def _work(self) -> None:
        try:
            self._prepare()
            while not self._end.wait(_PAUSE):
                self._refresh()
        except _Stopped:
            return
        except JaxcdError as error:
            self._set(phase=OFF, reason=str(error))
        except Exception:  # a defect, or no memory: labelling goes on without scores
            traceback.print_exc(file=sys.stderr)
            self._set(phase=OFF, reason="scores failed; what the server printed says why")

    def _prepare(self) -> None:
        lacking = missing()
        if lacking:
            raise LabelError(f"scores need {', '.join(lacking)}: pip install 'jaxcd[active]'")
        if not self._store.cells and not any(each.pair.footprints for each in self._opened):
            raise LabelError("scores are of footprints or cells, and there are none: give --footprints, or --cells 32")
        unit, pairs = blind.unit(self._store), [each.pair.id for each in self._opened]
        # Counted, not read: reading very many would keep those who label waiting.
        counts = self._store.units()
        count = sum(counts[pair] for pair in pairs)
        if not 0 < count <= MOST:
            many = f"{count:,} {unit}s are more than the {MOST:,} that scores are made for"
            raise LabelError(many if count else f"none of the {unit}s lies on the scenes: no scores")
        from jaxcd.active import encoders
        from jaxcd.active.head import Head
        from jaxcd.labelling.learning import buildings

        known = buildings.Buildings.of(self._store, pairs)
        self._set(buildings=known, total=len(known))
        encoder = encoders.pretrained() if self._run is None else encoders.of_run(self._run)
        self._set(encoder=encoder.name)
        values, seen = buildings.compute(self._store, self._opened, known, encoder, self._tell)
        if not seen.any():
            raise LabelError(f"no {unit} is seen both before and after the event: no scores")
        self._set(head=Head(values, seen, ()), phase=LABELS, done=len(known))
        self._refresh()

    def _tell(self, done: int) -> None:
        if self._end.is_set():
            raise _Stopped
        self._set(done=done)

    def _refresh(self) -> None:
        """Learn again if labels or the sample have changed."""
        now = blind.state(self._store)
        if now == self._fitted:
            return
        self._fitted = now
        state, scale = self._state, self._store.scale
        known, head = state.buildings, state.head
        assert known is not None and head is not None
        levels = {known.at[each.fid]: each.level for each in blind.units(self._store) if each.fid in known.at}
        held = frozenset(known.at[fid] for fid in blind.held(self._store) if fid in known.at)
        codes = {row: scale.levels.index(level) + 1 for row, level in levels.items() if level in scale.levels}
        usable = sum(row not in held and bool(head.visible[row]) for row in codes)
        found: dict[str, object] = {"phase": LABELS, "scores": None, "labels": usable, "held": held}
        found["judged"] = frozenset(row for row, level in levels.items() if level is not None)
        head.hold(held)
        unit = blind.unit(self._store)
        try:
            if not scale.buildings:
                raise LabelError(f"the scale {scale.name} has no level for intact {unit}s: label in another scale")
            if usable < LEAST:
                where = " outside of the blind sample" if held else ""
                raise LabelError(
                    f"scores come after {LEAST} labels, damaged and intact ones among them: {usable} so far{where}"
                )
            found |= {"phase": READY, "reason": None, "scores": head.scores(codes, scale)}
        except LabelError as error:
            found["reason"] = str(error)
        self._set(**found, number=self._state.number + 1)
