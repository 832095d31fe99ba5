"""``python -m metadist``."""

from __future__ import annotations

from metadist.cli import main

if __name__ == "__main__":
    main()
