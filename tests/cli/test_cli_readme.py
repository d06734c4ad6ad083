"""How much one reads and types before two devices and a relay keep a folder equal; real/test_readme.py types it."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
WORDS_MAX = 150


def test_from_nothing_to_a_folder_on_two_devices_and_a_relay_takes_150_words() -> None:
    before, found, _ = README.partition("## Documentation")
    assert found and len(before.split()) <= WORDS_MAX
    typed = [command.split()[:2] for command in re.findall(r"^\w+\$ +(.*)$", before, re.MULTILINE)]
    assert typed == [["meshsync", "share"], ["meshsync", "join"], ["meshsync-relay", "up"], ["meshsync", "up"]]
    assert before.index("pip install") < before.index("PATH") < before.index("$ meshsync")


def test_nothing_is_typed_after_that() -> None:
    _, _, after = README.partition("## Documentation")
    assert re.findall(r"^\w+\$ ", after, re.MULTILINE) == []
