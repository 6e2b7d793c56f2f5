"""Measured paths: trajectories from CSV files, and the ledger of each along the control recorded with it."""

from ._paths import (
    Measured as Measured,
    account as account,
    read_csv as read_csv,
    read_each as read_each,
)
