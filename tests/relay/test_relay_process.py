"""`meshsync-relay` as a process: prints one line, survives kill -9 without losing what it acknowledged, stops."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Priority
from meshsync.transport.framed import FramedStream
from meshsync.transport.quic import QuicEndpoint
from meshsync.wire.relay_address import RelayAddress, parse_relay_address
from meshsync.wire.relay_messages import (
    Append,
    Appended,
    AppendResult,
    Attached,
    BlobFrame,
    CreateFolder,
    Fetch,
    StoredBlobs,
    creation_proof,
)
from tests.metalog.log_scene import ANNA, FOLDER, chain, genesis
from tests.relay.relay_world import Talk, entry_record, stored_record

PROGRAM = str(Path(sys.executable).with_name("meshsync-relay"))
pytestmark = pytest.mark.slow


class Process:
    """One run of the relay."""

    def __init__(self, process: asyncio.subprocess.Process, line: dict[str, Any]) -> None:
        self.process, self.line = process, line

    @property
    def address(self) -> RelayAddress:
        return parse_relay_address(self.line["invitation"])

    @classmethod
    async def up(cls, data: Path) -> Process:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "up", "--data", str(data), "--listen", "127.0.0.1:0", "--json", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        return cls(process, json.loads(await asyncio.wait_for(process.stdout.readline(), 20)))

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


async def run(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def device(relay: Process) -> AsyncIterator[Talk]:
    """A stream of ANNA's device, attached to the folder, which is founded if need be."""
    runtime = SystemRuntime()
    endpoint = await QuicEndpoint.open(runtime, ANNA, "127.0.0.1:0")
    try:
        address = relay.address
        assert address.device is not None and address.secret is not None
        link = await endpoint.dial(address.address, expect=address.device, discovery_key=None, timeout_s=10)
        talk = Talk(FramedStream(await link.open_stream(Priority.BULK)))
        proof = creation_proof(address.secret, address.device, ANNA.device, FOLDER)
        await talk.expect(Attached, CreateFolder(genesis().data, proof))
        yield talk
    finally:
        await endpoint.close()
        runtime.close()


@pytest.mark.parametrize("acknowledged_count", [0, 1, 7])
async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, acknowledged_count: int) -> None:
    entries = chain(ANNA, acknowledged_count + 2)
    blobs = [[bytes([n, m]) * 40_000 for m in range(8)] for n in range(len(entries))]
    relay = await Process.up(tmp_path)
    receipts: list[bytes] = []
    async with device(relay) as talk:
        for entry, data in zip(entries[:acknowledged_count], blobs, strict=False):
            assert await talk.upload(*data) == StoredBlobs(8, ())
            appended, stored = await talk.append(entry_record(entry), stored_record(ANNA, entry, data))
            assert isinstance(appended, Appended) and isinstance(stored, Appended)
            receipts.append(stored.receipt)
        await talk.send(Append((entry_record(entries[acknowledged_count]),)))  # in flight when the end comes
        assert await relay.stop(signal.SIGKILL) == -signal.SIGKILL
    again = await Process.up(tmp_path)
    async with device(again) as talk:
        records = await talk.read_all()
        kept = {record.data for record in records}
        assert set(receipts) <= kept
        assert {entry_record(one).data for one in entries[:acknowledged_count]} <= kept
        for data in blobs[:acknowledged_count]:
            for one in data:
                assert await talk.ask(Fetch((blob_id(one),))) == BlobFrame(0, one)
    assert await again.stop() == 0
    code, output = await run("check", "--data", str(tmp_path), "--json")
    assert (code, json.loads(output)["problems"]) == (0, [])


async def test_one_line_of_json_then_a_clean_stop(tmp_path: Path) -> None:
    relay = await Process.up(tmp_path)
    assert relay.line["schema"] == 1
    assert relay.address.without_secret().text == relay.line["address"]
    assert relay.line["device"] == (relay.address.device or b"").hex()
    assert (tmp_path / "device.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "invitations").stat().st_mode & 0o777 == 0o600
    assert await relay.stop() == 0
    again = await Process.up(tmp_path)
    assert (again.line["device"], again.address.secret) == (relay.line["device"], relay.address.secret)
    assert await again.stop(signal.SIGINT) == 0


async def test_a_running_relay_takes_a_new_invitation_and_refuses_a_withdrawn_one(tmp_path: Path) -> None:
    relay = await Process.up(tmp_path)
    code, output = await run(
        "invite", "--data", str(tmp_path), "--revoke-others", "--listen", "127.0.0.1:4433", "--json"
    )
    assert code == 0
    newer = parse_relay_address(json.loads(output)["invitation"])
    with pytest.raises(AssertionError, match="INVITATION"):
        async with device(relay):
            pass
    relay.line["invitation"] = RelayAddress(
        relay.address.host, relay.address.port, relay.address.device, newer.secret
    ).text
    async with device(relay) as talk:
        assert isinstance(await talk.ask(Append((entry_record(chain(ANNA, 1)[0]),))), AppendResult)
    code, output = await run("status", "--data", str(tmp_path), "--json")
    assert json.loads(output)["folders"][0]["records"] == 2
    await relay.stop()


async def test_scrub_finds_a_flipped_bit_and_exits_with_the_code_for_damage(tmp_path: Path) -> None:
    relay = await Process.up(tmp_path)
    async with device(relay) as talk:
        await talk.upload(b"precious")
    await relay.stop()
    assert (await run("scrub", "--data", str(tmp_path)))[0] == 0
    pack = next((tmp_path / "chunks").glob("*.pack"))
    pack.write_bytes(pack.read_bytes().replace(b"precious", b"precioux"))
    code, output = await run("scrub", "--data", str(tmp_path), "--json")
    assert (code, json.loads(output)["damaged"]) == (7, [blob_id(b"precious").hex()])


async def test_commands_without_data_say_so(tmp_path: Path) -> None:
    for command in ("status", "check", "scrub", "invite"):
        assert (await run(command, "--data", str(tmp_path)))[0] == 3
