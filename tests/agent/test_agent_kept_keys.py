"""A folder's keys at rest: sealed for this device and this folder, and old plain files with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.kept_keys import MAGIC, read_kept, write_kept
from meshsync.agent.key_ring import pack_keys
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MalformedMessage
from meshsync.ids import FolderId

OWN, OTHER = DeviceKeys(b"o" * 64), DeviceKeys(b"x" * 64)
SECRET, KEY = b"s" * 32, b"k" * 32
KEYS = FolderKeys(FolderId(b"f" * 32), SECRET, {commitment(KEY): KEY}, commitment(KEY))


def test_they_come_back_and_are_in_the_file_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_kept(path, OWN, KEYS)
    data = path.read_bytes()
    assert read_kept(path, OWN, KEYS.folder) == KEYS and path.stat().st_mode & 0o777 == 0o600
    assert data.startswith(MAGIC) and SECRET not in data and KEY not in data


def test_a_plain_file_of_an_earlier_build_is_read_and_sealed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(pack_keys(KEYS))
    assert read_kept(path, OWN, KEYS.folder) == KEYS
    assert path.read_bytes().startswith(MAGIC) and KEY not in path.read_bytes()
    assert read_kept(path, OWN, KEYS.folder) == KEYS


def test_another_device_another_folder_or_an_altered_byte_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_kept(path, OWN, KEYS)
    for device, folder in ((OTHER, KEYS.folder), (OWN, b"g" * 32)):
        with pytest.raises(ConfigError):
            read_kept(path, device, folder)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((ConfigError, MalformedMessage)):
            read_kept(path, OWN, KEYS.folder)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_kept(tmp_path / "keys", OWN, KEYS.folder)
