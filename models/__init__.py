"""The networks, and how their two losses are weighed.

In: images (B, 3, H, W), float, in [0, 1]; and task losses with their gradients. Out: raw box maps
and view logits; and the weights of the losses. Nothing here knows files, runs or command lines but
a model's own YAML.
"""
