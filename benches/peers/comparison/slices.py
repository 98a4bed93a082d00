"""One round: all servers are there at once, and each in turn has the machine for a slice of time.

Whole turns, one after the other, are seconds apart, in which a shared host changes its speed by
more than what is compared. Slices of milliseconds meet the same mood, so the ratios of a round
are several times as near to each other. Latencies are the turns' affair: a load that waits for
its slice has long ones.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from comparison.loading import Load, Shape, last_line
from comparison.servers import Running, Server, ServerFailed, end

# Short against the host's moods, long against what a server needs to have its caches back.
SLICE_SECONDS = 0.02
# When a load stops, its server still has what was on its way. It is done with that when it has used
# no more than a tenth of such a time; with hundreds of connections that takes milliseconds.
SETTLE_SECONDS = 0.0005
SETTLES_MAX = 40
# A load's first slice, most of which does not count.
FIRST_SLICE_SECONDS = 0.2
WARMUP_SECONDS = 0.15
# Loads are ended by a signal, long before this.
LOAD_SECONDS = 3600.0
PATIENCE_SECONDS = 30.0


@dataclass
class Side:
    """A server and its load, which is stopped between its slices."""

    server: Server
    running: Running
    load: subprocess.Popen[bytes]
    # What the server has used up to the end of its last slice, and between its slices, in seconds.
    used: float = 0.0
    idle: float = 0.0

    def begin(self) -> None:
        self.idle += cpu_seconds(self.running.pid, self.used) - self.used
        self.load.send_signal(signal.SIGCONT)

    def pause(self) -> None:
        self.load.send_signal(signal.SIGSTOP)
        self.used = cpu_seconds(self.running.pid, self.used)
        for _ in range(SETTLES_MAX):
            time.sleep(SETTLE_SECONDS)
            before, self.used = self.used, cpu_seconds(self.running.pid, self.used)
            if self.used - before <= SETTLE_SECONDS / 10:
                return


def cpu_seconds(pid: int, of_gone: float) -> float:
    """The CPU time that a process has used, by its own clock; `of_gone` if it is gone, of which its
    load tells."""
    # CPUCLOCK_SCHED of that process, as clock_getcpuclockid(3) puts it together.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return of_gone


def cost(record: dict[str, Any], idle_cpu_seconds: float) -> dict[str, Any]:
    """What a server has used for the messages of a load: all but what it used between the slices."""
    used = record["server"]["cpu_seconds"] - idle_cpu_seconds
    return {"messages": record["messages"], "server_cpu_seconds": used}


def messages_per_server_cpu_second(record: dict[str, Any]) -> float:
    used: float = record["server_cpu_seconds"]
    return record["messages"] / used if used > 0 else 0.0


def round_of(
    load: Load, servers: list[Server], shape: Shape, seconds: float
) -> dict[str, dict[str, Any] | str]:
    """Gives each server so many seconds, in slices. What it cost comes back by its name, or why it
    failed."""
    outcomes: dict[str, dict[str, Any] | str] = {}
    with ExitStack() as stack:
        sides = []
        for server in servers:
            try:
                sides.append(_side(stack, load, server, shape))
            except ServerFailed as failure:
                outcomes[server.name] = str(failure)
        for _ in range(max(1, round(seconds / SLICE_SECONDS))):
            # None always follows the same other.
            random.shuffle(sides)
            for side in sides:
                # One that has ended is told of below.
                if side.load.poll() is None:
                    side.begin()
                    time.sleep(SLICE_SECONDS)
                    side.pause()
        for side in sides:
            try:
                outcomes[side.server.name] = _ended(side)
            except ServerFailed as failure:
                outcomes[side.server.name] = str(failure)
    return outcomes


def _side(stack: ExitStack, load: Load, server: Server, shape: Shape) -> Side:
    running = stack.enter_context(Running(server, load.cpus.server))
    long = replace(load, seconds=LOAD_SECONDS, warmup_seconds=WARMUP_SECONDS)
    process = subprocess.Popen(
        long.command(shape, None, running),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # Ended before its server is, or it would fail.
    stack.callback(_end_stopped, process)
    side = Side(server, running, process)
    time.sleep(FIRST_SLICE_SECONDS)
    side.pause()
    return side


def _end_stopped(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
    end(process)


def _ended(side: Side) -> dict[str, Any]:
    if side.load.poll() is None:
        side.begin()
        # Like Ctrl-C: it reports what it has done so far.
        side.load.send_signal(signal.SIGINT)
    try:
        told, said = side.load.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"the load did not end within {PATIENCE_SECONDS:.0f} s") from error
    if side.load.returncode != 0:
        side.running.check()
        raise ServerFailed(last_line(said) or f"the load ended with status {side.load.returncode}")
    try:
        return cost(json.loads(told), side.idle)
    except ValueError as error:
        raise ServerFailed(f"the load printed no JSON: {error}") from error
