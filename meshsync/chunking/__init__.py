"""Content-defined cut points, and deltas inside a chunk."""
