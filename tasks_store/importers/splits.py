"""Which group lies in which split. A group, and all groups of one ``--split-by`` value, lie in one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks_store.errors import ImportFailed, WrongOptions

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
_MEANT = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation"}
_MEANT |= {"training": "train", "testing": "test", **{name: name for name in SPLITS}}


def parse_shares(text: str) -> tuple[float, ...]:
    """``0.7,0.1,0.2`` as shares of train, validation and test.

    Raises:
        WrongOptions: not three numbers from 0 to 1 with the sum 1.

    Example:
        >>> parse_shares("0.7,0.1,0.2")
        (0.7, 0.1, 0.2)
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != len(SPLITS) or not all(0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1):
        raise WrongOptions(f"--split {text!r}: expected the shares of {', '.join(SPLITS)}, with the sum 1: 0.7,0.1,0.2")
    return shares


def cut(units: Iterable[str], shares: Sequence[float], seed: int, what: str = "groups") -> dict[str, str]:
    """The split of each unit: ordered by a hash of seed and name, cut at the shares.

    A count is its share to the nearest whole unit (largest remainder), so that the sum is right.

    Raises:
        ImportFailed: too few units for a split with a share above 0.

    Example:
        >>> cut("abcd", (0.5, 0.25, 0.25), seed=0)
        {'d': 'train', 'a': 'train', 'c': 'validation', 'b': 'test'}
    """
    ordered = sorted(set(units), key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode()).digest())
    exact = [round(share * len(ordered), 9) for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: len(ordered) - sum(counts)]:
        counts[place] += 1
    empty = [name for name, count, share in zip(SPLITS, counts, shares, strict=True) if share > 0 and not count]
    if empty:
        raise ImportFailed(
            f"{len(ordered)} {what} are too few for --split {','.join(f'{share:g}' for share in shares)}: "
            f"{empty[0]} would be empty; give it a larger share, or 0"
        )
    names = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    return dict(zip(ordered, names, strict=True))


def check_splits(names: Iterable[str], where: str) -> None:
    """Refuse splits that no recipe would find: training takes train, its checks take validation.

    A name of its own beside train is fine: ``evaluate --split NAME`` finds it.

    Raises:
        ImportFailed: names what to write instead.
    """
    found = sorted(set(names))
    for name in found:
        meant = _MEANT.get(name.strip().lower(), "")
        if name in SPLITS or (not meant and "train" in found):
            continue
        cure = f"write {meant!r} for {name!r}" if meant else f"rename {name!r}, or cut anew with --split 0.7,0.1,0.2"
        raise ImportFailed(f"{where}: split {name!r} is none of {', '.join(SPLITS)}, which training looks for: {cure}")


def from_lists(units: Iterable[str], splits: Mapping[str, Sequence[str]], shown: str) -> dict[str, str]:
    """The split of each unit from lists.

    Raises:
        ImportFailed: a unit in two lists or in none, or a name that the table does not have.
    """
    owner: dict[str, str] = {}
    for split, labels in splits.items():
        for label in labels:
            if owner.setdefault(label, split) != split:
                raise ImportFailed(f"{shown}: label {label!r} is in both {owner[label]!r} and {split!r}")
    found = sorted(set(units))
    unknown = [label for label in found if label not in owner]
    if unknown:
        raise ImportFailed(
            f"{shown}: {len(unknown)} labels of the table are in no split, e.g. {unknown[0]!r}; "
            "add them, or leave them out with --drop-label"
        )
    absent = sorted(owner.keys() - set(found))
    if absent:
        raise ImportFailed(f"{shown}: {len(absent)} labels are not in the table, e.g. {absent[0]!r}")
    return {label: owner[label] for label in found}


def load_split_file(path: str | Path) -> dict[str, list[str]]:
    """``{split: [label, ...]}`` from JSON; entries that are not lists (notes) are passed over.

    Raises:
        ImportFailed: not such a file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFailed(f"cannot read the split file {path}: {error}") from error
    splits = {
        split: [str(label) for label in labels]
        for split, labels in (content.items() if isinstance(content, dict) else ())
        if isinstance(labels, list)
    }
    if not splits:
        raise ImportFailed(f"{path}: expected a JSON object {{split: [label, ...]}}")
    check_splits(splits, str(path))
    if empty := [split for split, labels in splits.items() if not labels]:
        raise ImportFailed(f"{path}: the list of split {empty[0]!r} is empty: leave it out, or put labels into it")
    return splits
