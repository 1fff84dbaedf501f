"""Several solutions under one protocol.

In: a data set, and the arms to compare. Out: a run folder for every training, and a report that
says what the differences carry.
"""
