"""Users of two or three devices act at random, on and off line, with crashes: `python -m tests.sync.planner_seeds`.

The real planner and view on disks in memory. Each device starts from one small tree; users edit, move, swap, remove
and turn files into directories and links; devices publish, receive from one another and apply, all of it or a part, or
crash in mid-apply; holds keep some of it back for a while. After everybody met: equal disks, as the view shows; nothing
parked, nothing left to do; every value that no user removed is there; and what was done last, by somebody who had
everything, is what is seen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from random import Random

from meshsync.content.record import Content, Kind
from meshsync.sync.actions import nodes_of
from meshsync.sync.node import DIRECTORY
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.late_twin import LateTwin, is_somewhere, settle_late
from tests.sync.planner_pairs import FIRST_NEW, NEW, Act, acts_on, contents, perform, trees

DEPTH_MAX = 4
STEPS_MAX = 12
VALUES_PER_ACT = 4
CRASHES_MAX = 2
SHARE_LATE = 0.5
SHARE_ARRIVED = 0.5
SHARE_HELD = 0.5
SHARE_SCOPED = 0.7
STEPS = ("act", "act", "act", "publish", "receive", "apply", "apply some", "crash", "hold", "release")
SHAPES = tuple(trees())


class Mesh:
    """Devices, and what their users wrote and removed."""

    steps_max = STEPS_MAX

    def __init__(self, random: Random) -> None:
        self.random = random
        self.devices = self._devices(random.choice((2, 2, 3)))
        self.written: set[Content] = set()
        self.removed: set[Content] = set()
        self.next_value = FIRST_NEW
        self.story: list[str] = []
        self.crashes = 0
        for path, content in contents(random.choice(SHAPES)).items():
            if content == DIRECTORY:
                self.devices[0].disk.make_directory(path)
            else:
                self.devices[0].disk.write(path, content)
                self.written.add(content)
        self.settle()
        for device in self.devices:
            device.scoped = random.random() < SHARE_SCOPED

    def _devices(self, count: int) -> Sequence[DeviceTwin]:
        return [DeviceTwin(number) for number in range(1, count + 1)]

    def settle(self) -> None:
        """Let everybody meet."""
        settle(*self.devices)

    def act(self, device: DeviceTwin) -> None:
        """Let the user of `device` do one thing to what is on its disk."""
        held = {path: content for path, (content, _) in device.disk.tree().items()}
        possible = [act for act in acts_on(held) if max(len(act.path), len(act.target)) < DEPTH_MAX]
        act = self.random.choice(possible)
        if act.what in ("create", "make directory", "move"):
            act = self._renamed(act)
        if act.target[: len(act.path)] == act.path or act.path[: len(act.target)] == act.target != ():
            return  # a directory into itself, or over what holds it
        self.story.append(f"{device.device[0]}: {act}")
        device.touched |= {act.path, act.target} - {()}
        effect = perform(device.disk, act, self.next_value)
        self.next_value += VALUES_PER_ACT
        self.written |= effect.written
        now = {path: content for path, (content, _) in device.disk.tree().items()}
        arrived = {content for path, content in now.items() if held.get(path) != content}
        # Gone from a path is given up, even if a copy still lies where an apply is about to remove it.
        self.removed |= {content for path, content in held.items() if now.get(path) != content} - arrived

    def _renamed(self, act: Act) -> Act:
        """Give what is new one of three names, so that several users choose the same one."""
        name = self.random.choice((NEW, b"a", b"x"))
        if act.target:
            return Act(act.what, act.path, (*act.target[:-1], name))
        return Act(act.what, (*act.path[:-1], name))

    def step(self) -> None:
        """Let one thing happen."""
        random = self.random
        device = random.choice(self.devices)
        what = random.choice(STEPS)
        if what == "act":
            self.act(device)
            return
        self.story.append(f"{device.device[0]}: {what}")
        if what == "publish":
            device.publish()
        elif what == "receive":
            other = random.choice([each for each in self.devices if each is not device])
            device.receive(other.log)
        elif what == "apply":
            self.apply(device)
        elif what == "hold":
            self.hold(device)
        elif what == "release":
            device.hold(NOTHING_FROZEN)
        else:
            self.apply_some(device, crash=what == "crash" and self.crashes < CRASHES_MAX)

    def apply(self, device: DeviceTwin) -> None:
        """Carry out all that can be."""
        device.sync()

    def apply_some(self, device: DeviceTwin, *, crash: bool) -> None:
        """Carry out the beginning of a plan, and perhaps die in the middle of the next action."""
        actions = device.publish().apply
        whole = self.random.randrange(len(actions) + 1)
        for action in actions[:whole]:
            device.do(action)
        left = {node for action in actions[whole:] for node in nodes_of(action)}
        device.dirty -= {node for action in actions[:whole] for node in nodes_of(action)} - left
        if crash and whole < len(actions):
            self.crashes += 1
            device.do_and_crash(actions[whole])

    def hold(self, device: DeviceTwin) -> None:
        """Leave some of what is to be applied or published out of the device's plans, as a safeguard does."""
        device.hold(NOTHING_FROZEN)
        plan = device.plan()
        nodes = {node for action in plan.apply for node in (action.node, *getattr(action, "gone", ()))}
        held = frozenset(node for node in sorted(nodes) if self.random.random() < SHARE_HELD)
        frozen = Frozen(nodes=held)
        for path, below in sorted(plan.drops.items()):
            if self.random.random() < SHARE_HELD:
                frozen |= Frozen(frozenset([path]), frozenset(below))
        device.hold(frozen)

    def check(self) -> None:
        """Let everybody meet. Raises AssertionError."""
        for device in self.devices:
            if device.frozen != NOTHING_FROZEN:
                device.hold(NOTHING_FROZEN)
        self.settle()
        self.settle()
        for device in self.devices:
            plan = device.plan()  # for everything, whatever it planned for until now
            assert not plan.publish.changes and not plan.apply, f"something is left to do: {plan.apply}"
            assert not device.disk.parked, "something is parked"
        exchange(*self.devices)
        first = self.devices[0]
        shown = {path: (each.content, each.executable) for path, each in first.view.walk()}
        for device in self.devices:
            assert device.disk.tree() == shown, f"the disk of {device.device[0]} differs"
        there = {content for content, _ in shown.values() if content.kind is not Kind.DIRECTORY}
        lost = self.written - self.removed - there
        assert not lost, f"lost: {sorted(str(content.root.hex()[:8]) for content in lost)}"

    def check_last_word(self) -> None:
        """After everybody met, one more act is what everybody sees. Raises AssertionError."""
        device = self.random.choice(self.devices)
        self.act(device)
        wanted = device.disk.tree()
        self.settle()
        for each in self.devices:
            assert each.disk.tree() == wanted, f"{each.device[0]} does not show what was done last"


class LateMesh(Mesh):
    """Contents arrive one by one, from whoever has them on disk; plans are made and given up meanwhile."""

    devices: Sequence[LateTwin]
    steps_max = 2 * STEPS_MAX

    def _devices(self, count: int) -> Sequence[LateTwin]:
        return [LateTwin(number) for number in range(1, count + 1)]

    def settle(self) -> None:
        settle_late(self.random, self.devices)

    def apply(self, device: DeviceTwin) -> None:
        assert isinstance(device, LateTwin)
        device.publish()
        is_there, random = is_somewhere(self.devices), self.random
        while device.arrive(lambda content: is_there(content) and random.random() < SHARE_ARRIVED):
            device.publish()

    def apply_some(self, device: DeviceTwin, *, crash: bool) -> None:
        assert isinstance(device, LateTwin)
        device.publish()
        is_there, random = is_somewhere(self.devices), self.random
        device.arrive(lambda content: is_there(content) and random.random() < SHARE_ARRIVED)
        if crash:
            self.crashes += 1
            device.crash()


def run(seed: int) -> str:
    """Return what is wrong after the history of `seed`, with that history; "" if nothing."""
    random = Random(seed)
    mesh = LateMesh(random) if random.random() < SHARE_LATE else Mesh(random)
    try:
        for _ in range(mesh.random.randrange(2, mesh.steps_max + 1)):
            mesh.step()
        mesh.check()
        mesh.check_last_word()
    except Exception as error:  # noqa: BLE001 - any error of the planner is a failure of the seed
        return f"seed {seed}: {type(error).__name__}: {error}\n  " + "\n  ".join(mesh.story)
    return ""


def try_seeds(seeds: range, workers: int) -> list[str]:
    """Run the seeds; return what failed."""
    with multiprocessing.Pool(workers) as pool:
        return [why for why in pool.imap_unordered(run, seeds, chunksize=64) if why]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", default="0-49999", help="FIRST-LAST, or one seed")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    failed = try_seeds(seeds, options.workers)
    print(*failed[:5], sep="\n")
    print(f"{len(seeds)} seeds, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
