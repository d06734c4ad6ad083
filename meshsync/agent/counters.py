"""Counters since the agent started, for `stats` and for judging what an action cost."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """All in bytes or numbers. `ended_links`: bytes (received, sent) of links that ended, by kind of path."""

    content_bytes_fetched: int = 0
    content_bytes_served: int = 0
    chunks_fetched: int = 0
    chunks_damaged: int = 0
    chunks_reused: int = 0
    entries_published: int = 0
    entries_received: int = 0
    dedup_bytes: int = 0
    delta_bytes: int = 0
    ended_links: dict[str, tuple[int, int]] = field(default_factory=dict)

    def link_ended(self, path: str, received: int, sent: int) -> None:
        """Add the bytes of a link that ended."""
        before = self.ended_links.get(path, (0, 0))
        self.ended_links[path] = (before[0] + received, before[1] + sent)
