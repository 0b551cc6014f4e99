"""How the names of files that hold models end, in small letters."""

RUN_HERE = (".onnx", ".pte", ".spte")
FOREIGN = (".tflite", ".ort", ".ptl", ".mlmodel", ".mlmodelc", ".mlpackage", ".gguf")
"""Models of runtimes that are not attacked here."""
MODELS = (*RUN_HERE, ".ptd", *FOREIGN)
"""`.ptd`: weights that a program names."""
