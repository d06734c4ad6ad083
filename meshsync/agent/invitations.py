"""The open invitations of this agent's run: what lets a newcomer recognise it. Invariant: bounded, expired ones go."""

from __future__ import annotations

from meshsync.content.ticket import Ticket
from meshsync.limits import INVITES_OPEN_MAX
from meshsync.runtime import Runtime


class Invitations:
    """Tickets that this device issued, by the public key of the ticket."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: dict[bytes, Ticket] = {}

    def add(self, ticket: Ticket) -> None:
        """Remember a ticket until it expires."""
        self._expire()
        if len(self._open) >= INVITES_OPEN_MAX:
            self._open.pop(next(iter(self._open)))
        self._open[ticket.keys.device] = ticket

    def close(self, ticket_key: bytes) -> None:
        """Forget a ticket that was used or revoked."""
        self._open.pop(ticket_key, None)

    def any_open(self) -> bool:
        """Whether some newcomer may be let in to pair."""
        self._expire()
        return bool(self._open)

    def discovery_keys(self) -> list[bytes]:
        """Return the keys by which newcomers recognise this device."""
        self._expire()
        return [ticket.discovery_key for ticket in self._open.values()]

    def _expire(self) -> None:
        now_s = self._runtime.wall_time_ns() // 10**9
        self._open = {key: ticket for key, ticket in self._open.items() if ticket.expires_s >= now_s}
