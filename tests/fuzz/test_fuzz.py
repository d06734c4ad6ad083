"""promises.md B 19: whatever bytes a parser is given, it returns a value or raises its own errors, soon and in little
memory. A fixed number of inputs here; `python -m tests.fuzz.run` goes on for as long as it is told.
"""

from __future__ import annotations

import random
import time

import pytest

from meshsync.errors import MalformedMessage
from tests.fuzz import target as module
from tests.fuzz.mutate import mutate
from tests.fuzz.search import search
from tests.fuzz.target import Finding, Target, check, check_memory
from tests.fuzz.targets import TARGETS

INPUTS = 1000
INPUTS_SLOW = {"api-request": 100, "cli-arguments": 250, "code": 250, "ignore-file": 20, "view": 150}  # as long as 1000


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_it_is_given_it_answers_or_refuses(name: str) -> None:
    count = INPUTS_SLOW.get(name, INPUTS)
    counts = search(TARGETS[name], 1, lambda tried: tried < count)
    assert counts.tried == count and counts.taken > 0, "inputs reach the parser and some pass it"


def broken(parse: object) -> Target:
    return Target("broken", parse, (MalformedMessage,), (b"seed",))  # type: ignore[arg-type]


def test_another_error_than_its_own_is_a_finding() -> None:
    def parse(data: bytes) -> None:
        if data == b"seed":
            raise MalformedMessage("refused")
        raise IndexError

    assert not check(broken(parse), b"seed")
    with pytest.raises(Finding, match="IndexError"):
        search(broken(parse), 1, lambda tried: tried < 100)


def test_a_slow_answer_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(data: bytes) -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    monkeypatch.setattr(module, "SECONDS_MAX", 0.01)
    with pytest.raises(Finding, match="took"):
        check(broken(parse), b"seed")


def test_much_memory_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEAK_BYTES_MAX", 1 << 20)
    assert check_memory(broken(bytes), b"seed") < 1 << 20
    with pytest.raises(Finding, match="held"):
        check_memory(broken(lambda data: bytes(2 << 20)), b"seed")


def test_a_seed_makes_the_same_inputs_again_and_another_makes_others() -> None:
    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [mutate(b"\x93\x01\xc4\x01x\x90", chance, [b"other"]) for _ in range(50)]

    assert made(1) == made(1) != made(2)
    assert len(set(made(1))) > 40
