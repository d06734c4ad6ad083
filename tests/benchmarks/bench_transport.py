"""How fast does one stream run between two processes over loopback, through Endpoint, Link and Stream?

Run: python tests/benchmarks/bench_transport.py [runs]. Two processes, 1452-byte datagrams, 256 MiB per run (32 MiB for
aioquic), one stream of framed 64 KiB chunks. Prints the median and spread of MB/s (10^6 bytes per second).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import platform
import statistics
import sys
import time
from multiprocessing.connection import Connection

from meshsync.crypto.identity import DeviceKeys
from meshsync.limits import DATAGRAM_BYTES, MIB
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Policy, Priority
from meshsync.transport.framed import FramedStream
from meshsync.transport.quic import QuicEndpoint

CHUNK_BYTES = 65_536
SERVER_KEYS = DeviceKeys(b"s" * 64)
CLIENT_KEYS = DeviceKeys(b"c" * 64)


async def serve(engine: str, runs: int, parent: Connection) -> None:
    """Count the bytes of one stream after another and answer with the count."""
    runtime = SystemRuntime()
    policy = Policy(speaks_first=lambda: True, authorize=lambda device: None)
    endpoint = await QuicEndpoint.open(runtime, SERVER_KEYS, "127.0.0.1:0", engine, policy)
    parent.send(endpoint.port)
    link = await endpoint.accept()
    for _ in range(runs):
        stream = FramedStream(await link.accept_stream())
        count = 0
        while (frame := await stream.receive_frame()) is not None:
            count += len(frame[1])
        await stream.send_frame(1, count.to_bytes(8, "big"))
        await stream.finish()
    await link.wait_closed()
    await endpoint.close()
    runtime.close()


async def measure(engine: str, runs: int, size: int, port: int) -> list[float]:
    """Return the MB/s of each run; a run ends when the receiver has confirmed every byte."""
    runtime = SystemRuntime()
    endpoint = await QuicEndpoint.open(runtime, CLIENT_KEYS, "127.0.0.1:0", engine)
    link = await endpoint.dial(f"127.0.0.1:{port}", expect=SERVER_KEYS.device, discovery_key=None, timeout_s=10)
    chunk = bytes(CHUNK_BYTES)
    rates = []
    for _ in range(runs):
        stream = FramedStream(await link.open_stream(Priority.BULK))
        start = time.perf_counter()
        for _ in range(size // CHUNK_BYTES):
            await stream.send_frame(1, chunk)
        await stream.finish()
        answer = await stream.receive_frame()
        assert answer is not None and int.from_bytes(answer[1], "big") == size
        rates.append(size / 1e6 / (time.perf_counter() - start))
    link.close("done")
    await endpoint.close()
    runtime.close()
    return rates


def _server_process(engine: str, runs: int, parent: Connection) -> None:
    asyncio.run(serve(engine, runs, parent))


def run(engine: str, runs: int, size: int) -> list[float]:
    """Return the MB/s of `runs` transfers of `size` bytes to a second process."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_server_process, args=(engine, runs, theirs))
    process.start()
    rates = asyncio.run(measure(engine, runs, size, mine.recv()))
    process.join()
    return rates


def main() -> None:
    """Print one line per engine."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{platform.machine()}, Python {platform.python_version()}, {DATAGRAM_BYTES}-byte datagrams, {runs} runs")
    for engine, size in (("qh3", 256 * MIB), ("aioquic", 32 * MIB)):
        rates = run(engine, runs, size)
        print(f"{engine:8} median {statistics.median(rates):6.1f} MB/s  ({min(rates):.1f} to {max(rates):.1f})")


if __name__ == "__main__":
    main()
