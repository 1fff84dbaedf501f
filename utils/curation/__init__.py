"""How a data set is made of clips without names, how good it is, and how it is split.

In: clips, or a `DataConfig` and its files. Out: frames under pseudonyms; findings, a report, lists
of images, corrected copies of labels. Nothing is ever written into what was there.
"""
