"""When a version of a folder is durable, and whether anybody is still to bring it to a relay. Pure.

Invariant: what is owed can be done by somebody: a version that is shown nowhere, and whose author is no member any
more, is owed by nobody, and is reported as not kept unless a relay has it.
"""

from __future__ import annotations


def relays_needed(relays: int) -> int:
    """Return how many of a folder's `relays` must have acknowledged a version before it counts as durable."""
    return min(1, relays)


def is_owed(*, author_remains: bool, counts: bool, shown: bool) -> bool:
    """Whether somebody is to bring a version to a relay, or to declare it gone.

    `author_remains`: its author is a member who may do either, and is not ended by a pin. `counts`: its entry is not in
    quarantine. `shown`: its content is in the folder now, so that every member has it or fetches it.
    """
    return counts and (author_remains or shown)
