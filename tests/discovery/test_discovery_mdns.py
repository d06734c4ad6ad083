"""Two devices find each other by multicast DNS, on the loopback interface only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from meshsync.discovery.base import Event, Found, Ignored, Reason, Unavailable
from meshsync.discovery.mdns import SERVICE, MdnsDiscovery
from meshsync.discovery.tags import match_tags
from meshsync.runtime import SystemRuntime

LOOPBACK = ["127.0.0.1"]
DOCS, PHOTOS, INVITATION = b"d" * 32, b"p" * 32, b"i" * 32


class Heard:
    """Collects events and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(10):
            while not wanted(event := await self.events.get()):
                pass
            return event


@asynccontextmanager
async def listening(interfaces: list[str] | None = LOOPBACK) -> AsyncIterator[tuple[MdnsDiscovery, Heard]]:
    runtime = SystemRuntime(threads=1)
    discovery, heard = MdnsDiscovery(runtime, interfaces), Heard()
    await discovery.start(heard.events.put_nowait)
    try:
        yield discovery, heard
    finally:
        await discovery.close()
        runtime.close()


def carries(key: bytes) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Found) and bool(match_tags({0: key}, event))


@pytest.mark.slow
async def test_a_member_is_recognised_by_each_shared_folder_and_open_invitation() -> None:
    async with listening() as (announcer, _), listening() as (_, heard):
        await announcer.announce(4433, [DOCS, INVITATION])
        found = await heard.until(carries(DOCS))
        assert isinstance(found, Found)
        assert found.addresses == ("127.0.0.1:4433",)
        assert match_tags({"docs": DOCS, "photos": PHOTOS, "invitation": INVITATION}, found) == ["docs", "invitation"]
        assert len(found.tags) % 4 == 0, "random tags blur how many folders there are"


@pytest.mark.slow
async def test_changed_keys_are_announced_again_under_a_fresh_nonce() -> None:
    async with listening() as (announcer, _), listening() as (_, heard):
        await announcer.announce(4433, [DOCS])
        first = await heard.until(carries(DOCS))
        await announcer.announce(4433, [DOCS, PHOTOS])
        second = await heard.until(carries(PHOTOS))
        assert isinstance(first, Found) and isinstance(second, Found)
        assert first.nonce != second.nonce and not set(first.tags) & set(second.tags)


@pytest.mark.slow
async def test_a_device_does_not_find_itself() -> None:
    async with listening() as (announcer, own), listening() as (_, heard):
        await announcer.announce(4433, [DOCS])
        await heard.until(carries(DOCS))
        assert own.events.empty()


@pytest.mark.slow
async def test_a_hostile_record_is_ignored_with_a_reason() -> None:
    async with listening() as (_, heard):
        hostile = AsyncZeroconf(interfaces=LOOPBACK)
        info = AsyncServiceInfo(
            SERVICE,
            f"evil.{SERVICE}",
            port=9,
            properties={b"v": b"1", b"n": b"short", b"a": b"x" * 200},
            parsed_addresses=LOOPBACK,
        )
        try:
            await (await hostile.async_register_service(info, strict=False))
            event = await heard.until(lambda event: isinstance(event, Ignored))
        finally:
            await hostile.async_close()
        assert isinstance(event, Ignored)
        assert event.reason is Reason.MALFORMED and event.source == f"evil.{SERVICE}"


async def test_a_machine_without_a_usable_interface_is_reported_and_everything_else_works() -> None:
    async with listening(["203.0.113.7"]) as (discovery, heard):
        assert isinstance(heard.events.get_nowait(), Unavailable)
        await discovery.announce(4433, [DOCS])
