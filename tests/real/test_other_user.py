"""Another user of the same machine neither asks an agent nor stands in for one."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.home import Home
from meshsync.content.recovery_sheet import sheet_words
from meshsync.ids import DeviceId
from meshsync.wire.relay_address import RelayAddress
from tests.support.other_user import USER, StandIn, asks, require_root
from tests.support.real_mesh import BIN, COMMAND_TIMEOUT_S, Device, Mesh, clean_environment

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
WORDS = "canyon-ribbon-orbit"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user of the machine may enter and write to, as /tmp is."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="meshsync-users-") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.fixture
def device(shared: Path) -> Iterator[Device]:
    with Mesh(shared) as mesh:
        yield mesh.add("laptop")


class TestItAsksTheAgent:
    """Each of the three walls holds without the others, and the agent's own user is answered all along."""

    def test_the_home_keeps_it_out_whatever_the_sockets_mode(self, device: Device) -> None:
        device.home.socket.chmod(0o666)
        assert asks(device.home.socket) == "refused"
        assert device.status()["device"]["name"] == "laptop"

    def test_the_sockets_mode_keeps_it_out_of_an_open_home(self, device: Device) -> None:
        device.home.path.chmod(0o755)
        assert asks(device.home.socket) == "refused"
        assert device.status()["device"]["name"] == "laptop"

    def test_where_modes_do_not_count_it_is_cut_off_unread(self, device: Device) -> None:
        device.home.path.chmod(0o755)
        device.home.socket.chmod(0o666)
        assert asks(device.home.socket) == "cut off"
        assert device.status()["device"]["name"] == "laptop"

    def test_a_name_of_its_own_for_the_socket_opens_nothing(self, device: Device, shared: Path) -> None:
        (shared / "link").symlink_to(device.home.socket)
        os.link(device.home.socket, shared / "name")  # the owner gave the socket a name outside the home
        assert asks(shared / "link") == "refused"
        assert asks(shared / "name") == "refused"

    def test_an_agent_has_no_other_socket_for_commands(self, device: Device) -> None:
        assert listening(device.pid) == [str(device.home.socket)]


class TestItStandsInForTheAgent:
    """Where a home's path is too long its socket lies in a directory under /tmp, which anybody may make first."""

    def test_it_is_told_nothing_and_believed_nothing(self, shared: Path) -> None:
        home, environment = far_home(shared)
        relay = RelayAddress("relay.example", 4433, DeviceId(bytes(32)), bytes(16)).text
        with StandIn(socket_of(home, shared), shared / "heard") as enemy:
            for words in (
                ("join", f"7-{WORDS}"),
                ("share", str(shared)),
                ("recover", *sheet_words(bytes(32)), "--relay", relay),
                ("status",),
                ("up",),
                ("down",),
            ):
                done = subprocess.run(
                    [str(BIN / "meshsync"), *words], capture_output=True, text=True, env=environment, check=False
                )
                assert (done.returncode, done.stdout) == (2, ""), (words, done.stdout, done.stderr)
                assert re.search("belongs to another user|not a directory of this user", done.stderr), words
            assert enemy.heard() == b""
            assert asks_anyway(socket_of(home, shared)).startswith(b"HTTP/1.1 200")  # who asks is answered
            assert enemy.heard() == b"a secret"

    def test_no_agent_is_started_in_a_directory_of_another_user(self, shared: Path) -> None:
        home, environment = far_home(shared)
        directory = socket_of(home, shared).parent
        directory.mkdir()
        os.chown(directory, USER, USER)
        assert refused(environment) == "the state directory is not a directory of this user"
        directory.rmdir()
        (shared / "mine").mkdir()
        directory.symlink_to(shared / "mine")
        os.chown(directory, USER, USER, follow_symlinks=False)
        assert refused(environment) == "the state directory is not a directory of this user"
        assert list((shared / "mine").iterdir()) == []


def far_home(shared: Path) -> tuple[Path, dict[str, str]]:
    """Return a home with too long a path for a socket, and the environment of its user."""
    home = shared / ("h" * 120)
    inherited = {name: value for name, value in clean_environment().items() if not name.startswith("XDG_")}
    return home, inherited | {"MESHSYNC_HOME": str(home), "TMPDIR": str(shared), "MESHSYNC_UP_LISTEN": "127.0.0.1:0"}


def socket_of(home: Path, shared: Path) -> Path:
    """Return where the socket of `home` lies for a user whose temporary directory is `shared`."""
    return shared / f"meshsync-{os.getuid()}" / Home(home).socket.name


def refused(environment: dict[str, str]) -> str:
    """Try to start an agent, which must not be done; return why."""
    line = [str(BIN / "meshsync"), "up", "--no-discovery", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, ""), (done.stdout, done.stderr)
    return str(json.loads(done.stderr)["detail"])


def asks_anyway(path: Path) -> bytes:
    """Ask at a socket without caring whose it is, and return what comes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(COMMAND_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"a secret")
        return connection.recv(100)


def listening(pid: int) -> list[str]:
    """Return where a process takes connections: paths of Unix sockets, abstract ones too, and TCP addresses."""
    links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    unix = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    accepting = [fields for fields in unix if fields[6] in own and int(fields[3], 16) & 0x10000]
    tcp = [line.split() for name in ("tcp", "tcp6") for line in tcp_lines(pid, name)]
    return [
        *(fields[7] if len(fields) > 7 else "without a name" for fields in accepting),
        *(fields[1] for fields in tcp if fields[9] in own and fields[3] == "0A"),
    ]


def tcp_lines(pid: int, name: str) -> list[str]:
    table = Path(f"/proc/{pid}/net/{name}")
    return table.read_text().splitlines()[1:] if table.exists() else []
