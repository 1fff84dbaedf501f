"""What a run leaves for readers.

In: figures of a training as it goes on. Out: the model card, TensorBoard's event files, and the
monitor's lines.
"""
