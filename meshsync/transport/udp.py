"""A UDP socket that moves many datagrams per system call.

Invariant: it keeps at most SOCKET_UNSENT_BYTES_MAX of datagrams that the kernel did not take yet, and reads at most
SOCKET_BURST_READS_MAX times per wake-up. Linux's UDP_GRO and UDP_SEGMENT are used where the kernel and the route have
them; elsewhere each datagram is a call of its own, with the same result.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from meshsync.errors import ConfigError
from meshsync.limits import (
    GSO_BYTES_MAX,
    GSO_SEGMENTS_MAX,
    SOCKET_BUFFER_BYTES,
    SOCKET_BURST_READS_MAX,
    SOCKET_UNSENT_BYTES_MAX,
)
from meshsync.transport.packets import Address

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SEGMENT: Final = struct.Struct("=H")
_GRO: Final = struct.Struct("=i")
_READ_BYTES: Final = 65_535
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_GRO.size)
_GSO_REFUSED: Final = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EMSGSIZE})

Received = tuple[bytes, int, Address]
"""(bytes, segment size, sender): datagrams of `segment size` bytes back to back, the last perhaps shorter."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to the numeric `host` ("::" takes IPv4 too) and `port` (0: any), non-blocking.

    Raises ConfigError if that fails.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for option, force in ((socket.SO_RCVBUF, 33), (socket.SO_SNDBUF, 32)):
            _grow_buffer(sock, option, force)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return sock


class UdpSocket:
    """One bound socket on the running loop."""

    def __init__(self, sock: socket.socket, on_readable: Callable[[list[Received]], None], *, offload: bool) -> None:
        """`sock` is bound and non-blocking. `offload` False forbids GRO and GSO even where the kernel has them."""
        self._socket = sock
        self._on_received = on_readable
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, Address]] = deque()
        self._unsent_bytes = 0
        self._on_writable: Callable[[], None] = lambda: None
        self.gro = offload and _enable_gro(sock)
        self.gso = offload and _has_gso(sock)
        self._loop.add_reader(sock.fileno(), self._read_burst)

    @classmethod
    def bind(
        cls, host: str, port: int, on_received: Callable[[list[Received]], None], *, offload: bool = True
    ) -> UdpSocket:
        """Bind to the numeric `host` ("::" takes IPv4 too) and `port` (0: any). Raises ConfigError if that fails."""
        return cls(bound_socket(host, port), on_received, offload=offload)

    @property
    def address(self) -> Address:
        """The bound address."""
        address: Address = self._socket.getsockname()
        return address

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return self._socket.family

    @property
    def is_blocked(self) -> bool:
        """Whether the kernel has to take unsent datagrams first: do not make new ones now."""
        return bool(self._unsent)

    def on_writable(self, call: Callable[[], None]) -> None:
        """Let `call` be called each time `is_blocked` ends."""
        self._on_writable = call

    def send(self, datagrams: list[tuple[bytes, Address]]) -> int:
        """Send, or keep for later, `datagrams` in order; return their bytes.

        Above SOCKET_UNSENT_BYTES_MAX kept bytes, and on addresses that cannot be reached, datagrams are dropped, as
        the network may do: QUIC sends them again.
        """
        total = 0
        start, count = 0, len(datagrams)
        while start < count:
            end = self._run_end(datagrams, start)
            run = [data for data, _ in datagrams[start:end]]
            total += sum(map(len, run))
            self._send_run(run, datagrams[start][1])
            start = end
        return total

    def close(self) -> None:
        """Release the port; unsent datagrams are dropped."""
        self._loop.remove_reader(self._socket.fileno())
        if self._unsent:
            self._loop.remove_writer(self._socket.fileno())
            self._unsent.clear()
        self._socket.close()

    def _run_end(self, datagrams: list[tuple[bytes, Address]], start: int) -> int:
        """Return the end of the longest run from `start` that one GSO call may carry."""
        first, address = datagrams[start]
        size = len(first)
        limit = min(len(datagrams), start + min(GSO_SEGMENTS_MAX, max(1, GSO_BYTES_MAX // size)))
        end = start + 1
        while end < limit:
            data, to = datagrams[end]
            if to != address or len(data) > size:
                break
            end += 1
            if len(data) < size:  # only the last segment may be shorter
                break
        return end

    def _send_run(self, run: list[bytes], address: Address) -> None:
        if self._unsent:
            self._keep(run, address)
            return
        if self.gso and len(run) > 1:
            try:
                control = [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT.pack(len(run[0])))]
                self._socket.sendmsg(run, control, 0, address)
                return
            except BlockingIOError:
                self._keep(run, address)
                return
            except OSError as error:
                if error.errno not in _GSO_REFUSED:
                    return
                # EMSGSIZE speaks of one route, the others of the kernel or the device: plain sends still work.
                self.gso = error.errno == errno.EMSGSIZE
        self._send_plain(run, address)

    def _send_plain(self, run: list[bytes], address: Address) -> None:
        for index, data in enumerate(run):
            try:
                self._socket.sendto(data, address)
            except BlockingIOError:
                self._keep(run[index:], address)
                return
            except OSError:
                continue  # unreachable or too long: lost, as on any network

    def _keep(self, run: list[bytes], address: Address) -> None:
        if not self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._write_kept)
        for data in run:
            if self._unsent_bytes + len(data) > SOCKET_UNSENT_BYTES_MAX:
                return
            self._unsent.append((data, address))
            self._unsent_bytes += len(data)

    def _write_kept(self) -> None:
        while self._unsent:
            data, address = self._unsent[0]
            try:
                self._socket.sendto(data, address)
            except BlockingIOError:
                return
            except OSError:
                pass  # lost, as on any network
            self._unsent.popleft()
            self._unsent_bytes -= len(data)
        self._loop.remove_writer(self._socket.fileno())
        self._on_writable()

    def _read_burst(self) -> None:
        batch: list[Received] = []
        for _ in range(SOCKET_BURST_READS_MAX):
            try:
                data, ancillary, _, address = self._socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
            except OSError:  # nothing left, or an ICMP error of an earlier send
                break
            size = len(data)
            for level, kind, value in ancillary:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    size = _GRO.unpack(value)[0]
            if data:
                batch.append((data, size, address))
        if batch:
            self._on_received(batch)


def _grow_buffer(sock: socket.socket, option: int, force: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER_BYTES)  # beyond net.core.*mem_max, for the privileged
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)


def _enable_gro(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def _has_gso(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(_SOL_UDP, _UDP_SEGMENT, 0)  # per message, never for the whole socket
    except OSError:
        return False
    return True
