"""The demo behind ``make demo``: build tasks, meta-train on two Ray actors, evaluate, register, load back, adapt."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import typer

from metadist.commands.output import guarded, percent, say

FOLDER = Path("demo")
NAME = "glyphs-demo"


def demo() -> None:
    """Run the whole way of a task once, and say where to look."""
    with guarded():
        _demo(time.perf_counter())


def _demo(begun: float) -> None:
    from metadist.commands.train import run_with_progress
    from metadist.config.load import load_config
    from metadist.evidence.baselines import run_baselines
    from metadist.run import evaluate_run
    from metadist.stores import locate

    FOLDER.mkdir(exist_ok=True)
    os.environ.setdefault("METADIST_HOME", str((FOLDER / "home").absolute()))
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(FOLDER / 'mlflow.db').absolute()}")
    run_dir = FOLDER / f"run-{time.strftime('%Y%m%d-%H%M%S')}"

    _title("1. tasks: characters of many scripts, in Parquet")
    location = locate(load_config("glyphs"), say)
    say(f"the store is {location}")

    _title("2. meta-training: MAML, 5-way 1-shot, on two Ray actors")
    summary = run_with_progress("glyphs", {"cluster.num_workers": 2}, run_dir)
    say(f"{summary['steps']} steps, {summary['tasks_per_second']:.0f} tasks/s, {summary['wall_s']:.0f} s")

    _title("3. evaluation: 600 tasks of characters never seen in training")
    report = evaluate_run(run_dir, split="test", num_tasks=600)
    neighbour = run_baselines(run_dir, report, {})["1-nearest neighbour"]
    alone, half = report.one_query("accuracy")
    say(f"MAML, one query at a time ({report.facts['normalisation']})   {percent(alone, half)}")
    say(f"pixel 1-nearest neighbour, same tasks     {percent(neighbour['accuracy'], neighbour['ci95'])}")
    say(f"difference                                {100 * (alone - neighbour['accuracy']):+.1f} points")

    _title("4. registry: the model goes to MLflow and comes back by its alias")
    version = _register(run_dir)
    _adapt(version["model_uri_alias"], run_dir)

    _title("Done")
    say(f"{time.perf_counter() - begun:.0f} s in all. Where to look:")
    say(f"  run folder   {run_dir} (journal.jsonl, checkpoints, evaluation)")
    say(f"  all figures  mlflow ui --backend-store-uri {os.environ['MLFLOW_TRACKING_URI']}")
    say(f"  the model    {version['model_uri_alias']} ({NAME}, version {version['version']})")


def _register(run_dir: Path) -> dict[str, Any]:
    from metadist.registry import register
    from metadist.run_reader import load_run

    found = dict(register(run_dir, load_run(run_dir).checkpoint("best"), name=NAME, alias="candidate"))
    found["model_uri_alias"] = f"models:/{NAME}@candidate"
    say(f"registered {found['model_uri_alias']} (version {found['version']})")
    return found


def _adapt(uri: str, run_dir: Path) -> None:
    """Load the registered model and adapt it on one unseen task."""
    from metadist.adapter import load_adapter
    from metadist.folder.run_folder import read_config, read_fingerprint
    from metadist.seeding import generator
    from metadist.sources.parquet import ParquetSource
    from tasks_store import EpisodeSpec, draw_episode

    location = read_fingerprint(run_dir)["location"]
    tasks = read_config(run_dir).tasks
    source = ParquetSource(tasks, location, run_seed=0, evaluation_seed=0, shots=1, queries=3)
    data = source.split("test")
    spec = EpisodeSpec(ways=tasks.ways, shots=1, queries=3)
    episode = draw_episode(data.counts, data.offsets, spec, generator("demo"))
    names = [data.names[group] for group in episode.classes]
    images = data.arrays["image"]
    labels = [names[label] for label in episode.support_labels]
    truth = [names[label] for label in episode.query_labels]
    predictor = load_adapter(uri).adapt(images[episode.support_rows], labels)
    found = list(predictor.predict(images[episode.query_rows]))
    hits = sum(a == b for a, b in zip(found, truth, strict=True))
    say(f"adapted to the unseen characters {', '.join(names)}: {hits} of {len(truth)} queries right")


def _title(text: str) -> None:
    say(f"\n== {text}")


if __name__ == "__main__":
    typer.run(demo)
