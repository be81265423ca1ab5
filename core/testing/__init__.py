"""For authors of plugins: tiny real models, pytest fixtures, and the conformance checks."""
