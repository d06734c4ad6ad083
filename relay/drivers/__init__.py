"""Storage engines behind the relay's two Protocols."""
