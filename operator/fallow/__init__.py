"""Fallow: idle GPU clusters become one pool."""

__version__ = "0.1.0.dev0"
