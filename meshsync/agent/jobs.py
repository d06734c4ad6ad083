"""Work that outlives the request which started it.

Invariant: at most JOBS_RUNNING_MAX jobs run and JOBS_KEPT_MAX finished ones are remembered; a job ends in exactly
one of `done` and `failed`, and its outcome never changes afterwards.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

import msgspec

from meshsync.agent import api_schema as api
from meshsync.agent.events import EventRing
from meshsync.agent.operations import Progress
from meshsync.agent.problems import problem_of
from meshsync.errors import MeshsyncError, NotFound, TransientError
from meshsync.limits import JOB_RATE_WINDOW_S, JOB_WAIT_S_MAX, JOBS_KEPT_MAX, JOBS_RUNNING_MAX
from meshsync.runtime import Runtime

Work = Callable[[Progress], Awaitable[api.Schema]]
RATE_SAMPLES_MAX = 64
_STOPPING = TransientError("the agent is stopping", next_step="meshsync up")


class _Running:
    """One job and its rate. Progress comes in by call; the state is read as an `api.Job`."""

    def __init__(self, job_id: str, kind: str, runtime: Runtime) -> None:
        self.job = api.Job(id=job_id, kind=kind, state="running")
        self.finished = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._runtime = runtime
        self._samples: deque[tuple[float, int]] = deque([(runtime.monotonic(), 0)], maxlen=RATE_SAMPLES_MAX)

    def progress(self, done: int, total: int) -> None:
        now = self._runtime.monotonic()
        if now - self._samples[-1][0] >= JOB_RATE_WINDOW_S / RATE_SAMPLES_MAX:
            self._samples.append((now, done))
        while len(self._samples) > 1 and now - self._samples[0][0] > JOB_RATE_WINDOW_S:
            self._samples.popleft()
        since, base = self._samples[0]
        rate = max(0.0, (done - base) / (now - since)) if now > since else 0.0
        eta_s = max(0, total - done) / rate if rate > 0 else None
        self.job = msgspec.structs.replace(self.job, done=done, total=total, rate=rate, eta_s=eta_s)

    def close(self, **outcome: object) -> None:
        self.job = msgspec.structs.replace(self.job, rate=0.0, eta_s=None, **outcome)
        self.finished.set()


class Jobs:
    """The jobs of one agent. Belongs to one loop."""

    def __init__(self, runtime: Runtime, events: EventRing) -> None:
        self._runtime = runtime
        self._events = events
        self._jobs: OrderedDict[str, _Running] = OrderedDict()

    def start(self, kind: str, work: Work) -> api.Job:
        """Start `work` and return its job, running. Raises TransientError when too many run already."""
        running = sum(not job.finished.is_set() for job in self._jobs.values())
        if running >= JOBS_RUNNING_MAX:
            raise TransientError(f"{running} jobs are running already", next_step="meshsync status")
        record = _Running(self._runtime.random_bytes(8).hex(), kind, self._runtime)
        self._jobs[record.job.id] = record
        self._forget()
        record.task = self._runtime.spawn(self._run(record, work), f"job {kind}")
        return record.job

    def all(self) -> list[api.Job]:
        """Return every job that is remembered, oldest first."""
        return [record.job for record in self._jobs.values()]

    async def get(self, job_id: str, wait_s: float = 0.0) -> api.Job:
        """Return a job, after waiting at most `wait_s` seconds for its end. Raises NotFound."""
        record = self._jobs.get(job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id}", next_step="meshsync status")
        if wait_s > 0 and not record.finished.is_set():
            try:
                async with asyncio.timeout(min(wait_s, JOB_WAIT_S_MAX)):
                    await record.finished.wait()
            except TimeoutError:
                pass  # still running is an answer
        return record.job

    async def close(self) -> None:
        """Cancel what runs and return when it has ended."""
        tasks = [record.task for record in self._jobs.values() if record.task is not None and not record.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for record in self._jobs.values():
            if not record.finished.is_set():  # cancelled before its first step
                record.close(state="failed", problem=problem_of(_STOPPING))

    async def _run(self, record: _Running, work: Work) -> None:
        try:
            result = await work(record.progress)
        except MeshsyncError as error:
            record.close(state="failed", problem=problem_of(error))
        except asyncio.CancelledError:
            record.close(state="failed", problem=problem_of(_STOPPING))
            raise
        else:
            record.close(state="done", result=msgspec.to_builtins(result))
        finally:
            if not record.finished.is_set():  # a defect in `work`; it reaches the loop's exception handler
                record.close(
                    state="failed", problem=problem_of(MeshsyncError("the agent failed inside this operation"))
                )
            self._events.publish("job", {"id": record.job.id, "kind": record.job.kind, "state": record.job.state})

    def _forget(self) -> None:
        finished = [job_id for job_id, record in self._jobs.items() if record.finished.is_set()]
        for job_id in finished[: max(0, len(finished) - JOBS_KEPT_MAX)]:
            del self._jobs[job_id]
