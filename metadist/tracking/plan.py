"""From journal events to what is sent: a pure function, so a journal is always sent in the same way.

MLflow restricts names to letters, digits and ``_ - . space : /``; another character becomes ``_`` here. It
takes at most 1000 metrics, 100 params and 100 tags a call, and it keeps a metric once however often the same
(name, value, time, step) is sent; that is why the time is always the journalled one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from metadist.tracking.events import Event
from metadist.tracking.state import SentTimes

MAX_METRICS = 1000
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


def plan_sendings(events: Iterable[Event], sent_times: SentTimes | None = None) -> Iterator[Sending]:
    """Group events into sendings, in the journal's order.

    Consecutive metrics share a sending up to MAX_METRICS rows; events that MLflow does not get are
    acknowledged with their neighbours.

    Args:
        events: Events in order.
        sent_times: Times under which MLflow may already have metrics (see `state.load_rolled_back`).
    """
    rows: list[MetricRow] = []
    end: int | None = None  # of the last event seen
    yielded: int | None = None  # of the last event that was not one of metrics
    for event in events:
        if event.kind == "metrics":
            new = metric_rows(event, sent_times or {})
            if rows and len(rows) + len(new) > MAX_METRICS:
                yield Sending(end=end, metrics=tuple(rows))
                rows = []
            while len(new) > MAX_METRICS:
                yield Sending(end=None, metrics=tuple(new[:MAX_METRICS]))
                new = new[MAX_METRICS:]
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


def metric_rows(event: Event, sent_times: SentTimes) -> list[MetricRow]:
    """The rows of a metrics event; a number that MLflow may have keeps the time it was first sent under."""
    step = event.step or 0
    return [
        MetricRow(safe_name(name), value, sent_times.get((name, step, repr(value)), event.time), step)
        for name, value in event.data.items()
    ]


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
