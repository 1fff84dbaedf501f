"""The losses, their targets, and anchors.

In: raw maps and view logits of a model, and a batch's labels. Out: named losses, each a scalar with
its graph.
"""
