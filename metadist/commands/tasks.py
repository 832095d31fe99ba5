"""``metadist tasks``: build, import, inspect, verify and preview stores."""

from __future__ import annotations

import enum
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metadist.commands.output import emit, guarded, say, writing_to
from metadist.commands.train import AsJson

if TYPE_CHECKING:
    from tasks_store.importers.summary import Summary

app = typer.Typer(help="Make and look at task stores.", no_args_is_help=True)
importer = typer.Typer(help="Import data into a store.", no_args_is_help=True)
app.add_typer(importer, name="import")

Out = Annotated[str | None, typer.Option(help="Where to; default the named store under METADIST_HOME.")]
Where = Annotated[str, typer.Argument(help="A store's folder, URI or name.")]


class Generator(enum.StrEnum):
    """Stores that are made, not imported."""

    customers = "customers"
    glyphs = "glyphs"
    sinusoids = "sinusoids"


class OmniglotSplit(enum.StrEnum):
    """How Omniglot's characters are split."""

    vinyals = "vinyals"
    background_evaluation = "background-evaluation"


@app.command()
def build(generator: Generator, out: Out = None, json: AsJson = False) -> None:
    """Make a store that needs no download."""
    with guarded():
        from metadist.stores import GENERATORS
        from tasks_store import named_store

        target = Path(out) if out else named_store(generator.value)
        say(f"building {generator.value} in {target}")
        begun = time.perf_counter()
        with writing_to(target):
            GENERATORS[generator.value](target)
        say(f"built in {time.perf_counter() - begun:.0f} s")
        _inspect(str(target), json)


@importer.command()
def omniglot(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder or zips of the official release, or a labelled Parquet table."),
    ] = None,
    out: Out = None,
    split: OmniglotSplit = OmniglotSplit.vinyals,
    download: Annotated[bool, typer.Option(help="Fetch the official zips (checked by sha256).")] = False,
    json: AsJson = False,
) -> None:
    """Import Omniglot (Lake et al. 2015). For classes turned by 90 degrees set tasks.rotations in the recipe."""
    with guarded():
        from metadist.errors import UsageError
        from tasks_store import named_store
        from tasks_store.importers.download import download_omniglot
        from tasks_store.importers.omniglot import import_omniglot

        if (source is None) == (not download):
            raise UsageError("give either --from PATH or --download")
        target = out or str(named_store("omniglot"))
        with writing_to(target), tempfile.TemporaryDirectory() as folder:
            place = download_omniglot(folder) if source is None else source
            import_omniglot(place, target, split.value)
        _inspect(target, json)


@importer.command()
def table(
    source: Annotated[list[Path], typer.Option("--from", help="Parquet, CSV, JSONL or Arrow IPC; may be repeated.")],
    value: Annotated[list[str], typer.Option(help="Column or glob a task sees; may be repeated.")],
    out: Annotated[str, typer.Option(help="Where to.")],
    label: Annotated[str | None, typer.Option(help="Column of the class: tasks are drawn over classes.")] = None,
    target: Annotated[str | None, typer.Option(help="Number to predict; with --group, a group is a task.")] = None,
    group: Annotated[str | None, typer.Option(help="Columns that name a group: A,B,C.")] = None,
    order_by: Annotated[str | None, typer.Option(help="Columns that order the rows of a group: A,B.")] = None,
    split: Annotated[str | None, typer.Option(help="Shares of groups: 0.7,0.1,0.2.")] = None,
    split_by: Annotated[str | None, typer.Option(help="Column whose values are split whole.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Column that names the split; a class lies in one.")] = None,
    split_file: Annotated[Path | None, typer.Option(help="JSON: {split: [label, ...]}.")] = None,
    seed: Annotated[int, typer.Option(help="Of --split.")] = 0,
    missing: Annotated[str, typer.Option(help="Gaps: error, drop, or mean+flag.")] = "error",
    drop_label: Annotated[list[str] | None, typer.Option(help="Group to leave out; may be repeated.")] = None,
    where: Annotated[str | None, typer.Option(help="Rows to keep: \"year >= 2014 and wd = 'NW'\".")] = None,
    shape: Annotated[str | None, typer.Option(help="Of one value of a binary, list or picture column: 28,28.")] = None,
    name: Annotated[str, typer.Option(help="Of the data set.")] = "",
    licence: Annotated[str, typer.Option(help="Of the data.")] = "",
    json: AsJson = False,
) -> None:
    """Import a table of labelled or grouped rows; groups are split, never their rows. See docs/data.md."""
    with guarded(), writing_to(out):
        from metadist.errors import UsageError
        from tasks_store.importers.request import TableRequest
        from tasks_store.importers.table import import_table

        try:
            sizes = tuple(int(size) for size in _names(shape))
        except ValueError:
            raise UsageError(f"--shape {shape!r}: expected whole numbers, e.g. 28,28") from None
        request = TableRequest(
            files=tuple(source),
            value=tuple(value),
            label=label,
            target=target,
            group=_names(group),
            order_by=_names(order_by),
            split=split,
            split_by=split_by,
            split_column=split_column,
            split_file=split_file,
            seed=seed,
            missing=missing,  # type: ignore[arg-type]  # checked there
            drop_label=tuple(drop_label or ()),
            where=where,
            shape=sizes,
            name=name,
            licence=licence,
        )
        _, summary = import_table(request, out)
        _inspect(out, json, summary)


@importer.command()
def images(
    source: Annotated[
        Path, typer.Option("--from", help="Folder with a folder of PNG, JPEG, WebP or BMP files a class.")
    ],
    size: Annotated[int, typer.Option(help="Pixels of a side, up to 1024.")],
    out: Annotated[str, typer.Option(help="Where to.")],
    gray: Annotated[bool, typer.Option("--gray", help="One channel, not three.")] = False,
    split: Annotated[str | None, typer.Option(help="Shares of classes; default 0.7,0.1,0.2.")] = None,
    split_file: Annotated[Path | None, typer.Option(help="JSON: {split: [class, ...]}.")] = None,
    split_dirs: Annotated[bool, typer.Option("--split-dirs", help="Folders are FOLDER/split/class.")] = False,
    split_by: Annotated[
        str | None, typer.Option(help="parent: folders are FOLDER/parent/class, and parents are split whole.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the data set.")] = "",
    licence: Annotated[str, typer.Option(help="Of the data.")] = "",
    json: AsJson = False,
) -> None:
    """Import a folder of images; classes are split, never their images. Broken files are named and left out."""
    with guarded(), writing_to(out):
        from tasks_store.importers.images import import_images

        _, summary, broken = import_images(
            source,
            out,
            size=size,
            gray=gray,
            split=split,
            split_file=split_file,
            split_dirs=split_dirs,
            split_by=split_by,
            name=name,
            licence=licence,
        )
        for line in broken:
            say(f"broken, left out: {line}")
        _inspect(out, json, summary)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


@app.command()
def inspect(path: Where, json: AsJson = False) -> None:
    """What a store holds."""
    with guarded():
        from tasks_store import resolve_store

        _inspect(str(resolve_store(path)), json)


@app.command()
def verify(path: Where, json: AsJson = False) -> None:
    """Check every checksum and every count."""
    with guarded():
        from tasks_store import Store, resolve_store

        done = Store.open(resolve_store(path)).verify()
        emit({"whole": True, "files": done}, as_json=json, lines=lambda: iter([*done, "whole"]))


@app.command()
def export(
    path: Where,
    hf: Annotated[Path, typer.Option(help="Folder for one Parquet file a split, as datasets.load_dataset reads.")],
    json: AsJson = False,
) -> None:
    """Write a store as plain Parquet files for other tools."""
    with guarded(), writing_to(hf):
        from tasks_store import Store, resolve_store
        from tasks_store.export import export_parquet

        files = [str(file) for file in export_parquet(Store.open(resolve_store(path)), hf)]
        emit({"files": files}, as_json=json, lines=lambda: (f"wrote {file}" for file in files))


@app.command()
def preview(
    path: Where,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    split: Annotated[str, typer.Option(help="Which classes.")] = "train",
    ways: Annotated[int, typer.Option(min=1)] = 5,
    shots: Annotated[int, typer.Option(min=1)] = 1,
    queries: Annotated[int, typer.Option(min=1)] = 5,
    episodes: Annotated[int, typer.Option(min=1)] = 4,
    seed: int = 0,
    json: AsJson = False,
) -> None:
    """Draw episodes as a PNG contact sheet: support left, queries right."""
    with guarded(), writing_to(out):
        from tasks_store import EpisodeSpec, Store, load_split, resolve_store
        from tasks_store.preview import contact_sheet

        data = load_split(Store.open(resolve_store(path)), split)
        spec = EpisodeSpec(ways=ways, shots=shots, queries=queries)
        contact_sheet(data, out, spec=spec, episodes=episodes, seed=seed)
        emit({"path": str(out)}, as_json=json, lines=lambda: iter([f"wrote {out}"]))


def _inspect(path: str, as_json: bool, summary: Summary | None = None) -> None:
    from tasks_store import Store
    from tasks_store.inspect import describe

    found = describe(Store.open(path))
    told = {**found, "import": summary.as_json()} if summary else found
    emit(told, as_json=as_json, lines=lambda: chain(summary.lines() if summary else (), _table(found)))


def _table(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']} ({found['kind']})  {found['path']}"
    yield f"fingerprint {found['fingerprint']}"
    yield f"{'split':<12} {'groups':>8} {'rows':>10}"
    for name, split in found["splits"].items():
        yield f"{name:<12} {split['groups']:>8} {split['rows']:>10}"
    yield f"{'all':<12} {found['groups']:>8} {found['rows']:>10}"
    for column in found["columns"]:
        yield f"column {column}"
    yield f"source {found['source']}; licence {found['licence']}"
