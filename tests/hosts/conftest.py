"""What a test has started ends with it, also where the test fails."""

from collections.abc import Iterator

import pytest

from tests.hosts import teams


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    teams.end_all()
