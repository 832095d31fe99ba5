"""From journal events to what is sent: a pure function, so a journal is always sent in the same way.

MLflow restricts names to letters, digits and ``_ - . space : /``; another character becomes ``_`` here. It
takes at most 1000 metrics, 100 params and 100 tags a call, and it keeps a metric once however often the same
(name, value, time, step) is sent; that is why the time is always the journalled one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from metadist.tracking.events import Event
from metadist.tracking.state import FirstSent, sent_key

MAX_METRICS = 1000
MIN_METRICS = 50  # the first sending of a process; a thousand may be too many for a slow server
_FORBIDDEN = re.compile(r"[^\w\-./: ]", re.ASCII)


class MetricRow(NamedTuple):
    """One number; ``time`` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What goes to MLflow in one go, and the journal offset that is acknowledged when it has.

    Attributes:
        end: Everything before this byte of the journal has been sent once this sending has. None in all but
        the last
            part of an event that needs several.
        metrics: Rows, at most MAX_METRICS; empty unless this sending is one of metrics.
        event: Any other event to send; None if there is nothing to send.
    """

    end: int | None
    metrics: tuple[MetricRow, ...] = ()
    event: Event | None = None


def next_size(size: int, *, failed: bool) -> int:
    """How many metrics the next sending may hold, after one of ``size``: half after a failure, else twice.

    A server that is slow, or a proxy that takes little at once, then gets what it can answer in time.

    >>> next_size(1000, failed=True), next_size(60, failed=True), next_size(500, failed=False)
    (500, 50, 1000)
    """
    return max(MIN_METRICS, size // 2) if failed else min(MAX_METRICS, size * 2)


def plan_sendings(
    events: Iterable[Event], first_sent: FirstSent | None = None, max_metrics: Callable[[], int] = lambda: MAX_METRICS
) -> Iterator[Sending]:
    """Group events into sendings, in the journal's order.

    Consecutive metrics share a sending up to ``max_metrics()`` rows; events that MLflow does not get are
    acknowledged with their neighbours.

    Args:
        events: Events in order.
        first_sent: Times and values under which MLflow may already have metrics (see `state.load_rolled_back`).
        max_metrics: How many metrics a sending may hold, asked anew for each.
    """
    rows: list[MetricRow] = []
    end: int | None = None  # of the last event seen
    yielded: int | None = None  # of the last event that was not one of metrics
    for event in events:
        if event.kind == "metrics":
            new = metric_rows(event, first_sent or {})
            if rows and len(rows) + len(new) > max_metrics():
                yield Sending(end=end, metrics=tuple(rows))
                rows = []
            while len(new) > (most := max_metrics()):
                yield Sending(end=None, metrics=tuple(new[:most]))
                new = new[most:]
            rows += new
        elif event.kind != "event":
            if rows:
                yield Sending(end=end, metrics=tuple(rows))
                rows = []
            yield Sending(end=event.end, event=event)
            yielded = event.end
        end = event.end
    if end != yielded:
        yield Sending(end=end, metrics=tuple(rows))


def metric_rows(event: Event, first_sent: FirstSent) -> list[MetricRow]:
    """The rows of a metrics event; a point that MLflow may have is sent as it was the first time."""
    step, rows = event.step or 0, []
    for name, value in event.data.items():
        time, first = first_sent.get(sent_key(name, step, value), (event.time, value))
        rows.append(MetricRow(safe_name(name), first, time, step))
    return rows


def safe_name(name: str) -> str:
    """The name in the characters that MLflow takes.

    >>> safe_name("validation/accuracy@5")
    'validation/accuracy_5'
    """
    return _FORBIDDEN.sub("_", name)[:250]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as MLflow params; lists and empty mappings are JSON.

    >>> flatten({"outer": {"lr": 0.001, "clip_norm": None}, "seed": 0})
    {'outer.lr': '0.001', 'outer.clip_norm': 'null', 'seed': '0'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[safe_name(name)] = param_text(value)
    return flat


def param_text(value: Any) -> str:
    """A value as the text of a param or tag: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
