"""Where a relay is and how to trust it, as one line: `quic://HOST:PORT#TOKEN`.

Invariant: one address has one text. The token names the relay's device key, so that the first link already is to the
right relay, and may carry the invitation that lets a device in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshsync.codec.address import format_address, parse_address
from meshsync.codec.base32 import from_text, to_text
from meshsync.errors import ConfigError, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, DeviceId
from meshsync.limits import ADDRESS_CHARS_MAX

SCHEME = "quic://"
SECRET_SIZE_BYTES = 16
TOKEN_KIND = "relay-token"


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """`host` without brackets, `port`; `device` is the relay's key if known, `secret` an invitation of 16 bytes."""

    host: str
    port: int
    device: DeviceId | None = None
    secret: bytes | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """The part to dial, `HOST:PORT`."""
        return format_address(self.host, self.port)

    @property
    def text(self) -> str:
        """The one line that `parse_relay_address` reads; secret if it carries an invitation."""
        if self.device is None:
            assert self.secret is None, "an invitation names the relay that it is for"
            return SCHEME + self.address
        return f"{SCHEME}{self.address}#{to_text(TOKEN_KIND, self.device + (self.secret or b''))}"

    def without_secret(self) -> RelayAddress:
        """Return the address as it may be shown and written into the membership chain."""
        return RelayAddress(self.host, self.port, self.device)


def parse_relay_address(text: str) -> RelayAddress:
    """Return the address that `text` gives, blanks around it ignored. Raises ConfigError for anything else."""
    line = text.strip(" \t\r\n")
    if len(line) > ADDRESS_CHARS_MAX or not line.startswith(SCHEME):
        raise _wrong("a relay address begins with quic://")
    where, hash_sign, token = line[len(SCHEME) :].partition("#")
    try:
        host, port = parse_address(where)
        if not hash_sign:
            return RelayAddress(host, port)
        data = from_text(TOKEN_KIND, token, ID_SIZE_BYTES + SECRET_SIZE_BYTES)
    except MalformedMessage as error:
        raise _wrong(error.what) from error
    if len(data) not in (ID_SIZE_BYTES, ID_SIZE_BYTES + SECRET_SIZE_BYTES):
        raise _wrong("the token after # has a wrong length")
    return RelayAddress(host, port, DeviceId(data[:ID_SIZE_BYTES]), data[ID_SIZE_BYTES:] or None)


def _wrong(why: str) -> ConfigError:
    return ConfigError(
        f"not a relay address: {why}",
        next_step="Copy the whole line that 'meshsync-relay up' printed: quic://HOST:PORT#…",
    )
