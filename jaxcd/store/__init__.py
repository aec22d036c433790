"""The tile dataset: built from sources, stored by TFDS in ArrayRecord, opened for random access."""
