"""The commands of ``metadist``: one file a command (or a family), each a plain function that typer reads."""
