"""The local copy of the metadata, in SQLite."""
