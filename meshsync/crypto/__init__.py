"""Hashing, signing, sealing. Thin wrappers over libsodium and BLAKE3."""
