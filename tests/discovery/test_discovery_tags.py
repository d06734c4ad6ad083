"""Tags, text records and addresses of announcements: the pure part of discovery."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.discovery.announcement import Announcement, dialable, parse_txt, write_txt
from meshsync.discovery.base import Event, Found, Reason
from meshsync.discovery.fixed import FixedAddresses, parse_address
from meshsync.discovery.tags import make_tag, make_tags, match_tags
from meshsync.errors import ConfigError
from meshsync.limits import DISCOVERY_ADDRESSES_MAX, DISCOVERY_TAGS_MAX

KEY, OTHER, NONCE = b"k" * 32, b"o" * 32, b"nonce 01"


def announced(keys: list[bytes], nonce: bytes = NONCE, port: int = 4433) -> Found:
    return Found((f"192.0.2.7:{port}",), port, make_tags(keys, nonce, port), nonce)


class TestTags:
    def test_bytes_are_those_of_the_specification(self) -> None:
        assert make_tag(KEY, NONCE, 4433).hex() == "6ef36b648afa1e3b"

    def test_only_who_holds_a_key_recognises_its_tag(self) -> None:
        keys = {"docs": KEY, "photos": OTHER}
        assert match_tags(keys, announced([KEY])) == ["docs"]
        assert match_tags(keys, announced([OTHER, KEY])) == ["docs", "photos"]
        assert match_tags(keys, announced([b"x" * 32])) == []

    def test_a_tag_holds_for_one_nonce_and_port(self) -> None:
        copied = Found(("192.0.2.9:4434",), 4434, make_tags([KEY], NONCE, 4433), NONCE)
        assert match_tags({"docs": KEY}, copied) == []
        assert not set(make_tags([KEY], NONCE, 4433)) & set(make_tags([KEY], b"nonce 02", 4433))

    def test_the_order_of_tags_says_nothing(self) -> None:
        assert make_tags([KEY, OTHER], NONCE, 4433) == make_tags([OTHER, KEY], NONCE, 4433)


class TestTxt:
    @given(st.binary(min_size=8, max_size=8), st.lists(st.binary(min_size=8, max_size=8), max_size=DISCOVERY_TAGS_MAX))
    def test_what_was_written_parses(self, nonce: bytes, tags: list[bytes]) -> None:
        properties = write_txt(nonce, tags)
        assert parse_txt(properties) == Announcement(nonce, tuple(tags))
        assert all(len(key) + 1 + len(value) <= 255 for key, value in properties.items())

    def test_bytes_are_those_of_the_specification(self) -> None:
        assert write_txt(NONCE, [b"tag 0001", b"tag 0002"]) == {b"v": b"1", b"n": NONCE, b"a": b"tag 0001tag 0002"}

    @pytest.mark.parametrize(
        ("properties", "reason"),
        [
            ({}, Reason.OTHER_VERSION),
            ({b"v": None}, Reason.OTHER_VERSION),
            ({b"v": b"2", b"n": NONCE}, Reason.OTHER_VERSION),
            ({b"v": b"1"}, Reason.MALFORMED),
            ({b"v": b"1", b"n": None}, Reason.MALFORMED),
            ({b"v": b"1", b"n": b"short"}, Reason.MALFORMED),
            ({b"v": b"1", b"n": NONCE, b"a": b"1234567"}, Reason.MALFORMED),
            ({b"v": b"1", b"n": NONCE, b"a": bytes(8 * (DISCOVERY_TAGS_MAX + 1))}, Reason.MALFORMED),
        ],
    )
    def test_anything_else_is_ignored_with_a_reason(
        self, properties: dict[bytes, bytes | None], reason: Reason
    ) -> None:
        assert parse_txt(properties) is reason

    def test_keys_of_later_versions_are_skipped(self) -> None:
        assert parse_txt({b"v": b"1", b"n": NONCE, b"zz": b"?"}) == Announcement(NONCE, ())


class TestAddresses:
    def test_only_addresses_that_can_be_dialled_are_taken(self) -> None:
        said = ["192.0.2.7", "fd00::2", "fe80::1%eth0", "224.0.0.251", "ff02::fb", "0.0.0.0", "::", "junk"]
        assert dialable([*said, "255.255.255.255"], 4433) == (
            "192.0.2.7:4433",
            "[fd00::2]:4433",
            "[fe80::1%eth0]:4433",
        )

    def test_their_number_is_bounded(self) -> None:
        assert len(dialable([f"192.0.2.{at}" for at in range(200)], 1)) == DISCOVERY_ADDRESSES_MAX

    @pytest.mark.parametrize("port", [None, 0, -1, 65_536])
    def test_without_a_port_there_is_nothing_to_dial(self, port: int | None) -> None:
        assert dialable(["192.0.2.7"], port) == ()

    @pytest.mark.parametrize(
        ("text", "parsed"),
        [
            ("192.0.2.7:4433", ("192.0.2.7", 4433)),
            ("[fd00::2]:1", ("fd00::2", 1)),
            ("nas.example:65535", ("nas.example", 65535)),
        ],
    )
    def test_an_address_that_the_user_wrote_parses(self, text: str, parsed: tuple[str, int]) -> None:
        assert parse_address(text) == parsed

    @pytest.mark.parametrize(
        "text",
        ["", "nas", ":1", "nas:", "nas:0", "nas:65536", "nas:-1", "nas:1x", "nas:٣", "fd00::2:1", "[nas]:1", "a b:1"],
    )
    def test_any_other_is_refused_with_advice(self, text: str) -> None:
        with pytest.raises(ConfigError) as refused:
            parse_address(text)
        assert refused.value.next_step

    async def test_fixed_addresses_are_found_at_once(self) -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()
        fixed = FixedAddresses(["192.0.2.7:4433", "[fd00::2]:1"])
        await fixed.start(events.put_nowait)
        await fixed.announce(1, [KEY])
        await fixed.close()
        assert [events.get_nowait(), events.get_nowait()] == [
            Found(("192.0.2.7:4433",), 4433),
            Found(("[fd00::2]:1",), 1),
        ]
