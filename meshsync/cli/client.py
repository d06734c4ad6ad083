"""The commands' side of the local API.

Invariant: whatever goes wrong, the caller gets a `MeshsyncError`, and no call waits longer than
CLI_REQUEST_TIMEOUT_S for a sign of life.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote_from_bytes

from meshsync.agent.home import Home
from meshsync.agent.socket_user import user_of_peer
from meshsync.errors import AgentNotRunning, ConfigError, MeshsyncError, PeerTimeout, TransientError
from meshsync.limits import CLI_ANSWER_BYTES_MAX, CLI_REQUEST_TIMEOUT_S, JOB_WAIT_S_MAX, KIB, PROGRESS_AFTER_S

PREFIX = "/api/v1"
Answer = dict[str, Any]
Watcher = Callable[[Answer], None]


class AgentProblem(MeshsyncError):
    """An error that the agent answered with; it carries the exit code and the class name of the original."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(
            str(problem.get("detail", "the agent refused")),
            device=str(problem.get("device", "")),
            folder=str(problem.get("folder", "")),
            path=str(problem.get("path", "")),
            next_step=str(problem.get("next", "")),
        )
        self.exit_code = int(problem.get("exit_code", 1))
        self.code = str(problem.get("code", "MeshsyncError"))
        self.why = str(problem.get("why", ""))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: bytes, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        if user_of_peer(self.sock) != os.geteuid():
            # Codes and recovery words go through here: who put a socket of his own in its place is told nothing.
            self.sock.close()
            raise PermissionError("another user listens")


class Client:
    """Asks the agent of one home. Each call is one connection; nothing needs closing."""

    def __init__(self, home: Home, timeout_s: float = CLI_REQUEST_TIMEOUT_S) -> None:
        self._home = home
        self._timeout_s = timeout_s

    def get(self, path: str, /, **query: str) -> Answer:
        """Return the answer of a GET. Raises AgentNotRunning, AgentProblem, PeerTimeout, TransientError."""
        return self._json("GET", path, query, None)

    def post(self, path: str, /, **body: object) -> Answer:
        """Return the answer of a POST with `body` as JSON. Raises as `get`."""
        return self._json("POST", path, {}, body)

    def job(self, path: str, watch: Watcher | None = None, /, **body: object) -> Answer:
        """Start a job and return its result when it is done. Raises as `get`, and the job's own error.

        `watch` is called with the job's state a few times a second once it runs longer than PROGRESS_AFTER_S.
        """
        job = self.post(path, **body)
        wait_s = PROGRESS_AFTER_S if watch else JOB_WAIT_S_MAX
        while job["state"] == "running":
            job = self.get(f"/jobs/{job['id']}", wait_s=str(wait_s))
            if watch is not None and job["state"] == "running":
                watch(job)
                wait_s = 0.5
        if job["state"] == "failed":
            raise AgentProblem(job["problem"])
        return cast(Answer, job["result"])

    def stream(self, path: str, /, **query: str) -> Iterator[bytes]:
        """Yield the bytes of a GET in pieces. Raises as `get`; TransientError if the answer is cut short."""
        response = self._request("GET", path, query, None)
        try:
            while piece := response.read1(64 * KIB):
                yield piece
        except TimeoutError as error:
            raise PeerTimeout("the agent stopped answering", next_step="meshsync doctor") from error
        except (OSError, http.client.HTTPException) as error:
            raise TransientError("the agent's answer was cut short", next_step="meshsync status") from error
        finally:
            response.close()

    def events(self, every_s: float) -> Generator[bytes, None, None]:
        """Yield at each piece of the event stream, and after `every_s` seconds of silence. Ends with the agent."""
        response = self._request("GET", "/events", {}, None)
        descriptor = response.fileno()
        try:
            while True:
                ready, _, _ = select.select([descriptor], [], [], every_s)
                piece = os.read(descriptor, 64 * KIB) if ready else b""
                if ready and not piece:
                    return
                yield piece
        finally:
            response.close()

    def _json(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None) -> Answer:
        response = self._request(method, path, query, body)
        try:
            return _object(_read(response))
        finally:
            response.close()

    def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None
    ) -> http.client.HTTPResponse:
        connection = _UnixConnection(os.fsencode(self._home.socket), self._timeout_s)
        data = None if body is None else json.dumps(body).encode("ascii")
        headers = {"Connection": "close"} | ({"Content-Type": "application/json"} if data is not None else {})
        try:
            connection.request(method, PREFIX + path + _query(query), data, headers)
            response = connection.getresponse()
        except TimeoutError as error:
            connection.close()
            raise PeerTimeout("the agent does not answer", next_step="meshsync doctor") from error
        except PermissionError as error:
            connection.close()
            raise ConfigError("the agent here belongs to another user", path=str(self._home.path)) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            raise AgentNotRunning("no agent is running here", next_step="meshsync up") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransientError(f"lost the connection to the agent: {error}", next_step="meshsync status") from error
        if response.status >= 400:
            raise AgentProblem(_object(_read(response)))
        return response


def _query(query: Mapping[str, str]) -> str:
    pairs = [f"{name}={quote_from_bytes(os.fsencode(value), safe='')}" for name, value in query.items() if value]
    return "?" + "&".join(pairs) if pairs else ""


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        data = response.read(CLI_ANSWER_BYTES_MAX)
        if response.length:
            raise TransientError("the agent's answer was cut short", next_step="meshsync status")
    except TimeoutError as error:
        raise PeerTimeout("the agent stopped answering", next_step="meshsync doctor") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError("the agent's answer was cut short", next_step="meshsync status") from error
    return data


def _object(data: bytes) -> Answer:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise TransientError("the agent's answer is not JSON", next_step="meshsync doctor") from error
    if not isinstance(value, dict):
        raise TransientError("the agent's answer is not an object", next_step="meshsync doctor")
    return value
