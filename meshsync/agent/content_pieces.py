"""Reading one content of a folder in order. Invariant: every piece that comes out was checked against its chunk id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from meshsync.agent.folder import Folder
from meshsync.agent.version_fetch import VersionFetch
from meshsync.content.record import Content
from meshsync.errors import SourceUnavailable
from meshsync.limits import CAT_WAIT_S
from meshsync.runtime import Runtime


async def content_pieces(runtime: Runtime, folder: Folder, content: Content, path: str) -> AsyncIterator[bytes]:
    """Yield a content in order, from here where it lies here. `path` is for display.

    Raises SourceUnavailable if a piece cannot be had in CAT_WAIT_S.
    """
    fetch = VersionFetch(
        runtime,
        folder.fetcher,
        folder.local,
        folder.keys(),
        content=content,
        chunk_min=folder.replica.membership.genesis.chunk_min,
        path=path,
    )
    pieces = fetch.pieces()
    while True:
        try:
            async with asyncio.timeout(CAT_WAIT_S):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise SourceUnavailable(
                "nobody reachable has the content of this version",
                folder=folder.name,
                path=path,
                next_step="Bring a device online that had it, or connect a relay.",
            ) from None
        if piece is None:
            return
        yield piece
