"""Canonical bytes for everything that is hashed, signed or sent."""
