"""Padmé: lengths rounded so that they tell little (Nikitin et al., "Reducing Metadata Leakage…", PETS 2019).

Invariant: a length leaks O(log log n) bits and grows by at most 12 %; at 64 KiB by at most 3 %.
"""

from __future__ import annotations


def padded_size(size: int) -> int:
    """Return the smallest Padmé length of at least `size` bytes. It never falls as `size` grows."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    step = 1 << max(0, free_bits)
    return -(-size // step) * step
