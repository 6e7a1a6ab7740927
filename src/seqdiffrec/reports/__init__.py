"""Records of runs, and pictures made from them."""

from seqdiffrec.reports.curves import draw_curves
from seqdiffrec.reports.record import make_record, read_record, write_record

__all__ = ["draw_curves", "make_record", "read_record", "write_record"]
