"""Three agents and a relay, each with its own network stack. Nobody is given an address but the relay's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.agents import Agent, settle, start_agent, start_relay, until
from tests.real.netns import Lan
from tests.real.trees import compare_trees, small_files, standard_library

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
NAMES = ("laptop", "desk", "phone")


def pair(inviter: Agent, newcomers: list[Agent]) -> None:
    for newcomer in newcomers:
        ticket = inviter("share", str(inviter.tree))["ticket"]
        newcomer("join", ticket, str(newcomer.tree))


@pytest.fixture
def agents(lan: Lan, tmp_path: Path) -> Iterator[list[Agent]]:
    relay = start_relay(lan, tmp_path)
    made = [start_agent(lan, name, tmp_path, "--relay", relay) for name in NAMES]
    standard_library(made[0].tree)
    pair(made[0], made[1:])
    yield made
    for agent in made:
        agent("down")


def test_a_real_tree_arrives_everywhere_and_is_durable(agents: list[Agent]) -> None:
    settle(agents, durable=True)
    status = agents[1]("status")
    assert status["idle"] and status["folders"][0]["not_durable"] == 0
    assert {device["path"] for device in status["devices"]} == {"lan"}, "devices on one LAN find each other"


def test_edits_on_all_three_meet(agents: list[Agent]) -> None:
    settle(agents)
    for agent in agents:
        small_files(agent.tree / f"from {agent.host.name}", count=100)
    (agents[0].tree / "os.py").write_text("edited")
    (agents[1].tree / "json").rename(agents[1].tree / "renamed json")
    (agents[2].tree / "run.sh").chmod(0o644)
    settle(agents, durable=True)
    tree = agents[2].tree
    assert (tree / "os.py").read_text() == "edited"
    assert (tree / "renamed json/decoder.py").exists() and not (tree / "json").exists()
    assert (agents[0].tree / "run.sh").stat().st_mode & 0o111 == 0


def test_a_device_that_was_unplugged_catches_up(lan: Lan, agents: list[Agent]) -> None:
    settle(agents)
    lan.unplug("phone")
    (agents[0].tree / "while away").write_text("from the laptop")
    (agents[2].tree / "alone").write_text("from the phone")
    settle(agents[:2])
    lan.plug("phone")
    settle(agents)
    assert (agents[2].tree / "while away").read_text() == "from the laptop"
    assert (agents[0].tree / "alone").read_text() == "from the phone"


def test_devices_that_are_never_on_together_meet_through_the_relay(lan: Lan, agents: list[Agent]) -> None:
    settle(agents, durable=True)
    lan.unplug("desk")
    (agents[0].tree / "letter").write_text("read this")
    settle([agents[0], agents[2]], durable=True)
    lan.unplug("laptop")
    lan.unplug("phone")
    lan.plug("desk")
    target = agents[1].tree / "letter"
    until(agents[1], target.exists)
    assert target.read_text() == "read this"
    lan.plug("laptop")
    settle(agents[:2])


def test_a_lan_without_a_relay_is_enough(lan: Lan, tmp_path: Path) -> None:
    made = [start_agent(lan, name, tmp_path) for name in NAMES]
    small_files(made[0].tree, count=200)
    pair(made[0], made[1:])
    settle(made)
    assert compare_trees(made[0].tree, made[2].tree) == []
    for agent in made:
        agent("down")
