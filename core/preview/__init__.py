"""Looking at prepared data: tokens in the terminal, JSON lines, a page. No model weights are loaded for it."""

from __future__ import annotations
