"""The command line: one noun per file, talking only to the agent's local API."""
