"""The blind sample in a source of jaxcd.prepare: its buildings are unknown to training, and a split of their own."""

import numpy as np
import shapely
from jaxtyping import UInt8
from rasterio.features import rasterize

from jaxcd.base.scales import INVALID
from jaxcd.labelling.exports.truth import Shapes, code_of
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import Label, Store, blind


class Sample:
    """The members of a store's blind sample, by pair; none where there is no sample."""

    def __init__(self, store: Store):
        self._store = store
        found = blind.plan(store)
        self.number = None if found is None else found[0]
        """Tells this sample from others of the store."""
        self._answers = blind.answers(store)
        self._held = blind.held_by_pair(store)

    def folder(self, name: str) -> str:
        """Name a folder of what was made with this sample: what an earlier one made may hold its answers."""
        return name if self.number is None else f"{name}_sample_{self.number}"

    def held(self, pair: str) -> set[str]:
        """Return the objects of a pair that nothing may be learned from."""
        return self._held.get(pair, set())

    def covered(self, codes: UInt8[np.ndarray, "h w"], pair: Pair) -> UInt8[np.ndarray, "h w"]:
        """Make the pixels of members INVALID, whatever else is said of them; also those that they only touch."""
        shapes = [label.geometry for label in self._labels(pair.id)]
        if not shapes:
            return codes
        there = rasterize(
            [(shape, 1) for shape in shapes], out_shape=codes.shape, transform=pair.transform, dtype="uint8",
            all_touched=True,
        )  # fmt: skip
        return np.where(np.asarray(there) > 0, np.uint8(INVALID), codes)

    def shapes(self, pair: str) -> Shapes:
        """Return the judged members of a pair, to be painted over INVALID; none of another pair."""
        answered = [label for label in self._labels(pair) if f"{pair}/{label.object}" in self._answers]
        return [(label.geometry, code_of(label, self._store.scale)) for label in answered if label.geometry is not None]

    def _labels(self, pair: str) -> list[Label]:
        held = self.held(pair)
        found = self._store.labels(pair, viewer=None, ids=sorted(held)) if held else []
        return [label for label in found if not shapely.is_empty(label.geometry)]
