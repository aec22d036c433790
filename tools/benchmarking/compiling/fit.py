"""Which batch fits a card: memory as a straight line through two compiled batches."""

from typing import NamedTuple

CARDS = (80, 24, 10)
"""Memory of cards, in GiB."""
SHARE = 0.75
"""Share of a card's memory that JAX takes (XLA_PYTHON_CLIENT_MEM_FRACTION, if nothing else is set)."""


class Line(NamedTuple):
    """Memory of a program by its batch, `fixed + each * batch` bytes."""

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[int, int], second: tuple[int, int]) -> "Line":
        """Draw it through two points (batch, bytes)."""
        each = (second[1] - first[1]) / (second[0] - first[0])
        return cls(first[1] - each * first[0], each)

    def largest(self, memory: float) -> int:
        """Largest batch for a card of so many bytes; 0 where not even one pair fits."""
        return max(0, int((SHARE * memory - self.fixed) // self.each))
