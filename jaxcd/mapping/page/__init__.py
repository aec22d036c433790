"""The map as one page for the browser."""
