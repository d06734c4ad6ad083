"""`config.toml`: round trip, the user's own words kept, wrong values named."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.config import Config, load, save
from meshsync.errors import ConfigError
from meshsync.limits import CONFIG_BYTES_MAX

FULL = Config(name="laptop", listen="[::]:0", relays=("quic://r:1#4-a-b",), discovery=False, engine="aioquic")


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "config.toml") == Config()


def test_what_was_saved_is_loaded_and_private(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    save(path, FULL)
    assert load(path) == FULL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]


def test_the_file_reads_as_documented(tmp_path: Path) -> None:
    save(tmp_path / "config.toml", FULL)
    assert (tmp_path / "config.toml").read_text() == (
        'name = "laptop"\nlisten = "[::]:0"\nengine = "aioquic"\nrelays = ["quic://r:1#4-a-b"]\ndiscovery = false\n'
    )


def test_comments_and_other_keys_of_the_user_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('# mine\nname = "old" # why\nother = 1\n')
    save(path, FULL)
    assert path.read_text().startswith('# mine\nname = "laptop" # why\nother = 1\n')


@pytest.mark.parametrize(
    "text",
    ["name = 1", "relays = 'x'", "relays = [1]", "discovery = 'no'", "engine = 'tcp'", "= =", f"relays={['a'] * 9}"],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "config.toml")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load(path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="exceeds"):
        load(tmp_path / "config.toml")


def test_arguments_say_the_same_as_the_options_but_for_the_relays_which_are_secret() -> None:
    assert Config().arguments() == []
    assert FULL.arguments() == [
        *("--name", "laptop", "--listen", "[::]:0", "--engine", "aioquic"),
        "--no-discovery",
    ]
