"""The inviting device's side of a code: who shows that it knows the words gets the ticket, once.

Invariant: between taking an answer and ending the code nothing is awaited, so that a code has one try however many
newcomers speak at once. Whoever is refused learns nothing but that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshsync.agent.code_talk import Talk, heard
from meshsync.agent.codes import Codes, End
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.pake import SCALAR_SIZE_BYTES
from meshsync.errors import CodeInvalid
from meshsync.ids import short
from meshsync.runtime import Runtime
from meshsync.wire.code_exchange import NONCE_SIZE_BYTES, InviterRun
from meshsync.wire.peer_messages import CodeAnswer, CodeAsk, CodeRefused

log = logging.getLogger(__name__)


async def serve_code(
    runtime: Runtime, keys: DeviceKeys, codes: Codes, talk: Talk, ask: CodeAsk, on_change: Callable[[], None]
) -> None:
    """Answer one newcomer. Raises PeerError, PeerTimeout, LinkClosed; none of them is a try of the code."""
    told = codes.ask(ask.number)
    if told is None:
        await talk.send(CodeRefused())
        return
    nonce, scalar = runtime.random_bytes(NONCE_SIZE_BYTES), runtime.random_bytes(SCALAR_SIZE_BYTES)
    run = InviterRun(keys, ask.number, told.code.password, talk.channel, nonce, scalar)
    await talk.send(run.offer(ask))
    answer = await heard(talk, CodeAnswer)
    if answer is None or not codes.is_open(told):
        await talk.send(CodeRefused())
        return
    try:
        newcomer = run.judge(answer)
    except CodeInvalid as error:
        codes.close(told, End.WRONG)
        log.warning("the code with number %d was tried with wrong words: %s", ask.number, error)
        on_change()
        await talk.send(CodeRefused())
        return
    codes.close(told, End.USED)
    log.info("the code with number %d was used by device %s", ask.number, short(newcomer))
    on_change()
    await talk.send(run.ticket(told.ticket.text))
