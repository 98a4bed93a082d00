"""The tables, from the results as they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from comparison.figures import Spread, cell, digits, table
from comparison import slices
from comparison.loading import Shape, disturbed_share, figures
from comparison.servers import CORELANE, CORELANE_BP0, NAMES

CORELANES = (CORELANE, CORELANE_BP0)
TAIL_SHARE = 0.7

# A result is a dict as results.json has it: server, shape, repeat, and record or failure.
Result = dict[str, Any]

COLUMNS = {
    "messages/s": "messages_per_second",
    "server CPU us/message": "server_cpu_us_per_message",
    "messages/server CPU s": "messages_per_server_cpu_second",
    "p50 us": "p50_us",
    "p99.9 us": "p99.9_us",
    "load CPU us/message": "load_cpu_us_per_message",
}
# What is wanted is wanted of this ratio.
JUDGED = "messages/server CPU s"
RATIOS = {
    JUDGED: "messages_per_server_cpu_second",
    "messages/s": "messages_per_second",
    "p99.9": "p99.9_us",
}
TAIL_COLUMNS = {"p50 us": "p50_us", "p99 us": "p99_us", "p99.9 us": "p99.9_us", "max us": "max_us"}


def wanted(peer: str, shape: str) -> float:
    """The ratio of messages per server CPU second to reach."""
    if peer == "io_uring":
        return 0.97
    if peer == "tokio" and shape in ("64/1", "64/32"):
        return 1.1
    return 1.0


def markdown(results: dict[str, Any]) -> str:
    parts = [_machine(results)]
    for shape in _in_order(result["shape"] for result in results["closed"]):
        parts.append(_closed(shape, *(_of(shape, results[kind]) for kind in ("closed", "rounds"))))
    for shape in _in_order(result["shape"] for result in results["tail"]):
        parts.append(_tail(shape, _of(shape, results["tail"])))
    if results["idle"]:
        parts.append(_idle(results["idle"]))
    parts += [f"{note}\n" for note in results["notes"]]
    if results["interrupted"]:
        parts.append("**Interrupted**: this is what there was by then.\n")
    return "\n".join(parts)


def _machine(results: dict[str, Any]) -> str:
    facts = [f"- {key}: {value}" for key, value in results["machine"].items()]
    settings = results["settings"]
    facts.append(
        f"- repeats: {settings['repeats']}, each of {settings['seconds']} s after "
        f"{settings['warmup_seconds']} s of warm-up; cells are median [lowest..highest], ratios the "
        "median and in brackets where it is with 95% confidence"
    )
    if settings["rounds"]:
        facts.append(
            f"- rounds: {settings['rounds']}, each of {settings['round_seconds']} s a server in "
            f"slices of {slices.SLICE_SECONDS:.3g} s; {JUDGED} are theirs"
        )
    return "\n".join(facts) + "\n"


def _of(shape: str, results: list[Result]) -> list[Result]:
    return [result for result in results if result["shape"] == shape]


def _closed(shape: str, turns: list[Result], rounds: list[Result]) -> str:
    rows = _rows(turns, COLUMNS)
    title = f"### {shape}: {Shape.parse(shape).title()}\n"
    failed = _failures("round", rounds)
    parts = [title, rows, *_remarks(turns), *failed]
    ratios = _ratios(shape, turns, rounds)
    if ratios:
        head = ["ratio", *RATIOS, "wanted", "holds"]
        parts.append(table(head, ratios))
    return "\n".join(parts)


def _rows(results: list[Result], columns: dict[str, str]) -> str:
    rows = []
    for server in _in_order(result["server"] for result in results):
        of_server = [figures(r["record"]) for r in results if r["server"] == server and r["record"]]
        spreads = [Spread.of(f[key] for f in of_server) for key in columns.values()]
        rows.append([server, *map(cell, spreads)])
    return table(["server", *columns], rows)


def _remarks(results: list[Result]) -> list[str]:
    """What a reader must know about these rows."""
    remarks = _failures("repeat", results)
    disturbed = []
    for server in _in_order(result["server"] for result in results):
        records = [r["record"] for r in results if r["server"] == server and r["record"]]
        of_server, of_load = (
            max((disturbed_share(record, side) for record in records), default=0.0)
            for side in ("server", "load")
        )
        if of_server or of_load:
            disturbed.append(f"{server} {of_server:.1%} (load {of_load:.1%})")
    if disturbed:
        remarks.append(
            "disturbed: the share of a turn in which other programs kept a server (its load) off "
            f"its CPU was up to {', '.join(disturbed)}\n"
        )
    return remarks


def _failures(kind: str, results: list[Result]) -> list[str]:
    return [
        f"**failed**: {result['server']}, {kind} {result['repeat']}: {result['failure']}\n"
        for result in results
        if result["failure"]
    ]


def _ratios(shape: str, turns: list[Result], rounds: list[Result]) -> list[list[str]]:
    servers = _in_order(result["server"] for result in turns)
    rows = []
    for corelane in (name for name in CORELANES if name in servers):
        for peer in (name for name in servers if name not in CORELANES):
            spreads = {title: _ratio(turns, corelane, peer, key) for title, key in RATIOS.items()}
            if rounds:
                spreads[JUDGED] = _ratio_of_rounds(rounds, corelane, peer)
            judged = spreads[JUDGED]
            least = wanted(peer, shape)
            holds = _holds(judged, lambda ratio: ratio >= least)
            rows.append(
                [f"{corelane} / {peer}", *map(cell, spreads.values()), f"{least:.2f}", holds]
            )
    return rows


def _holds(ratio: Spread | None, is_well: Callable[[float], bool]) -> str:
    """By the median; and whether another run may say the opposite."""
    if ratio is None:
        return "-"
    word = "yes" if is_well(ratio.median) else "**no**"
    is_sure = is_well(ratio.low) == is_well(ratio.high)
    return word if is_sure else f"{word}, not settled"


def _ratio(results: list[Result], one: str, other: str, key: str) -> Spread | None:
    """Taken within each repeat in which both ran."""
    return _ratio_of(results, one, other, lambda record: figures(record)[key])


def _ratio_of_rounds(results: list[Result], one: str, other: str) -> Spread | None:
    return _ratio_of(results, one, other, slices.messages_per_server_cpu_second)


def _ratio_of(
    results: list[Result], one: str, other: str, figure: Callable[[dict[str, Any]], float]
) -> Spread | None:
    by_turn = {(r["server"], r["repeat"]): figure(r["record"]) for r in results if r["record"]}
    pairs = [
        (value, by_turn.get((other, repeat)))
        for (server, repeat), value in by_turn.items()
        if server == one
    ]
    return Spread.of_median(value / of_other for value, of_other in pairs if of_other)


def _tail(shape: str, results: list[Result]) -> str:
    rate = results[0]["rate"]
    title = (
        f"### Tail at {shape}: {digits(rate)} messages/s in an open loop, {TAIL_SHARE:.0%} of what "
        "corelane does at most\n"
    )
    parts = [title, _rows(results, TAIL_COLUMNS), *_remarks(results)]
    servers = _in_order(result["server"] for result in results)
    rows = []
    for peer in (name for name in servers if name != CORELANE):
        ratio = _ratio(results, CORELANE, peer, "p99.9_us")
        holds = _holds(ratio, lambda ratio: ratio <= 1.0)
        rows.append([f"{CORELANE} / {peer}", cell(ratio), "at most 1.00", holds])
    parts.append(table(["ratio", "p99.9", "wanted", "holds"], rows))
    return "\n".join(parts)


def _idle(results: list[Result]) -> str:
    rows = []
    remarks = []
    for result in results:
        record = result["record"]
        if record is None:
            remarks.append(f"**failed**: {result['server']}: {result['failure']}\n")
            continue
        mib = [record[f"resident_bytes_{when}"] / 2**20 for when in ("before", "after")]
        rows.append(
            [
                result["server"],
                str(record["connections"]),
                f"{record['resident_bytes_per_connection']:.0f}",
                *(f"{digits(size)} MiB" for size in mib),
            ]
        )
    head = [
        "server",
        "connections",
        "resident bytes/connection",
        "resident before",
        "resident after",
    ]
    return "\n".join(["### Memory of idle connections\n", table(head, rows), *remarks])


def _in_order(names: Iterable[str]) -> list[str]:
    """Each once: shapes and added servers as they came, known servers as they are listed."""
    known = {name: place for place, name in enumerate(NAMES)}
    return sorted(dict.fromkeys(names), key=lambda name: known.get(name, len(known)))
