"""docs/spec/crypto.md 10: a seed sealed with a passphrase, its bytes, and what does not open it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.key_file import (
    MAGIC,
    Cost,
    _Sealed,
    check_passphrase,
    is_sealed,
    open_seed,
    passphrase_bytes,
    seal_seed,
)
from meshsync.codec.canonical import encode
from meshsync.errors import ConfigError, FormatUnsupported, KeysLocked
from meshsync.limits import PASSPHRASE_BYTES_MAX, PASSPHRASE_MEMORY_BYTES, PASSPHRASE_PASSES

CHEAP = Cost(1, 8192)
SEED, SALT = bytes(range(64)), b"s" * 16
SEALED = seal_seed(SEED, b"correct horse", SALT, CHEAP)


def test_bytes_are_fixed_for_ever() -> None:
    assert SEALED.hex() == (
        "6d65736873796e63207365616c6564206b65790a9501c4107373737373737373737373737373737301cd2000c4684be4"
        "5a96ea4a055e3926e8395d587849f4f945c44701ec6c03ba61b44416c11f9b338bc50f0653cde99befb1b939f0ef7b3e"
        "65dd1e97ab8c3df5f7bee8375bb88e7f542904159a9ba96405e3faa771b1531296a4664bd73cf30006ae74bfa7255baf"
        "7d7bd2ae8623"
    )


def test_it_opens_with_the_passphrase_and_no_other() -> None:
    assert is_sealed(SEALED) and not is_sealed(SEED) and SEED[:32] not in SEALED
    assert open_seed(SEALED, b"correct horse") == SEED
    for other in (b"", b"correct hors", b"Correct horse", b"correct horse\n"):
        with pytest.raises(KeysLocked):
            open_seed(SEALED, other)


def test_what_a_user_sets_costs_what_the_limits_say() -> None:
    assert Cost() == Cost(PASSPHRASE_PASSES, PASSPHRASE_MEMORY_BYTES)
    assert PASSPHRASE_MEMORY_BYTES >= 64 << 20 and PASSPHRASE_PASSES >= 2


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_altered_byte_is_refused(at: int, by: int) -> None:
    altered = SEALED[:at] + bytes([SEALED[at] ^ by]) + SEALED[at + 1 :]
    if not is_sealed(altered):
        return
    with pytest.raises((KeysLocked, ConfigError, FormatUnsupported)):
        open_seed(altered, b"correct horse")


@given(st.binary(max_size=300))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises((ConfigError, KeysLocked)):
        open_seed(MAGIC + junk, b"x")


@pytest.mark.parametrize("passes, memory", [(17, 8192), (1, 2 << 30), (0, 8192), (1, 1)])
def test_a_file_that_asks_for_too_much_is_refused_before_it_is_paid_for(passes: int, memory: int) -> None:
    with pytest.raises(ConfigError):
        open_seed(MAGIC + encode(_Sealed(1, SALT, passes, memory, bytes(104))), b"x")


def test_a_later_version_is_named() -> None:
    with pytest.raises(FormatUnsupported):
        open_seed(MAGIC + encode(_Sealed(2, SALT, 1, 8192, bytes(104))), b"x")


def test_one_passphrase_on_every_keyboard() -> None:
    assert check_passphrase("Zu\u0308rich im Mai") == check_passphrase("Z\u00fcrich im Mai")


def test_a_short_or_endless_one_is_not_taken() -> None:
    for bad in ("", "sieben7", "x" * (PASSPHRASE_BYTES_MAX + 1), "\udcff" * 9):
        with pytest.raises(ConfigError):
            check_passphrase(bad)
    assert passphrase_bytes("kurz") == b"kurz"
