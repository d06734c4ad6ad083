"""Turns what discovery finds, and addresses known otherwise, into links.

Invariant: an address that carries no tag of ours is never dialled; one address is dialled by one attempt at a time,
with jitter and growing pauses, for as long as it is announced and no link exists to there or to who answered there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from meshsync.discovery.base import Event, Found, Unavailable
from meshsync.discovery.tags import match_tags
from meshsync.errors import AccessError, MeshsyncError
from meshsync.ids import DeviceId
from meshsync.limits import (
    DIAL_JITTER_S,
    DIAL_PAUSE_S,
    DIAL_PAUSE_S_MAX,
    DIAL_TARGETS_MAX,
    DIAL_TIMEOUT_S,
    DIAL_TRIES_MAX,
)
from meshsync.runtime import Runtime
from meshsync.transport.base import Endpoint, Link

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Target:
    """Somewhere to dial: all `addresses` are of one device, which holds `key`; `device` once it answered."""

    addresses: tuple[str, ...]
    key: bytes
    device: DeviceId | None
    task: asyncio.Task[None] | None = None

    @property
    def is_dialled(self) -> bool:
        """Whether an attempt is under way."""
        return self.task is not None and not self.task.done()

    def stop(self) -> None:
        """End the attempt."""
        if self.task is not None:
            self.task.cancel()


class Dialer:
    """Belongs to one loop."""

    def __init__(
        self,
        runtime: Runtime,
        endpoint: Endpoint,
        keys: Callable[[], Mapping[bytes, bytes]],
        linked: Callable[[str], bool],
        holds: Callable[[DeviceId], bool],
        take: Callable[[Link, bytes], None],
        recognise: Callable[[bytes, DeviceId], bool],
    ) -> None:
        """`keys()` are the discovery keys by themselves; `linked(address)` tells whether a link to there lives, and
        `holds(device)` whether one to that device does, which may have several addresses, names and networks.

        `take` gets each new link and the key that it was dialled with. `recognise(key, device)`: whether `device` may
        answer a dial with `key`; an announcement can be copied by anyone, so to any other nothing is proven.
        """
        self._runtime = runtime
        self._endpoint = endpoint
        self._keys = keys
        self._linked = linked
        self._holds = holds
        self._take = take
        self._recognise = recognise
        self._targets: dict[tuple[str, ...], Target] = {}
        self._found: dict[tuple[str, ...], Found] = {}
        self._fixed: dict[tuple[str, ...], bytes] = {}
        self.unavailable: str = ""
        self._closed = False

    def report(self, event: Event) -> None:
        """Take one finding of a discovery."""
        if isinstance(event, Unavailable):
            self.unavailable = event.why
        elif isinstance(event, Found):
            if len(self._found) >= DIAL_TARGETS_MAX and event.addresses not in self._found:
                self._found.pop(next(iter(self._found)))
            self._found[event.addresses] = event
            self._consider(event)

    def refresh(self) -> None:
        """Look again at what was found: our keys changed, or a link ended."""
        for found in list(self._found.values()):
            self._consider(found)
        for addresses, key in self._fixed.items():
            self._start(addresses, key)

    def add(self, addresses: tuple[str, ...], key: bytes) -> None:
        """Dial `addresses`, told by a ticket or by the user, of a device that holds `key`; again when a link ends."""
        if addresses:
            self._fixed[addresses] = key
            self._start(addresses, key)

    def remove(self, addresses: tuple[str, ...]) -> None:
        """Stop dialling `addresses`."""
        self._fixed.pop(addresses, None)

    def forget(self, key: bytes) -> None:
        """Stop dialling with `key`, whose purpose is over."""
        for target in self._targets.values():
            if target.key == key:
                target.stop()

    def announces(self, key: bytes) -> bool:
        """Whether somebody was found that says it holds `key`."""
        return any(match_tags({key: key}, found) for found in self._found.values())

    def _consider(self, found: Found) -> None:
        matched = match_tags(self._keys(), found)
        if matched:
            self._start(found.addresses, matched[0])

    def _start(self, addresses: tuple[str, ...], key: bytes) -> None:
        before = self._targets.get(addresses)
        if self._closed or (before is not None and before.is_dialled and before.key == key):
            return
        if before is not None:
            before.stop()
        target = Target(addresses, key, None if before is None else before.device)
        if not self._is_reached(target):
            self._targets[addresses] = target
            target.task = self._runtime.spawn(self._dial(target), f"dial {addresses[0]}")

    def _is_reached(self, target: Target) -> bool:
        # By its device too: a link seldom shows the address that was dialled, if that is a name or one of several, and
        # one more link would end the one that lives, which would have it dialled again, for ever.
        if target.device is not None and self._holds(target.device):
            return True
        return any(self._linked(address) for address in target.addresses)

    async def _dial(self, target: Target) -> None:
        pause = DIAL_PAUSE_S
        await self._runtime.sleep(DIAL_JITTER_S * self._runtime.random())
        for _ in range(DIAL_TRIES_MAX):
            for address in target.addresses:
                if self._is_reached(target):
                    return
                try:
                    link = await self._endpoint.dial(
                        address,
                        expect=None,
                        discovery_key=target.key,
                        timeout_s=DIAL_TIMEOUT_S,
                        recognise=partial(self._recognise, target.key),
                    )
                except AccessError as error:
                    log.info("%s: %s", address, error)
                except MeshsyncError as error:
                    log.debug("%s: %s", address, error)
                else:
                    target.device = link.peer
                    self._take(link, target.key)
                    return
            await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
            pause = min(pause * 2, DIAL_PAUSE_S_MAX)

    async def close(self) -> None:
        """Stop every attempt, and begin none any more: the links that end from now on are not dialled again."""
        self._closed = True
        tasks = [target.task for target in self._targets.values() if target.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
