"""The agent's counters as OpenMetrics text.

Invariant: labels hold ids and fixed words only, never a path or a name that a user or a peer chose.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsync.agent.api_schema import Stats, Status

_COUNTERS = (
    ("content_bytes_fetched", "Plaintext bytes that arrived and passed their check."),
    ("content_bytes_served", "Plaintext bytes sent to other devices and relays."),
    ("chunks_fetched", "Chunks that arrived and passed their check."),
    ("chunks_damaged", "Chunks that failed their check and were asked for again."),
    ("chunks_reused", "Chunks found on this device instead of fetched."),
    ("entries_published", "Log entries signed by this device."),
    ("entries_received", "Log entries of other devices accepted."),
)


def render(status: Status, stats: Stats) -> str:
    """Return `status` and `stats` in the OpenMetrics 1.0 text format."""
    lines = [*_gauges(status), *_counters(stats), "# EOF", ""]
    return "\n".join(lines)


def _gauges(status: Status) -> Iterable[str]:
    linked = sum(device.path != "offline" for device in status.devices)
    yield from _family("meshsync_idle", "gauge", "1 if there is nothing left to do.", [("", int(status.idle))])
    yield from _family("meshsync_devices_linked", "gauge", "Devices with a link now.", [("", linked)])
    for name, text in (("files", "Files in the folder."), ("bytes", "Bytes in the folder.")):
        samples = [(f'{{folder="{folder.id}"}}', getattr(folder, name)) for folder in status.folders]
        yield from _family(f"meshsync_folder_{name}", "gauge", text, samples)
    waiting = [(f'{{folder="{folder.id}"}}', folder.not_durable) for folder in status.folders]
    yield from _family("meshsync_folder_not_durable", "gauge", "Versions without a relay receipt.", waiting)


def _counters(stats: Stats) -> Iterable[str]:
    for name, text in _COUNTERS:
        yield from _family(f"meshsync_{name}", "counter", text, [("_total", getattr(stats, name))])
    for way in ("received", "sent"):
        samples = [(f'_total{{link="{kind}"}}', getattr(count, way)) for kind, count in sorted(stats.links.items())]
        yield from _family(f"meshsync_link_bytes_{way}", "counter", f"Bytes {way} on the wire.", samples)


def _family(name: str, kind: str, text: str, samples: list[tuple[str, int]]) -> Iterable[str]:
    yield f"# TYPE {name} {kind}"
    yield f"# HELP {name} {text}"
    for suffix, value in samples:
        yield f"{name}{suffix} {value}"
