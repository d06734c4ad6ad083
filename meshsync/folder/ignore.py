"""`.meshignore`: which paths are left alone, in git's pattern language. Invariant: a pure function of the file's bytes
and the path; ignored means *not observed*, never deleted.

Names are bytes; patterns and names are compared as UTF-8 with other bytes escaped (PEP 383), so every name has exactly
one form. A directory that is ignored is not entered, so nothing below it can be included again, as in git.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pathspec import GitIgnoreSpec

from meshsync.folder.names import is_control_name
from meshsync.folder.types import RelativePath
from meshsync.limits import IGNORE_BYTES_MAX, IGNORE_PATTERNS_MAX, IGNORE_STARS_PER_NAME_MAX

IGNORE_NAME: Final = b".meshignore"


@dataclass(frozen=True, slots=True)
class BadPattern:
    """A line (counted from 1) of `.meshignore` that has no effect, and why."""

    line: int
    why: str


class IgnoreRules:
    """The patterns of one folder. `bad` lists the lines that have no effect, for the user to see."""

    def __init__(self, data: bytes = b"") -> None:
        """Take the content of `.meshignore`; empty if there is none. Never raises: a bad line is listed and skipped."""
        self.bad: list[BadPattern] = []
        self._spec = GitIgnoreSpec.from_lines(self._usable(data), backend="simple")
        self._empty = not any(pattern.include is not None for pattern in self._spec.patterns)

    def ignored(self, path: RelativePath, directory: bool) -> bool:
        """Return whether the object at `path`, or a directory above it, is never synced.

        `directory` says what lies at `path`: patterns ending in a slash match directories only.
        """
        if any(map(is_control_name, path)):
            return True
        return not self._empty and any(
            self._matches(path[:depth], directory or depth < len(path)) for depth in range(1, len(path) + 1)
        )

    def ignored_here(self, path: RelativePath, directory: bool) -> bool:
        """Return what `ignored` does, for a caller that knows every directory above `path` not to be ignored."""
        return is_control_name(path[-1]) or (not self._empty and self._matches(path, directory))

    def _matches(self, path: RelativePath, directory: bool) -> bool:
        text = b"/".join(path).decode("utf-8", "surrogateescape")
        return self._spec.match_file(text + "/" if directory else text, separators=())

    def _usable(self, data: bytes) -> list[str]:
        usable: list[str] = []
        if len(data) > IGNORE_BYTES_MAX:
            data = data[: data.rfind(b"\n", 0, IGNORE_BYTES_MAX) + 1]
            self.bad.append(BadPattern(data.count(b"\n") + 1, f"only the first {IGNORE_BYTES_MAX} bytes are read"))
        for number, raw in enumerate(data.split(b"\n"), start=1):
            line = raw.removesuffix(b"\r").decode("utf-8", "surrogateescape")
            if not line.strip() or line.startswith("#"):
                continue
            why = _fault(line) if len(usable) < IGNORE_PATTERNS_MAX else f"over {IGNORE_PATTERNS_MAX} patterns"
            if why:
                self.bad.append(BadPattern(number, why))
            else:
                usable.append(_below(line))
        return usable


def _below(line: str) -> str:
    """Return a pattern equal to `line` that does not match the directory `d` itself if `line` is `d/**`.

    pathspec matches `d/**` with `d/`, git does not. As nothing below an ignored name is entered, `d/*` says the same.
    """
    return line.rstrip()[:-1] if line.rstrip().endswith("/**") else line


def _fault(line: str) -> str:
    """Return why `line` cannot be used as a pattern, empty if it can."""
    names = line.split("/")
    stars = [name.count("*") for name in names if name != "**"]  # each of a run backtracks for itself
    beyond_first = sum(max(0, count - 1) for count in stars)  # a name that matches in n ways is tried n times
    if (
        max(stars, default=0) > IGNORE_STARS_PER_NAME_MAX
        or beyond_first >= IGNORE_STARS_PER_NAME_MAX
        or sum("**" in name for name in names) > IGNORE_STARS_PER_NAME_MAX
    ):
        return f"more than {IGNORE_STARS_PER_NAME_MAX} stars"
    try:
        GitIgnoreSpec.from_lines([line], backend="simple")
    except (ValueError, re.error) as error:
        return str(error)
    return ""
