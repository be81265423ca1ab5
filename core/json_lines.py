"""Files of one JSON value a line, as runs leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def json_lines(path: Path) -> list[Any]:
    """The values of a file, one a line.

    A line ends at a line feed alone: texts may hold other characters that Python takes for ends of lines. Raises
    `OSError` for a file that cannot be read, and `ValueError` for one that is not JSON lines in UTF-8.
    """
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]
