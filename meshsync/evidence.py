"""Checks an evidence file off-line: `python -m meshsync.evidence FILE`.

Invariant: rests on nothing but the file's own bytes; it takes no key, clock, network or agent, and changes nothing.
Exit codes: 0 the file proves what is printed, 7 it proves nothing, 3 it cannot be read, 2 wrong usage.
"""

from __future__ import annotations

import sys

from meshsync.errors import MeshsyncError
from meshsync.limits import EVIDENCE_BYTES_MAX
from meshsync.metalog.evidence import Fault, Proven, verify_evidence

USAGE = "Usage: python -m meshsync.evidence FILE"


def describe(proven: Proven) -> str:
    """Return in words what is proven; ids in full, so that they can be compared with those that a device shows."""
    relay, folder = proven.relay.hex(), proven.folder.hex()
    first, second = proven.first, proven.second
    if proven.fault is Fault.ROLLBACK:
        did = (
            f"signed a log of {second.index} records in answer to its own signed log of {first.index} records:\n"
            "it went back behind what it had acknowledged"
        )
    else:
        did = (
            f"signed two logs that differ within their first {first.index} records\n"
            f"(one of {first.index} records, one of {second.index}): it left out, added, altered or reordered records"
        )
    return f"This file proves that the relay {relay}\nof the folder {folder}\n{did}."


def main(arguments: list[str]) -> int:
    """Check the one file named; print what it proves, or why it proves nothing. Returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as file:  # noqa: PTH123 - a pure floor: nothing that could do more with a path
            data = file.read(EVIDENCE_BYTES_MAX + 1)
    except OSError as error:
        print(f"Error: {arguments[0]} cannot be read: {error.strerror}", file=sys.stderr)
        return 3
    try:
        proven = verify_evidence(data)
    except MeshsyncError as error:
        print(f"This file proves nothing: {error}", file=sys.stderr)
        return 7
    print(describe(proven))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
