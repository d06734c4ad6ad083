"""The options of `meshsync up` that outlive a restart, as `config.toml` in the home.

Invariant: what the user wrote into the file beside our keys, comments included, is still there after we write it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from meshsync.errors import ConfigError, ResourceError
from meshsync.limits import CONFIG_BYTES_MAX, RELAYS_MAX
from meshsync.store.files import SystemFiles

ENGINES = ("qh3", "aioquic")


@dataclass(frozen=True, slots=True)
class Config:
    """What an agent is started with. Empty means the default: the host's name, any port, the first engine."""

    name: str = ""
    listen: str = ""
    relays: tuple[str, ...] = ()
    discovery: bool = True
    engine: str = ""
    person: str = ""

    def arguments(self) -> list[str]:
        """Return the options of `python -m meshsync.agent` that say the same, but for what the agent reads itself.

        Relays are not among them: an address carries its invitation, and every user can read a command line.
        """
        pairs = (
            ("--name", self.name),
            ("--listen", self.listen),
            ("--engine", self.engine),
            ("--person", self.person),
        )
        words = [word for option, value in pairs if value for word in (option, value)]
        return words if self.discovery else [*words, "--no-discovery"]


def load(path: Path) -> Config:
    """Return what the file at `path` says; the defaults if there is none. Raises ConfigError naming the wrong key."""
    document = _parse(path)
    relays = document.get("relays", [])
    if not isinstance(relays, list) or len(relays) > RELAYS_MAX:
        raise ConfigError(f"relays is not a list of at most {RELAYS_MAX} addresses", path=str(path))
    engine = _text(document.get("engine", ""), "engine", path)
    if engine not in ("", *ENGINES):
        raise ConfigError(f"engine is none of {', '.join(ENGINES)}", path=str(path))
    return Config(
        name=_text(document.get("name", ""), "name", path),
        listen=_text(document.get("listen", ""), "listen", path),
        relays=tuple(_text(relay, "relays", path) for relay in relays),
        discovery=_flag(document.get("discovery", True), "discovery", path),
        engine=engine,
        person=_text(document.get("person", ""), "person", path),
    )


def save(path: Path, config: Config) -> None:
    """Write `config` to `path` (mode 0600, because a relay's address carries its invitation). Replaces it whole."""
    document = _parse(path)
    values = {"name": config.name, "listen": config.listen, "engine": config.engine, "person": config.person}
    for key, value in values.items():
        if value:
            document[key] = value
    document["relays"] = list(config.relays)
    document["discovery"] = config.discovery
    try:
        _replace(path, tomlkit.dumps(document).encode("utf-8"))
    except OSError as error:
        raise ResourceError(f"cannot write the configuration: {error.strerror}", path=str(path)) from error


def _replace(path: Path, data: bytes) -> None:
    """Give `path` the content `data`: after a crash it has the old or the new content, whole."""
    files = SystemFiles()
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)  # left by a crash
    descriptor = files.create(temporary)
    try:
        files.write(descriptor, 0, [data])
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    files.sync_directory(path.parent)


def _parse(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", path=str(path)) from error
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError(f"the configuration exceeds {CONFIG_BYTES_MAX} bytes", path=str(path))
    try:
        return tomlkit.parse(data.decode("utf-8"))
    except (TOMLKitError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the configuration is not TOML: {error}", path=str(path)) from error


def _text(value: object, key: str, path: Path) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} is not text", path=str(path))
    return str(value)


def _flag(value: object, key: str, path: Path) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is neither true nor false", path=str(path))
    return bool(value)
