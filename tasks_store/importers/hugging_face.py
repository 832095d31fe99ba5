"""What Hugging Face's ``datasets`` leaves beside the rows, read with pyarrow alone: class names, and saved folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks_store.errors import ImportFailed

METADATA_KEY = b"huggingface"


def class_names(schema: Any) -> dict[str, list[str]]:
    """Names of the classes of each ClassLabel column, from the metadata of an Arrow schema; {} where there is none.

    Raises:
        ImportFailed: metadata that is not JSON.
    """
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise ImportFailed(f"the schema's metadata 'huggingface' is not what datasets writes: {error!r}") from error
    return {
        name: [str(label) for label in feature["names"]]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def saved_files(folder: Path) -> list[Path]:
    """Arrow files of a folder that ``save_to_disk`` wrote, in order; of all its splits when it has several.

    Raises:
        ImportFailed: another folder.
    """
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_text())["splits"]
            return [file for split in splits for file in saved_files(folder / split)]
        return [folder / entry["filename"] for entry in json.loads((folder / "state.json").read_text())["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImportFailed(
            f"{folder} is a folder, and not one of datasets' save_to_disk ({error}): name its files, each with --from"
        ) from error
