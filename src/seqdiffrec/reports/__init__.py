"""Records of runs, and pictures made from them."""

from seqdiffrec.reports.curves import check_picture, draw_curves, draw_reliability
from seqdiffrec.reports.record import chosen_metric, make_record, read_record, refuse_record, write_record

__all__ = [
    "check_picture",
    "chosen_metric",
    "draw_curves",
    "draw_reliability",
    "make_record",
    "read_record",
    "refuse_record",
    "write_record",
]
