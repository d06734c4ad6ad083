"""What a relay stores is asked for as soon as it is known to be there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from meshsync.agent.fetcher import Absent, Need, Sealed
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.limits import FETCH_RETRY_S
from meshsync.transport.base import Priority
from tests.support.member_scene import Scene, open_scene

DATA = b"stored later"


class SlowStore:
    """A source that lacks the chunk until `stored` is set."""

    name = "relay that stores later"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.asked = asyncio.Event()
        self.stored = False

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        keys = self._scene.folder.keys()
        for need in needs:
            if self.stored:
                yield Sealed(need, 0, keys.current, seal_chunk(keys, keys.current, BlobKind.CHUNK, DATA))
            else:
                yield Absent(need)
            self.asked.set()


async def test_a_chunk_that_a_relay_lacked_is_asked_for_when_content_was_stored(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        folder = scene.folder
        store = SlowStore(scene)
        await folder.fetcher.add_source(store)
        chunk = chunk_id(folder.keys(), BlobKind.CHUNK, DATA)
        future = folder.fetcher.request(chunk, BlobKind.CHUNK, len(DATA), Priority.INTERACTIVE)
        await store.asked.wait()
        store.stored = True
        folder.content_stored()
        async with asyncio.timeout(FETCH_RETRY_S / 2):
            assert await future == DATA
