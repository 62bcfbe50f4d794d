"""HTTP: a source that listens and a target that calls."""
