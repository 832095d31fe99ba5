"""What is sent, and in which pieces, is a pure function of the journal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadist.tracking.events import Event
from metadist.tracking.plan import MAX_METRICS, MetricRow, flatten, param_text, plan_sendings, safe_name


def metrics(step: int, count: int, end: int) -> Event:
    return Event(kind="metrics", time=step, step=step, data={f"m{i}": 1.0 for i in range(count)}, end=end)


def other(kind: str, end: int) -> Event:
    return Event(kind=kind, time=0, step=None, data={"status": "RUNNING"}, end=end)


def test_consecutive_metrics_share_a_sending() -> None:
    sendings = list(plan_sendings([metrics(0, 2, 10), other("event", 20), metrics(1, 3, 30), other("event", 40)]))
    assert [(len(sending.metrics), sending.end) for sending in sendings] == [(5, 40)]


def test_other_events_keep_their_place() -> None:
    sendings = list(plan_sendings([metrics(0, 1, 10), other("status", 20), metrics(1, 1, 30)]))
    assert [(len(s.metrics), s.event.kind if s.event else None, s.end) for s in sendings] == [
        (1, None, 10),
        (0, "status", 20),
        (1, None, 30),
    ]


def test_events_that_are_not_sent_are_acknowledged() -> None:
    assert [(s.metrics, s.event, s.end) for s in plan_sendings([other("event", 10)])] == [((), None, 10)]
    assert [s.end for s in plan_sendings([other("status", 10), other("event", 20)])] == [10, 20]
    assert list(plan_sendings([])) == []


def test_an_event_with_too_many_metrics_is_acknowledged_with_its_last_part() -> None:
    sendings = list(plan_sendings([metrics(0, 1, 10), metrics(1, 2 * MAX_METRICS + 1, 20)]))
    assert [(len(s.metrics), s.end) for s in sendings] == [
        (1, 10),
        (MAX_METRICS, None),
        (MAX_METRICS, None),
        (1, 20),
    ]


@given(st.lists(st.one_of(st.integers(0, 2500), st.sampled_from(["event", "tags"])), max_size=12))
def test_everything_is_sent_once_in_order(shape: list[int | str]) -> None:
    events = [
        metrics(i, item, 10 * i + 10) if isinstance(item, int) else other(item, 10 * i + 10)
        for i, item in enumerate(shape)
    ]
    sendings = list(plan_sendings(events))
    rows = [row for sending in sendings for row in sending.metrics]
    assert rows == [
        MetricRow(name, 1.0, event.time, event.step or 0)
        for event in events
        if event.kind == "metrics"
        for name in event.data
    ]
    assert [s.event for s in sendings if s.event] == [event for event in events if event.kind == "tags"]
    assert all(len(sending.metrics) <= MAX_METRICS for sending in sendings)
    ends = [sending.end for sending in sendings if sending.end is not None]
    assert ends == sorted(ends)
    assert not events or ends[-1] == events[-1].end


def test_a_number_that_mlflow_may_have_keeps_its_first_time() -> None:
    data = {"loss": 0.5, "rate": 7.0, "bad": math.nan}
    event = Event(kind="metrics", time=99, step=4, data=data, end=1)
    known = {("loss", 4, "0.5"): (11, 0.5), ("rate", 4, "6.0"): (11, 6.0), ("bad", 4, "nan"): (11, math.nan)}
    (sending,) = plan_sendings([event], known)
    assert [row.time for row in sending.metrics] == [11, 99, 11]


@pytest.mark.parametrize(
    ("config", "flat"),
    [
        ({"a": {"b": {"c": 1}}}, {"a.b.c": "1"}),
        ({"a": ["*"], "b": {}, "c": True}, {"a": '["*"]', "b": "{}", "c": "true"}),
        ({"text": "as it is", "none": None}, {"text": "as it is", "none": "null"}),
    ],
)
def test_flatten(config: dict[str, object], flat: dict[str, str]) -> None:
    assert flatten(config) == flat


def test_names_and_texts() -> None:
    assert safe_name("a/b_c-d.e f:g") == "a/b_c-d.e f:g"
    assert safe_name("\u03b1@1") == "__1"
    assert len(safe_name("x" * 300)) == 250
    assert param_text(0.001) == "0.001"
