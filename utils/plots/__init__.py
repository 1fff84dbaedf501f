"""The pictures of a run, drawn from the files of its folder and nothing else.

In: CSV and JSON files. Out: PNG files. `python -m utils.plots runs/train/exp` draws all of them
again.
"""
