"""Densities in time, without sampling."""

from ._moments import Evolution as Evolution, moments as moments
