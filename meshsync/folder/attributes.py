"""Mode bits: the exec bit is synced, everything else stays the target's own.

Invariant: content that came from another device never carries set-user-id, set-group-id or sticky bits, and a new
file has no bit that the process's umask forbids.
"""

from __future__ import annotations

import os
import re
import stat as modes
from pathlib import Path
from typing import Final

_EXECUTE: Final = 0o111
_FILE_MODE: Final = 0o666
_DIRECTORY_MODE: Final = 0o777


def umask() -> int:
    """Return the process's umask without changing it where the system tells it (Linux)."""
    try:
        found = re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def executable(mode: int) -> bool:
    """Return whether a file with `mode` counts as executable: its owner may execute it."""
    return bool(mode & modes.S_IXUSR)


def file_mode(wanted: bool, mask: int, existing: int | None) -> int:
    """Return the permission bits of a file whose exec bit is `wanted`.

    `existing` is the mode of the file that it replaces, whose other bits stay. Execution is given to whom the file
    gives reading, as `chmod +x` with a matching umask does.
    """
    base = (_FILE_MODE & ~mask) if existing is None else existing & 0o777
    if existing is not None and executable(existing) == wanted:
        return base
    return base | modes.S_IXUSR | ((base >> 2) & _EXECUTE & ~mask) if wanted else base & ~_EXECUTE


def directory_mode(mask: int) -> int:
    return _DIRECTORY_MODE & ~mask
