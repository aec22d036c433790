"""The store of labels: a GeoPackage with every object, its label and its history; each change is a transaction."""

from jaxcd.labelling.store.objects import KEEP, PAIR, STATES, VERDICTS, Conflict, Edit, Entry, Label, Saved
from jaxcd.labelling.store.store import Store

__all__ = ["KEEP", "PAIR", "STATES", "VERDICTS", "Conflict", "Edit", "Entry", "Label", "Saved", "Store"]
