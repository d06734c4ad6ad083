"""A folder's retention policy: how long which versions are kept. Signed by an owner, readable without folder keys.

Invariant: durations only ever let versions go that are shown nowhere; without a policy every version is kept.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync.codec.canonical import Record, decode, encode
from meshsync.limits import COUNTER_MAX, POLICY_BYTES_MAX
from meshsync.metalog.fields import Seq, check_version
from meshsync.metalog.membership_entry import SetPolicy

FOREVER = COUNTER_MAX
"""Longer than any age, in seconds."""

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]
_VERSION = 1


class RetentionPolicy(Record, frozen=True):
    """Every version is kept for `all_s` seconds after it was replaced or deleted; of what a file was at the end of each
    hour, day, week and month, for as long as the others say. `floor_s`: what is let go of stays that long at a relay.
    """

    version: Seq = _VERSION
    all_s: _Seconds = FOREVER
    hourly_s: _Seconds = 0
    daily_s: _Seconds = 0
    weekly_s: _Seconds = 0
    monthly_s: _Seconds = 0
    floor_s: _Seconds = 0

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is ever let go of."""
        return self.all_s == FOREVER


def pack_policy(policy: RetentionPolicy) -> bytes:
    """Return the bytes for a `SetPolicy`."""
    return encode(policy)


def open_policy(change: SetPolicy | None) -> RetentionPolicy:
    """Return the policy in force; one that keeps everything where there is none.

    Raises MalformedMessage, or FormatUnsupported for a newer build's: then nothing may be let go of.
    """
    if change is None:
        return RetentionPolicy()
    check_version(change.policy, "retention policy")
    return decode(RetentionPolicy, change.policy, POLICY_BYTES_MAX)
