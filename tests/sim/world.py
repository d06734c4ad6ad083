"""One simulated run: a mesh, a history, rest, checks. Invariant: equal plans give equal traces."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from meshsync.agent.decisions import Decided, Verb
from meshsync.agent.folder import Folder
from meshsync.transport.memory import MemoryNetwork
from tests.sim import checks
from tests.sim.acts import Act, Plan
from tests.sim.book import Book
from tests.sim.checks import Wrong
from tests.sim.device import SimDevice
from tests.sim.disk import refuse
from tests.sim.identity import begin
from tests.sim.loop import Deadlock, SimLoop
from tests.sim.network import SimNetwork
from tests.sim.relay_machine import SimRelay
from tests.sim.users import User

REST_S = 400.0
"""Virtual seconds within which a mesh without trouble must come to rest: pauses between dials grow to 60 s and more."""
FULL_SHARE = 0.5
ERROR_SHARE = 0.15
INDEX_SHARE = 0.5
"""How often the index is on the disk that refuses."""


@dataclass
class Outcome:
    """How a run ended. `problem` is empty if all was well; `story` says what happened, `trace` is a hash of it all."""

    problem: str = ""
    story: list[str] = field(default_factory=list)
    trace: str = ""
    virtual_s: float = 0.0
    turns: int = 0


class World:
    """Made for one plan."""

    def __init__(self, plan: Plan, loop: SimLoop) -> None:
        self.plan, self.loop = plan, loop
        self.story: list[str] = []
        self.mistakes: list[str] = []
        self.released: dict[str, asyncio.Task[Decided]] = {}
        self.refused: set[int] = set()  # devices whose disk may have refused to remove what was left over
        self.book = Book()
        self.network = SimNetwork(plan.seed)
        runtime = _NetworkRuntime(loop)
        memory = MemoryNetwork(runtime)
        self.network.hook(memory)
        beginning = begin(plan.devices, plan.relayed)
        self.devices = {
            number: SimDevice(
                loop,
                number,
                plan.seed,
                beginning,
                self.network,
                memory,
                self._failed,
                joins=number in plan.joins,
                relayed=plan.relayed,
            )
            for number in range(1, plan.devices + 1)
        }
        self.users = {number: User(device.disk, self.book) for number, device in self.devices.items()}
        self.relay = SimRelay(loop, plan.seed, self.network, memory, self._failed) if plan.relayed else None
        chance = random.Random(f"{plan.seed} trouble")
        self.network.delay_max_s = chance.choice((0.0, 0.02, 0.5))
        for device in self.devices.values():
            device.lost, device.overflows = chance.choice(((0.0, 0.0), (0.0, 0.0), (0.3, 0.02), (1.0, 0.0)))
            device.clock_ns = chance.choice((0, 0, 1, -1)) * chance.randrange(10**9, 10**17)

    def _failed(self, name: str, error: BaseException) -> None:
        self.mistakes.append(f"task {name!r} failed: " + "".join(traceback.format_exception(error)))

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.now:9.4f}  {text}")

    # --- the run --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live through the plan. Raises Wrong."""
        for act in self.plan.before:
            self._user(act)
        for number, device in self.devices.items():
            self.loop.call_later(self.plan.starts[number - 1], self._start, device)
        if self.relay is not None:
            self.relay.start()
        for act in self.plan.acts:
            self.loop.call_later(act.at, self._begin, act)
        last = max([act.at + act.lasts for act in self.plan.acts] + [*self.plan.starts, 0.0])
        await asyncio.sleep(last + 1)
        await self._rest("after the history")
        await self._look("after a look at everything")
        self._check()
        for act in self.plan.after:
            await self._alone(act)
        await self._restart()

    def _start(self, device: SimDevice) -> None:
        if not device.process.alive:
            self.tell(f"device {device.number} starts")
            device.start()

    def _begin(self, act: Act) -> None:
        """Do an act now, or a few steps of the machine's process later; then at its deadline if those never come."""
        device = self.devices[act.machine]
        done = False

        def do() -> None:
            nonlocal done
            if not done:
                done = True
                self._do(act)

        # Between the last look at a file and its exchange, a change that puts size and mtime back shows nowhere.
        if act.steps and device.process.alive and act.kind != "same_size":
            device.process.at(act.steps, do)
            self.loop.call_later(1.0, do)
        else:
            do()

    def _do(self, act: Act) -> None:
        doing: Callable[[Act, SimDevice], None] | None = getattr(self, f"_{act.kind}", None)
        if doing is None:
            self._user(act)
        else:
            self.tell(f"#{act.number} machine {act.machine}: {act.kind} for {act.lasts:.2f} s")
            doing(act, self.devices[act.machine])

    def _user(self, act: Act) -> str:
        by = f"act {act.number}"
        done = self.users[act.machine].do(act.kind, random.Random(f"{self.plan.seed} {act.number}"), by)
        if done:
            self.tell(f"#{act.number} user {act.machine} {done}")
        return done

    # --- trouble --------------------------------------------------------------------------------------------------

    def _kill(self, act: Act, device: SimDevice) -> None:
        device.kill()
        self.loop.call_later(act.lasts, self._start, device)

    def _power_cut(self, act: Act, device: SimDevice) -> None:
        device.power_cut()
        checks.nothing_torn(self.book, device, self.users[device.number])
        self.loop.call_later(act.lasts, self._start, device)

    def _back_up(self, act: Act, device: SimDevice) -> None:
        device.back_up()
        self.loop.call_later(act.lasts, self._start, device)

    def _restore_file(self, act: Act, device: SimDevice) -> None:
        device.restore(device.mark._replace(place=b"restored by %d" % act.number))
        self.loop.call_later(act.lasts, self._start, device)

    def _restore_system(self, act: Act, device: SimDevice) -> None:
        device.restore(device.mark._replace(boot=b"after %d" % act.number))
        self.loop.call_later(act.lasts, self._start, device)

    def _stop(self, act: Act, device: SimDevice) -> None:
        async def stop() -> None:
            await device.stop()
            await asyncio.sleep(act.lasts)
            self._start(device)

        self._task = self.loop.create_task(stop())

    def _apart(self, act: Act, device: SimDevice) -> None:
        chance = random.Random(f"{self.plan.seed} {act.number}")
        machines = [0, *self.devices] if self.relay else list(self.devices)
        others = [other for other in machines if other != act.machine]
        cut = {frozenset((act.machine, other)) for other in others if len(others) == 1 or chance.random() < 0.7}
        self.network.apart |= cut
        self.loop.call_later(act.lasts, lambda: self.network.apart.difference_update(cut))

    def _clock(self, act: Act, device: SimDevice) -> None:
        chance = random.Random(f"{self.plan.seed} {act.number}")
        device.clock_ns += chance.choice((1, -1)) * chance.choice((10**6, 10**9, 10**12, 10**16))

    def _disk_full(self, act: Act, device: SimDevice) -> None:
        device.disk.free_bytes = 0
        self._trouble(act, device, ("write", "create", "make_directory"), FULL_SHARE, errno.ENOSPC)

    def _disk_errors(self, act: Act, device: SimDevice) -> None:
        self.refused.add(act.machine)
        calls = ("write", "fsync", "rename_new", "exchange", "rename", "read", "names", "status", "unlink", "open_file")
        self._trouble(act, device, calls, ERROR_SHARE, errno.EIO)

    def _trouble(self, act: Act, device: SimDevice, calls: tuple[str, ...], share: float, code: int) -> None:
        chance = random.Random(f"{self.plan.seed} {act.number}")
        if random.Random(f"{self.plan.seed} {act.number} index").random() < INDEX_SHARE:
            calls += ("commit", "statement", *(("select",) if code == errno.EIO else ()))

        def fault(call: str) -> None:
            if call in calls and chance.random() < share:
                raise refuse(code)

        def end() -> None:
            device.disk.free_bytes = 1 << 40
            device.refuses = device.process.fault = lambda call: None

        device.refuses = device.process.fault = fault
        self.loop.call_later(act.lasts, end)

    def _relay(self, act: Act, device: SimDevice) -> None:
        if self.relay is not None:
            self.relay.kill()
            self.loop.call_later(act.lasts, self.relay.start)

    # --- rest -----------------------------------------------------------------------------------------------------

    async def _rest(self, when: str) -> None:
        """Wait until nothing is left to do anywhere."""
        end = self.loop.now + REST_S
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0.3 if not quiet else 2.5)
            self._no_mistakes()
            why = self._busy()
            quiet = 0 if why else quiet + 1
            if why and self.loop.now > end:
                raise Wrong(f"the mesh does not come to rest {when}: {why}")
        self.tell(f"at rest {when}")

    def _no_mistakes(self) -> None:
        if self.mistakes:
            raise Wrong(self.mistakes[0])

    def _busy(self) -> str:
        """Return what is still to be done, empty if nothing is."""
        heads = None
        for number, device in self.devices.items():
            folder = device.folder
            if folder is None or folder.loop is None:
                return f"device {number} does not run: {folder and folder.problems}"
            if folder.joining:
                return f"device {number} is still joining"
            self._release(folder)
            if not folder.loop.idle:
                return f"device {number} is {folder.loop.phase}: {folder.loop.problem} {folder.loop.blocked()}"
            mine = sorted(folder.replica.chains.heads())
            if heads is not None and mine != heads:
                return f"device {number} has other entries than device 1"
            heads = mine
            if self.relay is not None:
                client = device.agent.relays.get(device.beginning.relay.device) if device.agent else None  # type: ignore[arg-type]
                if client is None or client.link is None:
                    return f"device {number} is not linked to the relay"
                if folder.relay_rows.unseen_entries(client.link.peer, 1):
                    return f"device {number} has entries that the relay has not"
                if waiting := folder.durability.owing().not_durable:
                    return f"device {number} waits for {waiting} versions to be stored"
        return ""

    def _release(self, folder: Folder) -> None:
        """Say yes to what a safeguard asks: here every removal is meant."""
        assert folder.loop is not None
        for hold in folder.loop.guard.holds.values():
            if hold.id not in self.released:
                self.released[hold.id] = self.loop.create_task(folder.loop.decisions.ask(hold.id, Verb.RELEASE))
                self.released[hold.id].add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _look(self, when: str) -> None:
        """Have everything looked at; again if that may have changed hard links, of whose other names nobody tells."""
        for _ in range(2 if self._has_hard_links() else 1):
            self._look_everywhere()
            await self._rest(when)

    def _has_hard_links(self) -> bool:
        return any(inode.is_file and len(inode.places) > 1 for user in self.users.values() for _, inode in user.walk())

    def _look_everywhere(self) -> None:
        for device in self.devices.values():
            folder = device.folder
            assert folder is not None and folder.loop is not None
            folder.loop.look_at(None)

    def _trees(self) -> dict[str, checks.Tree]:
        return {f"device {number}": checks.tree(user) for number, user in self.users.items()}

    def _check(self) -> None:
        trees = self._trees()
        checks.same_trees(trees)
        checks.nothing_lost(self.book, trees)
        for number, device in self.devices.items():
            checks.nothing_torn(self.book, device, self.users[number])
            if device.number not in self.refused:
                checks.nothing_staged(device)
            checks.equal_to_view(device, trees[f"device {number}"])
            checks.nobody_accused(device)
            if self.relay is not None:
                checks.durable_at_relay(device, self.relay)

    async def _alone(self, act: Act) -> None:
        """One user acts while all is at rest: every device then shows exactly what that user sees."""
        if not self._user(act):
            return
        expected = checks.tree(self.users[act.machine])
        await self._look(f"after act {act.number}")
        self._check()
        if self._has_hard_links():
            return  # a change of one name of a hard link is one of the others too, on the devices that have it
        checks.same_trees({f"what user {act.machine} did": expected, **self._trees()})

    async def _restart(self) -> None:
        """Every agent ends and starts again: nothing changes, and nothing is left over."""
        before = self._trees()
        for device in self.devices.values():
            await device.stop()
        for device in self.devices.values():
            self._start(device)
        await self._rest("after a restart")
        self.refused.clear()
        self._check()
        checks.same_trees({"before the restart": before["device 1"], **self._trees()})


class _NetworkRuntime:
    """The part of a `Runtime` that a network takes; each socket has the runtime of its own process."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now


def run(plan: Plan) -> Outcome:
    """Run a plan to its end."""
    logging.disable(logging.CRITICAL)
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    outcome = Outcome()
    world = World(plan, loop)
    noticed: list[str] = []
    loop.set_exception_handler(lambda _, context: noticed.append(str(context)))
    try:
        loop.run_until_complete(world.run())
    except Wrong as error:
        outcome.problem = str(error)
    except Deadlock as error:
        outcome.problem = str(error)
    finally:
        for device in world.devices.values():
            device.kill()
            device.index.close()
        if world.relay is not None:
            world.relay.kill()
        _finish(loop)
    outcome.story = world.story
    digest = hashlib.blake2b(digest_size=8)
    for line in [*world.story, f"{loop.turns}", f"{world.network.packets}"]:
        digest.update(line.encode())
    for number, device in world.devices.items():
        digest.update(f"{number} {device.process.steps} {sorted(checks.tree(world.users[number]).items())}".encode())
    outcome.trace, outcome.virtual_s, outcome.turns = digest.hexdigest(), loop.now, loop.turns
    return outcome


def _finish(loop: SimLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    asyncio.set_event_loop(None)
    loop.close()
