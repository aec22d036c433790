"""How dates are told."""

import pytest

from jaxcd.scenes.dates import told


@pytest.mark.parametrize(
    ("dates", "text"),
    [
        ([], "date unknown"),
        (["", None], "date unknown"),
        (["2023-02-08"], "2023-02-08"),
        (["2023-02-08", "2022-05-01", "2023-02-08"], "2022-05-01 to 2023-02-08"),
        (["2023-02-08", ""], "2023-02-08, some date unknown"),
    ],
)
def test_dates_are_told_in_one_way(dates, text):
    assert told(iter(dates)) == text
