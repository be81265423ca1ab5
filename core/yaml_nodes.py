"""YAML text to values in which every key and value knows its place. Nothing is ever constructed but plain data.

Reads the parser's event stream (libyaml where present), so a hostile file is refused before it is built: depth and
the number of nodes after alias expansion are capped, and tags are not obeyed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from core.errors import Position, Problem, RecipeError
from core.types import KeyPath

MAX_DEPTH = 40
MAX_NODES = 20_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)")
_HEX_OR_OCTAL = re.compile(r"[-+]?0(x[0-9a-fA-F]+|o[0-7]+)")
# the float of YAML 1.2: unlike PyYAML's own rule it takes `2e-5`
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


@dataclass(slots=True)
class Node:
    """A scalar (`value` is resolved, `text` as written), a list (of nodes) or a map (of (key node, node) pairs)."""

    kind: str
    value: Any
    place: Position
    text: str = ""
    open: bool = False


@dataclass(frozen=True)
class Tree:
    """Plain values, the places of every key path (key, value), and problems that do not prevent reading on."""

    value: Any
    positions: dict[KeyPath, tuple[Position, Position]]
    problems: tuple[Problem, ...]


def read_tree(text: str, file: str) -> Tree:
    """Parse one YAML document; `value` is None for an empty one. Raises `RecipeError` for what cannot be read."""
    root = parse(text, file)
    if root is None:
        return Tree(None, {}, ())
    expansion = _Expansion()
    value = expansion.expand(root, (), root.place)
    return Tree(value, expansion.positions, tuple(expansion.problems))


def resolve_scalar(text: str) -> Any:
    """The value of an unquoted scalar: null, YAML 1.1 booleans, integers, YAML 1.2 floats, else the text itself."""
    if text in _NULLS:
        return None
    if text.lower() in _BOOLEANS and (text.islower() or text.isupper() or text.istitle()):
        return _BOOLEANS[text.lower()]
    if len(text) > 100:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _HEX_OR_OCTAL.fullmatch(text):
        return int(text, 0)
    if text.lower() in _SPECIAL_FLOATS:
        return float(_SPECIAL_FLOATS[text.lower()])
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?[0-9_]*", text):
        return float(text.replace("_", ""))
    return text


def parse(text: str, file: str) -> Node | None:
    """The node tree of the only document in `text`, or None if there is none. Raises `RecipeError`."""
    root: Node | None = None
    anchors: dict[str, Node] = {}
    stack: list[tuple[Node, Node | None]] = []  # open collections; for a map the key that waits for its value
    try:
        events: Any = yaml.parse(text, Loader=_Loader)
        for event in events:
            place = Position(file, event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise _refusal("a second document starts here", place, "a recipe is one document: remove the '---'")
            if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                stack.pop()[0].open = False
                continue
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    name = event.anchor
                    help = f"mark the value with &{name} above, or quote the text: '*{name}'"
                    raise _refusal(f"alias '*{name}' has no anchor '&{name}' before it", place, help)
                node = anchors[event.anchor]
                if node.open:
                    raise _refusal(f"alias '*{event.anchor}' contains itself", place, "write the values out instead")
            elif isinstance(event, yaml.ScalarEvent):
                node = _scalar(event, place)
            elif isinstance(event, yaml.CollectionStartEvent):
                kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "map"
                if event.tag not in (None, "!", f"{_TAG}seq" if kind == "list" else f"{_TAG}map"):
                    raise _tag_refusal(event.tag, place)
                if len(stack) >= MAX_DEPTH:
                    raise _refusal(f"nested more than {MAX_DEPTH} levels deep", place, "no recipe key nests that deep")
                node = Node(kind, [], place, open=True)
            else:
                continue
            root = node if root is None else root
            _attach(stack, node)
            if not isinstance(event, yaml.AliasEvent):
                if event.anchor:
                    anchors[event.anchor] = node
                if node.open:
                    stack.append((node, None))
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from error
    return root


def _attach(stack: list[tuple[Node, Node | None]], node: Node) -> None:
    """Put a finished or just opened node into the innermost open collection."""
    if not stack:
        return
    parent, key = stack[-1]
    if parent.kind == "list":
        parent.value.append(node)
    elif key is None:
        if node.kind != "scalar":
            raise _refusal(
                "a key must be plain text, not a list or a map", node.place, "quote it if it starts with [ or {"
            )
        stack[-1] = (parent, node)
    else:
        parent.value.append((key, node))
        stack[-1] = (parent, None)


def _scalar(event: Any, place: Position) -> Node:
    if event.tag in (None, "!") and event.implicit[0]:
        return Node("scalar", resolve_scalar(event.value), place, event.value)
    if event.tag in (None, "!", f"{_TAG}str"):
        return Node("scalar", event.value, place, event.value)
    kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
    wanted = kinds.get(event.tag.removeprefix(_TAG))
    if wanted is None:
        raise _tag_refusal(event.tag, place)
    value = resolve_scalar(event.value)
    if type(value) not in wanted:
        named = f"'!!{event.tag.removeprefix(_TAG)}'"
        raise _refusal(f"{event.value!r} is not of the tagged type {named}", place, "remove the tag")
    return Node("scalar", value, place, event.value)


class _Expansion:
    """Turns nodes into plain values, aliases and merge keys expanded, and notes where each of them stands."""

    def __init__(self) -> None:
        self.positions: dict[KeyPath, tuple[Position, Position]] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def expand(self, node: Node, path: KeyPath, key_place: Position) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _refusal(
                f"aliases expand to more than {MAX_NODES} values", node.place, "write out the values that are needed"
            )
        if len(path) > MAX_DEPTH:
            raise _refusal(f"aliases nest more than {MAX_DEPTH} levels deep", node.place, "write the values out")
        self.positions[path] = (key_place, node.place)
        if node.kind == "scalar":
            return node.value
        if node.kind == "list":
            return [self.expand(item, (*path, index), item.place) for index, item in enumerate(node.value)]
        return {
            name: self.expand(value, (*path, name), key.place)
            for name, (key, value) in self._entries(node, path).items()
        }

    def _entries(self, node: Node, path: KeyPath, depth: int = 0) -> dict[str, tuple[Node, Node]]:
        """The entries of a map, those of its merge keys first so that its own entries win."""
        self.nodes += len(node.value)
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _refusal("merge keys '<<' nest too deep", node.place, "write out the values that are needed")
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.text == "<<":
                for source in reversed(value.value if value.kind == "list" else [value]):
                    if source.kind != "map":
                        help = "write <<: *name, with &name at the map"
                        raise _refusal("the merge key '<<' needs a map or a list of maps", value.place, help)
                    merged |= self._entries(source, path, depth + 1)
            elif key.text in own:
                first = own[key.text][0].place
                problem = Problem(
                    f"duplicate key {key.text!r}, first set on line {first.line}",
                    key=(*path, key.text),
                    help=f"keep one of line {first.line} and line {key.place.line}",
                    position=key.place,
                )
                if problem not in self.problems:
                    self.problems.append(problem)
            else:
                own[key.text] = (key, value)
        return merged | own


def _refusal(message: str, place: Position, help: str | None = None) -> RecipeError:
    return RecipeError([Problem(message, help=help, position=place)])


def _tag_refusal(tag: str, place: Position) -> RecipeError:
    shown = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
    return _refusal(
        f"the tag {shown!r} is not allowed in a recipe", place, "a recipe holds plain values only: remove the tag"
    )


_SYNTAX_HELP = {
    "mapping values are not allowed": "quote a value that holds ': ', and check the indentation of this line",
    "could not find expected ':'": "a key needs ': ' and a value",
    "cannot start any token": "indent with spaces, not tabs, and quote values that start with @, ` or %",
    "tab character": "indent with spaces, not tabs",
    "expected ',' or ']'": "the list that starts with '[' is not closed",
    "expected ',' or '}'": "the map that starts with '{' is not closed",
    "unexpected end of stream": "a quote is opened and not closed",
    "unknown escape character": "use single quotes for text with backslashes",
    "did not find expected key": "check the indentation of this line, and quote values with special characters",
    "'-' indicator": "entries of one list start in the same column, each with '- '",
}


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> RecipeError:
    """Say what the parser found, at the place where the mistake is rather than where the parser gave up."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:  # a reader error: a character that YAML does not allow
        index = next((i for i, char in enumerate(text) if not (char in "\t\n\r\x85" or " " <= char != "\x7f")), 0)
        line = text.count("\n", 0, index)
        place = Position(file, line + 1, index - (text.rfind("\n", 0, index) + 1) + 1)
        return _refusal(f"not valid YAML: character {text[index]!r} is not allowed", place, "remove the character")
    problem = str(getattr(error, "problem", None) or "syntax error")
    context = getattr(error, "context_mark", None)
    if context is not None and ("expected ',' or" in problem or "end of stream" in problem):
        mark = context
    help = next((text for part, text in _SYNTAX_HELP.items() if part in problem), "check this line and the one above")
    return _refusal(f"not valid YAML: {problem}", Position(file, mark.line + 1, mark.column + 1), help)
