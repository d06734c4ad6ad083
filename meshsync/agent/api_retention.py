"""What the local API says of retention: a folder's policy, what waits to be let go of, what a look for it found."""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync.agent.api_schema import Answer, Schema
from meshsync.limits import COUNTER_MAX

Seconds = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]


class Times(Schema, frozen=True, kw_only=True):
    """For how many seconds versions are kept that were replaced or deleted; nil: for ever.

    `all`: every one. `hourly`, `daily`, `weekly`, `monthly`: what a file was at the end of each. `floor`: what is let
    go of stays that long at a relay.
    """

    all: Seconds | None = None
    hourly: Seconds | None = 0
    daily: Seconds | None = 0
    weekly: Seconds | None = 0
    monthly: Seconds | None = 0
    floor: Seconds = 0


class Retiring(Schema, frozen=True, kw_only=True):
    """`versions` that `device` let go of at `relay`; `since` is when this device heard of it."""

    relay: str
    device: str
    versions: int
    since: str


class Retention(Schema, frozen=True, kw_only=True):
    """A folder's policy, and what waits at its relays to be let go of. `may_set`: this device is an owner's."""

    folder: str
    name: str
    keeps: Times
    may_set: bool
    waiting: list[Retiring]


class RetentionList(Answer, frozen=True, kw_only=True):
    """The retention of folders."""

    folders: list[Retention]


class RetentionRequest(Schema, frozen=True, kw_only=True):
    """Keep the versions of `folder` like that from now on."""

    folder: str
    keeps: Times


class CollectRequest(Schema, frozen=True, kw_only=True):
    """Let go now of what the policy of `folder` (empty: of all) keeps no longer; `dry_run`: only say what that is."""

    folder: str = ""
    dry_run: bool = False


class Let(Schema, frozen=True, kw_only=True):
    """What one relay was told: how many `versions` go, or why it was not told."""

    relay: str
    versions: int = 0
    taken_back: int = 0
    problem: str = ""


class Collected(Schema, frozen=True, kw_only=True):
    """What of one folder goes, or would: `versions` of `files` files, `size` bytes as they were; some of the paths.

    `oldest` and `newest`: when the first and the last of them was replaced or deleted, empty without any.
    """

    folder: str
    name: str
    versions: int
    files: int
    size: int
    oldest: str
    newest: str
    paths: list[str]
    relays: list[Let]


class CollectResult(Answer, frozen=True, kw_only=True):
    """What was let go of, or would be, folder by folder; without folders whose versions are all kept."""

    folders: list[Collected]
