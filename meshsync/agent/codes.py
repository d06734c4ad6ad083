"""The short codes that this device told: which are open, and how each ended.

Invariant: a code is open at most CODE_LIFE_S, and ends with the first newcomer that tries its words, right or wrong;
what has ended never opens again. At most CODES_MAX are remembered. Nothing of a code is written to disk.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from meshsync.content.code import Code, discovery_key, make_code, random_bytes_needed
from meshsync.content.ticket import Ticket
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import (
    CODE_ASKS_MAX,
    CODE_LIFE_S,
    CODE_NUMBER_MAX,
    CODE_NUMBER_TRIES,
    CODE_NUMBER_USUAL_MAX,
    CODES_MAX,
)
from meshsync.runtime import Runtime


class End(enum.Enum):
    """How a code ended."""

    USED = "it was used"
    WRONG = "it was tried with wrong words"
    WITHDRAWN = "its ticket was used or revoked, or newer codes took its place"


@dataclass(eq=False, slots=True)
class ToldCode:
    """A code and the ticket that it stands for, with its public key.

    `closes_s` is on the monotonic clock; `ended` is set with `end`, not when the time has passed. `asked` counts the
    exchanges that newcomers began.
    """

    code: Code
    ticket: Ticket
    ticket_key: DeviceId
    closes_s: float
    asked: int = 0
    end: End | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Codes:
    """`admits(folder, ticket key)` tells whether a ticket still admits somebody."""

    def __init__(self, runtime: Runtime, admits: Callable[[FolderId, DeviceId], bool]) -> None:
        self._runtime = runtime
        self._admits = admits
        self._told: list[ToldCode] = []

    def tell(self, ticket: Ticket, number: int, life_s: float) -> ToldCode:
        """Open a code for `ticket` with `number`, which no open code here has, for `life_s` but at most CODE_LIFE_S."""
        assert self.find(number) is None
        code = make_code(number, self._runtime.random_bytes(random_bytes_needed()))
        told = ToldCode(code, ticket, ticket.keys.device, self._runtime.monotonic() + min(life_s, CODE_LIFE_S))
        self._told = [other for other in self._told if self._matters(other)]
        while len(self._told) >= CODES_MAX:
            self.close(self._told.pop(0), End.WITHDRAWN)
        self._told.append(told)
        return told

    def free_number(self, is_taken: Callable[[int], bool]) -> int:
        """Return a random number that no open code here has; avoids those that are taken elsewhere, if it can."""
        for attempt in range(CODE_NUMBER_TRIES):
            highest = CODE_NUMBER_USUAL_MAX if attempt < CODE_NUMBER_TRIES // 2 else CODE_NUMBER_MAX
            number = 1 + int(self._runtime.random() * highest)
            if self.find(number) is None and not is_taken(number):
                return number
        return next(number for number in range(CODE_NUMBER_USUAL_MAX + 1, CODE_NUMBER_MAX) if self.find(number) is None)

    def find(self, number: int) -> ToldCode | None:
        """Return the open code with this number."""
        return next((told for told in self._told if told.code.number == number and self.is_open(told)), None)

    def is_open(self, told: ToldCode) -> bool:
        """Whether a newcomer may still try."""
        if told.end is None and not self._admits(told.ticket.folder, told.ticket_key):
            self.close(told, End.WITHDRAWN)
        return told.end is None and self._runtime.monotonic() < told.closes_s

    def ask(self, number: int) -> ToldCode | None:
        """Return the open code with this number for one more exchange, None if there is none or too many were begun.

        An exchange costs its asker a message and this device a millisecond.
        """
        told = self.find(number)
        if told is None or told.asked >= CODE_ASKS_MAX:
            return None
        told.asked += 1
        return told

    def close(self, told: ToldCode, end: End) -> None:
        """End a code. The first end is the one that counts."""
        told.end = told.end or end
        told.ended.set()

    def discovery_keys(self) -> list[bytes]:
        """Return the keys by which newcomers find the open codes."""
        return [discovery_key(told.code.number) for told in self._told if self.is_open(told)]

    def of_ticket(self, ticket_key: bytes) -> ToldCode | None:
        """Return the newest code that stands for the ticket with this public key, open or not."""
        return next((told for told in reversed(self._told) if told.ticket_key == ticket_key), None)

    def tried_in_vain(self) -> list[ToldCode]:
        """Return the codes that somebody tried with wrong words, for as long as their user may wait for them."""
        now = self._runtime.monotonic()
        return [told for told in self._told if told.end is End.WRONG and now < told.closes_s]

    def _matters(self, told: ToldCode) -> bool:
        return self._runtime.monotonic() < told.closes_s
