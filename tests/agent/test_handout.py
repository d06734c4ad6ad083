"""What a handout notes, how its file is called elsewhere, and what is due when the source changes: pure rules."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.handout import FILE_NAME, Act, Given, Taken, due, file_name, names, pack, place_of, unpack
from meshsync.agent.history import pack_content
from meshsync.content.record import Content, Kind
from meshsync.ids import ChunkId

FILE = Content(Kind.FILE, 5, ChunkId(b"c" * 32), 0, b"")
DIRECTORY = Content(Kind.DIRECTORY, 0, ChunkId(b""), 0, b"")
GIVEN = Given(b"f" * 32, b"n" * 44, b"/home/ann/plan.txt", pack_content(FILE))
EMPTY = Given(GIVEN.source, GIVEN.node, GIVEN.path, b"")


def test_a_note_reads_back_as_it_was_written() -> None:
    taken = Taken(b"/home/ben", b"plan.txt", b"plan (2).txt", 7, 5, 3, pack_content(FILE), b"plan.txt", 8, b"")
    assert unpack(pack(GIVEN)[1], None) == GIVEN
    assert unpack(None, pack(taken)[1]) == taken
    assert unpack(None, None) is None, "a folder is no handout"
    assert (place_of(GIVEN), place_of(taken)) == (b"/home/ann/plan.txt", b"/home/ben/plan (2).txt")


@pytest.mark.parametrize(
    ("note", "on_disk", "is_gone", "act"),
    [
        (GIVEN, FILE, False, Act.NOTHING),
        (EMPTY, FILE, False, Act.PUBLISH),
        (GIVEN, Content(Kind.FILE, 6, ChunkId(b"d" * 32), 0, b""), False, Act.PUBLISH),
        (GIVEN, None, False, Act.NOTHING),
        (GIVEN, None, True, Act.WITHDRAW),
        (EMPTY, None, True, Act.NOTHING),
        (GIVEN, DIRECTORY, False, Act.WITHDRAW),
    ],
    ids=["as it was", "came back", "changed", "still to come", "deleted", "deleted before", "no file any more"],
)
def test_what_is_due(note: Given, on_disk: Content | None, is_gone: bool, act: Act) -> None:
    packed = b"" if on_disk is None else pack_content(on_disk)
    assert due(note, packed, on_disk, is_gone) is act


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("plan.txt", b"plan.txt"),
        ("Büro — Plan.txt", "Büro — Plan.txt".encode()),
        ("../../.ssh/authorized_keys", b"_.._.ssh_authorized_keys"),
        (".bashrc", b"bashrc"),
        ("..", FILE_NAME),
        ("", FILE_NAME),
        ("a\nb\x1b[31m\0\u202e", b"ab[31m"),
        ("x" * 300, b"x" * 255),
    ],
)
def test_what_the_other_device_calls_the_file_becomes_an_ordinary_visible_name(told: str, name: bytes) -> None:
    assert file_name(told) == name


@given(st.text(max_size=300))
def test_no_name_leads_out_of_the_directory_or_is_hidden(told: str) -> None:
    name = file_name(told)
    assert 0 < len(name) <= 255 and not name.startswith(b".") and not set(name) & set(b"/\0\n\r\x1b\\")


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"/\0")))
def test_numbered_names_are_different_and_fit(wanted: bytes) -> None:
    found = list(islice(names(wanted), 20))
    assert found[0] == wanted and len(set(found)) == 20
    assert all(0 < len(name) <= 255 and b"/" not in name for name in found)


def test_numbers_stand_before_the_ending() -> None:
    assert list(islice(names(b"plan.txt"), 3)) == [b"plan.txt", b"plan (2).txt", b"plan (3).txt"]
    assert list(islice(names(b".profile"), 2)) == [b".profile", b".profile (2)"]
