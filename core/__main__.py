"""`python -m core`: the same program as `tunesmith`, for `accelerate launch -m core RECIPE`."""

from __future__ import annotations

import sys

from core.cli import main

if __name__ == "__main__":
    sys.exit(main())
