"""Sealed chunks on disk: pack files with a catalog."""
