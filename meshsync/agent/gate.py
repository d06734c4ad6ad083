"""Lets threads use something together until it is closed. Invariant: after `close` nobody is inside or enters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Thread-safe. Users do not wait for each other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Give True while the gate is open, and hold off `close` meanwhile; False once it is closed."""
        with self._changed:
            entered = not self._closed
            self._inside += entered
        try:
            yield entered
        finally:
            if entered:
                with self._changed:
                    self._inside -= 1
                    self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and return when everybody has left: the length of one use."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._inside == 0)
