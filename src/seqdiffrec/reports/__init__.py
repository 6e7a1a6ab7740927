"""Records of runs, and pictures made from them."""

from seqdiffrec.reports.curves import draw_curves
from seqdiffrec.reports.record import chosen_metric, make_record, read_record, refuse_record, write_record

__all__ = ["chosen_metric", "draw_curves", "make_record", "read_record", "refuse_record", "write_record"]
