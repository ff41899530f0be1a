"""Figures: of a run, of a sample, of timings; and the report that contains them. matplotlib is imported when one is drawn."""

from .run import NAMES, Drawing, Subject, of_run, save

__all__ = ["NAMES", "Drawing", "Subject", "of_run", "save"]
