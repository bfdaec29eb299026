"""Figures of the benchmarks: how they are made and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the sorted values does not exceed."""
    return values[min(int(len(values) * share), len(values) - 1)]


def show(row: str, figures: Mapping[str, float]) -> None:
    """Print a row."""
    print(row.ljust(40), ", ".join(f"{name} {value:.6g}" for name, value in figures.items()), flush=True)
