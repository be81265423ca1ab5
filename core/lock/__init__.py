"""`recipe.lock.yml`: what a run used, by hash and version, and whether all of it is still the same."""

from __future__ import annotations

from core.lock.drift import software_drift
from core.lock.read import LOCK_FILE, Lock, load_lock, locked_recipe
from core.lock.stages import take_lock, write_lock

__all__ = ["LOCK_FILE", "Lock", "load_lock", "locked_recipe", "software_drift", "take_lock", "write_lock"]
