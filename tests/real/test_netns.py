"""The harness itself: hosts reach each other, multicast arrives, a pulled cable cuts, nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.netns import Lan

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

LISTEN = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(("", 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4sl", socket.inet_aton("224.0.0.251"), 0))
print("ready", flush=True)
print(s.recv(100).decode(), flush=True)
"""
SAY = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(b"hello", ("224.0.0.251", 5353))
"""
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7))
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(100)
    s.sendto(data, sender)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b"?", (sys.argv[1], 7))
s.recv(100)
"""


def test_multicast_reaches_the_other_hosts(lan: Lan, tmp_path: Path) -> None:
    heard = lan.start("desk", sys.executable, "-c", LISTEN, log=tmp_path / "log")
    assert heard.readline() == "ready\n"
    assert lan["laptop"].run(sys.executable, "-c", SAY).returncode == 0
    assert heard.readline() == "hello\n"


def test_a_pulled_cable_cuts_and_a_plugged_one_connects(lan: Lan, tmp_path: Path) -> None:
    assert lan.start("desk", sys.executable, "-c", ECHO, log=tmp_path / "log").readline() == "ready\n"
    ask = (sys.executable, "-c", ASK, lan["desk"].address)
    assert lan["laptop"].run(*ask).returncode == 0
    lan.unplug("desk")
    assert lan["laptop"].run(*ask).returncode != 0
    lan.plug("desk")
    assert lan["laptop"].run(*ask).returncode == 0


def test_nothing_is_left_behind(lan: Lan, tmp_path: Path) -> None:
    lan.start("desk", sys.executable, "-c", ECHO, log=tmp_path / "log").readline()
    lan.__exit__(None, None, None)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert lan["desk"].namespace not in listed
