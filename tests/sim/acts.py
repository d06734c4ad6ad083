"""A history: what happens to a mesh, drawn from a seed.

Invariant: an act depends on its own number and the seed only, so a history without some of its acts is still one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

USER = {
    "create": 8, "save": 8, "append": 4, "same_size": 3, "copy": 2, "hard_link": 1, "rename": 8, "swap": 2, "delete": 4,
    "delete_folder": 2, "make_folder": 3, "chmod": 2, "touch": 2, "make_link": 1, "change_kind": 1,
}  # fmt: skip
MACHINE = {"kill": 4, "power_cut": 4, "stop": 2, "apart": 5, "clock": 2, "disk_full": 1, "disk_errors": 1, "relay": 2}
RESTORES = ("restore_file", "restore_system")


@dataclass(frozen=True, slots=True)
class Act:
    """At `at` seconds `kind` happens to `machine`; with `steps` just before that many more steps of its process."""

    number: int
    at: float
    machine: int
    kind: str
    steps: int
    lasts: float

    def __str__(self) -> str:
        when = f" after {self.steps} steps" if self.steps else ""
        return f"#{self.number} at {self.at:.3f} s{when}, machine {self.machine}: {self.kind}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh and its history.

    `joins`: devices that still join when they start; `before`: acts before any agent runs; `after`: acts at rest.
    """

    seed: str
    devices: int
    relayed: bool
    joins: frozenset[int]
    starts: tuple[float, ...]
    before: tuple[Act, ...]
    acts: tuple[Act, ...]
    after: tuple[Act, ...]

    def without(self, acts: Sequence[Act]) -> Plan:
        """Return the plan with some acts left out."""
        gone = {act.number for act in acts}
        kept = [tuple(act for act in part if act.number not in gone) for part in (self.before, self.acts, self.after)]
        return Plan(self.seed, self.devices, self.relayed, self.joins, self.starts, *kept)


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    chance = random.Random(f"plan {seed}")
    devices = chance.choice((2, 2, 3))
    relayed = chance.random() < 0.5
    joins = frozenset(number for number in range(2, devices + 1) if chance.random() < 0.4)
    starts = tuple(chance.choice((0.0, 0.0, 3.0 * chance.random())) for _ in range(devices))
    numbers = iter(range(10_000))

    def act(at: float, kind: str, machine: int | None = None, steps: int = 0) -> Act:
        where = chance.randint(1, devices) if machine is None else machine
        return Act(next(numbers), at, where, kind, steps, chance.choice((0.5, 3.0, 12.0, 45.0)) * chance.random())

    def kind_of(weights: dict[str, int]) -> str:
        return chance.choices(list(weights), list(weights.values()))[0]

    before = tuple(act(0.0, kind_of(USER)) for _ in range(chance.choice((0, 0, 3, 8))))
    acts = []
    at = 0.0
    pace = chance.choice((0.01, 0.1, 0.1, 1.0, 4.0))
    quiet = chance.choice((0.0, 0.05, 0.15))
    for _ in range(chance.randint(5, 24)):
        at += chance.expovariate(1 / pace)
        steps = chance.choice((0, 0, 1 + int(60 * chance.random() ** 2)))
        kind = kind_of(MACHINE) if chance.random() < quiet else kind_of(USER)
        acts.append(act(at, kind, steps=steps))
    after = tuple(act(0.0, kind_of(USER)) for _ in range(chance.randint(0, 3)))
    return Plan(str(seed), devices, relayed, joins, starts, before, tuple(acts), after)


def with_restores(plan: Plan) -> Plan:
    """Return the plan with one machine whose index comes back from a backup, twice in some plans."""
    chance = random.Random(f"restores {plan.seed}")
    machine = chance.randint(1, plan.devices)
    last = max([act.at for act in plan.acts] + [*plan.starts])
    numbers = iter(range(10_000, 10_010))

    def act(kind: str, begin: float) -> Act:
        steps = chance.choice((0, 1 + int(60 * chance.random() ** 2)))
        return Act(next(numbers), begin + chance.random() * (last - begin), machine, kind, steps, 3.0 * chance.random())

    backup = act("back_up", 0.0)
    restores = [act(chance.choice(RESTORES), backup.at) for _ in range(chance.choice((1, 1, 2)))]
    acts = sorted([*plan.acts, backup, *restores], key=lambda act: act.at)
    return replace(plan, acts=tuple(acts))
