"""A network's file: ours, the public YOLOv5's, ONNX.

In: a path. Out: tensors and plain types, or a model; nothing in a file is ever executed.
"""
