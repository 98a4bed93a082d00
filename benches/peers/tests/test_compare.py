"""The comparison says what was measured: figures, ratios within a repeat, failures with their
reasons; and its servers are gone when it is done with them.

Run it with `python3 -B -m unittest discover -s benches/peers/tests`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PEERS))

from comparison import idle, report, slices
from comparison.figures import Spread, digits, table
from comparison.loading import Load, Shape
from comparison.machine import Cpus, WrongWords
from comparison.servers import ASIO, RUST_PEERS, Running, Server, ServerFailed, command

# Answers each PING of any number of connections, as any server might be written.
PING_SERVER = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1000
with Server(("127.0.0.1", 0), Echo) as server:
    print("warming up", flush=True)
    print("listening on 127.0.0.1:%d (cpu {cpu})" % server.server_address[1], flush=True)
    server.serve_forever()
"""

# A load that, like corelane's, reports when it is interrupted how many messages there were and what its
# server has used. It fails with bodies of seven bytes. The shell's, as it is there at once.
LOAD = """#!/bin/sh
case "$* " in *"--body-size 7 "*) echo "corelane: seven bytes are too few" >&2; exit 1;; esac
trap 'echo "{\\"messages\\": 500, \\"server\\": {\\"cpu_seconds\\": 1000.0}}"; exit 0' INT
while :; do sleep 0.1 & wait; done
"""


def record(messages_per_second: float, cpu_us: float, p999_us: float) -> dict[str, Any]:
    return {
        "messages_per_second": messages_per_second,
        "seconds": 3.0,
        "load_cpu_us_per_message": 1.0,
        "load_waited_seconds": 0.0,
        "latency_us": {"p50": 10.0, "p99": 20.0, "p99.9": p999_us, "max": 90.0},
        "server": {"cpu_us_per_message": cpu_us, "waited_seconds": 0.0},
    }


def turn(server: str, repeat: int, outcome: dict[str, Any] | str) -> dict[str, Any]:
    failed = isinstance(outcome, str)
    return {
        "server": server,
        "shape": "64/1",
        "repeat": repeat,
        "rate": None,
        "record": None if failed else outcome,
        "failure": outcome if failed else None,
    }


def results(closed: list[dict[str, Any]]) -> dict[str, Any]:
    settings = {"repeats": 2, "seconds": 3, "warmup_seconds": 1, "rounds": 0}
    rest: dict[str, Any] = {"tail": [], "idle": [], "notes": [], "interrupted": False, "rounds": []}
    return {"machine": {"kernel": "Linux"}, "settings": settings, "closed": closed, **rest}


def rows(tables: str, start: str) -> list[list[str]]:
    """The cells of the rows whose first cell begins so."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines()]
    return [row for row in cells if row and row[0].startswith(start)]


class Figures(unittest.TestCase):
    def test_digits_are_three(self) -> None:
        for value, expected in [
            (8.514e6, "8.51M"),
            (302_456, "302k"),
            (9_990, "9990"),
            (0.1174, "0.117"),
            (12.34, "12.3"),
        ]:
            self.assertEqual(digits(value), expected)

    def test_a_spread_is_the_median_and_both_ends(self) -> None:
        self.assertEqual(Spread.of([3.0, 1.0, 2.0]), Spread(2.0, 1.0, 3.0))
        self.assertIsNone(Spread.of([]))

    def test_a_median_is_in_its_interval_with_95_percent(self) -> None:
        # As the tables of the sign test have it: two-sided, at 5%.
        for count, outside in [(1, 0), (5, 0), (8, 0), (9, 1), (12, 2), (20, 5), (40, 13)]:
            spread = Spread.of_median(range(count))
            middle = (count - 1) / 2
            self.assertEqual(spread, Spread(middle, outside, count - 1 - outside))
        self.assertIsNone(Spread.of_median([]))

    def test_a_table_lines_up(self) -> None:
        self.assertEqual(table(["a", "b"], [["12", "3"]]), "| a  | b |\n|----|---|\n| 12 | 3 |\n")


class Words(unittest.TestCase):
    def test_shapes(self) -> None:
        self.assertEqual(Shape.parse("64/32"), Shape(64, 32, 32))
        for text in ["1/1", "64/1/16384"]:
            self.assertEqual(str(Shape.parse(text)), text)
        for text in ["", "64", "64/x", "1/2/3/4", "-1/1"]:
            self.assertRaises(WrongWords, Shape.parse, text)

    def test_servers(self) -> None:
        server = Server.parse("mine=/opt/my\\ server --cpu {cpu}")
        self.assertEqual(server, Server("mine", ("/opt/my server", "--cpu", "{cpu}")))
        for text in ["", "mine", "=x {cpu}", "mine=/opt/mine", "mine='{cpu}"]:
            self.assertRaises(WrongWords, Server.parse, text)

    def test_peers_get_the_words_that_they_know(self) -> None:
        """Once they got one of corelane's as well, and none of them started."""
        for name in [*RUST_PEERS, ASIO]:
            peer = command(name, Path("corelane"), Path("release"))
            self.assertEqual(peer.command[1:], ("--listen", "127.0.0.1:0", "--cpu", "{cpu}"))

    def test_cpus(self) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        chosen = Cpus.choose(None, None)
        self.assertEqual(chosen.server, allowed[0])
        self.assertEqual(chosen.server == chosen.load, len(allowed) == 1)
        self.assertIn("SHARE ONE CPU", str(Cpus.choose(allowed[0], allowed[0])))
        self.assertRaises(WrongWords, Cpus.choose, 100_000, None)

    def test_wrong_words_have_status_2(self) -> None:
        for words in [["--only", "nginx"], ["--shape", "1"], ["--repeats", "0"], ["--server", "x"]]:
            ran = subprocess.run([PEERS / "compare", *words], capture_output=True, check=False)
            self.assertEqual(ran.returncode, 2, words)
            self.assertEqual(ran.stdout, b"")


class Tables(unittest.TestCase):
    def test_ratios_are_taken_within_a_repeat(self) -> None:
        closed = [
            turn("corelane", 1, record(200.0, 1.0, 50.0)),
            turn("tokio", 1, record(100.0, 2.0, 100.0)),
            turn("corelane", 2, record(20.0, 10.0, 500.0)),
            turn("tokio", 2, record(20.0, 10.0, 500.0)),
        ]
        [ratio] = rows(report.markdown(results(closed)), "corelane / tokio")
        spread = "1.50 [1.00..2.00]"
        self.assertEqual(ratio[1:], [spread, spread, "0.750 [0.500..1.00]", "1.10", "yes, not settled"])

    def test_what_does_not_hold_is_said(self) -> None:
        closed = [turn("corelane", 1, record(96.0, 1.0 / 96, 1.0))]
        closed += [turn(peer, 1, record(100.0, 0.01, 1.0)) for peer in ("io_uring", "epoll")]
        tables = report.markdown(results(closed))
        self.assertEqual(rows(tables, "corelane / io_uring")[0][-2:], ["0.97", "**no**"])
        self.assertEqual(rows(tables, "corelane / epoll")[0][-2:], ["1.00", "**no**"])

    def test_a_verdict_that_another_run_may_turn_over_is_not_settled(self) -> None:
        for speeds, verdict in [((1.2, 1.3), "yes"), ((0.9, 1.3), "yes, not settled")]:
            closed = []
            for repeat, speed in enumerate(speeds, 1):
                closed.append(turn("corelane", repeat, record(100.0, 1.0 / speed, 1.0)))
                closed.append(turn("epoll", repeat, record(100.0, 1.0, 1.0)))
            [ratio] = rows(report.markdown(results(closed)), "corelane / epoll")
            self.assertEqual(ratio[-1], verdict)

    def test_a_failure_has_its_reason_and_leaves_the_others(self) -> None:
        closed = [
            turn("corelane", 1, record(100.0, 1.0, 10.0)),
            turn("epoll", 1, "it ended with status 1: no room"),
            turn("corelane", 2, record(300.0, 1.0, 10.0)),
            turn("epoll", 2, record(100.0, 1.0, 10.0)),
        ]
        tables = report.markdown(results(closed))
        self.assertIn("**failed**: epoll, repeat 1: it ended with status 1: no room", tables)
        self.assertEqual(rows(tables, "corelane / epoll")[0][2], "3.00 [3.00..3.00]")

    def test_where_there_are_rounds_cpu_time_is_compared_within_them(self) -> None:
        closed = [turn("corelane", 1, record(300.0, 1.0, 10.0)), turn("epoll", 1, record(100.0, 1.0, 10.0))]
        costs = [("corelane", 1, 2.0), ("epoll", 1, 3.0), ("corelane", 2, 4.0), ("epoll", 2, 8.0)]
        both = results(closed)
        both["settings"] |= {"rounds": 2, "round_seconds": 0.6}
        both["rounds"] = [
            turn(server, number, {"messages": 100, "server_cpu_seconds": cost})
            for server, number, cost in costs
        ]
        both["rounds"].append(turn("tokio", 1, "it ended"))
        tables = report.markdown(both)
        [ratio] = rows(tables, "corelane / epoll")
        self.assertEqual(ratio[1:3], ["1.75 [1.50..2.00]", "3.00 [3.00..3.00]"])
        self.assertIn("**failed**: tokio, round 1: it ended", tables)
        self.assertIn("rounds: 2, each of 0.6 s a server in slices of 0.02 s", tables)

    def test_what_a_server_uses_between_its_slices_costs_no_message(self) -> None:
        told = {"messages": 50, "server": {"cpu_seconds": 3.0}}
        cost = slices.cost(told, 1.0)
        self.assertEqual(slices.messages_per_server_cpu_second(cost), 25.0)

    def test_a_disturbed_server_is_named(self) -> None:
        disturbed = record(100.0, 1.0, 10.0)
        disturbed["server"]["waited_seconds"] = 0.06
        closed = [turn("corelane", 1, disturbed), turn("epoll", 1, record(1.0, 1.0, 1.0))]
        tables = report.markdown(results(closed))
        [line] = [line for line in tables.splitlines() if line.startswith("disturbed")]
        self.assertTrue(line.endswith("up to corelane 2.0% (load 0.0%)"), line)


class Processes(unittest.TestCase):
    def setUp(self) -> None:
        self.cpu = min(os.sched_getaffinity(0))
        # A shell can't trap what is ignored when it begins, as in the background of another shell.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def test_a_server_runs_as_long_as_it_is_used(self) -> None:
        server = Server("mine", (sys.executable, "-c", PING_SERVER, "{cpu}"))
        with Running(server, self.cpu) as running:
            pid = running.pid
            self.assertRegex(running.address, r"^127\.0\.0\.1:\d+$")
            os.kill(pid, 0)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_a_server_that_ends_says_why(self) -> None:
        program = "import sys; print('listening, soon'); sys.exit('no room {cpu}')"
        server = Server("mine", (sys.executable, "-c", program))
        with self.assertRaisesRegex(ServerFailed, f"status 1: no room {self.cpu}$"):
            Running(server, self.cpu).__enter__()

    def test_a_server_that_is_not_there_is_a_failure(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "does not start"):
            Running(Server("mine", ("/nowhere/mine", "{cpu}")), self.cpu).__enter__()

    def test_idle_connections_are_weighed(self) -> None:
        server = Server("mine", (sys.executable, "-c", PING_SERVER, "{cpu}"))
        weighed = idle.measure(server, self.cpu, 50)
        grew = weighed["resident_bytes_after"] - weighed["resident_bytes_before"]
        self.assertEqual(weighed["resident_bytes_per_connection"], grew / 50)

    def test_a_load_does_not_look_for_replies_on_the_cpu_of_the_server(self) -> None:
        server = Server("mine", (sys.executable, "-c", PING_SERVER, "{cpu}"))
        with Running(server, self.cpu) as running:
            for load_cpu, sleeps_at_once in ((1, False), (0, True)):
                load = Load(Path("corelane"), Cpus(0, load_cpu), 1.0, 1.0)
                words = " ".join(load.command(Shape(1, 1), None, running))
                self.assertEqual("--busy-poll 0s" in words, sleeps_at_once)

    def round_of(self, body_bytes: int) -> dict[str, dict[str, Any] | str]:
        command = (sys.executable, "-c", PING_SERVER, "{cpu}")
        servers = [Server("mine", command), Server("gone", ("/nowhere/mine", "{cpu}"))]
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "corelane"
            program.write_text(LOAD)
            program.chmod(0o755)
            load = Load(program, Cpus.choose(None, None), 1.0, 1.0)
            return slices.round_of(load, servers, Shape(1, 1, body_bytes), 0.5)

    def test_servers_have_their_slices_and_a_failure_leaves_the_others(self) -> None:
        outcomes = self.round_of(32)
        mine, gone = outcomes["mine"], outcomes["gone"]
        self.assertIn("does not start", gone)
        assert isinstance(mine, dict), mine
        self.assertEqual(mine["messages"], 500)
        # All that it used but for what it used while its load stood still.
        self.assertTrue(999.0 < mine["server_cpu_seconds"] <= 1000.0, mine)

    def test_a_load_that_ends_says_why(self) -> None:
        self.assertEqual(self.round_of(7)["mine"], "corelane: seven bytes are too few")

    def test_fewer_connections_are_used_if_files_are_few(self) -> None:
        self.assertEqual(idle.connections_possible(10_000, 1_048_576), 10_000)
        self.assertEqual(idle.connections_possible(10_000, 1024), 1024 - idle.OTHER_FILES)
        self.assertEqual(idle.connections_possible(10_000, 64), 0)


if __name__ == "__main__":
    unittest.main()
