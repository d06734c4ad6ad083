"""The device's key on disk: made once, sealed and unsealed so that no crash loses it, and this user's alone."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from meshsync.agent import device_key, passphrase
from meshsync.agent.home import Home
from meshsync.agent.key_file import Cost
from meshsync.agent.modes import check_modes
from meshsync.crypto.hashing import Buffer
from meshsync.errors import ConfigError, KeysLocked, NotFound
from meshsync.runtime import SystemRuntime
from meshsync.store.files import Files, SystemFiles
from tests.support.crash_files import Crash

CHEAP = Cost(1, 8192)
OLD, NEW = b"correct horse", b"battery staple"


@pytest.fixture
def runtime() -> SystemRuntime:
    return SystemRuntime(threads=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


def seal(home: Home, runtime: SystemRuntime, files: Files | None = None) -> None:
    device_key.set_passphrase(home, runtime, OLD, files=files, cost=CHEAP)


def reseal(home: Home, runtime: SystemRuntime, files: Files | None = None) -> None:
    device_key.set_passphrase(home, runtime, NEW, lambda: OLD, files, CHEAP)


def unseal(home: Home, runtime: SystemRuntime, files: Files | None = None) -> None:
    device_key.remove_passphrase(home, lambda: OLD, files)


class TestPassphrase:
    def test_the_device_is_the_same_with_another_and_without_one(self, home: Home, runtime: SystemRuntime) -> None:
        seed = device_key.load_or_create(home, runtime).seed
        seal(home, runtime)
        assert device_key.needs_passphrase(home) and seed[:32] not in home.device_key.read_bytes()
        assert device_key.load_or_create(home, runtime, lambda: OLD).seed == seed
        reseal(home, runtime)
        assert device_key.load_or_create(home, runtime, lambda: NEW).seed == seed
        with pytest.raises(KeysLocked):
            device_key.load_or_create(home, runtime, lambda: OLD)
        assert device_key.remove_passphrase(home, lambda: NEW)
        assert not device_key.remove_passphrase(home, lambda: NEW)
        assert device_key.load_or_create(home, runtime).seed == seed == home.device_key.read_bytes()

    def test_without_it_nothing_starts_and_nothing_is_made_anew(self, home: Home, runtime: SystemRuntime) -> None:
        device_key.load_or_create(home, runtime)
        seal(home, runtime)
        before = home.device_key.read_bytes()
        for act in (
            lambda: device_key.load_or_create(home, runtime),
            lambda: device_key.load_or_create(home, runtime, lambda: NEW),
            lambda: device_key.set_passphrase(home, runtime, NEW, lambda: NEW, cost=CHEAP),
            lambda: device_key.remove_passphrase(home, lambda: None),
        ):
            with pytest.raises(KeysLocked):
                act()
        assert home.device_key.read_bytes() == before

    def test_a_device_without_a_key_has_none_to_seal(self, home: Home, runtime: SystemRuntime) -> None:
        with pytest.raises(NotFound):
            seal(home, runtime)
        assert not home.device_key.exists()

    @pytest.mark.parametrize("data", [b"", bytes(63), bytes(65)])
    def test_a_damaged_file_is_no_new_device(self, home: Home, runtime: SystemRuntime, data: bytes) -> None:
        home.device_key.write_bytes(data)
        with pytest.raises(ConfigError, match="damaged"):
            device_key.load_or_create(home, runtime)
        assert home.device_key.read_bytes() == data


class Cut(SystemFiles):
    """A machine that stops before call number `at` (from 0), and at every later one."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._unsynced: set[int] = set()

    def _count(self) -> None:
        if self._left == 0:
            raise Crash
        self._left -= 1

    def create(self, path: Path) -> int:
        self._count()
        descriptor = super().create(path)
        self._unsynced.add(os.fstat(descriptor).st_ino)
        return descriptor

    def write(self, fd: int, offset: int, buffers: Sequence[Buffer]) -> None:
        self._count()
        super().write(fd, offset, buffers)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)
        self._unsynced.discard(os.fstat(fd).st_ino)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._count()
        super().sync_directory(path)

    def power_cut(self, directory: Path) -> None:
        """Take half of the bytes of each file that was not synced."""
        for path in directory.iterdir():
            if path.stat().st_ino in self._unsynced:
                os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("cut_power", [False, True])
@pytest.mark.parametrize("act, before, after", [(seal, None, OLD), (reseal, OLD, NEW), (unseal, OLD, None)])
def test_a_crash_or_power_cut_at_any_call_leaves_the_old_file_or_the_new_one(
    tmp_path: Path,
    runtime: SystemRuntime,
    cut_power: bool,
    act: Callable[[Home, SystemRuntime, Files | None], None],
    before: bytes | None,
    after: bytes | None,
) -> None:
    for at in itertools.count():
        home = Home(tmp_path / str(at))
        home.create()
        seed = device_key.load_or_create(home, runtime).seed
        if before is not None:
            seal(home, runtime)
        files = Cut(at)
        try:
            act(home, runtime, files)
        except Crash:
            if cut_power:
                files.power_cut(home.path)
            assert opens(home, runtime, seed) in ([before], [after])
            act(home, runtime, None) if opens(home, runtime, seed) == [before] else None  # a left-over is in no way
        else:
            break
        assert opens(home, runtime, seed) == [after]
    assert at == 5  # create, write, sync, rename, sync of the directory
    assert opens(home, runtime, seed) == [after] and [path.name for path in home.path.iterdir()] == ["device.key"]


def opens(home: Home, runtime: SystemRuntime, seed: bytes) -> list[bytes | None]:
    """Return with which passphrases the key opens; None: it is plain."""
    if not device_key.needs_passphrase(home):
        assert device_key.load_or_create(home, runtime).seed == seed
        return [None]
    found: list[bytes | None] = []
    for given in (OLD, NEW):
        with contextlib.suppress(KeysLocked):
            assert device_key.load_or_create(home, runtime, partial(_same, given)).seed == seed
            found.append(given)
    return found


def _same(given: bytes) -> bytes:
    return given


class TestModes:
    def test_a_private_home_passes_and_one_that_is_new_too(self, home: Home, runtime: SystemRuntime) -> None:
        check_modes(home)
        device_key.load_or_create(home, runtime)
        check_modes(home)
        check_modes(Home(home.path / "not there"))

    @pytest.mark.parametrize(
        "secret, mode, right",
        [("device.key", 0o640, "600"), ("config.toml", 0o604, "600"), ("recovery-sheet", 0o660, "600"),
         ("folders", 0o750, "700"), ("folders/ff", 0o701, "700"), ("folders/ff/keys", 0o644, "600"),
         (".", 0o755, "700")],
    )  # fmt: skip
    def test_a_secret_that_others_can_read_is_refused_with_the_command_that_ends_it(
        self, home: Home, secret: str, mode: int, right: str
    ) -> None:
        (home.path / "folders/ff").mkdir(parents=True)
        for directory in (home.path / "folders", home.path / "folders/ff"):
            directory.chmod(0o700)
        path = home.path / secret
        if not path.exists():
            path.write_bytes(b"")
            path.chmod(0o600)
        check_modes(home)
        path.chmod(mode)
        with pytest.raises(ConfigError) as refused:
            check_modes(home)
        assert refused.value.next_step == f"chmod {right} {path.absolute()}"
        assert os.system(refused.value.next_step) == 0
        check_modes(home)


class TestGiven:
    def test_by_a_descriptor_which_is_read_up(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"correct horse\n")
        os.close(writing)
        assert passphrase.given({passphrase.DESCRIPTOR_VARIABLE: str(reading)}) == OLD
        with pytest.raises(ConfigError):
            passphrase.given({passphrase.DESCRIPTOR_VARIABLE: str(reading)})

    def test_by_a_file_of_this_user_only(self, tmp_path: Path) -> None:
        file = tmp_path / "passphrase"
        file.write_bytes(b"correct horse\r\n")
        file.chmod(0o600)
        assert passphrase.given({passphrase.FILE_VARIABLE: str(file)}) == OLD
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="others can read"):
            passphrase.given({passphrase.FILE_VARIABLE: str(file)})
        with pytest.raises(ConfigError):
            passphrase.given({passphrase.FILE_VARIABLE: str(tmp_path / "none")})

    def test_nothing_is_nothing(self) -> None:
        assert passphrase.given({}) is None
