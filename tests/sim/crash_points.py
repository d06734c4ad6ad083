"""Every crash point of short scenarios: `python -m tests.sim.crash_points [--only NAME] [--workers N]`.

A scenario is run once to count the steps of one machine: each system call that changes its disk, each commit, each
packet that it sends. Then it is run once for each step and each way to end there: the process is killed, the power is
cut, the call or the commit is refused. Afterwards the mesh must be as if nothing had happened.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import errno
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent.folder import Folder
from meshsync.agent.history import unpack_content
from meshsync.agent.past import before, views
from meshsync.content.record import Kind, Mark
from meshsync.errors import MeshsyncError
from meshsync.metalog.membership_entry import SetPolicy
from meshsync.metalog.retention_policy import RetentionPolicy, pack_policy
from tests.sim import checks
from tests.sim.acts import Plan
from tests.sim.checks import Wrong
from tests.sim.device import SimDevice
from tests.sim.disk import refuse
from tests.sim.loop import Deadlock, SimLoop
from tests.sim.network import PORT_FIRST
from tests.sim.process import Crashed
from tests.sim.stepped_relay import SteppedRelay
from tests.sim.users import Path as Place
from tests.sim.users import User, show
from tests.sim.world import World, _finish
from tests.support.crash_files import Unsynced

DISK = frozenset({
    "create", "write", "truncate", "fsync", "chmod", "set_mtime", "set_link_mtime", "make_directory", "make_link",
    "rename", "rename_new", "exchange", "link", "unlink", "remove_directory", "pack",
})  # fmt: skip
INDEX = frozenset({"commit", "statement"})
COUNTED = DISK | INDEX | {"send"}
DOWN_S = 0.5
RELAY = 0
BODY = bytes(range(256)) * 5


class How(enum.Enum):
    """How a run is hurt at a step."""

    KILL = "kill"
    POWER_CUT = "power cut"
    NO_SPACE = "ENOSPC"
    IO_ERROR = "EIO"


CODES = {How.NO_SPACE: errno.ENOSPC, How.IO_ERROR: errno.EIO}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` is what lies on device 1 at first; `acts` happen at rest. The steps of `machine` are counted (0: relay).

    `apart`: the devices act without a link between them, and meet after it. `joins`: device 2 begins by joining.
    `history` happens at rest, one after the other, before anything is counted. `lets_go`: device 1 lets go of versions
    all the time, and the relay carries it out at once, with a wall clock that runs a day in each second.
    """

    machine: int
    acts: Callable[[Mesh], None]
    before: Callable[[Mesh], None] = lambda mesh: None
    relayed: bool = False
    joins: bool = False
    apart: bool = False
    conflict: bool = False
    history: tuple[Callable[[Mesh], None], ...] = ()
    lets_go: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """Step `number`, from 0, of a scenario, and what happens there."""

    scenario: str
    number: int
    how: How


class Mesh(World):
    """Two devices that live through a scenario."""

    def __init__(self, scenario: Scenario, name: str, point: Point | None, loop: SimLoop, place: Path) -> None:
        plan = Plan(
            f"crash {name}", 2, scenario.relayed, frozenset({2} if scenario.joins else ()), (0.0, 0.0), (), (), ()
        )
        super().__init__(plan, loop)
        self.scenario, self.point = scenario, point
        self.calls: list[str] = []
        self.armed = False
        self.shown: dict[str, checks.Tree] = {}
        self._steady: dict[int, dict[Place, set[object]]] = {}
        self._known: dict[int, set[tuple[object, ...]]] = {}
        self._receipts: set[bytes] = set()
        self.network.delay_max_s = 0.0
        memory = self.devices[1]._memory
        memory.reaches = self._reaches
        for number, device in self.devices.items():
            device.lost = device.overflows = 0.0
            device.clock_ns = 0
            device.refuses = lambda call, number=number: self._step(number, call)  # type: ignore[misc]
        if scenario.relayed:
            relay = SteppedRelay(loop, plan.seed, self.network, memory, self._failed)
            relay.use(place, lambda call: self._step(RELAY, call))
            if scenario.lets_go:
                relay.keeps_up_s, relay.clock_speed = 1.0, 86400.0
            self.relay = relay

    def _failed(self, name: str, error: BaseException) -> None:
        if not isinstance(error, Crashed):
            super()._failed(name, error)

    # --- steps ------------------------------------------------------------------------------------------------------

    def _reaches(self, source: int, target: int) -> bool:
        machine = source - PORT_FIRST
        running = self.network.running.get(machine)
        if running is not None and running.alive:
            self._step(machine, "send")
        return self.network._reaches(source, target)

    def _step(self, machine: int, call: str) -> None:
        """Before each step: readers look, and at its point the machine is hurt."""
        if not self.armed or machine != self.scenario.machine or call not in COUNTED:
            return
        self._look_as_readers()
        number = len(self.calls)
        self.calls.append(call)
        if self.point is None or number != self.point.number:
            return
        self.tell(f"machine {machine}: {self.point.how.value} before step {number}, {call}")
        self._note()
        if self.point.how in CODES:
            assert call in DISK | INDEX, call
            raise refuse(CODES[self.point.how])
        self._hurt(machine, self.point.how is How.POWER_CUT)
        self._look_as_readers()
        if call != "send":  # what a dead process sends reaches nobody; sending is not prepared to be interrupted
            raise Crashed(call)

    def _hurt(self, machine: int, power: bool) -> None:
        if machine == RELAY:
            assert isinstance(self.relay, SteppedRelay) and self.point is not None
            self.relay.kill()
            if power:
                self.relay.unsynced = list(Unsynced)[1 + self.point.number % (len(Unsynced) - 1)]
            self.loop.call_later(DOWN_S, self.relay.start)
            return
        device = self.devices[machine]
        if power:
            device.power_cut()
        else:
            device.kill()
        self.loop.call_later(DOWN_S, self._start, device)

    # --- what was seen ----------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """Remember what is acknowledged by now: entries that another device has, and receipts."""
        for number, device in self.devices.items():
            if device.folder is not None and device.process.alive:
                self._known[number] = _entries(device)
                self._receipts |= _receipts(device)

    def _snapshot(self) -> None:
        """From now on what lies on each device may be seen at its path."""
        for number, user in self.users.items():
            steady = self._steady.setdefault(number, {})
            for path, thing in checks.tree(user).items():
                steady.setdefault(path, set()).add(thing[:2])

    def expect(self, end: checks.Tree) -> None:
        """Hold readers to it that what lies somewhere now and at the `end` is never absent, never anything else."""
        for steady in self._steady.values():
            for path in list(steady):
                if path in end:
                    steady[path].add(end[path][:2])
                else:
                    del steady[path]

    def _look_as_readers(self) -> None:
        if self.point is None:
            return
        for number, steady in self._steady.items():
            for path, allowed in steady.items():
                inode = self.users[number].at(path)
                if inode is None:
                    self.mistakes.append(f"device {number}: {show(path)} is absent to a reader")
                elif checks.seen(inode)[:2] not in allowed:
                    self.mistakes.append(f"device {number}: {show(path)} is torn: {checks.seen(inode)[:2]!r:.90}")

    # --- the run ----------------------------------------------------------------------------------------------------

    async def live(self, end: checks.Tree | None) -> None:
        """Live through the scenario. `end` is how it ends if nothing fails, None in the counting run. Raises Wrong."""
        scenario = self.scenario
        scenario.before(self)
        self.armed = scenario.joins
        if self.relay is not None:
            self.relay.start()
        for device in self.devices.values():
            self._start(device)
        if not scenario.joins:
            await self._rest("at first")
        for number, act in enumerate(scenario.history, 1):
            act(self)
            await self._rest(f"after act {number} of the history")
        if scenario.lets_go:
            self._lets_go = self.loop.create_task(self._let_go())
        if scenario.apart:
            self.network.apart.add(frozenset((1, 2)))
        self.armed = True
        self._snapshot()
        scenario.acts(self)
        self._snapshot()
        if end is not None:
            self.expect(end)
        if scenario.apart:
            await asyncio.sleep(5)
            self.network.apart.clear()
        await self._rest("after the acts")
        self._look_everywhere()
        await self._rest("after a look at everything")
        self.armed = False
        if self.point is not None and self.point.how in CODES and self.scenario.machine != RELAY:
            device = self.devices[self.scenario.machine]
            await device.stop()
            self._start(device)
            await self._rest("after a restart")
        self._check()
        self.shown = self._trees()
        if end is not None:
            self._compare(end)

    async def _let_go(self) -> None:
        """Have device 1, while it runs, look for what is kept no longer."""
        while True:
            await asyncio.sleep(1.0)
            device = self.devices[1]
            if device.process.alive and device.folder is not None:
                device.folder.collecting.ask()

    def _busy(self) -> str:
        why = super()._busy()
        if not why and self.scenario.lets_go and self.armed:
            folder = self.devices[1].folder
            assert isinstance(self.relay, SteppedRelay) and folder is not None
            kept, _, waiting = self.relay.kept(folder.id)
            over = kept - _wanted(folder)
            why = f"{len(over)} versions and {waiting} retire records are not let go of" if over or waiting else ""
        return why

    def _nothing_retained_is_lost(self) -> None:
        """What the policy keeps is at the relay, with every blob of it; the rest is not, and neither are its blobs."""
        folder = self.devices[1].folder
        assert isinstance(self.relay, SteppedRelay) and folder is not None
        kept, blobs, _ = self.relay.kept(folder.id)
        if kept != _wanted(folder):
            raise Wrong(f"the relay keeps {len(kept)} versions and not {len(_wanted(folder))}")
        there = self.relay.blobs_at_rest()
        if not blobs <= there:
            raise Wrong(f"{len(blobs - there)} blobs of versions that are kept are gone")
        if there - blobs:
            raise Wrong(f"{len(there - blobs)} blobs are kept that no version needs")
        for number, device in self.devices.items():
            lost = [sampler.lost_count for sampler in device.folder.samplers.values()] if device.folder else []
            if any(lost):
                raise Wrong(f"device {number} takes what was let go of for lost")

    def _check(self) -> None:
        if self.scenario.lets_go:
            self._nothing_retained_is_lost()
        trees = self._trees()
        checks.same_trees(trees)
        checks.nothing_lost(self.book, trees)
        self._no_mistakes()
        for number, device in self.devices.items():
            checks.nothing_torn(self.book, device, self.users[number])
            checks.nothing_staged(device)
            checks.equal_to_view(device, trees[f"device {number}"])
            left = self._known.get(number, set()) - _entries(device)
            if left:
                raise Wrong(f"device {number} lost {len(left)} entries that it had")
            if isinstance(self.relay, SteppedRelay):
                self._durable(_receipts(device) | self._receipts)

    def _durable(self, receipts: set[bytes]) -> None:
        assert isinstance(self.relay, SteppedRelay)
        try:
            records = self.relay.holds(self.devices[1].beginning.folder)
        except MeshsyncError as error:
            raise Wrong(f"the relay lost a blob that a stored record names: {error}") from error
        if not receipts <= records:
            raise Wrong("a device holds a receipt for a record that the relay has not")

    def _compare(self, end: checks.Tree) -> None:
        if self.scenario.conflict:  # which of the two keeps the path is not promised
            contents = [sorted(repr(thing[:2]) for thing in tree.values()) for tree in (end, self.shown["device 1"])]
            if contents[0] != contents[1]:
                raise Wrong(f"other contents than without a failure: {contents}")
        else:
            checks.same_trees({"without a failure": end, **self.shown})


def _wanted(folder: Folder) -> set[bytes]:
    """Return the versions that show, and those that a snapshot names."""
    view = folder.replica.view
    wanted = {name for name, version in view.versions.items() if version.live}
    for mark in folder.replica.marks.all():
        (then,) = views(folder.replica, before(folder.replica, mark.entry))
        wanted |= {name for name, version in then.versions.items() if version.live}
    rows = folder.replica.versions
    return {bytes(name) for name in wanted if (row := rows.get(name)) and unpack_content(row.content).kind is Kind.FILE}


def _entries(device: SimDevice) -> set[tuple[object, ...]]:
    return set(device.index.connection.execute("SELECT chain, seq FROM entry"))


def _receipts(device: SimDevice) -> set[bytes]:
    return {row[0] for row in device.index.connection.execute("SELECT id FROM stored WHERE receipt IS NOT NULL")}


# --- what users do ---------------------------------------------------------------------------------------------------


def put(mesh: Mesh, device: int, name: str, content: bytes) -> None:
    """Save a file as editors do: beside it, then renamed over it."""
    user, path = mesh.users[device], _path(name)
    user._gone(path)
    fd = user._open(path[:-1])
    new = user.calls.create(fd, path[-1] + b"~")
    user.calls.write(new, content, 0)
    user.calls.chmod(new, 0o644)
    user.calls.rename(fd, path[-1] + b"~", fd, path[-1])
    _done(mesh, user)
    mesh.book.write(content, f"user {device}")


def folder(mesh: Mesh, device: int, name: str) -> None:
    """Make a directory."""
    user, path = mesh.users[device], _path(name)
    user.calls.make_directory(user._open(path[:-1]), path[-1], 0o755)
    _done(mesh, user)


def remove(mesh: Mesh, device: int, name: str) -> None:
    """Remove a file, or a directory with all that is in it."""
    user, top = mesh.users[device], _path(name)
    user._gone(top)
    for path, inode in reversed([item for item in user.walk() if item[0][: len(top)] == top]):
        fd = user._open(path[:-1])
        (user.calls.remove_directory if inode.is_directory else user.calls.unlink)(fd, path[-1])
    _done(mesh, user)


def link(mesh: Mesh, device: int, name: str, target: bytes) -> None:
    """Make a symbolic link."""
    user, path = mesh.users[device], _path(name)
    user.calls.make_link(user._open(path[:-1]), path[-1], target)
    _done(mesh, user)


def move(mesh: Mesh, device: int, old: str, new: str) -> None:
    """Give a file or directory another path."""
    user, source, target = mesh.users[device], _path(old), _path(new)
    user.calls.rename(user._open(source[:-1]), source[-1], user._open(target[:-1]), target[-1])
    _done(mesh, user)


def swap(mesh: Mesh, device: int, one: str, other: str) -> None:
    """Let two files or directories change places."""
    user, source, target = mesh.users[device], _path(one), _path(other)
    user.calls.exchange(user._open(source[:-1]), source[-1], user._open(target[:-1]), target[-1])
    _done(mesh, user)


def executable(mesh: Mesh, device: int, name: str) -> None:
    """Set the exec bit of a file."""
    user, path = mesh.users[device], _path(name)
    user.calls.chmod(user.calls.open_file(user._open(path[:-1]), path[-1]), 0o755)
    _done(mesh, user)


def restart(mesh: Mesh, device: int) -> None:
    """The agent ends in order and starts again."""

    async def stop() -> None:
        await mesh.devices[device].stop()
        mesh._start(mesh.devices[device])

    mesh._task = mesh.loop.create_task(stop())


def _path(name: str) -> Place:
    return tuple(name.encode().split(b"/"))


def _done(mesh: Mesh, user: User) -> None:
    user.calls.close_all()


def _file(mesh: Mesh) -> None:
    put(mesh, 1, "a", b"old " + BODY)


def _tree(mesh: Mesh) -> None:
    for name in ("m", "m/n", "o"):
        folder(mesh, 1, name)
    for name in ("m/a", "m/n/b", "o/c"):
        put(mesh, 1, name, name.encode() + b" " + BODY[:300])


def _new(mesh: Mesh) -> None:
    put(mesh, 1, "b", b"new " + BODY)


def _edit(mesh: Mesh) -> None:
    put(mesh, 1, "a", b"edited " + BODY)


def _delete(mesh: Mesh) -> None:
    remove(mesh, 1, "a")


def _move(mesh: Mesh) -> None:
    move(mesh, 1, "m", "o/p")


def _swap(mesh: Mesh) -> None:
    swap(mesh, 1, "m", "o")


def _executable(mesh: Mesh) -> None:
    executable(mesh, 1, "a")


def _both_edit(mesh: Mesh) -> None:
    put(mesh, 1, "a", b"edited here " + BODY)
    put(mesh, 2, "a", b"edited there " + BODY[::-1])


def _to_folder(mesh: Mesh) -> None:
    remove(mesh, 1, "a")
    folder(mesh, 1, "a")
    put(mesh, 1, "a/b", b"inside " + BODY)


def _to_file(mesh: Mesh) -> None:
    remove(mesh, 1, "o")
    put(mesh, 1, "o", b"was a folder " + BODY)


def _to_link(mesh: Mesh) -> None:
    remove(mesh, 1, "o")
    link(mesh, 1, "o", b"m/a")


def _inside_out(mesh: Mesh) -> None:
    move(mesh, 1, "m/n", "t")
    move(mesh, 1, "m", "t/q")
    move(mesh, 1, "t", "m")


def _edit_again(mesh: Mesh) -> None:
    put(mesh, 1, "a", b"edited again " + BODY)


def _snapshot(mesh: Mesh) -> None:
    replica = mesh.devices[1].folder.replica  # type: ignore[union-attr]
    mesh._task = mesh.loop.create_task(replica.append(lambda chain, seq: [Mark(b"kept", True)], lambda entry: None))


def _keep_nothing(mesh: Mesh) -> None:
    """Versions that are replaced are kept no longer."""
    replica = mesh.devices[1].folder.replica  # type: ignore[union-attr]
    policy = SetPolicy(1, pack_policy(RetentionPolicy(all_s=0)))
    mesh._task = mesh.loop.create_task(replica.change_membership(policy))


def _write_what_goes(mesh: Mesh) -> None:
    put(mesh, 2, "b", b"old " + BODY)


HISTORY = (_edit, _snapshot, _edit_again, _delete, _keep_nothing)

SCENARIOS = {
    "publish a new file": Scenario(1, _new, _file),
    "publish an edit": Scenario(1, _edit, _file),
    "publish a delete": Scenario(1, _delete, _file),
    "publish a move of a directory": Scenario(1, _move, _tree),
    "publish an exec bit": Scenario(1, _executable, _file),
    "apply a new file": Scenario(2, _new, _file),
    "apply an edit": Scenario(2, _edit, _file),
    "apply a delete": Scenario(2, _delete, _file),
    "apply a move of a directory": Scenario(2, _move, _tree),
    "apply a swap of directories": Scenario(2, _swap, _tree),
    "apply a directory that goes into its own": Scenario(2, _inside_out, _tree),
    "apply an exec bit": Scenario(2, _executable, _file),
    "apply an edit to an edited file": Scenario(2, _both_edit, _file, apart=True, conflict=True),
    "apply a directory where a file was": Scenario(2, _to_folder, _file),
    "apply a file where a directory was": Scenario(2, _to_file, _tree),
    "apply a link where a directory was": Scenario(2, _to_link, _tree),
    "join": Scenario(2, lambda mesh: None, _tree, joins=True),
    "restart of an agent with an edit": Scenario(1, lambda mesh: (_edit(mesh), restart(mesh, 1))[0], _file),
    "relay: entry, blobs, stored record, receipt": Scenario(RELAY, _new, _file, relayed=True),
    "relay: the other device comes by it": Scenario(RELAY, _both_edit, _file, relayed=True, apart=True, conflict=True),
    "upload until the receipt": Scenario(1, _new, _file, relayed=True),
    "let go of versions": Scenario(1, _write_what_goes, _file, relayed=True, history=HISTORY, lets_go=True),
    "relay: let go of versions": Scenario(RELAY, _write_what_goes, _file, relayed=True, history=HISTORY, lets_go=True),
    "upload of what is let go of": Scenario(2, _write_what_goes, _file, relayed=True, history=HISTORY, lets_go=True),
}


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """A scenario in which nothing failed: the steps, and how it ended."""

    calls: tuple[str, ...]
    end: checks.Tree

    def points(self, name: str) -> list[Point]:
        """Return every point: each step a crash and a power cut, each disk call and commit refused for two reasons."""
        return [
            Point(name, number, how)
            for number, call in enumerate(self.calls)
            for how in How
            if how not in CODES or call in DISK | INDEX
        ]


def count(name: str) -> Counted:
    """Run a scenario in which nothing fails. Raises Wrong."""
    mesh, problem = _run(name, None, None)
    if problem:
        raise Wrong(f"{name}: {problem}")
    return Counted(tuple(mesh.calls), mesh.shown["device 1"])


def run_point(point: Point, end: checks.Tree) -> str:
    """Return what is wrong after a failure at a point, empty if nothing."""
    mesh, problem = _run(point.scenario, point, end)
    if not problem and len(mesh.calls) <= point.number:
        problem = "the run did not come to its point"
    return "\n".join([problem, *(f"  {line}" for line in mesh.story)]) if problem else ""


def _run(name: str, point: Point | None, end: checks.Tree | None) -> tuple[Mesh, str]:
    logging.disable(logging.CRITICAL)
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _, context: None)
    problem = ""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="meshsync-crash-", dir=memory) as place:
        mesh = Mesh(SCENARIOS[name], name, point, loop, Path(place))
        try:
            loop.run_until_complete(mesh.live(end))
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


def _try(job: tuple[Point, checks.Tree]) -> tuple[Point, str]:
    return job[0], run_point(*job)


def main(arguments: Sequence[str]) -> int:
    """Run every point; print how many there are and what fails. Returns 1 if any fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.crash_points", description=main.__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--at", default="", help="only steps of this kind, as `commit`")
    parser.add_argument("--refused", action="store_true", help="only refusals")
    parser.add_argument("--every", type=int, default=1, help="run one of so many points")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    began, failed, total, ran = time.perf_counter(), 0, 0, 0
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for position, name in enumerate(name for name in SCENARIOS if options.only in name):
            counted = count(name)
            points = [
                point
                for point in counted.points(name)
                if options.at in counted.calls[point.number] and (point.how in CODES or not options.refused)
            ]
            chosen = points[position % options.every :: options.every]
            jobs = [(point, counted.end) for point in chosen]
            wrong = [(point, problem) for point, problem in pool.imap(_try, jobs, 4) if problem]
            kinds = Counter("disk call" if call in DISK else call for call in counted.calls)
            steps = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            print(f"{name}: {len(points)} points ({steps}), {len(chosen)} run, {len(wrong)} wrong", flush=True)
            for point, problem in wrong:
                print(f"  step {point.number} ({counted.calls[point.number]}), {point.how.value}: {problem}")
            failed, total, ran = failed + len(wrong), total + len(points), ran + len(chosen)
    print(f"{len(SCENARIOS)} scenarios, {total} points, {ran} run, {failed} wrong, {time.perf_counter() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
