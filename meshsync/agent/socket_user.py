"""Whose process is at the other end of a local socket, as the kernel says.

Invariant: the answer holds for the process that connected, or that began to listen; the other end cannot choose it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Protocol

_CREDENTIALS = struct.Struct("iII")  # process, user, group
ROOT = 0


class HasOptions(Protocol):
    """What is asked: a socket, or what asyncio shows of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def user_of_peer(connection: HasOptions) -> int:
    """Return the user id at the other end of a connected Unix socket. Raises OSError if it is not one."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])


def may_ask(user: int) -> bool:
    """Return whether this user's processes may ask the agent of ours: our own, and root's, which need not ask."""
    return user in (os.geteuid(), ROOT)
