"""Makes a failing history small. Invariant: what comes out fails too."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.acts import Plan


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Drop acts, halves first and then one by one, while the history still fails."""
    size = max(1, _acts(plan) // 2)
    while True:
        smaller = False
        at = 0
        while at < _acts(plan):
            everything = (*plan.before, *plan.acts, *plan.after)
            tried = plan.without(everything[at : at + size])
            if fails(tried):
                plan, smaller = tried, True
            else:
                at += size
        if size == 1 and not smaller:
            return plan
        size = max(1, size // 2)


def _acts(plan: Plan) -> int:
    return len(plan.before) + len(plan.acts) + len(plan.after)
