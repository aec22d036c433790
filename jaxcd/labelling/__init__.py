"""Labelling in the browser: the store of labels, the server over two scenes, and its page."""
