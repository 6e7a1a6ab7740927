"""An approximate index over a model's items, for catalogues where a pass over all of them takes too long."""

from seqdiffrec.inference.index.item_index import ItemIndex
from seqdiffrec.inference.index.measures import best_columns, overlap, set_breadth, time_requests
from seqdiffrec.inference.index.vectors import Progress, catalogue_of

__all__ = ["ItemIndex", "Progress", "best_columns", "catalogue_of", "overlap", "set_breadth", "time_requests"]
