"""A relay's settings and the few files beside its stores: device key and invitations, readable by its user only.

Invariant: the device key, once made, is never replaced; whoever holds it is the relay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshsync.crypto.identity import SEED_SIZE_BYTES, DeviceKeys
from meshsync.errors import ConfigError
from meshsync.limits import RELAY_FOLDER_BYTES_MAX, RELAY_GRACE_S, RELAY_INVITATIONS_MAX
from meshsync.runtime import Runtime
from meshsync.store.files import Files, make_directory, write_atomic
from meshsync.wire.relay_address import SECRET_SIZE_BYTES

DEFAULT_LISTEN = "0.0.0.0:4433"


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """`data`: directory of everything. `listen`: "host:port", numeric. `advertise`: "host" or "host:port" that devices
    are told, empty for the address listened at. `folder_bytes_max`: quota of a new folder in bytes. `grace_s`: for how
    many seconds of running what owners let go of is kept at least."""

    data: Path
    listen: str = DEFAULT_LISTEN
    advertise: str = ""
    engine: str = "qh3"
    folder_bytes_max: int = RELAY_FOLDER_BYTES_MAX
    grace_s: int = RELAY_GRACE_S

    @property
    def log_path(self) -> Path:
        """The metadata log's file."""
        return self.data / "log.sqlite"

    @property
    def chunks_path(self) -> Path:
        """The directory of pack files."""
        return self.data / "chunks"

    @property
    def key_path(self) -> Path:
        """The relay's device key."""
        return self.data / "device.key"

    @property
    def invitations_path(self) -> Path:
        """The invitations in force."""
        return self.data / "invitations"


def load_keys(config: RelayConfig, files: Files, runtime: Runtime) -> DeviceKeys:
    """Return the relay's keys, made at the first start. Raises ConfigError for a file that is no key, ResourceError."""
    path = config.key_path
    make_directory(files, config.data)
    if not path.exists():
        write_atomic(files, path, runtime.random_bytes(SEED_SIZE_BYTES))
    return DeviceKeys(path.read_bytes())


def load_invitations(config: RelayConfig) -> list[bytes]:
    """Return the secrets in force, oldest first; none if there is no file. Raises ConfigError for a damaged file."""
    path = config.invitations_path
    try:
        lines = path.read_text("ascii").split() if path.exists() else []
        secrets = [bytes.fromhex(line) for line in lines]
    except ValueError as error:
        raise ConfigError("the file of invitations is damaged", path=str(path), next_step="Remove it") from error
    if any(len(secret) != SECRET_SIZE_BYTES for secret in secrets):
        raise ConfigError("the file of invitations is damaged", path=str(path), next_step="Remove it")
    return secrets


def make_invitation(config: RelayConfig, files: Files, runtime: Runtime, *, revoke_others: bool = False) -> bytes:
    """Add an invitation and return its secret, 16 bytes; a running relay takes it at once.

    With `revoke_others` only the new one is in force. Raises ConfigError beyond RELAY_INVITATIONS_MAX, ResourceError.
    """
    secrets = [] if revoke_others else load_invitations(config)
    if len(secrets) >= RELAY_INVITATIONS_MAX:
        raise ConfigError("too many invitations are in force", next_step="Use --revoke-others")
    secrets.append(runtime.random_bytes(SECRET_SIZE_BYTES))
    write_atomic(files, config.invitations_path, "".join(secret.hex() + "\n" for secret in secrets).encode())
    return secrets[-1]
