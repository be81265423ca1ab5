"""`tunesmith recipes`: the recipes that come with installed packages."""

from __future__ import annotations

import argparse
import json

HELP = "list the recipes of installed packages, each with the name that run and check take and what it is for"
EXAMPLE = "tunesmith recipes --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option: machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """Print the list; a package whose recipes cannot be found is listed with what is wrong."""
    from core.sharing.packages import describe, recipe_packages

    packages = recipe_packages()
    if args.json:
        described = [
            {
                "name": package.name,
                "distribution": package.distribution,
                "version": package.version,
                "folder": str(package.folder) if package.folder else None,
                "recipes": [
                    {"name": f"{package.name}:{name}", "description": describe(file), "file": str(file)}
                    for name, file in package.recipes().items()
                ],
            }
            for package in packages
        ]
        print(json.dumps({"packages": described}, indent=2, ensure_ascii=False))
        return 0
    width = max((len(f"{package.name}:{name}") for package in packages for name in package.recipes()), default=0)
    for package in packages:
        print(f"{package.distribution} {package.version}".rstrip())
        if package.folder is None:
            print(f"  {package.name}: its package {package.package!r} cannot be found")
        for name, file in package.recipes().items():
            print(f"  {f'{package.name}:{name}':<{width}}  {describe(file)}".rstrip())
    return 0
