"""From a log to the model that serves it best, within a time that the user gives."""

from seqdiffrec.fitting.fit import fit_log

__all__ = ["fit_log"]
