"""What a peer may make an endpoint hold."""

from __future__ import annotations

import pytest

from meshsync.errors import PeerOverran
from meshsync.limits import (
    HANDSHAKE_BYTES_MAX,
    LINKS_UNAUTHENTICATED_MAX,
    LINKS_UNAUTHENTICATED_PER_SOURCE_MAX,
    UNDELIVERED_BYTES_MAX,
    UNDELIVERED_FORGIVEN_BYTES_PER_S,
)
from meshsync.transport.guard import Admission, ByteBalance


def proven() -> ByteBalance:
    balance = ByteBalance(0.0)
    balance.authenticated()
    return balance


class TestByteBalance:
    def test_a_stranger_may_send_the_handshake_and_no_byte_more(self) -> None:
        balance = ByteBalance(0.0)
        balance.receive(HANDSHAKE_BYTES_MAX)
        balance.deliver(HANDSHAKE_BYTES_MAX)
        with pytest.raises(PeerOverran):
            balance.receive(1)

    def test_useful_bytes_never_fill_it(self) -> None:
        balance = proven()
        for _ in range(1000):
            balance.receive(UNDELIVERED_BYTES_MAX // 10)
            balance.deliver(UNDELIVERED_BYTES_MAX // 11)

    def test_useless_bytes_fill_it_however_many_useful_ones_came_before(self) -> None:
        balance = proven()
        for _ in range(1000):
            balance.receive(1_000_000)
            balance.deliver(1_000_000)
        balance.receive(UNDELIVERED_BYTES_MAX)
        with pytest.raises(PeerOverran):
            balance.receive(1)

    def test_acknowledgements_of_what_we_send_and_time_are_forgiven(self) -> None:
        balance = proven()
        balance.receive(UNDELIVERED_BYTES_MAX)
        balance.forgive(4000, 0.0)
        balance.receive(1000)
        balance.forgive(0, 1.0)
        balance.receive(UNDELIVERED_FORGIVEN_BYTES_PER_S)
        with pytest.raises(PeerOverran):
            balance.receive(1)


class TestAdmission:
    def test_one_source_gets_few_places_whatever_its_port(self) -> None:
        admission = Admission()
        taken = [admission.enter(("192.0.2.1", port)) for port in range(LINKS_UNAUTHENTICATED_PER_SOURCE_MAX + 1)]
        assert taken == [True] * LINKS_UNAUTHENTICATED_PER_SOURCE_MAX + [False]
        assert admission.enter(("192.0.2.2", 1))

    def test_an_ipv6_network_and_a_mapped_address_are_one_source_each(self) -> None:
        for addresses in (["2001:db8::1", "2001:db8::2"], ["::ffff:192.0.2.1", "192.0.2.1"]):
            admission = Admission()
            for turn in range(LINKS_UNAUTHENTICATED_PER_SOURCE_MAX):
                assert admission.enter((addresses[turn % 2], 1))
            assert not admission.enter((addresses[0], 1))

    def test_all_sources_together_are_bounded_and_places_come_back(self) -> None:
        admission = Admission()
        addresses = [(f"10.0.{n >> 8}.{n & 255}", 1) for n in range(LINKS_UNAUTHENTICATED_MAX)]
        assert all(admission.enter(address) for address in addresses)
        assert not admission.enter(("192.0.2.1", 1))
        admission.leave(addresses[0])
        assert admission.enter(("192.0.2.1", 1))
        assert len(admission) == LINKS_UNAUTHENTICATED_MAX
