"""design.md 3, promises.md B 14: a ticket is one line; nothing but that exact line is a ticket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsync.codec.base32 import to_text
from meshsync.codec.canonical import encode
from meshsync.content.ticket import PREFIX, TEXT_KIND, Ticket, make_ticket, parse_ticket
from meshsync.errors import TicketInvalid
from meshsync.ids import DeviceId, FolderId
from meshsync.roles import Role

TICKET = make_ticket(
    FolderId(bytes([1]) * 32),
    DeviceId(bytes([2]) * 32),
    secret=bytes(range(16)),
    role=Role.WRITER,
    expires_s=1_800_000_000,
    addresses=("192.0.2.7:4433", "[2001:db8::7]:4433"),
    relays=("quic://relay.example:4433",),
)
GOLDEN = (
    "meshsync1k00w8801040g2081040g2081040g2081040g2081040g2081040g2081072200g2081040g2081040g2081040g2081"
    "040g2081040g2081040g2rg8000820c20a1g7104gm2rc1m70y0pedd4x404jnrrkjche60q34bhq78t38cskp9dk4c1g64x68rh"
    "r78x3eq9t6gt36cwhq5rqatb378qjywk5dhgqjbk5f1gptw3ccmx38d1k6c15303a"
)


def test_golden_text():
    assert TICKET.text == GOLDEN
    assert parse_ticket(GOLDEN) == TICKET


def test_one_file_has_a_ticket_of_its_own_that_earlier_builds_refuse():
    ticket = make_ticket(
        TICKET.folder, TICKET.inviter, secret=TICKET.secret, role=Role.READER, expires_s=TICKET.expires_s, is_file=True
    )
    assert (ticket.version, ticket.is_file, TICKET.is_file) == (2, True, False)
    assert parse_ticket(ticket.text) == ticket
    assert ticket.keys.device == TICKET.keys.device, "the same derivations"


def test_golden_keys():
    keys = TICKET.keys
    assert keys.device.hex() == "3573c6bc0ad72f86f91da9b7ea8dbd381f2c8d06423b9e586d0986beae2280fd"
    assert keys.box_public.hex() == "2a7a48120ed3491d39a878ee5e43995732b68820bb0f512b7b2ae7fec576501f"
    assert TICKET.discovery_key.hex() == "263f99ed1b0ee7c5ba24f5f961125d60c396db71da716c4b46d8be3b3c1c12b2"


def test_another_folder_or_secret_gives_other_keys():
    other = make_ticket(
        FolderId(bytes([3]) * 32), TICKET.inviter, secret=TICKET.secret, role=Role.WRITER, expires_s=TICKET.expires_s
    )
    assert len({TICKET.keys.device, other.keys.device, TICKET.discovery_key, other.discovery_key}) == 4


def test_blanks_around_are_ignored_and_it_is_one_line():
    assert parse_ticket(f"  {GOLDEN}\r\n") == TICKET
    assert GOLDEN.isascii() and GOLDEN.isalnum() and GOLDEN.lower() == GOLDEN


def test_every_changed_character_is_noticed():
    for at in range(len(GOLDEN)):
        for character in "0z":
            if GOLDEN[at] != character:
                with pytest.raises(TicketInvalid):
                    parse_ticket(GOLDEN[:at] + character + GOLDEN[at + 1 :])


def test_cut_off_or_longer_text_is_noticed():
    for text in (*(GOLDEN[:cut] for cut in range(len(GOLDEN))), GOLDEN + "0", GOLDEN + GOLDEN, GOLDEN.upper()):
        with pytest.raises(TicketInvalid):
            parse_ticket(text)


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_any_text_is_a_typed_error(text: str):
    for line in (text, PREFIX + text):
        with pytest.raises(TicketInvalid):
            parse_ticket(line)


BAD_FIELDS = {
    "another version": (2, 32, 16, 2, 0, (), ()),
    "an unknown version": (3, 32, 16, 3, 0, (), ()),
    "one file to be written by its holder": (2, 32, 16, 1, 0, (), ()),
    "one file that its holder cannot read": (2, 32, 16, 4, 0, (), ()),
    "a short folder id": (1, 31, 16, 2, 0, (), ()),
    "a short secret": (1, 32, 15, 2, 0, (), ()),
    "an unknown role": (1, 32, 16, 9, 0, (), ()),
    "an expiry before 1970": (1, 32, 16, 2, -1, (), ()),
    "too many addresses": (1, 32, 16, 2, 0, tuple(f"h:{port}" for port in range(1, 10)), ()),
    "an address without port": (1, 32, 16, 2, 0, ("host",), ()),
    "an address that is not in its one form": (1, 32, 16, 2, 0, ("HOST:1",), ()),
    "an address with a line break": (1, 32, 16, 2, 0, ("host\n:1",), ()),
    "an endless relay address": (1, 32, 16, 2, 0, (), ("q" * 401,)),
}


@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_out_of_bounds_is_refused_though_the_checksum_is_right(fields: tuple):
    version, folder, secret, role, expires_s, addresses, relays = fields
    data = encode([version, bytes(folder), bytes(32), bytes(secret), role, expires_s, addresses, relays])
    with pytest.raises(TicketInvalid):
        parse_ticket(PREFIX + to_text(TEXT_KIND, data))


def test_out_of_bounds_is_not_made_either():
    with pytest.raises(TicketInvalid):
        make_ticket(TICKET.folder, TICKET.inviter, secret=b"short", role=Role.READER, expires_s=0)
    with pytest.raises(TicketInvalid):
        _ = Ticket(1, TICKET.folder, TICKET.inviter, b"short", Role.READER, 0).text


def test_a_log_line_shows_no_secret():
    assert TICKET.secret.hex() not in repr(TICKET) and repr(TICKET.secret) not in repr(TICKET)
