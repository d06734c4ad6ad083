"""The single-use ticket that one person hands to another, as one line of text.

Invariant: the secret never leaves the ticket; the folder's membership chain holds only the public keys derived from it.
Whoever has the line before it is used or expires can become the member that it describes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.address import format_address, parse_address
from meshsync.codec.base32 import from_text, to_text
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import derive
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import MalformedMessage, TicketInvalid
from meshsync.ids import DeviceId, FolderId, short
from meshsync.roles import Role

PREFIX = "meshsync1"
TICKET_VERSION = 1
FILE_TICKET_VERSION = 2
"""The folder is one shared file. A build that does not know of these refuses it, and makes no directory of it."""
SECRET_SIZE_BYTES = 16
TEXT_KIND = "ticket"

_Id = msgspec.Meta(min_length=32, max_length=32)
_Address = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ADDRESS_CHARS_MAX)]
_Addresses = Annotated[tuple[_Address, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)]


class Ticket(Record, frozen=True):
    """An invitation into `folder` with `role`, by the device `inviter`, valid once until `expires_s`.

    `expires_s`: seconds since 1970. `addresses` are `HOST:PORT` of the inviter, LAN first; `relays` are relay addresses
    (`wire.relay_address`, as text).
    """

    version: Annotated[int, msgspec.Meta(ge=TICKET_VERSION, le=FILE_TICKET_VERSION)]
    folder: Annotated[FolderId, _Id]
    inviter: Annotated[DeviceId, _Id]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_SIZE_BYTES, max_length=SECRET_SIZE_BYTES)]
    role: Role
    expires_s: Annotated[int, msgspec.Meta(ge=0, le=limits.COUNTER_MAX)]
    addresses: _Addresses = ()
    relays: _Addresses = ()

    @property
    def is_file(self) -> bool:
        """Whether the folder is one shared file, to be put somewhere, and not a directory to be kept equal."""
        return self.version == FILE_TICKET_VERSION

    @property
    def keys(self) -> DeviceKeys:
        """The ticket's own keys: it signs the admission, and its box key receives the folder keys."""
        return DeviceKeys(self._derived(b"ticket-sign") + self._derived(b"ticket-box"))

    @property
    def discovery_key(self) -> bytes:
        """32 bytes by which members and newcomer recognise each other before any key is shown."""
        return discovery_key(self.folder, self.keys.device)

    @property
    def text(self) -> str:
        """The line to hand over; secret. Raises TicketInvalid if the ticket is out of bounds."""
        data = encode(self)
        _parse(data)
        return PREFIX + to_text(TEXT_KIND, data)

    def _derived(self, person: bytes) -> bytes:
        return derive(self.secret, person, salt=self.folder[:16])

    def __repr__(self) -> str:
        return f"Ticket(folder {short(self.folder)}, {self.role.name.lower()}, expires {self.expires_s})"


def discovery_key(folder: FolderId, ticket: DeviceId) -> bytes:
    """Return the discovery key of the ticket with the public key `ticket`, which every member of `folder` knows."""
    return derive(ticket, b"ticket-discover", salt=folder[:16])


def make_ticket(
    folder: FolderId,
    inviter: DeviceId,
    *,
    secret: bytes,
    role: Role,
    expires_s: int,
    addresses: tuple[str, ...] = (),
    relays: tuple[str, ...] = (),
    is_file: bool = False,
) -> Ticket:
    """Return a ticket with 16 fresh random bytes as `secret`. Raises TicketInvalid if a field is out of bounds."""
    version = FILE_TICKET_VERSION if is_file else TICKET_VERSION
    return _parse(encode(Ticket(version, folder, inviter, secret, role, expires_s, addresses, relays)))


def parse_ticket(text: str) -> Ticket:
    """Return the ticket in `text`, blanks around it ignored. Expiry is for the membership to check.

    Raises TicketInvalid for anything but the exact line that `Ticket.text` gives.
    """
    line = text.strip(" \t\r\n")
    if not line.startswith(PREFIX):
        raise _invalid(f"a ticket begins with {PREFIX}")
    try:
        data = from_text(TEXT_KIND, line[len(PREFIX) :], limits.TICKET_BYTES_MAX)
    except MalformedMessage as error:
        raise _invalid(error.what) from error
    return _parse(data)


def _parse(data: bytes) -> Ticket:
    try:
        ticket = decode(Ticket, data, limits.TICKET_BYTES_MAX)
        if any(format_address(*parse_address(address)) != address for address in ticket.addresses):
            raise MalformedMessage("an address in it is not in its one form")
        if ticket.is_file and ticket.role is not Role.READER:
            raise MalformedMessage("one file is shared for reading only")
    except MalformedMessage as error:
        raise _invalid(error.what) from error
    return ticket


def _invalid(why: str) -> TicketInvalid:
    return TicketInvalid(f"not a valid ticket: {why}", next_step="Copy the whole line, or ask for a new ticket.")
