"""Two runs of one recipe, the second in a storm, and whether the storm can be seen in the bits."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metadist.chaos.driver import Driver, Observed, signal_worker
from metadist.chaos.server import TrackingServer
from metadist.chaos.storm import Forecast, Storm
from metadist.errors import UsageError

POLL_S = 0.1
# Outside the fingerprint. A storm's kills are not the shard's fault, and may come faster than an honest budget allows.
PATIENT = {"cluster.max_attempts": 20, "cluster.max_restarts": 10_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a storm did to a run.

    Attributes:
        equal: Whether both runs ended with the same parameters, to the bit.
        undisturbed, disturbed: ``params_sha256`` of each.
        workers_killed, workers_stopped, driver_kills: Blows that fell.
        workers_lost, shards_reissued: What the journal of the disturbed run says of them.
        unsent_events: Tracking events that did not arrive.
        wall_s, disturbed_wall_s: Seconds that each took, start-up included.
    """

    equal: bool
    undisturbed: str
    disturbed: str
    workers_killed: int
    workers_stopped: int
    driver_kills: int
    workers_lost: int
    shards_reissued: int
    unsent_events: int
    wall_s: float
    disturbed_wall_s: float

    @property
    def was_hit(self) -> bool:
        """Whether the run lost anything; one that was not hit shows nothing."""
        return bool(self.shards_reissued or self.driver_kills)


@dataclass(slots=True)
class Blows:
    """How often what was done."""

    killed: int = 0
    stopped: int = 0


def qualify(
    recipe: str, overrides: Mapping[str, Any], storm: Storm, folder: Path, say: Callable[[str], None]
) -> Verdict:
    """Train ``recipe`` undisturbed and in the storm, in two run folders under ``folder``.

    Workers are hit on this machine: run it where the workers are, or on a local Ray.

    Raises:
        UsageError: the folder is used.
        MetadistError: a run did not end.
    """
    calm_dir, wild_dir = folder / "undisturbed", folder / "disturbed"
    if calm_dir.exists() or wild_dir.exists():
        raise UsageError(f"{folder} holds runs of an earlier qualification; choose another --out")
    say("training undisturbed")
    begun = time.monotonic()
    calm = Driver(recipe, overrides, calm_dir)
    try:
        undisturbed = calm.summary()
    finally:
        calm.stop()
    wall = time.monotonic() - begun
    say(f"undisturbed: {wall:.0f} s, params_sha256 {undisturbed['params_sha256'][:16]}; now in the storm")
    server = TrackingServer(folder / "tracking") if storm.tracking_outage_s else None
    tracked = {**PATIENT, **overrides, **({"tracking.uri": server.uri} if server else {})}
    if server:
        server.start()
    begun = time.monotonic()
    wild = Driver(recipe, tracked, wild_dir)
    try:
        blows = _weather(wild, storm, server, say)
        disturbed = wild.summary()
    finally:
        wild.stop()
        if server:
            server.kill()
    seen = wild.observed()
    return Verdict(
        equal=undisturbed["params_sha256"] == disturbed["params_sha256"],
        undisturbed=undisturbed["params_sha256"],
        disturbed=disturbed["params_sha256"],
        workers_killed=blows.killed,
        workers_stopped=blows.stopped,
        driver_kills=wild.started - 1,
        workers_lost=seen.lost,
        shards_reissued=seen.reissued,
        unsent_events=disturbed["unsent_events"],
        wall_s=wall,
        disturbed_wall_s=time.monotonic() - begun,
    )


def _weather(driver: Driver, storm: Storm, server: TrackingServer | None, say: Callable[[str], None]) -> Blows:
    """Let the blows fall until the run has ended. The storm begins with the first step."""
    kills = Forecast(storm.kill_workers_every, storm.at_once, storm.seed)
    stops = Forecast(storm.stop_workers_every, storm.at_once, storm.seed + 1)
    waiting = sorted(storm.kill_driver_at)
    blows, begun, outage_ends = Blows(), None, None
    while driver.is_running:
        time.sleep(POLL_S)
        seen = driver.observed()
        if seen.step == 0:
            continue
        if begun is None:
            begun = time.monotonic()
            if server and storm.tracking_outage_s:
                server.hang()
                outage_ends = storm.tracking_outage_s
                say(f"step {seen.step}: the tracking server hangs for {outage_ends:g} s")
        now = time.monotonic() - begun
        if server and outage_ends is not None and now >= outage_ends:
            server.wake()
            outage_ends = None
            say(f"step {seen.step}: the tracking server answers again")
        if kills.is_due(now):
            blows.killed += _hit(kills, seen, signal.SIGKILL, "killed", say)
        if stops.is_due(now):
            blows.stopped += _hit(stops, seen, signal.SIGSTOP, "stopped", say)
        if waiting and seen.step >= waiting[0]:
            waiting = [step for step in waiting if step > seen.step]
            driver.kill()
            say(f"step {seen.step}: driver killed and started again")
    if server and outage_ends is not None:
        server.wake()
    return blows


def _hit(forecast: Forecast, seen: Observed, number: int, what: str, say: Callable[[str], None]) -> int:
    hit = [worker for worker in forecast.victims(list(seen.workers)) if signal_worker(seen.workers[worker][0], number)]
    if hit:
        say(f"step {seen.step}: {what} {', '.join(hit)}")
    return len(hit)
