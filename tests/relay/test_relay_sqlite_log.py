"""The end of the SQLite log: what its asker gave up is still under way in a thread when the log is closed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from meshsync.runtime import SystemRuntime
from relay.drivers.sqlite_log import SqliteLog


async def test_a_read_that_nobody_waits_for_any_more_ends_before_the_log_is_closed(tmp_path: Path) -> None:
    runtime = SystemRuntime(threads=2)
    log = SqliteLog(tmp_path / "log.sqlite", runtime)
    begun, go = threading.Event(), threading.Event()
    answers: list[object] = []

    def question(db: sqlite3.Connection) -> None:
        begun.set()
        assert go.wait(20)
        try:
            answers.append(db.execute("SELECT 1").fetchone())
        except sqlite3.Error as error:
            answers.append(error)

    asking = asyncio.create_task(log._look(question))
    while not begun.is_set():
        await asyncio.sleep(0)
    asking.cancel()
    closing = asyncio.create_task(log.close())
    await asyncio.wait([closing], timeout=0.2)  # if it does not wait, it is done by then
    go.set()
    await closing
    assert answers == [(1,)]
    runtime.close()
