"""Several files, of every kind of text and with Hugging Face's names, are one table or are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks_store import ImportFailed, Store, WrongOptions, load_split
from tasks_store.importers.formats import BLOCK_BYTES
from tasks_store.importers.request import TableRequest
from tasks_store.importers.table import import_table

Read = Callable[..., Any]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """``read("a.csv", ...)``: the texts of each label, from an import with all groups in train."""
    monkeypatch.chdir(tmp_path)

    def imported(*files: str, **options: Any) -> dict[str, list[str]]:
        wanted = {"label": "label", "value": ("text",), "split": "1,0,0", **options}
        import_table(TableRequest(files=files, **wanted), "s")
        data = load_split(Store.open("s"), "train")
        texts = data.arrays["text"].tolist()
        return {name: texts[data.offsets[place] : data.offsets[place + 1]] for place, name in enumerate(data.names)}

    return imported


def _parquet(file: str, labels: list[Any], names: list[str] | None = None) -> None:
    table = pa.table({"text": [f"{file} {place}" for place in range(len(labels))], "label": labels})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    pq.write_table(table.replace_schema_metadata(metadata), file)


def test_each_file_has_its_own_class_names(read: Read) -> None:
    _parquet("a.parquet", [0, 0, 1, 1], ["cat", "dog"])
    _parquet("b.parquet", [0, 0, 1, 1], ["dog", "eel"])
    _parquet("c.parquet", ["cat", "eel"])
    assert read("a.parquet", "b.parquet", "c.parquet") == {
        "cat": ["a.parquet 0", "a.parquet 1", "c.parquet 0"],
        "dog": ["a.parquet 2", "a.parquet 3", "b.parquet 0", "b.parquet 1"],
        "eel": ["b.parquet 2", "b.parquet 3", "c.parquet 1"],
    }


MIXED = ("names.parquet", "texts.parquet", "texts.csv", "texts.jsonl")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("texts", MIXED)
@pytest.mark.parametrize("numbers", ["ids.parquet", "ids.csv", "ids.jsonl"])
def test_names_and_numbers_of_classes_are_not_mixed(read: Read, texts: str, numbers: str, first: bool) -> None:
    _parquet("names.parquet", [0, 0], ["cat"])
    _parquet("texts.parquet", ["cat", "cat"])
    _parquet("ids.parquet", [0, 0])
    Path("texts.csv").write_text("text,label\na,cat\nb,cat\n")
    Path("ids.csv").write_text("text,label\na,0\nb,0\n")
    Path("texts.jsonl").write_text('{"text": "a", "label": "cat"}\n')
    Path("ids.jsonl").write_text('{"text": "a", "label": 0}\n')
    with pytest.raises(ImportFailed, match=rf"'label' holds text in {texts} and numbers in {numbers}, .*in all files$"):
        read(*((texts, numbers) if first else (numbers, texts)))


def test_codes_that_name_groups_in_csv_may_look_like_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for code in ("007", "A12"):
        Path(f"{code}.csv").write_text(f"station,x,y\n{code},1,2\n{code},2,3\n")
    request = TableRequest(files=("007.csv", "A12.csv"), target="y", group=("station",), value=("x",), split="1,0,0")
    import_table(request, "s")
    assert Store.open("s").groups("train").names == ["007", "A12"]


def test_line_breaks_in_quotes_beyond_a_block(read: Read) -> None:
    text = "first line\n" + "x" * 300 + "\nlast, line"
    rows = 3 * BLOCK_BYTES // len(text)
    Path("a.csv").write_text("text,label\n" + "".join(f'"{text}",c{row % 2}\n' for row in range(rows)))
    found = read("a.csv")
    assert sum(map(len, found.values())) == rows and {text} == set(found["c0"]) | set(found["c1"])


UTF_8 = "not UTF-8 .*: save it as UTF-8$"
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "open quote": ("a.csv", b'text,label\n"a,b\n' + b"xxxxx,b\n" * 1_200_000, "larger than 4 MB, or a quote"),
    "Latin-1": ("a.csv", "text,label\ncafé,b\n".encode("latin-1"), UTF_8),
    "Latin-1 late": ("a.csv", b"text,label\n" + b"a,b\n" * 1_200_000 + b"caf\xe9,b\n", UTF_8),
    "Latin-1 header": ("a.csv", "téxt,label\na,b\n".encode("latin-1"), UTF_8),
    "UTF-16": ("a.csv", "text,label\na,b\n".encode("utf-16"), UTF_8),
    "Latin-1 JSON": ("a.jsonl", '{"text":"é","label":"b"}\n'.encode("latin-1"), UTF_8),
    "semicolons": ("a.csv", b"text;label\na;b\n", r"no column 'label'; .*separated by ';'\? --from reads"),
    "decimal commas": ("a.csv", b"text;label\n1,5;b\n", r"separated by ';'\? --from reads commas in .csv"),
    "tabs": ("a.csv", b"text\tlabel\na\tb\n", r"separated by a tab\? .* and tabs in .tsv"),
    "commas": ("a.tsv", b"text,label\na,b\n", r"separated by ','\?"),
    "packed": ("a.csv.gz", b"", r"a.csv.gz is compressed \(.gz\): unpack it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_cannot_be_read(read: Read, case: str) -> None:
    name, content, message = BAD_FILES[case]
    Path(name).write_bytes(content)
    with pytest.raises(ImportFailed, match=message) as refused:
        read(name)
    assert "\n" not in str(refused.value)


def test_a_value_column_of_another_separator(read: Read) -> None:
    Path("a.csv").write_text("a1;a2\n1;2\n")
    with pytest.raises(ImportFailed, match=r"--value 'a\*' matches|--label: .*a1;a2 \(separated by ';'\?"):
        read("a.csv", label="a2")


def test_patterns_and_files_given_twice(read: Read) -> None:
    _parquet("a.parquet", ["cat", "cat"])
    Path("link.parquet").symlink_to("a.parquet")
    with pytest.raises(ImportFailed, match=r"not expanded \(it matches 2 files, .*each file with a --from of its own"):
        read("*.parquet")
    with pytest.raises(ImportFailed, match=r"not expanded \(it matches no file\)"):
        read("*.csv")
    with pytest.raises(WrongOptions, match=r"link\.parquet is given twice \(first as a\.parquet\)"):
        read("a.parquet", "link.parquet")


def test_readers_are_closed_where_an_import_ends_early(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that the collector ends with the process may end it with an abort."""
    opened: list[Any] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        opened.append(original(*arguments, **options))
        return opened[-1]

    from tasks_store.importers import files

    original = files.read_batches
    monkeypatch.setattr(files, "read_batches", watched)
    Path("a.csv").write_text("text,label\na,cat\nb,cat\n")
    monkeypatch.setattr("tasks_store.importers.table.Cleaner.kept", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as refused:
        read("a.csv")
    assert refused.traceback and [batches.gi_frame for batches in opened] == [None]
