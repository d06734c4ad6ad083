"""Errors as problem+json (RFC 9457), so that a script can branch on them and a person can act on them.

Invariant: the HTTP status and the exit code of an error are functions of its class alone.
"""

from __future__ import annotations

import re

from meshsync.agent.api_schema import Problem
from meshsync.errors import (
    AccessError,
    AgentNotRunning,
    ConfigError,
    FormatUnsupported,
    IntegrityError,
    MeshsyncError,
    NotFound,
    PeerError,
    PeerTimeout,
    ResourceError,
    TextsClash,
    TransientError,
)

_STATUS: tuple[tuple[type[MeshsyncError], int], ...] = (  # the first class that fits decides
    (NotFound, 404),
    (TextsClash, 409),
    (ConfigError, 400),
    (AccessError, 403),
    (PeerTimeout, 504),
    (TransientError, 503),
    (AgentNotRunning, 503),
    (ResourceError, 507),
    (PeerError, 502),
    (FormatUnsupported, 501),
    (IntegrityError, 500),
    (MeshsyncError, 500),
)


def http_status(error: MeshsyncError) -> int:
    """Return the HTTP status for `error`."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def problem_of(error: MeshsyncError) -> Problem:
    """Return `error` as a problem."""
    code = type(error).__name__
    return Problem(
        type=f"urn:meshsync:error:{code}",
        title=re.sub(r"(?<=[a-z])(?=[A-Z])", " ", code).lower(),
        status=http_status(error),
        detail=error.what,
        code=code,
        exit_code=error.exit_code,
        next=error.next_step,
        why=cause(error),
        device=error.device,
        folder=error.folder,
        path=error.path,
    )


def cause(error: MeshsyncError) -> str:
    """Return why `error` happened in words that a person can use, the system's or a typed error's, or nothing."""
    if isinstance(error.__cause__, OSError):
        return error.__cause__.strerror or str(error.__cause__)
    return str(error.__cause__) if isinstance(error.__cause__, MeshsyncError) else ""
