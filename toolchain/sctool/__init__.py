"""sctool: compress a classifier without shipping its training data, and prove it on the exported bytes."""

import os

__version__ = "0.1.0"

# Read once, when ONNX Runtime is imported: from 1.29 on it reports names, timings and errors of models to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
