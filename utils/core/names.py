"""Names that several parts must agree on; GradNorm's files, which people copy, repeat three.

A test checks that every balancer, loss and rule named here is implemented.
"""

from __future__ import annotations

TASKS = ("detection", "classification")
DETECTION_LOSSES = ("box", "obj", "cls")
LOSSES = (*DETECTION_LOSSES, "view")

GRADNORM_RULES = ("gradient", "equilibrium", "log")
GRADNORM_PLACES = ("features", "weights")

TORCHJD_SCALARISERS = ("uw", "dwa", "stch", "famo")
TORCHJD_AGGREGATORS = ("pcgrad", "upgrad", "mgda", "imtl-g", "aligned-mtl", "cagrad", "config")
BALANCERS = ("gradnorm", "fixed", *TORCHJD_SCALARISERS, *TORCHJD_AGGREGATORS)

STRIDE = 32  # pixels of the coarsest level: an image's sides are multiples of it
OLDEST_OPSET = 18  # of ONNX: what the exporter translates to and the suppression is written in
BENCHMARK_BLOCK = 10  # steps of one training before those of the other, an interval of GradNorm
