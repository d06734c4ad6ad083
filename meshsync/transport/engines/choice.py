"""The engines by name. Invariant: an implementation is imported only when it is chosen."""

from __future__ import annotations

from meshsync.errors import ConfigError
from meshsync.transport.engines.base import EngineFactory


def engine_factory(name: str) -> EngineFactory:
    """Return the factory of "qh3" or "aioquic". Raises ConfigError on another name."""
    if name == "qh3":
        from meshsync.transport.engines.qh3_engine import Qh3Engine

        return Qh3Engine
    if name == "aioquic":
        from meshsync.transport.engines.aioquic_engine import AioquicEngine

        return AioquicEngine
    raise ConfigError(f"there is no QUIC engine {name!r}", next_step="Choose qh3 or aioquic.")
