"""What an idle connection costs a server in resident memory."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from comparison.machine import resident_bytes
from comparison.servers import Running, Server, ServerFailed

PING = bytes.fromhex("0008000000000000")
# Come and gone before the first reading, so that tables and pools exist: that is what a server
# costs, not a connection.
FIRST_WAVE = 100
# Descriptors that a process needs besides its connections, generously.
OTHER_FILES = 200
SETTLED_READINGS = 5
READING_SECONDS = 0.1
SETTLED_WITHIN_SECONDS = 10.0
PATIENCE_SECONDS = 10.0


def connections_possible(asked: int, open_files: int) -> int:
    return max(0, min(asked, open_files - OTHER_FILES))


def measure(server: Server, cpu: int, connections: int) -> dict[str, Any]:
    """Resident bytes before and after so many connections, each of which had one PING answered."""
    with Running(server, cpu) as running:
        try:
            with _connected(running, FIRST_WAVE):
                pass
            before = _settled_resident_bytes(running.pid)
            with _connected(running, connections) as streams:
                after = _settled_resident_bytes(running.pid)
                for stream in streams:
                    _ping(stream)
        except (OSError, EOFError) as error:
            running.check()
            raise ServerFailed(f"an idle connection was not served: {error}") from error
    return {
        "connections": connections,
        "resident_bytes_before": before,
        "resident_bytes_after": after,
        "resident_bytes_per_connection": (after - before) / connections,
    }


@contextlib.contextmanager
def _connected(running: Running, connections: int) -> Iterator[list[socket.socket]]:
    host, _, port = running.address.rpartition(":")
    with contextlib.ExitStack() as stack:
        streams: list[socket.socket] = []
        for _ in range(connections):
            stream = stack.enter_context(
                socket.create_connection((host.strip("[]"), int(port)), PATIENCE_SECONDS)
            )
            # Closing resets: thousands of ports would wait a minute otherwise.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            _ping(stream)
            streams.append(stream)
        yield streams


def _ping(stream: socket.socket) -> None:
    stream.sendall(PING)
    reply = b""
    while len(reply) < len(PING):
        more = stream.recv(len(PING) - len(reply))
        if not more:
            raise EOFError("the server closed it")
        reply += more
    if reply != PING:
        raise EOFError(f"the reply to a PING was {reply.hex()}")


def _settled_resident_bytes(pid: int) -> int:
    """Once it has stopped changing."""
    deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
    readings = [resident_bytes(pid)]
    while len(readings) < SETTLED_READINGS or len(set(readings[-SETTLED_READINGS:])) > 1:
        if time.monotonic() > deadline:
            break
        time.sleep(READING_SECONDS)
        readings.append(resident_bytes(pid))
    return readings[-1]
