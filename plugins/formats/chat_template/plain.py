"""Chat templates that write the contents of messages and do nothing else with them.

Most templates decide by the roles of the messages alone. Their text of a conversation is then their text of any other
with the same roles, with the contents exchanged, so that it need not be rendered row by row. Whether a template is of
this kind is read from its syntax tree, where every use of a content has to be one that is known; a template that does
anything else with contents or messages (looks into them, puts them through a filter, hands them on) is not plain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import nodes

MESSAGES, CONTENT = "messages", "content"
# they tell the type of a value, which is text for every content
TYPE_TESTS = frozenset(("defined", "undefined", "none", "string", "mapping", "iterable", "sequence"))
# they give something else each time, or keep text apart from what is written
UNSTEADY = frozenset(("strftime_now", "random", "lipsum", "self", "caller"))
CAPTURING = ("AssignBlock", "FilterBlock", "Macro", "CallBlock", "Block", "Extends", "Include", "Import", "FromImport")
NEIGHBOURS = ("previtem", "nextitem")
Parents = Mapping[int, "nodes.Node"]  # by id


@lru_cache(maxsize=64)
def is_plain(template: str) -> bool:
    """Whether the text of `template` is the same for all conversations of the same roles, but for the contents, each
    as it is or without the space around it. False for a template that cannot be parsed."""
    from jinja2 import TemplateSyntaxError, nodes

    try:
        tree = _environment().parse(template)
    except TemplateSyntaxError:
        return False
    kinds = tuple(getattr(nodes, name) for name in CAPTURING)
    if next(tree.find_all(kinds), None) is not None:
        return False
    if any(name.name in UNSTEADY for name in tree.find_all(nodes.Name)):
        return False
    if any(found.name in UNSTEADY for found in tree.find_all(nodes.Filter)):
        return False
    names = _names(tree)
    return names is not None and _Uses(dict(_parents(tree)), names).all_known(tree)


def _environment() -> Any:
    """Jinja with the tags that chat templates may have, for reading alone."""
    from jinja2 import Environment, nodes
    from jinja2.ext import Extension, loopcontrols

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  as the class above it declares them

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    return Environment(extensions=[Generation, loopcontrols])  # nothing is rendered with it


@dataclass(frozen=True)
class _Names:
    """lists: names of lists of messages; single: of one message; written: of texts that may hold contents."""

    lists: frozenset[str]
    single: frozenset[str]
    written: frozenset[str]


def _names(tree: nodes.Template) -> _Names | None:
    """What the names of a template stand for; None where one stands for a message here and something else there."""
    from jinja2 import nodes

    lists, single, written = {MESSAGES}, set[str](), set[str]()
    count = 0
    while count != len(lists) + len(single) + len(written):
        count = len(lists) + len(single) + len(written)
        for loop in tree.find_all(nodes.For):
            if isinstance(loop.target, nodes.Name) and _is_list(loop.iter, lists):
                single.add(loop.target.name)
        for given in tree.find_all(nodes.Assign):
            if not isinstance(given.target, nodes.Name):
                continue
            if _is_list(given.node, lists):
                lists.add(given.target.name)
            elif any(_may_hold_content(node, written) for node in (given.node, *given.node.find_all(nodes.Expr))):
                written.add(given.target.name)
    names = _Names(frozenset(lists), frozenset(single), frozenset(written))
    if lists & single or (lists | single) & written or "loop" in lists | single | written:
        return None
    known = [loop.target for loop in tree.find_all(nodes.For) if _is_list(loop.iter, lists)]
    known += [given.target for given in tree.find_all(nodes.Assign) if _is_list(given.node, lists)]
    stored = [name for name in tree.find_all(nodes.Name) if name.ctx != "load" and name.name in lists | single]
    return names if all(any(name is one for one in known) for name in stored) else None


def _may_hold_content(node: nodes.Node, written: set[str]) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == CONTENT
    if isinstance(node, nodes.Getattr):
        return node.attr == CONTENT
    return isinstance(node, nodes.Name) and node.name in written


def _is_list(node: nodes.Node, lists: frozenset[str] | set[str]) -> bool:
    """Whether `node` is a list of messages, or a part of one."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _is_list(node.node, lists)
    if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        return _is_list(node.expr1, lists) and _is_list(node.expr2, lists)
    return isinstance(node, nodes.Name) and node.name in lists


def _parents(node: nodes.Node) -> Iterator[tuple[int, nodes.Node]]:
    for child in node.iter_child_nodes():
        yield id(child), node
        yield from _parents(child)


@dataclass(frozen=True)
class _Uses:
    """How a template uses messages and contents."""

    parents: Parents
    names: _Names

    def all_known(self, tree: nodes.Template) -> bool:
        """Whether every use is one that makes no difference to the rest of the text."""
        from jinja2 import nodes

        for name in tree.find_all(nodes.Name):
            if name.ctx != "load":
                continue
            if name.name == "loop" and not self._loop(name):
                return False
            if name.name in self.names.lists and not self._list(name):
                return False
            if name.name in self.names.single and not self._message(name):
                return False
            if name.name in self.names.written and not self._written(name):
                return False
        return True

    def _loop(self, node: nodes.Node) -> bool:
        from jinja2 import nodes

        parent = self.parents[id(node)]
        if not isinstance(parent, nodes.Getattr):
            return False
        return parent.attr not in NEIGHBOURS or self._type_test(parent) or self._message(parent)

    def _list(self, node: nodes.Node) -> bool:
        from jinja2 import nodes

        parent = self.parents[id(node)]
        if isinstance(parent, nodes.For):
            return node is parent.iter and isinstance(parent.target, nodes.Name) and not parent.recursive
        if isinstance(parent, nodes.Assign):
            return node is parent.node and isinstance(parent.target, nodes.Name)
        if isinstance(parent, nodes.CondExpr):
            return node is not parent.test and _is_list(parent, self.names.lists) and self._list(parent)
        if isinstance(parent, nodes.Getitem) and node is parent.node:
            if isinstance(parent.arg, nodes.Slice):
                return self._list(parent)
            place = parent.arg.node if isinstance(parent.arg, nodes.Neg) else parent.arg
            return isinstance(place, nodes.Const) and type(place.value) is int and self._message(parent)
        if isinstance(parent, nodes.Filter):
            return parent.name in ("length", "count")
        return isinstance(parent, nodes.Test) and parent.name in TYPE_TESTS

    def _message(self, node: nodes.Node) -> bool:
        """One message: its properties are read by name, and its content is written."""
        from jinja2 import nodes

        parent = self.parents[id(node)]
        key: Any = None
        if isinstance(parent, nodes.Getattr):
            key = parent.attr
        elif isinstance(parent, nodes.Getitem) and node is parent.node and isinstance(parent.arg, nodes.Const):
            key = parent.arg.value
        if not isinstance(key, str) or hasattr(dict, key):
            return False
        return key != CONTENT or self._content(parent)

    def _content(self, node: nodes.Node) -> bool:
        from jinja2 import nodes

        parent = self.parents[id(node)]
        if isinstance(parent, nodes.Filter) and parent.name == "trim":
            return not (parent.args or parent.kwargs or parent.dyn_args or parent.dyn_kwargs) and self._written(parent)
        if isinstance(parent, nodes.Getattr) and parent.attr == "strip":
            call = self.parents[id(parent)]
            if not isinstance(call, nodes.Call) or parent is not call.node:
                return False
            return not (call.args or call.kwargs or call.dyn_args or call.dyn_kwargs) and self._written(call)
        return self._written(node)

    def _written(self, node: nodes.Node) -> bool:
        """Text that holds a content: put together with other text, and written."""
        from jinja2 import nodes

        parent = self.parents[id(node)]
        if isinstance(parent, nodes.Output) or self._type_test(node):
            return True
        if isinstance(parent, nodes.Assign):
            return node is parent.node and isinstance(parent.target, nodes.Name)
        if isinstance(parent, nodes.CondExpr):
            return node is not parent.test and self._written(parent)
        return isinstance(parent, nodes.Add | nodes.Concat) and self._written(parent)

    def _type_test(self, node: nodes.Node) -> bool:
        from jinja2 import nodes

        parent = self.parents[id(node)]
        return isinstance(parent, nodes.Test) and node is parent.node and parent.name in TYPE_TESTS
