"""What a run leaves for readers.

In: metrics and measurements of a training while it runs. Out: its CSV files, TensorBoard's event
files, the model card, and the monitor's lines.
"""
