"""A user who acts at every step of what an agent does: `python -m tests.sim.user_points [--only NAME] [--workers N]`.

The scenarios of `crash_points` that touch the disk of one device; before each of its steps (a system call that changes
the disk, a commit, a packet) its user saves, appends, edits in place, renames, swaps, removes or turns into something
else what lies there. Afterwards, and without anybody being told to look: equal trees, as the view shows; everything
that was written and not given up is there; nothing is torn, nothing is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sim import checks
from tests.sim.checks import Wrong
from tests.sim.crash_points import COUNTED, RELAY, SCENARIOS, Mesh
from tests.sim.loop import Deadlock, SimLoop
from tests.sim.stepped_relay import SteppedRelay
from tests.sim.world import _finish

ACTS = (
    "save", "append", "same_size", "rename", "swap", "delete", "delete_folder", "change_kind", "touch", "create",
    "make_folder", "chmod",
)  # fmt: skip
HIDING = {"exchange", "rename", "rename_new", "unlink", "chmod", "set_mtime"}
"""Calls before which an edit that keeps the size and puts the mtime back leaves no trace: `docs/spec/disk.md` 5."""
INTERRUPTED = tuple(name for name, scenario in SCENARIOS.items() if scenario.machine != RELAY and not scenario.lets_go)


@dataclass(frozen=True, slots=True)
class Moment:
    """Before step `number`, from 0, of a scenario the user does `act`; `draw` chooses to what."""

    scenario: str
    number: int
    act: str
    draw: int


class Interrupted(Mesh):
    """Two devices that live through a scenario, while the user of one acts once more."""

    def __init__(self, moment: Moment | None, name: str, loop: SimLoop, place: Path) -> None:
        super().__init__(SCENARIOS[name], name, None, loop, place)
        self.moment = moment

    def _step(self, machine: int, call: str) -> None:
        if not self.armed or machine != self.scenario.machine or call not in COUNTED:
            return
        number = len(self.calls)
        self.calls.append(call)
        moment = self.moment
        if moment is not None and number == moment.number and not (moment.act == "same_size" and call in HIDING):
            chance = random.Random(f"{moment.scenario} {number} {moment.act} {moment.draw}")
            done = self.users[machine].do(moment.act, chance, "the user who acts at once")
            self.tell(f"before step {number}, {call}, the user {done or 'does nothing'}")

    async def live(self, end: checks.Tree | None) -> None:
        """Live through the scenario. Raises Wrong."""
        scenario = self.scenario
        scenario.before(self)
        self.armed = scenario.joins
        if self.relay is not None:
            self.relay.start()
        for device in self.devices.values():
            self._start(device)
        if not scenario.joins:
            await self._rest("at first")
        if scenario.apart:
            self.network.apart.add(frozenset((1, 2)))
        self.armed = True
        scenario.acts(self)
        if scenario.apart:
            await asyncio.sleep(5)
            self.network.apart.clear()
        await self._rest("after the acts")
        self.armed = False
        self._check()
        self._look_everywhere()
        await self._rest("after a look at everything")
        self._check()


def run_moment(moment: Moment) -> str:
    """Return what is wrong after an act at a moment, empty if nothing."""
    mesh, problem = _run(moment.scenario, moment)
    if not problem and len(mesh.calls) <= moment.number:
        problem = "the run did not come to its moment"
    return "\n".join([problem, *(f"  {line}" for line in mesh.story)]) if problem else ""


def moments(name: str, draws: int) -> list[Moment]:
    """Return every moment of a scenario. Raises Wrong if it fails undisturbed."""
    mesh, problem = _run(name, None)
    if problem:
        raise Wrong(f"{name}: {problem}")
    return [
        Moment(name, number, act, draw) for number in range(len(mesh.calls)) for act in ACTS for draw in range(draws)
    ]


def _run(name: str, moment: Moment | None) -> tuple[Interrupted, str]:
    logging.disable(logging.CRITICAL)
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _, context: None)
    problem = ""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="meshsync-user-", dir=memory) as place:
        mesh = Interrupted(moment, name, loop, Path(place))
        try:
            loop.run_until_complete(mesh.live(None))
        except (Wrong, Deadlock) as error:
            problem = str(error)
        finally:
            mesh.armed = False
            for device in mesh.devices.values():
                device.kill()
                device.index.close()
            if isinstance(mesh.relay, SteppedRelay):
                mesh.relay.kill()
                mesh.relay.release()
            _finish(loop)
    return mesh, problem


def _try(moment: Moment) -> tuple[Moment, str]:
    return moment, run_moment(moment)


def main(arguments: Sequence[str]) -> int:
    """Run every moment; print how many there are and what fails. Returns 1 if any fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.user_points", description=main.__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--every", type=int, default=1, help="run one of so many moments")
    parser.add_argument("--draws", type=int, default=2, help="how often each act is drawn at each step")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    began, failed, ran = time.perf_counter(), 0, 0
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for position, name in enumerate(name for name in INTERRUPTED if options.only in name):
            chosen = moments(name, options.draws)[position % options.every :: options.every]
            wrong = [(moment, problem) for moment, problem in pool.imap(_try, chosen, 8) if problem]
            print(f"{name}: {len(chosen)} moments, {len(wrong)} wrong", flush=True)
            for moment, problem in wrong[:5]:
                print(f"  {moment}: {problem}", flush=True)
            failed, ran = failed + len(wrong), ran + len(chosen)
    print(f"{ran} moments, {failed} wrong, {time.perf_counter() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
