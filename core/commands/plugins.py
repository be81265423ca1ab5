"""`tunesmith plugins`: what every installed distribution offers."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from core.host import DISABLE_VARIABLE, KINDS, Host, PluginInfo, load_host

HELP = "list what the installed plugins offer: formats, adapters, trainers, metrics, loggers, data checks, recipe keys"
EXAMPLE = "tunesmith plugins --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option: machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """Print the list; raises `PluginError` where a plugin is broken, and says how to leave it out."""
    host = load_host()
    if args.json:
        described = [_described(host, plugin) for plugin in host.plugins]
        print(json.dumps({"plugins": described, "disabled": _disabled()}, indent=2))
    else:
        # a pipe gets whole lines, a terminal what fits on it
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(
            "\n".join(line if width is None or len(line) <= width else f"{line[: width - 1]}…" for line in _table(host))
        )
    return 0


def _offers(host: Host, plugin: PluginInfo) -> Iterator[tuple[str, str, str]]:
    """(hook, name, description) of everything `plugin` offers."""
    for hook, names in plugin.offers.items():
        for name in names:
            if hook == "recipe_keys":
                yield hook, name, host.recipe_keys[name].get("description", "")
            else:
                yield hook, name, getattr(host, KINDS[hook].table)[name].description


def _described(host: Host, plugin: PluginInfo) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "offers": {
            hook: [{"name": name, "description": text} for _, name, text in group]
            for hook, group in groupby(_offers(host, plugin), key=lambda offer: offer[0])
        },
    }


def _disabled() -> list[str]:
    return sorted({name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()})


def _table(host: Host) -> Iterator[str]:
    rows = [
        (plugin, KINDS[hook].word if hook in KINDS else "recipe key", name, text)
        for plugin in host.plugins
        for hook, name, text in _offers(host, plugin)
    ]
    name_width = max((len(name) for _, _, name, _ in rows), default=0)
    kind_width = max((len(kind) for _, kind, _, _ in rows), default=0)
    for distribution, plugins in groupby(host.plugins, key=lambda plugin: f"{plugin.distribution} {plugin.version}"):
        yield distribution.rstrip()
        for plugin in plugins:
            yield f"  {plugin.name}"
            for owner, kind, name, text in rows:
                if owner is plugin:
                    yield f"    {kind:<{kind_width}}  {name:<{name_width}}  {text}".rstrip()
    if _disabled():
        yield f"left out by {DISABLE_VARIABLE}: {', '.join(_disabled())}"
