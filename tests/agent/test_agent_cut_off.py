"""Who brought entries may go away at any moment: what was begun with them ends, or has not begun (P1, P2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshsync.codec.canonical import encode
from meshsync.content.record import Content, Kind
from tests.support.member_scene import open_scene

MOMENTS = 24
"""Turns of the loop after which the bearer goes: more than taking one entry takes."""


async def test_an_entry_whose_bearer_goes_away_is_taken_whole_or_can_be_taken_again(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        member = await scene.member(b"m")
        for moment in range(MOMENTS):
            entry = member.write(member.put(b"d%d" % moment, Content(Kind.DIRECTORY)))
            page = (encode(entry.signed),)
            bearer = asyncio.get_running_loop().create_task(scene.folder.replica.receive_entries(page))
            for _ in range(moment):
                await asyncio.sleep(0)
            bearer.cancel()
            await asyncio.gather(bearer, return_exceptions=True)
            await scene.folder.replica.receive_entries(page)
        await scene.until(lambda: len(scene.files()) == MOMENTS)
