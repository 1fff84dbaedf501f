"""A trained model at work.

In: a model and images, folders or videos. Out: boxes and views, drawn, written or explained; and
the model as ONNX.
"""
