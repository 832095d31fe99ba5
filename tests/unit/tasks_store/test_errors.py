"""Every error keeps its type, message and fields through pickling."""

from __future__ import annotations

import pickle

import pytest

from tasks_store import errors


def _all_errors() -> list[type[errors.TaskStoreError]]:
    return [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TaskStoreError)
    ]


@pytest.mark.parametrize("cls", _all_errors())
def test_pickles(cls: type[errors.TaskStoreError]) -> None:
    error = cls("what, where, what to do")
    error.note = ("extra", 3)  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_fields_survive() -> None:
    copy = pickle.loads(pickle.dumps(errors.CorruptStore("bad", path="a.parquet", row_group=7)))
    assert (copy.path, copy.row_group) == ("a.parquet", 7)
    copy = pickle.loads(pickle.dumps(errors.StoreVersionError("new", found=9, supported=1)))
    assert (copy.found, copy.supported) == (9, 1)


def test_one_tree() -> None:
    assert len(_all_errors()) == 10
