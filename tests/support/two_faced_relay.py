"""A real relay whose operator lies: it shows some devices other logs, each of them signed with its one true key.

Invariant: it speaks the real protocol and can do nothing that a relay with that key and that storage could not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import DeviceId, FolderId
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_at import next_membership
from meshsync.metalog.receipt import make_receipt, open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head, record_id
from meshsync.store.memory import MemoryStore
from meshsync.transport.base import Link, Stream
from meshsync.transport.memory import MemoryEndpoint
from relay.core import RelayCore
from relay.drivers.base import Known, Row
from relay.drivers.hints import LocalHints
from relay.drivers.memory import MemoryLog
from relay.drivers.packs import ThreadedChunkStore
from relay.folder_views import FolderViews
from relay.sequencer import FolderView
from relay.server import POLICY
from relay.service import RelayService
from tests.sim.identity import SECRET
from tests.sim.network import port_of
from tests.sim.relay_machine import SimRelay
from tests.sim.runtime import SimRuntime

Edit = Callable[[list[Row]], Sequence[Row]]
"""Gets the records of a log in order and returns those to be shown; indexes and heads are made anew."""


class _LooseViews(FolderViews):
    """Passes over what nobody may have signed, where an honest relay would stop."""

    async def _fold(self, folder: FolderId, cached: FolderView | None) -> Membership:
        membership: Membership | None = None
        for one in await self._log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.MEMBERSHIP]):
            membership = next_membership(membership, one.data, folder)
        assert membership is not None
        return membership


class TwoFacedRelay(SimRelay):
    """`faces`: the logs that devices are shown which are not shown `log`. A change counts from the next start on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.faces: dict[DeviceId, dict[Any, Any]] = {}

    async def _serve(self, runtime: SimRuntime) -> None:
        chunks = ThreadedChunkStore(MemoryStore(self.blobs), runtime)
        endpoint = await MemoryEndpoint.open(runtime, self.keys, self._memory, POLICY, port_of(self.machine))

        def service(log: dict[Any, Any]) -> RelayService:
            core = RelayCore(self.keys, runtime, MemoryLog(log), chunks, LocalHints(), lambda: [SECRET], self.quota)
            core.views = _LooseViews(core.log)
            return RelayService(core, endpoint)

        honest = service(self.log)
        faces = {device: service(log) for device, log in self.faces.items()}

        class Service(RelayService):
            async def _serve_stream(self, link: Link, stream: Stream) -> None:
                await faces.get(link.peer, honest)._serve_stream(link, stream)

        Service(honest._core, endpoint).start()

    def show(self, device: DeviceId, log: dict[Any, Any]) -> None:
        """Show `device` another log from now on: the relay ends its links and starts again."""
        self.faces[device] = log
        self.again()

    def again(self, log: dict[Any, Any] | None = None) -> None:
        """Start again, with another log if one is given."""
        self.kill()
        if log is not None:
            self.log = log
        self.start()

    def copied(self) -> dict[Any, Any]:
        """Return a copy of the log as it is now."""
        return copy.deepcopy(self.log)

    def doctored(self, folder: FolderId, edit: Edit, *, careful: bool) -> dict[Any, Any]:
        """Return a log of edited records; a `careful` liar signs its receipts anew, for their new places."""
        log = self.copied()
        held = log[folder]
        held.rows, rows = [], list(edit(held.rows))
        held.known.clear()
        head = GENESIS_HEAD
        for index, row in enumerate(rows, 1):
            data = row.data
            if careful and row.kind == RecordKind.RECEIPT:
                data = resigned(self.keys, folder, data, index - 1, head)
            name = record_id(LogRecord(row.kind, data))
            head = next_head(head, name)
            held.rows.append(replace(row, index=index, id=name, data=data, head=head))
            held.known[name] = Known(index, row.kind, row.place)
        return log


def resigned(keys: DeviceKeys, folder: FolderId, data: bytes, index: int, head: bytes) -> bytes:
    """Return a receipt for the same record at another place."""
    before = open_receipt(data, folder)
    return make_receipt(keys, folder, record=before.record, index=index, head=head, replicas=before.replicas)


def row(kind: RecordKind, data: bytes) -> Row:
    """Return a record to put into a log that is being doctored."""
    return Row(0, record_id(LogRecord(int(kind), data)), int(kind), data, b"")
