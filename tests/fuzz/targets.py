"""Every parser that bytes from outside reach, by name."""

from __future__ import annotations

from tests.fuzz import content_targets, edge_targets, log_targets, wire_targets
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*wire_targets.TARGETS, *log_targets.TARGETS, *content_targets.TARGETS, *edge_targets.TARGETS)
}
