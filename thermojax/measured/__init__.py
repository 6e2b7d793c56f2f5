"""Measured paths: trajectories from CSV files, and the process that each belongs to by the control recorded with it."""

from .._renamed import renamed
from ._paths import Measured as Measured, read_csv as read_csv, read_each as read_each

__getattr__ = renamed(__name__)
