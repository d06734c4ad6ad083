"""The daemon on each device: the only place where the shells meet."""
