"""A progress bar on stderr with rate and time left. Invariant: nothing is drawn before the first `update`."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from meshsync.cli.render import clock, rate, size


class ProgressBar:
    """Draws the state of a job. Use as a context manager; leaving it removes the bar."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, job: dict[str, Any]) -> None:
        """Draw `job`, an `api.Job` as parsed JSON."""
        if self._progress is None:
            self._start()
        text = f"{size(job['done'])} of {size(job['total'])}" if job["total"] else ""
        if job["rate"] > 0:
            text += f"  {rate(job['rate'], 1)}"
        if job["eta_s"] is not None:
            text += f"  ETA {clock(job['eta_s'])}"
        self._progress.update(self._task, completed=job["done"], total=job["total"] or None, text=text)
        self._progress.refresh()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task = self._progress.add_task(self._title, total=None, text="")
        self._progress.start()
