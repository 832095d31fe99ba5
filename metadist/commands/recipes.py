"""``metadist recipes`` and ``metadist config schema``."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from typing import Annotated

import typer

from metadist.commands.output import emit, guarded
from metadist.commands.train import AsJson

config_app = typer.Typer(help="About configuration files.", no_args_is_help=True)


def recipes(name: Annotated[str | None, typer.Argument(help="Print this one.")] = None, json: AsJson = False) -> None:
    """List the shipped recipes, or print one."""
    with guarded():
        import yaml

        from metadist.config.recipes import recipe_names, recipe_text

        if name is not None:
            text = recipe_text(name)
            emit(
                {"name": name, "recipe": yaml.safe_load(text)},
                as_json=json,
                lines=lambda: iter([text.rstrip()]),
            )
            return
        found = {known: yaml.safe_load(recipe_text(known)).get("description", "") for known in recipe_names()}

        def lines() -> Iterator[str]:
            for known, what in found.items():
                yield f"{known:<26} {what}"

        emit({"recipes": found}, as_json=json, lines=lines)


@config_app.command()
def schema(json: AsJson = False) -> None:
    """JSON Schema of a recipe, for editors."""
    with guarded():
        from metadist.config.schema import recipe_schema

        found = recipe_schema()
        emit(found, as_json=json, lines=lambda: iter([json_module.dumps(found, indent=1)]))
