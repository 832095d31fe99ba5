"""The mirror against a stand-in server: nothing lost, nothing twice, training never held up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metadist.tracking import (
    Journal,
    JournalMissing,
    MlflowMirror,
    TrackingError,
    TrackingUnavailable,
    break_send_lock,
    sync,
)
from metadist.tracking.mirror import wait_after
from metadist.tracking.plan import MetricRow
from metadist.tracking.state import (
    ROLLED_BACK_NAME,
    Acknowledged,
    load_acknowledged,
    load_rolled_back,
    load_run,
    save_acknowledged,
)

URI = "sqlite:////tmp/never-opened.db"
PATIENCE_S = 30.0  # how long a test waits for what must happen; it is not a measurement


def mirror_of(run_dir: Path, server: Any, uri: str = URI) -> MlflowMirror:
    return MlflowMirror(run_dir, uri=uri, experiment="e", run_name="r", factory=server.client, interval_s=0.01).start()


def sync_of(run_dir: Path, server: Any) -> Any:
    return sync(run_dir, uri=URI, factory=server.client)


@pytest.fixture(autouse=True)
def no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metadist.tracking.mirror.check_reachable", lambda uri, timeout: None)


def test_everything_arrives_with_its_journalled_time(tmp_path: Path, server: Any, clock: Callable[[], int]) -> None:
    (tmp_path / "report.txt").write_text("report")
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, server)
        journal.config({"outer": {"lr": 0.1}})
        journal.params({"num_params": 3})
        journal.tags({"note": "x"})
        journal.metrics(0, {"loss": 1.0, "accuracy": 0.5})
        journal.event("worker_lost")
        journal.dataset(name="omniglot", digest="abc", source="/data")
        journal.artifact("report.txt", folder="evaluation")
        journal.status("FINISHED")
        assert mirror.close(PATIENCE_S) == 0
    assert server.params == {"outer.lr": "0.1", "num_params": "3"}
    assert server.tags == {"note": "x"}
    assert server.rows == {MetricRow("loss", 1.0, 1003, 0), MetricRow("accuracy", 0.5, 1003, 0)}
    assert server.datasets == {("omniglot", "abc", "/data", "training")}
    assert server.artifacts == [("report", "evaluation")]
    assert server.statuses == [("FINISHED", 1007)]
    assert mirror.run_id == "run-0"
    assert mirror.last_error is None


def test_it_follows_a_journal_that_grows(tmp_path: Path, server: Any) -> None:
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, server)
        for step in range(3):
            journal.metrics(step, {"loss": float(step)})
            assert mirror.wait_until_sent(journal.position(), PATIENCE_S)
            assert len(server.rows) == step + 1
        assert mirror.num_unsent == 0
        assert mirror.close(PATIENCE_S) == 0


def test_an_outage_loses_nothing(tmp_path: Path, server: Any) -> None:
    server.down = True
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, server)
        for step in range(2500):
            journal.metrics(step, {"loss": float(step)})
        assert server.called.wait(PATIENCE_S)
        server.down = False
        assert mirror.close(PATIENCE_S) == 0
    assert sorted(row.step for row in server.rows) == list(range(2500))
    assert len(server.batches) < 100


def test_close_is_bounded_and_sync_finishes(tmp_path: Path, server: Any) -> None:
    server.down = True
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, server)
        journal.metrics(0, {"loss": 1.0})
        journal.status("FINISHED")
        assert server.called.wait(PATIENCE_S)
        assert mirror.close(timeout=0.0) == 2
    assert mirror.run_id is None
    mirror._thread.join(PATIENCE_S)
    assert mirror.last_error == "ConnectionError: connection refused"
    with pytest.raises(TrackingUnavailable, match="connection refused"):
        sync_of(tmp_path, server)
    server.down = False
    report = sync_of(tmp_path, server)
    assert (report.run_id, report.num_sent, report.num_refused) == ("run-0", 2, 0)
    assert sync_of(tmp_path, server).num_sent == 0
    assert len(server.rows) == len(server.statuses) == 1


def test_a_hanging_server_holds_up_nothing(tmp_path: Path, server: Any) -> None:
    server.answers.clear()
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, server)
        journal.metrics(0, {"loss": 1.0})
        assert server.called.wait(PATIENCE_S)  # the thread is inside a call that does not return
        for step in range(1, 1000):
            journal.metrics(step, {"loss": 1.0})
        assert mirror.close(timeout=0.0) == 1000
        with pytest.raises(TrackingError, match="another process"):
            sync_of(tmp_path, server)
        server.answers.set()
        mirror._thread.join(PATIENCE_S)
        assert server.rows == set()  # the call under way was the last
        assert load_acknowledged(tmp_path).offset == 0
    assert sync_of(tmp_path, server).num_sent == 1000
    assert len(server.rows) == 1000


def test_a_lost_answer_is_sent_again_and_adds_nothing(tmp_path: Path, server: Any) -> None:
    server.fail_after_storing = True
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        with pytest.raises(TrackingUnavailable, match="answer was lost"):
            sync_of(tmp_path, server)  # the run was made
        with pytest.raises(TrackingUnavailable, match="answer was lost"):
            sync_of(tmp_path, server)
        server.fail_after_storing = False
        sync_of(tmp_path, server)
    assert len(server.runs) == len(server.rows) == 1


def test_a_second_mirror_goes_on_in_the_same_run(tmp_path: Path, server: Any) -> None:
    for step in range(2):
        with Journal(tmp_path) as journal:
            mirror = mirror_of(tmp_path, server)
            journal.metrics(step, {"loss": 1.0})
            assert mirror.close(PATIENCE_S) == 0
    assert list(server.runs.values()) == ["run-0"]
    assert server.batches == [1, 1]


def test_resume_sends_recomputed_steps_once(tmp_path: Path, server: Any, clock: Callable[[], int]) -> None:
    with Journal(tmp_path, clock=clock) as journal:
        mirror = mirror_of(tmp_path, server)
        journal.metrics(0, {"loss": 1.0})
        checkpoint = journal.position()
        journal.metrics(1, {"loss": 0.5, "rate": 7.0})
        assert mirror.close(PATIENCE_S) == 0
    for _ in range(2):  # killed twice after the same checkpoint
        with Journal(tmp_path, clock=clock) as journal:
            journal.truncate_to(checkpoint)
            mirror = mirror_of(tmp_path, server)
            journal.metrics(1, {"loss": 0.5, "rate": 7.0})
            journal.metrics(2, {"loss": 0.25})
            assert mirror.close(PATIENCE_S) == 0
    assert sorted((row.name, row.step, row.time) for row in server.rows) == [
        ("loss", 0, 1000),
        ("loss", 1, 1001),
        ("loss", 2, 1003),
        ("rate", 1, 1001),
    ]


def test_resume_sends_a_step_that_was_measured_again_as_it_was_first(
    tmp_path: Path, server: Any, clock: Callable[[], int]
) -> None:
    rates = iter((70.0, 35.0, 50.0))
    checkpoint = 0
    for down in (False, True, False):  # sent; dropped before it could be sent; sent
        with Journal(tmp_path, clock=clock) as journal:
            journal.truncate_to(checkpoint)
            server.down = down
            mirror = mirror_of(tmp_path, server)
            journal.metrics(1, {"loss": 0.5, "perf/tasks_per_second": next(rates)})
            assert (mirror.close(0.0 if down else PATIENCE_S) == 0) is not down
            mirror._thread.join(PATIENCE_S)
    assert server.rows == {MetricRow("loss", 0.5, 1000, 1), MetricRow("perf/tasks_per_second", 70.0, 1000, 1)}


def test_the_successor_of_a_hung_driver_sends(tmp_path: Path, server: Any) -> None:
    other = type(server)()
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        server.answers.clear()
        hung = mirror_of(tmp_path, server)
        assert server.called.wait(PATIENCE_S)
        break_send_lock(tmp_path)
        journal.metrics(1, {"loss": 0.5})
        assert mirror_of(tmp_path, other).close(PATIENCE_S) == 0
        sent = load_acknowledged(tmp_path)
        server.answers.set()
        hung._thread.join(PATIENCE_S)
        assert hung.close(0.0) == 0  # nothing is left for it to send
    assert "another driver" in str(hung.last_error)
    assert load_acknowledged(tmp_path) == sent
    assert sorted(row.step for row in other.rows) == [0, 1]


def test_an_acknowledgement_of_another_journal_sends_all_again(
    tmp_path: Path, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        sync_of(tmp_path, server)
        save_acknowledged(tmp_path, Acknowledged(offset=10_000))
        journal.metrics(1, {"loss": 0.5})
        sync_of(tmp_path, server)
    assert sorted(row.step for row in server.rows) == [0, 1]
    assert "the whole journal again" in caplog.text


def test_nothing_is_kept_for_a_run_without_a_mirror(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        journal.truncate_to(0)
    assert not (tmp_path / ROLLED_BACK_NAME).exists()
    assert load_rolled_back(tmp_path) == {}


def test_another_uri_gets_the_whole_journal(tmp_path: Path, server: Any) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        assert mirror_of(tmp_path, server).close(PATIENCE_S) == 0
        other = type(server)()
        mirror = mirror_of(tmp_path, other, uri="http://elsewhere")
        assert mirror.close(PATIENCE_S) == 0
    assert other.rows == server.rows
    run = load_run(tmp_path)
    assert run is not None
    assert (run.uri, run.run_id) == ("http://elsewhere", "run-0")


def test_a_uri_that_never_answers_takes_nothing_away(tmp_path: Path, server: Any) -> None:
    """Neither where the run is, nor how far MLflow has it; and back there it goes on in the run that it was."""
    other = type(server)()
    other.down = True
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        first = sync_of(tmp_path, server)
        before = load_run(tmp_path), load_acknowledged(tmp_path)
        for factory in (other.client, broken_client):
            with pytest.raises(TrackingUnavailable):
                sync(tmp_path, uri="http://elsewhere", factory=factory)
        assert (load_run(tmp_path), load_acknowledged(tmp_path)) == before
        assert sync(tmp_path, factory=server.client).num_sent == 0
        other.down, other.fail_after_storing = False, True
        with pytest.raises(TrackingUnavailable):
            sync(tmp_path, uri="http://elsewhere", factory=other.client)  # a run was made, its id never received
        other.fail_after_storing = False
        assert sync(tmp_path, uri="http://elsewhere", factory=other.client).num_sent == 1
        assert len(other.runs) == len(other.rows) == 1
        assert sync_of(tmp_path, server).run_id == first.run_id
    assert len(server.runs) == len(server.rows) == 1


def broken_client(uri: str) -> Any:
    raise ValueError(f"{uri}: no such store")


def test_another_uri_keeps_the_experiment_and_the_name(tmp_path: Path, server: Any) -> None:
    server.down = True
    with Journal(tmp_path) as journal:
        journal.metrics(0, {"loss": 1.0})
        mirror = mirror_of(tmp_path, server)
        assert mirror.close(0.0) == 1
        mirror._thread.join(PATIENCE_S)  # until then it holds the lock
        sync(tmp_path, uri="http://elsewhere", factory=type(server)().client)
    run = load_run(tmp_path)
    assert run is not None and (run.uri, run.experiment, run.run_name) == ("http://elsewhere", "e", "r")


def test_what_is_refused_is_counted_and_does_not_hold_up_the_rest(
    tmp_path: Path, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused_names = {"m3", "m8"}
    with Journal(tmp_path) as journal:
        mirror = mirror_of(tmp_path, server)
        journal.metrics(5, {f"m{i}": float(i) for i in range(10)})
        journal.metrics(6, {"m0": 1.0})
        assert mirror.close(PATIENCE_S) == 0
    assert mirror.num_refused == 2
    assert len(server.rows) == 9
    assert "refused the metric m3 of step 5: no such name" in caplog.text


def test_sync_of_a_folder_that_is_no_run(tmp_path: Path, server: Any) -> None:
    with pytest.raises(JournalMissing):
        sync_of(tmp_path, server)


def test_a_mirror_before_the_first_event_makes_no_run(tmp_path: Path, server: Any) -> None:
    assert mirror_of(tmp_path, server).close(PATIENCE_S) == 0
    assert server.runs == {}


def test_the_wait_grows_and_is_short_at_the_end() -> None:
    waits = [wait_after(n, closing=False) for n in range(1, 100)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.5, 60.0)
    assert max(wait_after(n, closing=True) for n in range(1, 100)) == 1.0
