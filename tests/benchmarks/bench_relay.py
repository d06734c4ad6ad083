"""How fast does a relay take sealed blobs and entries? Run: python tests/benchmarks/bench_relay.py [MiB]

A relay process and one device over QUIC on loopback, both on this machine: 64 KiB blobs in offers of 8 MiB over two
streams, then entries in batches of 500. Prints MB/s and entries/s as medians of three runs.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from meshsync.crypto.hashing import blob_id
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Link, Priority
from meshsync.transport.framed import FramedStream
from meshsync.transport.quic import QuicEndpoint
from meshsync.wire.relay_address import parse_relay_address
from meshsync.wire.relay_messages import Attach, Attached, CreateFolder, creation_proof

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.metalog.log_scene import ANNA, FOLDER, chain, genesis
from tests.relay.relay_world import Talk, entry_record

BLOB_BYTES, OFFER_BLOBS, STREAMS, RUNS, ENTRIES, BATCH = 65_536, 128, 2, 3, 4000, 500


async def attached(link: Link) -> Talk:
    talk = Talk(FramedStream(await link.open_stream(Priority.BULK)))
    await talk.expect(Attached, Attach(FOLDER))
    return talk


async def upload(link: Link, offers: list[list[bytes]]) -> float:
    started = time.perf_counter()

    async def work(talk: Talk, mine: list[list[bytes]]) -> None:
        for blobs in mine:
            await talk.upload(*blobs)

    talks = [await attached(link) for _ in range(STREAMS)]
    await asyncio.gather(*(work(talk, offers[n::STREAMS]) for n, talk in enumerate(talks)))
    return time.perf_counter() - started


async def measure(size_mib: int) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as data:
        program = str(Path(sys.executable).with_name("meshsync-relay"))
        relay = await asyncio.create_subprocess_exec(
            program, "up", "--data", data, "--listen", "127.0.0.1:0", "--json", stdout=asyncio.subprocess.PIPE
        )
        assert relay.stdout is not None
        address = parse_relay_address(json.loads(await relay.stdout.readline())["invitation"])
        assert address.device is not None and address.secret is not None
        runtime = SystemRuntime()
        endpoint = await QuicEndpoint.open(runtime, ANNA, "127.0.0.1:0")
        link = await endpoint.dial(address.address, expect=address.device, discovery_key=None, timeout_s=10)
        first = Talk(FramedStream(await link.open_stream(Priority.BULK)))
        proof = creation_proof(address.secret, address.device, ANNA.device, FOLDER)
        await first.expect(Attached, CreateFolder(genesis().data, proof))
        rates = []
        for run in range(RUNS):
            source = random.Random(run)
            offers = [
                [source.randbytes(BLOB_BYTES) for _ in range(OFFER_BLOBS)] for _ in range(size_mib * 16 // OFFER_BLOBS)
            ]
            blob_id(offers[0][0])
            rates.append(size_mib * 1.048576 / await upload(link, offers))
        print(f"upload: {statistics.median(rates):.0f} MB/s (of {', '.join(f'{rate:.0f}' for rate in rates)})")
        entries = [entry_record(entry) for entry in chain(ANNA, ENTRIES)]
        started = time.perf_counter()
        for start in range(0, ENTRIES, BATCH):
            await first.append(*entries[start : start + BATCH])
        print(f"append: {ENTRIES / (time.perf_counter() - started):.0f} entries/s in batches of {BATCH}")
        await endpoint.close()
        runtime.close()
        relay.terminate()
        await relay.wait()


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 256))
