"""A trained model at work.

In: a model and images, videos or DICOM, in folders or not. Out: boxes and views, drawn, written or
explained; and the model as ONNX.
"""
