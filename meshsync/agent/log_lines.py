"""The agent's log. Invariant: one record is one line, so nothing that a peer says looks like another record."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """Formats records with what is unprintable in their messages escaped; only a traceback has lines of its own."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is the library's
        """Return the record as one line of printable characters."""
        return "".join(map(_escaped, super().formatMessage(record)))

    def formatException(self, ei: logging._SysExcInfoType) -> str:  # noqa: N802
        """Return the traceback, of which only its own line ends move the cursor."""
        return "\n".join("".join(map(_escaped, line)) for line in super().formatException(ei).split("\n"))


def begin(level: str) -> None:
    """Write records of `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler])


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
