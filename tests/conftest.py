"""How many processes share the tests: two for the fast ones of whole directories, this one alone for all others."""

import os

import pytest

WORKERS_MAX = 2
"""Processes. The time that docs/testing.md promises for the fast tests is for two cores."""


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of worker processes; 0 runs every test in this process.

    Slow, privileged and measuring tests start processes of their own and watch the time these take, so nothing runs
    beside them. Modules that are named one by one are over before workers have started.
    """
    fast_only = "not slow" in config.option.markexpr
    named = any(argument.split("::", 1)[0].endswith(".py") for argument in config.args)
    return min(WORKERS_MAX, os.cpu_count() or 1) if fast_only and not named else 0
