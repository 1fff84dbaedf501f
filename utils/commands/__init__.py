"""The commands behind the scripts at the top: what each does once its arguments are parsed.

In: parsed arguments. Out: files in a folder, and a report. May import every room; a script imports
its module here after parsing, since torch takes seconds to import.
"""
