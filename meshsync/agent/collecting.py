"""When and where this device lets go of versions: now and then, and when its user asks, at every relay it is linked to.

Invariant: only an owner's device does it, only once it has read all of the relay's log, and only after what takes the
place of a record is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshsync.agent.changes import Changes
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.elapsed import Elapsed
from meshsync.agent.letting_go import LettingGo, Narrowed, Over, Step, to_let_go
from meshsync.agent.relay_reader import RelayReader
from meshsync.agent.replica import Replica
from meshsync.agent.uploader import Uploader
from meshsync.errors import MeshsyncError, TransientError
from meshsync.ids import BlobId, DeviceId, Dot, RecordId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.limits import ELAPSED_MARK_S, LET_GO_FIRST_S, LET_GO_S, RETIRES_OPEN_MAX
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.metalog.retention_policy import open_policy
from meshsync.metalog.retire import make_retire
from meshsync.roles import Role
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Append,
    Appended,
    AppendResult,
    Attach,
    Attached,
    RecordRefused,
    refusal_error,
)

Suspect = Callable[[BlobId], None]
"""Is told of a blob that a relay may have lost."""


@dataclass(frozen=True, slots=True)
class LetGoAt:
    """What was done at one relay: how many versions it was told to let go of, how many records were taken back."""

    versions: int = 0
    cancelled: int = 0
    problem: MeshsyncError | None = None


class Collecting:
    """Belongs to one folder. `done` is what was last done at each relay."""

    def __init__(self, runtime: Runtime, replica: Replica, relay_rows: RelayRows, chunks: ChunkRows) -> None:
        self.done: dict[DeviceId, LetGoAt] = {}
        self.finished = Changes()
        self._runtime, self._replica, self._relay_rows, self._chunks = runtime, replica, relay_rows, chunks
        self._asked = Changes()
        self._elapsed: Elapsed | None = None
        self._planning = asyncio.Lock()

    @property
    def is_owner(self) -> bool:
        """Whether this device may let go of versions."""
        return self._replica.membership.role(self._replica.device.device) is Role.OWNER

    def ask(self) -> None:
        """Have it done now, at every relay that is linked; `finished` is noted for each."""
        self.done.clear()
        self._asked.note()

    async def over(self) -> Over:
        """Return the versions that the policy keeps no longer. Raises MalformedMessage, FormatUnsupported (a policy of
        a newer build), ResourceError."""
        policy = open_policy(self._replica.membership.policy)
        async with self._planning:
            now_ns = self._runtime.wall_time_ns()
            return await self._runtime.in_thread(lambda: to_let_go(self._replica, policy, self._time(), now_ns))

    def _time(self) -> Elapsed:
        if self._elapsed is None:
            self._elapsed = Elapsed(self._runtime, self._replica.meta)
        return self._elapsed

    async def serve(self, link: Link, reader: RelayReader, uploader: Uploader, suspect: Suspect) -> None:
        """Let go of versions at the relay of `link`, again and again, until cancelled."""
        due_s = self._runtime.monotonic() + LET_GO_FIRST_S
        count = self._asked.count
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ELAPSED_MARK_S):
                    await self._asked.after(count)
            is_asked, count = self._asked.count != count, self._asked.count
            if is_asked or self._runtime.monotonic() >= due_s:
                due_s = self._runtime.monotonic() + LET_GO_S
                try:
                    self.done[link.peer] = await self._let_go(link, reader, uploader, suspect)
                except MeshsyncError as error:
                    self.done[link.peer] = LetGoAt(problem=error)
                self.finished.note()
            else:
                await self._mark()

    async def _mark(self) -> None:
        """Note how much has passed; what the index refuses now it may take in an hour."""
        async with self._planning:
            with contextlib.suppress(MeshsyncError):
                await self._runtime.in_thread(lambda: self._time().mark(self._replica.log_rows.count_entries()))

    async def _let_go(self, link: Link, reader: RelayReader, uploader: Uploader, suspect: Suspect) -> LetGoAt:
        await reader.until_read()
        if not self.is_owner:
            return LetGoAt()
        over = await self.over()
        plan = LettingGo(link.peer, self._replica, self._relay_rows, self._chunks)
        cancelled = await self._runtime.in_thread(plan.to_cancel, over.by_dates)
        steps = await self._runtime.in_thread(plan.steps, over.go)
        if not (cancelled or steps):
            return LetGoAt()
        conversation = RelayConversation(await link.open_stream(Priority.BULK))
        try:
            await conversation.send(Attach(self._replica.folder))
            await conversation.expect(Attached)
            index, told = reader.cursor.index, set[Dot]()
            if cancelled:
                await self._retire(conversation, link.peer, index, Step(), cancelled[:RETIRES_OPEN_MAX])
            for step in steps:
                lacking = await self._narrow(conversation, uploader, step.narrowed)
                for blob in lacking:
                    suspect(blob)
                if lacking:
                    problem = TransientError("the relay lacks some of what it had acknowledged: that is brought first")
                    return LetGoAt(len(told), len(cancelled), problem)
                await self._retire(conversation, link.peer, index, step)
                told.update(step.dots)
            return LetGoAt(len(told), len(cancelled))
        finally:
            conversation.reset()

    async def _narrow(
        self, conversation: RelayConversation, uploader: Uploader, narrowed: Sequence[Narrowed]
    ) -> list[BlobId]:
        """Store what takes the place of records; return what the relay lacks of it, though it had acknowledged it."""
        for one in narrowed:
            lacking = await uploader.append_again(conversation, one.items, one.dots)
            if lacking:
                return lacking
        return []

    async def _retire(
        self,
        conversation: RelayConversation,
        relay: DeviceId,
        index: int,
        step: Step,
        cancels: Sequence[RecordId] = (),
    ) -> None:
        data = make_retire(
            self._replica.device,
            self._replica.folder,
            membership=self._replica.membership.head,
            relay=relay,
            index=index,
            dots=tuple(step.dots),
            records=tuple(step.records),
            cancels=tuple(cancels),
        )
        await conversation.send(Append((LogRecord(int(RecordKind.RETIRE), data),)))
        (outcome,) = (await conversation.expect(AppendResult)).outcomes
        if isinstance(outcome, RecordRefused):
            raise refusal_error(outcome)
        if not isinstance(outcome, Appended | AlreadyThere):
            raise TransientError("the relay lacks what this device read of its log")
