"""What an errno means for an item. Invariant: every error of the operating system becomes one `Reason`."""

from __future__ import annotations

import errno
from typing import Final

from meshsync.folder.types import Blocked, Problem, Reason, RelativePath

CANNOT: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
"""The kernel or the file system does not offer the call: try the other way."""

ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
NOT_EMPTY: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST})

_REASONS: Final = {
    errno.ENOSPC: Reason.NO_SPACE,
    errno.EDQUOT: Reason.NO_SPACE,
    errno.EACCES: Reason.NO_PERMISSION,
    errno.EPERM: Reason.NO_PERMISSION,
    errno.EROFS: Reason.READ_ONLY,
    errno.EFBIG: Reason.TOO_LARGE,
    errno.ENAMETOOLONG: Reason.NAME_TOO_LONG,
    errno.EILSEQ: Reason.NAME_ILLEGAL,
    errno.EINVAL: Reason.UNSUPPORTED,
    errno.ENOSYS: Reason.UNSUPPORTED,
    errno.EOPNOTSUPP: Reason.UNSUPPORTED,
    errno.ENOTEMPTY: Reason.NOT_EMPTY,
    errno.EOVERFLOW: Reason.TOO_MANY,
    errno.EXDEV: Reason.OTHER_FILE_SYSTEM,
    errno.ELOOP: Reason.LINK_IN_PATH,
    errno.ENOTDIR: Reason.LINK_IN_PATH,
    errno.ENOENT: Reason.PARENT_MISSING,
    errno.EBUSY: Reason.BUSY,
    errno.ETXTBSY: Reason.BUSY,
    errno.EAGAIN: Reason.BUSY,
    errno.EMFILE: Reason.BUSY,
    errno.ENFILE: Reason.BUSY,
}


def reason(error: OSError) -> Reason:
    """Return why the operation failed; IO for anything not in the table."""
    return _REASONS.get(error.errno or 0, Reason.IO)


def blocked(error: OSError) -> Blocked:
    return Blocked(reason(error), error.strerror or "")


def not_observed(path: RelativePath, error: OSError) -> Problem:
    """Return the report for `path`; an object that went away while it was looked at is VANISHED."""
    found = Reason.VANISHED if error.errno in ABSENT | {errno.ELOOP} else reason(error)
    return Problem(path, found, error.strerror or "")
