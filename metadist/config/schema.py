"""The JSON Schema of a recipe, for editors: what a recipe may say, which is more than what a whole run is."""

from __future__ import annotations

from typing import Any

from metadist.config.run import RunConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The schema of `RunConfig`, with ``extends``, and no key that has to be there: the extended recipe may have it."""
    schema = _relaxed(RunConfig.model_json_schema())
    base = {"type": "string", "description": "a shipped recipe's name, or a YAML file, that this one changes"}
    properties = {"extends": base, **schema.pop("properties")}
    return {"$schema": DIALECT, **schema, "title": "metadist recipe", "properties": properties}


def _relaxed(schema: Any) -> Any:
    """Without required keys; with null for a section's defaults, and the booleans that YAML 1.1 has as on and off."""
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _relaxed(value) for key, value in schema.items() if key != "required" or isinstance(value, dict)}
    if "off" in found.get("enum", ()):
        found = {key: value for key, value in found.items() if key != "type"} | {"enum": [*found["enum"], True, False]}
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: _or_null(value) for name, value in found["properties"].items()}
    return found


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A section may be empty."""
    kinds = {key: schema[key] for key in ("$ref", "type", "additionalProperties") if key in schema}
    if "$ref" not in kinds and kinds.get("type") != "object":
        return schema
    rest = {key: value for key, value in schema.items() if key not in kinds}
    return {**rest, "anyOf": [kinds, {"type": "null"}]}
