"""A device made of the real engine over a disk in memory: scans, reconciles, publishes, applies; may crash.

With `scoped` it plans as the agent does: only for what changed since the plan before, and for everything after a crash.
"""

from __future__ import annotations

from dataclasses import replace

from meshsync.ids import ChainId, DeviceId, NodeId
from meshsync.sync.actions import Action, Move, Remove, SetAttr, nodes_of
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.disk_rows import Intent, SyncedRow
from meshsync.sync.draft import Publisher
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen, Plan, Scope, reconcile
from meshsync.sync.settle import finished_intents, lost_parked
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View
from tests.sync.disk_twin import DiskTwin, Path

MTIMES_APART_NS = 1_000_000  # two devices never make the same mtime


class DeviceTwin:
    def __init__(self, number: int) -> None:
        self.device = DeviceId(bytes([number]) * 32)
        self.chain = ChainId(bytes([0x80 + number]) * 32)
        self.view = View()
        self.synced = SyncedTree()
        self.disk = DiskTwin(number * MTIMES_APART_NS)
        self.log: list[DeliveredEntry] = []
        self.time = 0
        self.intents: list[Intent] = []
        self.frozen = NOTHING_FROZEN  # what a hold leaves out of every plan
        self.scoped = False
        self.everything = True  # the next plan is for the whole folder
        self.touched: set[Path] = set()  # by the user, since the last plan
        self.dirty: set[NodeId] = set()  # in the view, since the last plan, or left over from it

    def receive(self, entries: list[DeliveredEntry]) -> None:
        for entry in entries:
            if entry.seq > self.view.vector.get(entry.chain, 0):
                self.dirty |= self.view.apply(entry)
                self.log.append(entry)
                self.time = max(self.time, entry.time)

    def hold(self, frozen: Frozen) -> None:
        """Leave `frozen` out of every plan from now on, and what was left out before no more."""
        self.frozen = frozen
        self.everything = True

    def _scope(self) -> Scope | None:
        if not self.scoped or self.everything:
            return None
        held = self.frozen.paths, self.frozen.nodes | self.frozen.unseen
        return Scope(frozenset(self.touched) | held[0], frozenset(self.dirty) | held[1])

    def plan(self, scope: Scope | None = None) -> Plan:
        local = self.disk.scan()
        parked = {number: thing.inode for number, thing in self.disk.parked.items()}
        for row in finished_intents(self.intents, local, parked):
            self.synced.put(row)
        for number in self.disk.parked.keys() - self.synced.parked().keys():
            del self.disk.parked[number]
        self.intents = []
        for node in lost_parked(self.synced, self.disk.parked):
            self.synced.remove(node)
        return reconcile(self.synced, local, self.view, scope, self.frozen)

    def publish(self, scope: Scope | None = None) -> Plan:
        """Publish until nothing is left to publish; return the plan that remains."""
        for _ in range(4):
            plan = self.plan(scope or self._scope())
            self.record(plan)
            if not plan.again:
                self.everything, self.touched = False, set()
                self.dirty = plan.undone | {node for action in plan.apply for node in nodes_of(action)}
                return plan
            self.dirty |= plan.busy
        raise AssertionError("never at rest")

    def record(self, plan: Plan) -> None:
        self._put(plan.settled)
        for node in plan.forgotten:
            self.synced.remove(node)
        publisher = Publisher(plan.publish)
        while True:
            seq = self.view.vector.get(self.chain, 0) + 1
            batch = publisher.next_batch(self.chain, seq)
            if batch is None:
                return
            self.time += 1
            self.receive([DeliveredEntry(self.device, self.chain, seq, self.time, batch.ops)])
            self._put(batch.rows)
            for node in batch.gone:
                self.synced.remove(node)

    def sync(self) -> None:
        """Publish and apply everything."""
        plan = self.publish()
        for action in plan.apply:
            self.do(action)
        self.dirty = set(plan.undone)

    def do(self, action: Action) -> None:
        self.finish(action, self.disk.do(action))

    def do_and_crash(self, action: Action) -> None:
        """Carry out one action and die before it is recorded; only its intent is."""
        self.everything = True
        stat = self.disk.do(action)
        if not isinstance(action, Remove | SetAttr) and stat is not None and action.rows:
            path = action.target if isinstance(action.target, tuple) else None
            self.intents.append(Intent(path, stat.inode, action.rows))

    def finish(self, action: Action, stat: object) -> None:
        for node in getattr(action, "gone", ()):
            self.synced.remove(node)
        is_known = isinstance(action, Move | Remove)  # the object is the same, and only its ctime may be another
        self._put([row if row.stat and is_known else replace(row, stat=stat) for row in action.rows])

    def _put(self, rows: list[SyncedRow] | tuple[SyncedRow, ...]) -> None:
        for row in rows:
            self.synced.put(row)


def exchange(*devices: DeviceTwin) -> None:
    """Everyone gets every entry."""
    entries = {(e.chain, e.seq): e for device in devices for e in device.log}
    ordered = sorted(entries.values(), key=lambda e: (e.time, e.device, e.seq))
    for device in devices:
        device.receive(ordered)


def settle(*devices: DeviceTwin) -> None:
    """Everyone publishes, everyone receives, everyone applies."""
    for device in devices:
        device.publish()
    exchange(*devices)
    for device in devices:
        device.sync()
    exchange(*devices)
    for device in devices:
        device.sync()
