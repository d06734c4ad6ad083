"""What the target does with names, found by trying in the staging area. Invariant: leaves nothing behind.

A root may lie on any mounted file system, so its rules are observed, not guessed from its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshsync.errors import ResourceError
from meshsync.folder.names import NameRules
from meshsync.folder.staging import Staging
from meshsync.folder.swap import status_or_none
from meshsync.limits import NAME_BYTES_MAX

_UPPER: Final = b"PROBE"
_COMPOSED: Final = "\u00e9".encode()
_DECOMPOSED: Final = "e\u0301".encode()
_NOT_UTF8: Final = b"\xff\xfe"
_WINDOWS_ILLEGAL: Final = b"a:b?"


def name_rules(staging: Staging) -> NameRules:
    """Return the rules of the file system that holds `staging`. Raises ResourceError if nothing can be made there."""
    probe = _Probe(staging)
    if not probe.holds(b"plain"):
        raise ResourceError("no file can be made in the folder's control directory")
    return NameRules(
        folds_case=probe.same(_UPPER, _UPPER.lower()),
        folds_unicode=probe.same(_COMPOSED, _DECOMPOSED),
        utf8_only=not probe.holds(_NOT_UTF8),
        windows=not probe.holds(_WINDOWS_ILLEGAL),
        name_bytes_max=staging.syscalls.name_bytes_max(staging.fd) or NAME_BYTES_MAX,
    )


class _Probe:
    def __init__(self, staging: Staging) -> None:
        self._staging, self._syscalls = staging, staging.syscalls
        self._prefix = b"probe-" + staging.token()

    def holds(self, suffix: bytes) -> bool:
        """Return whether a file with `suffix` in its name can be made and is listed by that very name."""
        return self._make(suffix, lambda name: name in self._syscalls.names(self._staging.fd))

    def same(self, suffix: bytes, other: bytes) -> bool:
        """Return whether a file made with one suffix is found by the other."""
        return self._make(
            suffix, lambda _: status_or_none(self._syscalls, self._staging.fd, self._prefix + other) is not None
        )

    def _make(self, suffix: bytes, question: Callable[[bytes], bool]) -> bool:
        """Ask `question` while the file is there; False if it cannot be made."""
        name = self._prefix + suffix
        try:
            fd = self._syscalls.create(self._staging.fd, name)
        except OSError:
            return False
        self._syscalls.close(fd)
        try:
            return question(name)
        finally:
            self._syscalls.unlink(self._staging.fd, name)
