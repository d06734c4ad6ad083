"""A UDP forwarder that keeps every datagram, so that a test can look for what must not be seen on the wire.

Invariant: what passes is forwarded unchanged in both directions; each client has a socket of its own to the target.
"""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType

DATAGRAM_BYTES_MAX = 65_536
LOOK_S = 0.2  # between two looks at whether to stop


class WireTap:
    """Forwards `address` to 127.0.0.1:`target`. Use as a context manager; `seen` are the datagrams, both directions."""

    def __init__(self, target: int) -> None:
        self.seen: list[bytes] = []
        self._target = ("127.0.0.1", target)
        self._front = _bound()
        self._back: dict[tuple[str, int], socket.socket] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)

    @property
    def port(self) -> int:
        return int(self._front.getsockname()[1])

    def __enter__(self) -> WireTap:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for opened in (self._front, *self._back.values()):
            opened.close()

    def _forward(self) -> None:
        while not self._ended.is_set():
            clients = {back: client for client, back in self._back.items()}
            for readable in select.select([self._front, *clients], [], [], LOOK_S)[0]:
                data, sender = readable.recvfrom(DATAGRAM_BYTES_MAX)
                self.seen.append(data)
                if readable is self._front:
                    if sender not in self._back:
                        self._back[sender] = _bound()
                    self._back[sender].sendto(data, self._target)
                else:
                    self._front.sendto(data, clients[readable])


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return made
