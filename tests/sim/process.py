"""One run of an agent's or a relay's program on a simulated machine: alive until it is killed.

Invariant: whatever the program does to its disk, index or network passes `step` first; a dead one does nothing more.
"""

from __future__ import annotations

from collections.abc import Callable


class Crashed(BaseException):
    """The process was killed here; nothing after this line of the product has happened."""


class Process:
    """`step` counts what the program does; `at` has something happen between two such steps."""

    def __init__(self) -> None:
        self.alive = True
        self.steps = 0
        self._due: list[tuple[int, Callable[[], None]]] = []
        self._busy = False
        self.fault: Callable[[str], None] = lambda call: None

    def at(self, steps: int, action: Callable[[], None]) -> None:
        """Run `action` just before the step that comes `steps` steps from now."""
        self._due.append((self.steps + steps, action))

    def cancel(self, action: Callable[[], None]) -> bool:
        """Forget an action; return whether it was still to come."""
        before = len(self._due)
        self._due = [item for item in self._due if item[1] is not action]
        return len(self._due) < before

    def step(self, call: str) -> None:
        """Let what is due happen. Raises Crashed if the process is dead, OSError if the disk refuses this call."""
        if not self.alive:
            raise Crashed(call)
        self.steps += 1
        if self._due and not self._busy:
            due = [action for at, action in self._due if at <= self.steps]
            if due:
                self._due = [item for item in self._due if item[0] > self.steps]
                self._busy = True
                for action in due:
                    action()
                self._busy = False
                if not self.alive:
                    raise Crashed(call)
        self.fault(call)
