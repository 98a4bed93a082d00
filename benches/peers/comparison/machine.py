"""The machine: what it is, whose CPU is whose, and how many files may be open."""

from __future__ import annotations

import datetime
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path


class WrongWords(Exception):
    """The command line asks for what cannot be."""


@dataclass(frozen=True)
class Cpus:
    """Which CPU the server has, and which the load."""

    server: int
    load: int

    @staticmethod
    def choose(server: int | None, load: int | None) -> Cpus:
        """What is not asked for is chosen: the first CPU for the server, and for the load the first
        that shares no core with it, else any other, else the same."""
        allowed = sorted(os.sched_getaffinity(0))
        for asked in (server, load):
            if asked is not None and asked not in allowed:
                raise WrongWords(
                    f"CPU {asked} is not among those that this process may use: "
                    + ", ".join(map(str, allowed))
                )
        if server is None:
            server = next((cpu for cpu in allowed if cpu != load), allowed[0])
        if load is None:
            others = [cpu for cpu in allowed if cpu != server]
            apart = [cpu for cpu in others if cpu not in _siblings(server)]
            load = (apart + others + [server])[0]
        return Cpus(server, load)

    def __str__(self) -> str:
        text = f"server on CPU {self.server}, load on CPU {self.load}"
        if self.server == self.load:
            return (
                f"{text}: they SHARE ONE CPU, so messages/s and latencies are those of both "
                "together"
            )
        if self.load in _siblings(self.server):
            return f"{text}: two threads of ONE CORE, which slow each other down"
        return text


def _siblings(cpu: int) -> set[int]:
    """The CPUs that are threads of the same core; only itself if the kernel does not say."""
    listed = _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    found = {cpu}
    for part in (listed or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def describe(cpus: Cpus) -> dict[str, str]:
    """What a reader of the figures has to know about where they were taken."""
    governor = _read(f"/sys/devices/system/cpu/cpu{cpus.server}/cpufreq/scaling_governor")
    congestion = _read("/proc/sys/net/ipv4/tcp_congestion_control")
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "CPU": f"{_cpu_model()}, {os.cpu_count()} online, "
        f"{len(os.sched_getaffinity(0))} for this process",
        "CPU frequency governor": governor or "unknown",
        "TCP congestion control": congestion or "unknown",
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "pinning": str(cpus),
    }


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown model"


def _read(path: str) -> str | None:
    """What a file of the kernel says; None where this kernel or machine has no such file."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def raise_open_files() -> int:
    """As far as this process may; children inherit it. Returns how many may be open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 2**31 if hard == resource.RLIM_INFINITY else hard


def resident_bytes(pid: int) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")
