"""Process, machine and settings: what every part may use.

In: command lines, YAML files, environment variables. Out: checked dataclasses, a device, files
written whole, and numbers that several processes share. Imports no other room.
"""
