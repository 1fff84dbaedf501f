"""The parts of the pipeline, a room for each; README.md and CONTRIBUTING.md say which may import which."""
