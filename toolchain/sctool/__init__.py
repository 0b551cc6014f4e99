"""sctool: compress a classifier without shipping its training data, and prove it on the exported bytes."""

__version__ = "0.1.0"
