"""`python -m core`: the same program as `tunesmith`, for `accelerate launch -m core RECIPE`."""

from __future__ import annotations

from core.cli import main
from core.launched import leave

if __name__ == "__main__":
    leave(main())
