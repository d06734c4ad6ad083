"""Every error of the product, split by what the caller does next.

An error says what happened, to which device, folder and path, why, and what to do next. The bytes and
the state it speaks of are unchanged when it is raised. Expected outcomes (a conflict, a refused append,
an unreadable file) are values, not errors.
"""

from __future__ import annotations


class MeshsyncError(Exception):
    """Root of all typed errors.

    `what` is one sentence for the user. `device`, `folder` and `path` are display strings, empty where the
    error concerns none. `next_step` is the command or action that helps, empty if there is none.
    """

    exit_code = 1

    def __init__(self, what: str, *, device: str = "", folder: str = "", path: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.device = device
        self.folder = folder
        self.path = path
        self.next_step = next_step

    def __str__(self) -> str:
        where = [
            f"{label} {value}"
            for label, value in (("device", self.device), ("folder", self.folder), ("path", self.path))
            if value
        ]
        text = f"{self.what} ({', '.join(where)})" if where else self.what
        return f"{text}. {self.next_step}" if self.next_step else text


class PeerError(MeshsyncError):
    """The peer broke the protocol: drop the link, do not retry this peer soon."""


class MalformedMessage(PeerError):
    """Bytes that are not a well-formed, canonical, in-bounds message."""


class PeerOverran(PeerError):
    """The peer sent more than it was asked for, or beyond a bound."""


class PeerIdentityMismatch(PeerError):
    """The peer proved another device key than the one expected, or a proof made for another channel."""


class IntegrityError(MeshsyncError):
    """Bytes do not match their id or signature: quarantine them, fetch elsewhere."""

    exit_code = 7


class BlobCorrupt(IntegrityError):
    """Sealed bytes do not hash to their blob id."""


class AuthenticationFailed(IntegrityError):
    """A sealed blob did not open: wrong folder, epoch, kind or key, or altered bytes."""


class ChunkMismatch(IntegrityError):
    """Opened bytes do not hash to the chunk id that was asked for."""


class ManifestMismatch(IntegrityError):
    """A manifest is not a well-formed chunk list of the stated size and depth."""


class SignatureInvalid(IntegrityError):
    """A signature does not verify over the bytes as sent."""


class DecompressionBomb(IntegrityError):
    """A compressed frame declares or produces more bytes than allowed."""


class CommitmentMismatch(IntegrityError):
    """A delivered key does not match the commitment in a signed entry: epoch keys in a rekey, the secret in genesis."""


class TransientError(MeshsyncError):
    """Retry with backoff; nothing is wrong on either side."""

    exit_code = 5


class LinkClosed(TransientError):
    """The link or stream ended before the answer was complete."""


class PeerTimeout(TransientError):
    """The peer did not answer within the deadline."""

    exit_code = 8


class SourceUnavailable(TransientError):
    """No reachable device or relay has a chunk that is needed."""


class ResourceError(MeshsyncError):
    """Disk full, permission, quota: tell the user, wait, go on with the rest."""


class StorageFull(ResourceError):
    """No space left, here or in a quota at the relay."""


class AccessError(MeshsyncError):
    """Not invited, revoked, or the role does not allow it."""


class NotAMember(AccessError):
    """This peer does not know this device."""


class RoleForbids(AccessError):
    """The device's role does not permit the entry or request."""


class PageRefused(AccessError):
    """A request to the local page that its own user did not make from it."""


class TicketInvalid(AccessError):
    """A ticket is malformed, expired, revoked or already used."""


class CodeInvalid(AccessError):
    """A short code is mistyped, wrong, used or expired, or who answers does not know it: ask for a new one."""


class SheetInvalid(AccessError):
    """The words of a recovery sheet are mistyped, or no folder at the relay knows them."""


class KeysLocked(AccessError):
    """This device's keys are sealed with a passphrase that was not given, or is another one."""


class ConfigError(MeshsyncError):
    """The user can fix it: a wrong path, option or address."""

    exit_code = 2


class NotFound(MeshsyncError):
    """The named folder, path, version or device does not exist."""

    exit_code = 3


class AgentNotRunning(MeshsyncError):
    """No agent answers on the socket of this home."""

    exit_code = 4


class TextsClash(MeshsyncError):
    """Two texts changed the same lines differently, or cannot be merged at all: the user decides; all is as it was."""

    exit_code = 6


class IndexCorrupt(IntegrityError):
    """The local index failed its own check; it can be rebuilt from the folder and the log."""


class FormatUnsupported(MeshsyncError):
    """A record, file or wire version that this build does not know. Kept and passed on, never destroyed."""
