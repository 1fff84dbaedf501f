"""A run: how it begins, and how it is trained.

In: a `Job`: a run's options, frames, a model, its parts, losses and a balancer. Out: a run folder
with checkpoints, records, metrics and pictures. `utils.training.trainer.train` is the only training
loop there is.
"""
