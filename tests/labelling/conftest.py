"""The browser that looks at the labelling page: that of maps' pages."""

from tests.mapping.conftest import browser

__all__ = ["browser"]
