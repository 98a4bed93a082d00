"""Figures for people: median and spread, counts in three digits, tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of several repeats, and how far they lay apart."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread | None:
        """None of no values."""
        values = list(values)
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values))

    @staticmethod
    def of_median(values: Iterable[float]) -> Spread | None:
        """The median, and between which of the values the median of endless repeats is with 95%
        confidence. Of fewer than six values, which cannot say so, the lowest and the highest."""
        values = sorted(values)
        spread = Spread.of(values)
        if spread is None:
            return None
        outside = 0
        while _chance_beyond(len(values), outside + 1) <= 0.05:
            outside += 1
        return Spread(spread.median, values[outside], values[-1 - outside])

    def __str__(self) -> str:
        return f"{digits(self.median)} [{digits(self.low)}..{digits(self.high)}]"


def _chance_beyond(count: int, outside: int) -> float:
    """That a median is outside of `count` of its values but for so many at either end: each is above
    or below it as a coin falls."""
    return 2 * sum(math.comb(count, fallen) for fallen in range(outside + 1)) / 2**count


def cell(spread: Spread | None) -> str:
    return "-" if spread is None else str(spread)


def digits(value: float) -> str:
    """Three digits and a unit: `8.51M`, `302k`, `0.117`."""
    size = abs(value)
    scaled, unit = value, ""
    if size >= 999.5e3:
        scaled, unit = value / 1e6, "M"
    elif size >= 9.995e3:
        scaled, unit = value / 1e3, "k"
    size = abs(scaled)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{scaled:.{decimals}f}{unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Reads well on a terminal and in Markdown."""
    lines = [[text.replace("|", "\\|") for text in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in lines) for column in range(len(head))]
    printed = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in lines
    ]
    printed.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(printed) + "\n"
