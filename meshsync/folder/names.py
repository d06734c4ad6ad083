"""Which names a target can hold. Invariant: a name reaches the disk byte for byte or is held with a reason; two
names that the target takes for one never meet.

Bytes that no target may ever see (`/`, NUL, `.`, `..`, the control directory in any disguise) are refused whatever
the target's rules are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshsync.folder.types import Reason, RelativePath
from meshsync.limits import NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX

CONTROL_NAME: Final = b".meshsync"
_PARKED: Final = re.compile(rb"parked-([0-9]{1,9})")

_SHORT_NAME = re.compile(r"^meshsy~[0-9]+$")  # how FAT and NTFS abbreviate the control directory's name
_WINDOWS_CHARACTERS: Final = frozenset(b'<>:"\\|?*') | frozenset(range(1, 32))
_WINDOWS_DEVICES = re.compile(rb"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Held:
    """A name that the target cannot hold, and why. The item waits; nothing is merged or dropped."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class NameRules:
    """What the target was seen to do with names (`probe.name_rules`).

    `folds_case`: `A` and `a` are one name. `folds_unicode`: composed and decomposed forms are one name.
    `utf8_only`: other bytes are refused. `windows`: the characters and device names of Windows are refused.
    """

    folds_case: bool = False
    folds_unicode: bool = False
    utf8_only: bool = False
    windows: bool = False
    name_bytes_max: int = NAME_BYTES_MAX

    @property
    def folds(self) -> bool:
        """Whether two different names may be one there."""
        return self.folds_case or self.folds_unicode

    def key(self, name: bytes) -> bytes:
        """Return what the target compares names by: two names are one there exactly if their keys are equal.

        Where it is not known how a folding target folds, the key folds more, never less.
        """
        if not self.folds:
            return name
        text = name.decode("utf-8", "surrogateescape")
        if self.folds_unicode:
            text = unicodedata.normalize("NFD", text)
        if self.folds_case:
            text = text.casefold()
        if self.folds_unicode:
            text = unicodedata.normalize("NFD", text)
        return text.encode("utf-8", "surrogateescape")

    def place(self, name: bytes, taken: Mapping[bytes, bytes]) -> bytes | Held:
        """Return the name to use on disk for `name`, or why it is held.

        `taken` maps `key` of each name already in the directory to that name. Equal names are no collision.
        """
        reason = refused(name) or self._illegal(name)
        if reason:
            return Held(reason)
        if taken.get(self.key(name), name) != name:
            return Held(Reason.NAME_COLLIDES)
        return name

    def _illegal(self, name: bytes) -> Reason | None:
        if len(name) > self.name_bytes_max:
            return Reason.NAME_TOO_LONG
        if self.utf8_only and not _is_utf8(name):
            return Reason.NAME_ILLEGAL
        if self.windows and (
            not _WINDOWS_CHARACTERS.isdisjoint(name) or name[-1:] in (b".", b" ") or _WINDOWS_DEVICES.match(name)
        ):
            return Reason.NAME_ILLEGAL
        return None


ANY_NAME: Final = NameRules()
"""The rules of a file system that keeps every name as it is."""


def refused(name: bytes) -> Reason | None:
    """Return why `name` may not be a path component on any target, or None."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return Reason.NAME_ILLEGAL
    if len(name) > NAME_BYTES_MAX:
        return Reason.NAME_TOO_LONG
    return Reason.NAME_RESERVED if is_control_name(name) else None


class ParkedPath(tuple[bytes, ...]):
    """A path in the control directory where an object waits for its place. Only `parked_path` makes one."""

    __slots__ = ()


def parked_path(number: int, below: RelativePath = ()) -> ParkedPath:
    """Return the path of the parked object `number` (from 0), or of what is `below` it."""
    return ParkedPath((CONTROL_NAME, b"parked-%d" % number, *below))


def parked_number(name: bytes) -> int | None:
    """Return the number of a parked object by its name in the control directory, None for other names."""
    found = _PARKED.fullmatch(name)
    return int(found[1]) if found else None


def refused_path(path: RelativePath) -> Reason | None:
    """Return why nothing may be written at `path`, or None. The root itself is refused."""
    if not path:
        return Reason.NAME_ILLEGAL
    if len(path) > PATH_DEPTH_MAX or sum(map(len, path)) + len(path) > PATH_BYTES_MAX:
        return Reason.TOO_DEEP
    names = path[1:] if isinstance(path, ParkedPath) else path
    return next(filter(None, map(refused, names)), None)


def is_control_name(name: bytes) -> bool:
    """Return whether some file system could take `name` for the control directory.

    Covers case and compatibility forms, characters that HFS+ ignores, trailing dots and spaces and stream suffixes of
    Windows, and its short names. Source: the checks that git makes for `.git` since CVE-2014-9390.
    """
    if name == CONTROL_NAME:
        return True
    if name.isascii() and name[:1] not in b".mM":
        return False
    text = unicodedata.normalize("NFKD", name.decode("utf-8", "surrogateescape"))
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cf", "Mn"))
    text = unicodedata.normalize("NFKD", text.casefold()).split(":")[0].rstrip(". ")
    return text == CONTROL_NAME.decode() or _SHORT_NAME.match(text) is not None


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
