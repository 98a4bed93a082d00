"""One turn: a fresh server, `corelane load` on it, and what came of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.machine import Cpus, WrongWords
from comparison.servers import Running, Server, ServerFailed, end

BODY_BYTES = 32
# Beyond the time that a load takes: to connect, and to wait for late replies.
PATIENCE_SECONDS = 60.0
# Of the time, that other programs may keep one side off its CPU before it counts as disturbed.
DISTURBED_SHARE = 0.01


@dataclass(frozen=True)
class Shape:
    """What a load looks like."""

    connections: int
    pipeline: int
    body_bytes: int = BODY_BYTES

    @staticmethod
    def parse(text: str) -> Shape:
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
            raise WrongWords(
                f"a shape is CONNECTIONS/PIPELINE or CONNECTIONS/PIPELINE/BODY, not {text!r}"
            )
        return Shape(*map(int, parts))

    def __str__(self) -> str:
        body = "" if self.body_bytes == BODY_BYTES else f"/{self.body_bytes}"
        return f"{self.connections}/{self.pipeline}{body}"

    def title(self) -> str:
        one = "connection" if self.connections == 1 else "connections"
        return (
            f"{self.connections} {one}, pipeline {self.pipeline}, bodies of {self.body_bytes} bytes"
        )


@dataclass(frozen=True)
class Load:
    """How `corelane load` is started."""

    corelane: Path
    cpus: Cpus
    seconds: float
    warmup_seconds: float

    def command(self, shape: Shape, rate: float | None, server: Running) -> list[str]:
        words = [str(self.corelane), "load", server.address, "--json", "--threads", "1"]
        words += ["--connections", str(shape.connections), "--pipeline", str(shape.pipeline)]
        words += ["--body-size", str(shape.body_bytes), "--cpus", str(self.cpus.load)]
        if self.cpus.load == self.cpus.server:
            # By default it looks for replies before it sleeps, since it has a CPU by its words.
            words += ["--busy-poll", "0s"]
        words += ["--duration", _time(self.seconds), "--warmup", _time(self.warmup_seconds)]
        words += ["--server-pid", str(server.pid)]
        return words if rate is None else [*words, "--rate", f"{rate:.0f}"]

    def turn(self, server: Server, shape: Shape, rate: float | None = None) -> dict[str, Any]:
        """The record of one load on a fresh process of the server.

        Raises ServerFailed with a sentence if the server or the load did not do its part."""
        with Running(server, self.cpus.server) as running:
            patience = self.seconds + self.warmup_seconds + PATIENCE_SECONDS
            status, told, said = _finish(self.command(shape, rate, running), patience)
            if status != 0:
                running.check()
                raise ServerFailed(last_line(said) or f"the load ended with status {status}")
        try:
            record: dict[str, Any] = json.loads(told)
        except ValueError as error:
            raise ServerFailed(f"the load printed no JSON: {error}") from error
        if record["interrupted"]:
            raise KeyboardInterrupt
        return record


def _time(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _finish(command: list[str], patience: float) -> tuple[int, bytes, bytes]:
    # A session of its own, so that Ctrl-C comes to us alone and we end it in order.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        told, said = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"the load did not end within {patience:.0f} s") from error
    finally:
        end(process)
    return process.returncode, told, said


def last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def figures(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a record that are compared."""
    cpu_us = record["server"]["cpu_us_per_message"]
    latency_us = record["latency_us"]
    return {
        "messages_per_second": record["messages_per_second"],
        "server_cpu_us_per_message": cpu_us,
        "messages_per_server_cpu_second": 1e6 / cpu_us if cpu_us else 0.0,
        "load_cpu_us_per_message": record["load_cpu_us_per_message"],
        "p50_us": latency_us["p50"],
        "p99_us": latency_us["p99"],
        "p99.9_us": latency_us["p99.9"],
        "max_us": latency_us["max"],
    }


def disturbed_share(record: dict[str, Any], side: str) -> float:
    """The share of the time in which other programs kept the "server" or the "load" off its CPU,
    if it is enough to matter; else 0."""
    waited = record["load_waited_seconds"]
    if side == "server":
        waited = record["server"]["waited_seconds"]
    if waited is None or not record["seconds"]:
        return 0.0
    share = float(waited / record["seconds"])
    return share if share > DISTURBED_SHARE else 0.0
