"""The user's files: scan, watch, apply."""
