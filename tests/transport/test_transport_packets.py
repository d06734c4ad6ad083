"""docs/spec/wire.md 3: what a server reads and answers without state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection

from meshsync.errors import MalformedMessage
from meshsync.limits import RETRY_TOKEN_LIFETIME_S
from meshsync.transport.packets import (
    Initial,
    RetryTokens,
    destination_id,
    encode_retry,
    parse_initial,
    retry_integrity_tag,
)

HERE = ("127.0.0.1", 4000)


def test_the_integrity_tag_is_that_of_rfc_9001_appendix_a4() -> None:
    packet = bytes.fromhex("ff000000010008f067a5502a4262b5746f6b656e")
    tag = retry_integrity_tag(bytes.fromhex("8394c8f03e515708"), packet)
    assert tag.hex() == "04a265ba2eff4d829058fb3f0f2496ba"


def test_a_retry_packet_has_these_bytes() -> None:
    packet = encode_retry(Initial(b"original", b"source!!", b""), b"retried!", b"token")
    assert packet[:-16].hex() == "f000000001" + "08" + b"source!!".hex() + "08" + b"retried!".hex() + b"token".hex()


def test_the_first_packet_of_an_engine_is_read() -> None:
    quic = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["x"]))
    quic.connect(HERE, 0.0)
    datagram = quic.datagrams_to_send(0.0)[0][0]
    initial = parse_initial(datagram)
    assert initial == Initial(quic.original_destination_connection_id, quic.host_cid, b"")
    assert destination_id(datagram) == quic.original_destination_connection_id


@given(st.binary(max_size=60), st.booleans())
def test_arbitrary_datagrams_are_read_without_an_error(head: bytes, long: bool) -> None:
    datagram = (bytes([0xC0]) + b"\0\0\0\1" if long else b"") + head
    destination_id(datagram)
    parse_initial(datagram)
    parse_initial(datagram.ljust(1200, b"\xff"))


class TestTokens:
    tokens = RetryTokens(b"k" * 32)

    def test_a_token_gives_back_the_first_id_once_it_returns_from_the_same_address(self) -> None:
        token = self.tokens.make(HERE, b"original", b"retried!", 5.0)
        assert self.tokens.check(HERE, b"retried!", token, 5.0 + RETRY_TOKEN_LIFETIME_S) == b"original"

    @pytest.mark.parametrize(
        ("address", "destination", "now"),
        [
            (("127.0.0.2", 4000), b"retried!", 5.0),
            (("127.0.0.1", 4001), b"retried!", 5.0),
            (HERE, b"another!", 5.0),
            (HERE, b"retried!", 5.1 + RETRY_TOKEN_LIFETIME_S),
            (HERE, b"retried!", 4.0),
        ],
    )
    def test_it_serves_one_address_one_id_for_a_short_time(
        self, address: tuple[str, int], destination: bytes, now: float
    ) -> None:
        token = self.tokens.make(HERE, b"original", b"retried!", 5.0)
        with pytest.raises(MalformedMessage):
            self.tokens.check(address, destination, token, now)

    @given(st.binary(max_size=80) | st.integers(81, 1100).map(bytes))
    def test_any_other_token_is_refused(self, token: bytes) -> None:
        with pytest.raises(MalformedMessage):
            self.tokens.check(HERE, b"retried!", token, 5.0)
