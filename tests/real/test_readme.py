"""The README's commands, typed as they stand there on machines of their own, show what the README says they show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.real.agents import BIN
from tests.real.netns import Host, Lan
from tests.real.trees import compare_trees
from tests.support.real_mesh import until

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
CODE = r"[0-9]+(?:-[a-z]+){3}"
ADDRESS = r"quic://\S+#[^\s']+"
ANY = (CODE, ADDRESS, r"[0-9][0-9.]*", r"[KMGT]?i?B")  # what differs from the README's example
README = (Path(__file__).parents[2] / "README.md").read_text()


def steps() -> list[tuple[str, str, str]]:
    """Return (host, command, the words that it shows) of each `host$ command` in the README, in its order."""
    found = re.findall(r"^(\w+)\$ +(\S.*)\n((?: {8}.*\n)*)", README, re.MULTILINE)
    return [(host, command.partition("  ")[0], shown.strip()) for host, command, shown in found]


def at_home(host: Host, directory: Path, line: str) -> list[str]:
    """Return the words by which the user of `host`, whose home is below `directory`, types `line`.

    A namespace of its own for the host's name, so that the agent is called as the host is.
    """
    where = ["env", f"HOME={directory / host.name}", f"PATH={BIN}:/usr/sbin:/usr/bin:/sbin:/bin"]
    return [*where, "unshare", "--uts", "sh", "-c", f"hostname {host.name}; {line}"]


def pattern(shown: str) -> str:
    """Return what a screen must show: the words of the README, with any code, numbers, units of size and blanks."""
    words = [next((form for form in ANY if re.fullmatch(form, word)), re.escape(word)) for word in shown.split()]
    return r"\s+".join(words)


class Reader:
    """Somebody who types what the README says, with the code and the relay's line that the screens showed."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self.lan = lan
        self.directory = directory
        self.read = {CODE: "", ADDRESS: ""}

    def follows(self, host: str, command: str, shown: str) -> None:
        line = self.filled(command)
        if command == "meshsync-relay up":
            words = at_home(self.lan[host], self.directory, f"exec {line}")
            screen = self.lan.start(host, *words, log=self.directory / "relay.log").readline()
        else:
            screen = self.asks(host, line)
        assert re.search(pattern(shown), screen), (command, shown, screen)
        for form in self.read:
            found = re.search(form, screen)
            self.read[form] = found[0] if found else self.read[form]

    def filled(self, command: str) -> str:
        for form, value in self.read.items():
            if re.search(form, command):
                assert value, f"{command}: no screen has shown this yet"
                command = re.sub(form, value, command)
        return command

    def asks(self, host: str, line: str) -> str:
        done = self.lan[host].run(*at_home(self.lan[host], self.directory, line))
        assert done.returncode == 0, (host, line, done.stdout, done.stderr)
        return done.stdout


def test_who_follows_the_readme_gets_what_it_shows_and_a_folder_that_the_relay_has_too(
    lan: Lan, tmp_path: Path
) -> None:
    reader = Reader(lan, tmp_path)
    laptop, desk = (tmp_path / name / "Docs" for name in ("laptop", "desk"))
    laptop.mkdir(parents=True)
    for name in ("desk", "relay"):
        (tmp_path / name).mkdir()
    (laptop / "plan.txt").write_text("Tuesday at nine\n")
    lan["relay"].run("ip", "route", "add", "default", "dev", "eth0")  # as a machine of a network has it
    hosts = []
    for host, command, shown in steps():
        reader.follows(host, command, shown)
        hosts.append(host)
    assert {"laptop", "desk", "relay"} == set(hosts)
    reader.asks("laptop", "meshsync wait --durable")
    (folder,) = json.loads(reader.asks("laptop", "meshsync status --json"))["folders"]
    assert folder["not_durable"] == 0
    (tmp_path / "desk" / "Docs" / "answer.txt").write_text("fine\n")
    until(
        lambda: (laptop / "answer.txt").is_file() and compare_trees(laptop, desk) == [],
        lambda: reader.asks("desk", "meshsync status"),
    )
