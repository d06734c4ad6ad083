"""Does each planted fault make a test fail? `python -m tests.faults.run [--workers 2] [--only WORDS]`.

First every named test must pass as the product is; then, for each fault, on a copy of the product with that one change,
at least one must fail. Prints a line for each; exits with 1 if a fault goes unnoticed or a test cannot be run.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.planted import FAULTS, Fault

ROOT = Path(__file__).parents[2]
COPIED = ("meshsync", "relay", "tests", "docs", "pyproject.toml", "README.md")
TIMEOUT_S = 120.0
PASSED, FAILED = 0, 1
"""What pytest exits with; anything else means that a test could not be run at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """`found`: which arguments of pytest noticed the fault, "" if none did; `problem`: why nothing can be said."""

    fault: Fault
    found: str
    problem: str
    seconds: float


def copy_product(target: Path) -> None:
    """Copy what the tests need to `target`."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, target / name)


def run_pytest(directory: Path, arguments: str) -> int | None:
    """Return pytest's exit code, None if it did not end in time.

    One process runs the tests: with more of them pytest tells a failure as an interruption, by another exit code.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *arguments.split()]
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None


def plant(directory: Path, fault: Fault) -> str:
    """Make the change in the copy; return what the file held. Raises ValueError if the fault no longer fits."""
    path = directory / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"the text to change stands {text.count(fault.old)} times in {fault.file}")
    path.write_text(text.replace(fault.old, fault.new))
    return text


def try_fault(directory: Path, fault: Fault) -> Result:
    """Plant one fault, run its tests until one fails, and take the fault out again."""
    since = time.monotonic()
    try:
        before = plant(directory, fault)
    except ValueError as error:
        return Result(fault, "", str(error), 0.0)
    found = problem = ""
    try:
        for arguments in fault.tests:
            code = run_pytest(directory, arguments)
            if code in (FAILED, None):
                found = arguments + (" (did not end)" if code is None else "")
                break
            if code != PASSED:
                problem = f"pytest {arguments} ends with {code}"
    finally:
        (directory / fault.file).write_text(before)
    return Result(fault, found, "" if found else problem, time.monotonic() - since)


def unsound(directory: Path, faults: Iterable[Fault]) -> list[str]:
    """Return the arguments of pytest that do not pass without a fault."""
    every = sorted({arguments for fault in faults for arguments in fault.tests})
    return [arguments for arguments in every if run_pytest(directory, arguments) != PASSED]


def try_all(faults: list[Fault], workers: int) -> list[Result]:
    """Try every fault, each worker in a copy of its own; print each result as it comes."""
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        waiting.put(fault)
    results: list[Result] = []

    def work() -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            copy_product(directory)
            while True:
                try:
                    fault = waiting.get_nowait()
                except queue.Empty:
                    return
                result = try_fault(directory, fault)
                results.append(result)
                said = f"found by {result.found}" if result.found else result.problem or "NOT FOUND"
                print(f"{fault.promise:4} {fault.name}: {said} ({result.seconds:.0f} s)", flush=True)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="faults whose name holds these words")
    parser.add_argument("--trust", action="store_true", help="do not first run the tests without a fault")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if options.only in fault.name]
    if not options.trust:
        with tempfile.TemporaryDirectory() as name:
            copy_product(Path(name))
            broken = unsound(Path(name), faults)
        if broken:
            print("these fail without any fault:", *broken, sep="\n  ")
            return 1
    results = try_all(faults, options.workers)
    missed = [result for result in results if not result.found]
    print(f"{len(results) - len(missed)} of {len(faults)} planted faults found")
    return 1 if missed or len(results) != len(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
