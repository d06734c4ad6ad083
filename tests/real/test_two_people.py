"""Two people, three devices and a relay, from nothing: what they type, read and have in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.trees import compare_trees
from tests.support.real_mesh import until
from tests.support.typing_people import Desks, Machine, told

pytestmark = pytest.mark.slow
COMMANDS_MAX = 3
CODE = r"meshsync join [1-9][0-9]{0,3}(-[a-z]{3,8}){3}(?=\s)"


def docs(device: Machine) -> Path:
    return device.home / "Docs"


def in_sync(device: Machine) -> bool:
    status = json.loads(device.asks("meshsync status --json"))
    return [folder["state"] for folder in status["folders"]] == ["in sync"]


def all_have(desks: Desks, name: str, text: str) -> None:
    """Return when every device has the file, is in sync and has the same tree."""

    def reached() -> bool:
        files = [docs(device) / name for device in desks.devices]
        return (
            all(file.is_file() and file.read_text() == text for file in files)
            and all(in_sync(device) for device in desks.devices)
            and different(desks) == []
        )

    until(reached, lambda: [different(desks), *(device.asks("meshsync status") for device in desks.devices)])


def different(desks: Desks) -> list[str]:
    return [found for other in desks.devices[1:] for found in compare_trees(docs(desks.laptop), docs(other))]


def test_a_folder_is_shared_by_spoken_codes_with_at_most_three_commands_typed_on_each_device(tmp_path: Path) -> None:
    with Desks(tmp_path) as desks:
        docs(desks.laptop).mkdir()
        (docs(desks.laptop) / "plan.txt").write_text("Tuesday at nine\n")
        up = desks.relay_up()
        for device, person in ((desks.laptop, "Anna"), (desks.desktop, "Anna"), (desks.notebook, "Ben")):
            assert f"Agent running as '{device.name}'. Relay: connected" in device.types(f"{up} --person {person}")
        for other in (desks.desktop, desks.notebook):
            join = told(desks.laptop.types("meshsync share ~/Docs"), CODE)
            shown = other.types(join)
            assert shown == "Paired with 'laptop' through the relay. Docs: 1 files, 16 B -> ~/Docs\n"
            assert (docs(other) / "plan.txt").read_bytes() == b"Tuesday at nine\n"
        all_have(desks, "plan.txt", "Tuesday at nine\n")
        for author in desks.devices:  # whoever of them writes, all have it
            (docs(author) / f"from {author.name}").write_text(author.name)
            all_have(desks, f"from {author.name}", author.name)
        assert {device.name: len(device.typed) for device in desks.devices} == {
            "laptop": COMMANDS_MAX,
            "desktop": COMMANDS_MAX - 1,
            "notebook": COMMANDS_MAX - 1,
        }
        assert desks.relay.typed == ["meshsync-relay up"]
        members = json.loads(desks.notebook.asks("meshsync members Docs --json"))["members"]
        whose = sorted((member["name"], member["person"]) for member in members)
        assert whose == [("desktop", "Anna"), ("laptop", "Anna"), ("notebook", "Ben")]
