"""The parts of the pipeline, a room for each; CONTRIBUTING.md says which may import which."""
