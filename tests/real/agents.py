"""Real agents and a real relay on the hosts of a LAN, driven by typing commands."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.netns import Host, Lan
from tests.real.trees import compare_trees

BIN = Path(sys.executable).parent
SETTLE_TIMEOUT_S = 500.0


@dataclass(frozen=True)
class Agent:
    """The agent on one host: its home and its copy of the shared folder."""

    host: Host
    home: Path
    tree: Path

    def __call__(self, *words: str, timeout_s: float = SETTLE_TIMEOUT_S) -> dict[str, Any]:
        """Type a command on this host, which must succeed; return its JSON."""
        line = (str(BIN / "meshsync"), *words, "--home", str(self.home), "--json")
        answer = self.host.json(*line, timeout_s=timeout_s)
        assert isinstance(answer, dict)
        return answer


def start_relay(lan: Lan, directory: Path) -> str:
    """Start a relay on the host `relay`; return the address that agents are given."""
    words = ("up", "--data", str(directory / "relay"), "--listen", f"{lan['relay'].address}:4433", "--json")
    pipe = lan.start("relay", str(BIN / "meshsync-relay"), *words, log=directory / "relay.log")
    ready = json.loads(pipe.readline())
    invitation = str(ready["invitation"])
    return invitation if "://" in invitation else f"{ready['address']}#{invitation}"


def start_agent(lan: Lan, name: str, directory: Path, *options: str) -> Agent:
    """Start an agent on the host `name`."""
    agent = Agent(lan[name], directory / name, directory / "trees" / name)
    agent("up", "--name", name, *options)
    return agent


def settle(agents: list[Agent], *, durable: bool = False) -> None:
    """Return when all agents are in sync and their trees are equal; fail with the differences otherwise."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    for agent in agents:
        agent("rescan")
    while True:
        for agent in agents:
            agent("wait", "--timeout", str(SETTLE_TIMEOUT_S), *(["--durable"] if durable else []))
        differences = [found for agent in agents[1:] for found in compare_trees(agents[0].tree, agent.tree)]
        if not differences:
            return
        assert time.monotonic() < deadline, differences


def until(agent: Agent, reached: Callable[[], bool]) -> None:
    """Return when `reached` holds, letting `agent` work; fail after SETTLE_TIMEOUT_S."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not reached():
        agent("wait", "--timeout", str(SETTLE_TIMEOUT_S))
        assert time.monotonic() < deadline, agent("status")
