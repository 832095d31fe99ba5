"""Named stores: a bare name means ``$METADIST_HOME/stores/NAME``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tasks_store.errors import StoreMissing
from tasks_store.manifest import MANIFEST
from tasks_store.storage import Location

COMMANDS = {
    "customers": "metadist tasks build customers",
    "glyphs": "metadist tasks build glyphs",
    "sinusoids": "metadist tasks build sinusoids",
    "omniglot": "metadist tasks import omniglot --from PATH",
    "banking77": (
        "metadist tasks import table --from banking77.parquet --label intent --value text --split 0.46,0.27,0.27"
    ),
    "clinc150": (
        "metadist tasks import table --from clinc150.parquet --label intent --value text --split-by domain "
        "--drop-label oos"
    ),
    "beijing-air": (
        "metadist tasks import table --from beijing_air_hourly.parquet --group station,year,month "
        "--order-by day,hour --target PM2.5 --value hour --value SO2 --value NO2 --value CO --value TEMP --value PRES "
        "--value DEWP --value RAIN --value WSPM --value O3 --missing drop --split-by year --split-file years.json"
    ),
}
"""The one command that makes each store we know by name; an import of a table says where to, as well."""

_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def metadist_home() -> Path:
    """``METADIST_HOME``, or ``~/.metadist``; it need not exist."""
    return Path(os.environ.get("METADIST_HOME") or Path.home() / ".metadist").expanduser().absolute()


def is_bare_name(path: str | Path) -> bool:
    """Whether a text is a store's name rather than a path or URI.

    Example:
        >>> [is_bare_name(text) for text in ("glyphs", "./glyphs", "a/b", "s3://b/k", "..")]
        [True, False, False, False, False]
    """
    return isinstance(path, str) and _BARE.fullmatch(path) is not None


def named_store(name: str) -> Path:
    """The folder of a named store, whether or not it is there."""
    return metadist_home() / "stores" / name


def resolve_store(path_or_name: str | Path) -> Path | str:
    """The place of an existing store: an absolute Path, or the URI as given.

    Args:
        path_or_name: a bare name (looked for under the home folder), a path, or a URI.

    Raises:
        StoreMissing: no manifest there; the message ends in the one command that makes it.

    URIs are returned unseen: looking costs a request, and opening reports the same error.
    """
    text = os.fspath(path_or_name)
    if "://" in text:
        return text
    bare = is_bare_name(path_or_name)
    place = named_store(text) if bare else Path(text).expanduser().absolute()
    if Location.of(place).size(MANIFEST) is not None:
        return place
    known = text if bare else place.name
    command = COMMANDS.get(known, "")
    told = command and (not bare or "import table" in command)  # a table has no name of its own to lie under
    out = f" --out {place}" if told else ""
    note = "" if bare else f" ({place})" if str(place) != text else ""
    cure = (
        f"make it with: {command}{out}"
        if command
        else (f"expected {MANIFEST} in {place}: write one with tasks_store.write_store, or correct the path")
    )
    here = Path.cwd() / text / MANIFEST
    if bare and here.is_file():  # a bare name never means a folder, so that a run does not depend on where it starts
        cure = f"a folder of that name is here: write ./{text}"
    raise StoreMissing(f"no task store {text!r}{note}; {cure}", path=str(place), command=command + out)


def default_cache_dir() -> Path:
    """Where a node keeps decoded splits: ``$METADIST_HOME/cache``."""
    return metadist_home() / "cache"
