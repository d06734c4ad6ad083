"""Whether somebody but the relay said that a recovered folder is at its newest.

Invariant: a relay can hide what was added last, and a device that knows nothing else cannot tell. So a folder that was
recovered from a relay alone is unverified until a source that did not come from there too has nothing that is lacking
here: another member, by what it says on a link or by an entry that it signed after it knew of this device, or a second
relay. From then on it is verified for good, over restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshsync.agent.replica import Replica
from meshsync.codec.canonical import decode
from meshsync.errors import ResourceError
from meshsync.ids import DeviceId, RecordId
from meshsync.index.database import Database
from meshsync.index.meta import Meta
from meshsync.limits import ENTRY_ENVELOPE_BYTES_MAX
from meshsync.metalog.entry import Envelope
from meshsync.metalog.membership_entry import Admit
from meshsync.metalog.membership_history import Told
from meshsync.wire.peer_messages import Heads

FRESHNESS_KEY = "freshness"  # there once a second source agreed
RELAYS_THAT_AGREE_MIN = 2


class Freshness:
    """Of one folder. Belongs to one loop."""

    def __init__(self, database: Database, replica: Replica, told: Callable[[], Told]) -> None:
        self._database, self._meta = database, Meta(database)
        self._replica, self._told = replica, told
        self._agreed = self._meta.get(FRESHNESS_KEY) is not None

    @property
    def unverified(self) -> bool:
        """Whether this device was let in by a recovery sheet, and no second source has agreed yet."""
        return not self._agreed and self._was_recovered(self._replica.device.device)

    def hear(self, linked: Iterable[tuple[DeviceId, Heads]], relays_read: int) -> None:
        """Compare with what the `linked` members hold and with what members signed.

        `relays_read` counts the relays whose logs were read to the end.
        """
        if not self.unverified:
            return
        agreed = (
            relays_read >= RELAYS_THAT_AGREE_MIN
            or any(self._counts(device) and self._agrees(heads) for device, heads in linked)
            or self._signed_since()
        )
        if agreed:
            try:
                with self._database.transaction():
                    self._meta.set(FRESHNESS_KEY, b"1")
            except ResourceError:
                return  # it is asked again whenever anybody tells anything
            self._agreed = True

    def _agrees(self, heads: Heads) -> bool:
        replica = self._replica
        tells = bool(heads.chains) or not replica.heads().chains  # a newcomer may hold nothing yet
        return tells and replica.has_membership(RecordId(heads.membership_head)) and not replica.lacks(heads.chains)

    def _signed_since(self) -> bool:
        """Whether a member signed an entry after it knew of this device: all that it had seen by then is here."""
        replica = self._replica
        after: set[RecordId] | None = None
        for head in replica.chains.heads():
            if not self._counts(replica.chains.rows(head.chain)[0].device):
                continue
            row = replica.log_rows.entry(head.entry)
            after = self._since_admission() if after is None else after
            if row is not None and decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX).membership in after:
                return True
        return False

    def _since_admission(self) -> set[RecordId]:
        own, chain = self._replica.device.device, self._replica.membership_chain
        admissions = [entry.body.seq for entry in chain if entry.author == own and isinstance(entry.change, Admit)]
        return {entry.id for entry in chain[admissions[-1] :]} if admissions else set()

    def _counts(self, device: DeviceId) -> bool:
        """Whether `device` is a member that knows more than the relay told it: not this one, nor one recovered too."""
        is_other = device != self._replica.device.device and self._replica.membership.is_member(device)
        return is_other and not self._was_recovered(device)

    def _was_recovered(self, device: DeviceId) -> bool:
        told = self._told()
        return told.invited_by.get(device) in told.enrolled
