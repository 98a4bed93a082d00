"""The servers: how each is built and started, and the process that it is while it runs."""

from __future__ import annotations

import ctypes
import json
import re
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from comparison.machine import WrongWords

PEERS = Path(__file__).resolve().parents[1]
ROOT = PEERS.parents[1]

CORELANE = "corelane"
CORELANE_BP0 = "corelane-bp0"
RUST_PEERS = {
    "tokio": "peer-tokio",
    "monoio": "peer-monoio",
    "compio": "peer-compio",
    "glommio": "peer-glommio",
    "epoll": "peer-epoll",
    "io_uring": "peer-io-uring",
}
ASIO = "asio"
NAMES = [CORELANE, CORELANE_BP0, *RUST_PEERS, ASIO]

READY_WITHIN_SECONDS = 10.0
STOPPED_WITHIN_SECONDS = 5.0
LISTENING = re.compile(r"listening on (\S+)")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class BuildFailed(Exception):
    """Something could not be built."""


class ServerFailed(Exception):
    """A server did not do what it was started for."""


@dataclass(frozen=True)
class Server:
    """A server to compare. `{cpu}` in a word of its command is where it has to run."""

    name: str
    command: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Server:
        """From the NAME=COMMAND of the command line."""
        name, equals, command = text.partition("=")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise WrongWords(f"--server {text!r}: {error}") from error
        if not (name and equals and words and "{cpu}" in command):
            raise WrongWords(
                f"--server takes NAME=COMMAND with {{cpu}} where the CPU's number belongs, "
                f"not {text!r}"
            )
        return Server(name, words)

    @property
    def is_corelane(self) -> bool:
        return self.name in (CORELANE, CORELANE_BP0)


class Running:
    """A server's process, from when it listens to the end of the `with`."""

    def __init__(self, server: Server, cpu: int) -> None:
        self._server = server
        self._command = [word.replace("{cpu}", str(cpu)) for word in server.command]
        # Its working folder, so that whatever it leaves goes away with it.
        self._folder = tempfile.TemporaryDirectory(prefix="corelane-peers-")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self._server.name} was not started")
        return self._process.pid

    def __enter__(self) -> Running:
        folder = Path(self._folder.name)
        try:
            with open(folder / "stdout", "wb") as stdout, open(folder / "stderr", "wb") as stderr:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=folder,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            self.address = self._wait_until_ready(folder / "stdout")
        except OSError as error:
            self._end()
            raise ServerFailed(f"it does not start: {error}") from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _wait_until_ready(self, stdout: Path) -> str:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            text = stdout.read_text(encoding="utf-8", errors="replace")
            # Whole lines alone: half an address is one, too.
            found = LISTENING.search(text[: text.rfind("\n") + 1])
            if found:
                return found[1]
            self.check()
            time.sleep(0.005)
        raise ServerFailed(
            f"it did not print `listening on ADDR` within {READY_WITHIN_SECONDS:.0f} s"
        )

    def check(self) -> None:
        """Raises if it has ended, with what it said."""
        if self._process is None or self._process.poll() is None:
            return
        stderr = Path(self._folder.name) / "stderr"
        lines = stderr.read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise ServerFailed(f"it ended with status {self._process.returncode}: {said}")

    def _end(self) -> None:
        end(self._process)
        self._process = None
        self._folder.cleanup()


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Ends a process of ours: asked first, then killed. It is gone when this returns."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    """In the child: a comparison that is killed cannot tidy up, so its children go with it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def build(names: list[str]) -> tuple[Path, list[Server]]:
    """Builds what these names need. Returns corelane's program, which also makes the load, and the
    servers in the order of the names."""
    _cargo_build(ROOT, ["--bin", "corelane"])
    corelane = _target_folder(ROOT) / "release" / "corelane"
    peers_folder = _target_folder(PEERS) / "release"
    binaries = [RUST_PEERS[name] for name in names if name in RUST_PEERS]
    if binaries:
        _cargo_build(PEERS, [word for binary in binaries for word in ("--bin", binary)])
    if ASIO in names:
        peers_folder.mkdir(parents=True, exist_ok=True)
        _run([str(PEERS / "asio" / "build"), str(peers_folder / "peer-asio")])
    return corelane, [command(name, corelane, peers_folder) for name in names]


def command(name: str, corelane: Path, peers_folder: Path) -> Server:
    """How a server is started: corelane's program, or that of a peer."""
    if name in (CORELANE, CORELANE_BP0):
        words = ["serve", "--admin", "off", "--listen", "127.0.0.1:0", "--shards", "1", "--cpus", "{cpu}"]
        words += ["--set", "log.level=warn"]
        if name == CORELANE_BP0:
            words += ["--set", "shards.busy_poll_us=0"]
        return Server(name, (str(corelane), *words))
    program = peers_folder / RUST_PEERS.get(name, f"peer-{name}")
    return Server(name, (str(program), "--listen", "127.0.0.1:0", "--cpu", "{cpu}"))


def _cargo_build(folder: Path, words: list[str]) -> None:
    manifest = ["--manifest-path", str(folder / "Cargo.toml")]
    _run(["cargo", "build", "--release", "--locked", *manifest, *words])


def _target_folder(folder: Path) -> Path:
    words = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    told = subprocess.run(
        [*words, "--manifest-path", str(folder / "Cargo.toml")], stdout=subprocess.PIPE, check=False
    )
    if told.returncode != 0:
        raise BuildFailed(f"`cargo metadata` failed in {folder}: see above")
    return Path(json.loads(told.stdout)["target_directory"])


def _run(command: list[str]) -> None:
    """What the command says goes to the terminal."""
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise BuildFailed(f"`{command[0]}` does not start: {error}") from error
    if status != 0:
        raise BuildFailed(f"`{shlex.join(command)}` failed: see above")
