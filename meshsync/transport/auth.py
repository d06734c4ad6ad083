"""Runs the proofs of `wire/session.py` over the first stream of a link.

Invariant: both functions return only after both sides are proven and the client is accepted; the server's first
stream, or anything else of its, leaves only after the client showed, by ending the stream, that it knows.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsync.errors import LinkClosed, NotAMember
from meshsync.ids import DeviceId
from meshsync.limits import FRAME_BYTES_MAX_UNAUTHENTICATED
from meshsync.transport.base import Stream
from meshsync.transport.framed import FramedStream
from meshsync.wire.session import ClientSession, Send, ServerSession, State


async def authenticate_client(stream: Stream, session: ClientSession) -> DeviceId:
    """Prove this device to the server and the server to this device; return the server's. `stream` is used up.

    Raises what `ClientSession.receive` raises, LinkClosed if the link ends before.
    """
    framed = FramedStream(stream, FRAME_BYTES_MAX_UNAUTHENTICATED)
    await _send(framed, session.start())
    while session.state is not State.OPEN:
        await _send(framed, session.receive(*await _receive(framed)))
    await framed.finish()
    assert session.peer is not None
    return session.peer


async def authenticate_server(stream: Stream, session: ServerSession, trusted: Callable[[], None]) -> DeviceId:
    """Answer a client; return its device. `stream` is used up. `trusted` is called once the client is accepted.

    Raises NotAMember, after the refusal was sent, if the client is turned away; else as `authenticate_client`.
    """
    framed = FramedStream(stream, FRAME_BYTES_MAX_UNAUTHENTICATED)
    while session.state not in (State.OPEN, State.CLOSED):
        await _send(framed, session.receive(*await _receive(framed)))
    if session.state is State.OPEN:
        trusted()
    await framed.finish()
    if await framed.receive_frame() is not None:
        raise LinkClosed("the client sent more than its proof")
    if session.peer is None:
        raise NotAMember(f"a client was turned away: {session.refused}")
    return session.peer


async def _receive(framed: FramedStream) -> tuple[int, bytes]:
    frame = await framed.receive_frame()
    if frame is None:
        raise LinkClosed("the peer ended the link before the proofs were complete")
    return frame


async def _send(framed: FramedStream, frames: list[Send]) -> None:
    for frame in frames:
        await framed.send_frame(frame.kind, frame.body)
