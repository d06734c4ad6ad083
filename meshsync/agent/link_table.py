"""At most one link to each device. Invariant: of two links between the same devices, both ends keep the same one."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from meshsync.agent.member_link import MemberLink
from meshsync.ids import DeviceId
from meshsync.limits import LINK_RACE_S
from meshsync.runtime import Runtime
from meshsync.transport.base import Link


@dataclass(slots=True)
class Entry:
    """A live link."""

    member: MemberLink
    dialed: bool
    task: asyncio.Task[None]
    since: float


class LinkTable:
    """The links of this device. `make` builds what runs on a link; `on_change` is told when one begins or ends."""

    def __init__(
        self, runtime: Runtime, own: DeviceId, make: Callable[[Link], MemberLink], on_change: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._own = own
        self._make = make
        self._on_change = on_change
        self._links: dict[DeviceId, Entry] = {}
        self.seen_ns: dict[DeviceId, int] = {}

    def get(self, device: DeviceId) -> Link | None:
        """Return the live link to `device`, or None."""
        entry = self._links.get(device)
        return entry.member.link if entry else None

    def all(self) -> list[MemberLink]:
        """Return what runs on every live link."""
        return [entry.member for entry in self._links.values()]

    def add(self, link: Link, dialed: bool) -> bool:
        """Take a new link and run it; return False, with the link closed, if another one stays.

        Two links that both ends dialled at once: the one dialled by the lower device id stays. Two in one direction, or
        one long after the other: the newer one, because the dialler lost the older.
        """
        before = self._links.get(link.peer)
        racing = before is not None and self._runtime.monotonic() - before.since < LINK_RACE_S
        if before is not None and racing and before.dialed != dialed:
            keep_dialed = self._own < link.peer
            if before.dialed == keep_dialed:
                link.close("duplicate link")
                return False
        member = self._make(link)
        task = self._runtime.spawn(self._run(member), "link")
        self._links[link.peer] = Entry(member, dialed, task, self._runtime.monotonic())
        if before is not None:
            before.member.link.close("duplicate link")
        self._on_change()
        return True

    async def _run(self, member: MemberLink) -> None:
        try:
            await member.run()
        finally:
            peer = member.link.peer
            self.seen_ns[peer] = self._runtime.wall_time_ns()
            entry = self._links.get(peer)
            if entry is not None and entry.member is member:
                del self._links[peer]
            self._on_change()

    def refresh(self) -> None:
        """Look again at which folders are shared with whom."""
        for entry in self._links.values():
            entry.member.refresh()

    async def close(self) -> None:
        """End every link."""
        tasks = [entry.task for entry in self._links.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def route(address: str) -> str:
    """Return "lan" for an address on this network or machine, else "direct"."""
    host = address.rsplit(":", 1)[0].strip("[]").split("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "direct"
    return "lan" if ip.is_private or ip.is_link_local or ip.is_loopback else "direct"
