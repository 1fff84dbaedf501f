"""How good a data set is, and how it is split.

In: a `DataConfig` and its files. Out: findings, a report, lists of images, corrected copies of
labels. Nothing is ever written into the data set.
"""
