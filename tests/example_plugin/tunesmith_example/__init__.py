"""One plugin of each kind; every module is an entry point of its own in the group `tunesmith.plugins`."""
