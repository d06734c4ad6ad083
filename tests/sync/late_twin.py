"""A device twin whose contents arrive one by one, while its user and other devices go on and new plans are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from meshsync.agent.unfinished import Unfinished
from meshsync.agent.work import Group, path_text
from meshsync.content.record import Content
from meshsync.ids import NodeId
from meshsync.sync.actions import Action, Move, WriteFile, nodes_of
from meshsync.sync.reconcile import Plan, Scope
from tests.sync.device_twin import DeviceTwin, exchange
from tests.sync.disk_twin import DiskTwin, Object

ROUNDS_MAX = 12


class LateTwin(DeviceTwin):
    """What is planned waits in `unfinished` until its content is there, as in the agent."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.unfinished = Unfinished(self.synced)
        self._used: Scope | None = None

    def _scope(self) -> Scope | None:
        scope = super()._scope()
        self._used = None if scope is None else self.unfinished.widened(scope, self.view)
        return self._used

    def publish(self, scope: Scope | None = None) -> Plan:
        """Publish what the user did, and take up the plan that remains."""
        plan = super().publish(scope)
        _, again = self.unfinished.drop(self._used, plan.apply)
        self.unfinished.add(plan.apply, [])
        self.dirty = set(plan.undone) | again
        return plan

    def arrive(self, given: Callable[[Content], bool]) -> bool:
        """Stage the contents that are `given`, and do what waits for nothing more; return whether anything was done."""
        waiting = [
            action
            for group in self.unfinished.groups
            for action in group.actions
            if isinstance(action, WriteFile) and action.node in group.waiting
        ]
        self.unfinished.arrived({action.node for action in waiting if given(action.content)})
        ready = self.unfinished.ready(lambda group: False)
        self._carry_out(ready)
        return bool(ready)

    def _carry_out(self, groups: Sequence[Group]) -> None:
        outcomes = {group: [self._is_done(action) for action in group.actions] for group in groups}
        failed = {group for group, done in outcomes.items() if not all(done)}
        self.unfinished.finish([group for group in groups if group not in failed])
        self.dirty |= self.unfinished.give_up(failed)

    def _is_done(self, action: Action) -> bool:
        try:
            self.do(action)
        except AssertionError:  # its user was faster: what was not expected is looked at
            places = (action.source, action.target) if isinstance(action, Move) else (action.target,)
            self.touched |= {path_text(place) for place in places if isinstance(place, tuple)}
            self.dirty |= nodes_of(action)
            return False
        return True

    def crash(self) -> None:
        """Lose what was only in memory."""
        self.everything = True
        self.unfinished = Unfinished(self.synced)

    def left(self) -> set[NodeId]:
        """Return what is still to be done."""
        return self.dirty | {action.node for group in self.unfinished.groups for action in group.actions}


def is_somewhere(devices: Sequence[DeviceTwin]) -> Callable[[Content], bool]:
    """Return whether a content lies on the disk of one of the devices: else nobody could send it."""
    held = {content for device in devices for content in _contents(device.disk)}
    return lambda content: content in held or not content.size


def _contents(disk: DiskTwin) -> list[Content]:
    found: list[Content] = []
    pending: list[Object] = [disk.root, *disk.parked.values()]
    while pending:
        thing = pending.pop()
        found.append(thing.content)
        pending += (thing.children or {}).values()
    return found


def settle_late(random: Random, devices: Sequence[LateTwin]) -> None:
    """Let everybody publish, receive and apply, in random order, until nothing is left. Raises AssertionError."""
    for _ in range(ROUNDS_MAX):
        for device in random.sample(devices, len(devices)):
            device.publish()
            exchange(*devices)
            device.publish()
            while device.arrive(is_somewhere(devices)):
                device.publish()
        if not any(device.left() for device in devices):
            return
    raise AssertionError(f"never done: {[device.unfinished.groups for device in devices]}")
