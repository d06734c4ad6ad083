"""Reading a relay's whole log once more, when it does not continue what was read of it before, to prove that.

Invariant: nothing that is read here is believed or kept; it only shows which records the relay's present signature
stands for, so that its earlier words can be held against it.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsync.agent.conversation import RelayConversation
from meshsync.errors import IntegrityError, MalformedMessage
from meshsync.ids import DeviceId, FolderId, RecordId
from meshsync.limits import EVIDENCE_RECORDS_MAX, RECORDS_PAGE_BYTES_MAX
from meshsync.metalog.evidence import Evidence, compare_along, open_word
from meshsync.metalog.head import open_head
from meshsync.metalog.record_log import GENESIS_HEAD, next_head, record_id
from meshsync.wire.relay_messages import Page, Read


async def inspect(
    conversation: RelayConversation, folder: FolderId, relay: DeviceId, words: Iterable[bytes]
) -> Evidence | None:
    """Return evidence if the log that the relay serves and signs now contradicts one of the earlier `words`.

    `conversation` is attached to the folder. Raises IntegrityError if the log does not even lead to its own head, or is
    longer than EVIDENCE_RECORDS_MAX; PeerError, TransientError.
    """
    ids: list[RecordId] = []
    heads = [GENESIS_HEAD]
    while True:
        await conversation.send(Read(len(ids) + 1, RECORDS_PAGE_BYTES_MAX))
        page = await conversation.expect(Page)
        if page.start != len(ids) + 1 or not page.records:
            raise MalformedMessage("a page of the log that does not continue it")
        for record in page.records:
            ids.append(record_id(record))
            heads.append(next_head(heads[-1], ids[-1]))
        signed = open_head(page.head, folder)
        if len(ids) > EVIDENCE_RECORDS_MAX or signed.device != relay:
            raise IntegrityError("the relay's log is too long to be read again, or signed by another device")
        if len(ids) >= signed.index:
            break
    if heads[signed.index] != signed.head:
        raise IntegrityError("the records that the relay serves do not lead to the log head that it signed")
    for word in sorted(words, key=lambda data: open_word(data, folder).index):
        if open_word(word, folder).index <= signed.index:
            evidence = compare_along(word, page.head, folder, heads.__getitem__, lambda after, last: ids[after:last])
            if evidence is not None:
                return evidence
    return None
