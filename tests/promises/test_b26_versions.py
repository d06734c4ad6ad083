"""B26: what is of another version is refused by name, changes nothing, and costs others nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from meshsync.codec.canonical import encode
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import FormatUnsupported, MalformedMessage, MeshsyncError
from meshsync.limits import SUITE
from meshsync.metalog.entry import SIGNATURE_KIND, SignedEntry
from meshsync.metalog.membership_entry import open_membership, sign_genesis
from tests.metalog.log_scene import genesis
from tests.support.member_scene import WAIT_S, Member, open_scene


def of_version(member: Member, version: int) -> bytes:
    """Return the member's last entry as if it were of `version`, rightly signed."""
    signed = member.entries[-1].signed
    fields = msgspec.msgpack.decode(signed.envelope)
    envelope = msgspec.msgpack.encode([version, *fields[1:]])
    return encode(SignedEntry(envelope, member.device.sign(SIGNATURE_KIND, envelope), signed.payload))


@pytest.mark.parametrize(("version", "error"), [(0, MalformedMessage), (2, FormatUnsupported)])
async def test_an_entry_of_another_version_changes_nothing_and_ends_its_bearers_link_only(
    tmp_path: Path, version: int, error: type[MeshsyncError]
) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(carol)
        await scene.gets(carol, b"before", b"1")
        mallory.write(mallory.put(b"other", mallory.hold([b"2"])))
        other = of_version(mallory, version)
        before = scene.files(), scene.folder.replica.chains.heads(), scene.folder.replica.membership
        with pytest.raises(error):
            await scene.folder.replica.receive_entries((other,))
        mallory.pages = lambda page: [other]
        link = await scene.connect(mallory)
        async with asyncio.timeout(WAIT_S):
            await link.wait_closed()
        assert (scene.files(), scene.folder.replica.chains.heads(), scene.folder.replica.membership) == before
        await scene.gets(carol, b"next", b"3")


def test_a_folder_of_another_suite_is_refused_and_the_suites_are_named() -> None:
    change = genesis().change
    fields = msgspec.structs.replace(change, suite=SUITE + 1)  # type: ignore[type-var]
    with pytest.raises(FormatUnsupported, match=f"suite {SUITE + 1}.*suite {SUITE} only"):
        sign_genesis(DeviceKeys(b"a" * 64), fields)  # type: ignore[arg-type]
    assert open_membership(genesis().data).change == change and replace(genesis()) == genesis()
