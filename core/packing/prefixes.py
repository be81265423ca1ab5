"""Shared prefixes: rows that begin with the same untrained tokens, as a tree, and the bins that store it once.

Storing the prefix once and letting every continuation attend to it is the tree attention known from preference and
reinforcement learning; here the branches are rows of supervised fine-tuning. A hidden state depends only on the tokens
of its own path, so loss and gradients are those of the rows computed apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.packing.bins import first_fit_decreasing
from core.packing.rows import Bin, Outline, TracedRow

if TYPE_CHECKING:
    from core.packing.rows import Ints


TOKEN_BYTES = 4  # of a prefix


@dataclass
class Node:
    """A stretch of tokens that all `rows` and `children` below it begin with. start, end: row positions it covers."""

    start: int
    end: int
    rows: list[int] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


def prefix_tree(rows: Sequence[TracedRow | Outline], *, share: bool, min_shared: int = 1) -> Node:
    """The tree of shareable prefixes of `rows`; its root covers nothing.

    A node is kept when it adds at least `min_shared` tokens to the kept node above it. Without `share` the root holds
    every row.
    """
    if not share or len(rows) < 2:
        return Node(0, 0, rows=list(range(len(rows))))
    keys = [row.prefix for row in rows]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    root = Node(0, 0)
    path = [root]
    for k, index in enumerate(order):
        common = _common_tokens(keys[order[k - 1]], keys[index]) if k else 0
        shareable = len(keys[index]) // TOKEN_BYTES
        closed: Node | None = None
        while path[-1].end > common:
            closed = path.pop()
        if closed is not None and path[-1].end < common:  # the two part inside `closed`: split it where they do
            split = Node(path[-1].end, common, children=[closed])
            path[-1].children[-1] = split
            closed.start = common
            path.append(split)
        depth = path[-1].end
        if shareable > depth:
            leaf = Node(depth, shareable, rows=[index])
            path[-1].children.append(leaf)
            path.append(leaf)
        else:
            path[-1].rows.append(index)
    _dissolve_short(root, min_shared)
    return root


def _common_tokens(a: bytes, b: bytes) -> int:
    import numpy as np

    n = min(len(a), len(b)) // TOKEN_BYTES
    differ = np.flatnonzero(np.frombuffer(a, np.uint32, n) != np.frombuffer(b, np.uint32, n))
    return int(differ[0]) if len(differ) else n


def _dissolve_short(root: Node, min_shared: int) -> None:
    """Give the rows and children of nodes that share too little, or serve one row only, to the node above."""
    stack = [root]
    while stack:
        node = stack.pop()
        kept: list[Node] = []
        pending = node.children[::-1]
        while pending:
            child = pending.pop()
            child.start = node.end
            single = len(child.rows) == 1 and not child.children
            if single or child.end - child.start < min_shared:
                node.rows += child.rows
                pending += child.children[::-1]
            else:
                kept.append(child)
        node.children = kept
        stack += kept


def _bottom_up(root: Node) -> Iterator[Node]:
    order = [root]
    for node in order:
        order += node.children
    return reversed(order)


def _any_row(node: Node) -> int:
    while not node.rows:
        node = node.children[0]
    return node.rows[0]


def fill_bins(
    rows: Sequence[TracedRow | Outline], capacity: int, *, share: bool, min_shared: int = 1
) -> list[list[int]]:
    """Row indices of each bin, so that no bin stores more than `capacity` tokens; rows without tokens are left out.

    Bins are filled from the leaves of the prefix tree upwards, first-fit-decreasing at every node, so that rows which
    share much meet first and what is left over is combined with less related rows. Raises ValueError for a row that is
    longer than `capacity`.
    """
    if not share:
        return fill_apart(array("q", (row.length for row in rows)), capacity)
    _refuse_longer((row.length for row in rows), capacity)
    filled: dict[int, list[tuple[int, list[int]]]] = {}  # by id of node: blocks of (stored tokens, rows)
    root = prefix_tree(rows, share=share, min_shared=min_shared)
    for node in _bottom_up(root):
        blocks = [(rows[i].length - node.end, [i]) for i in sorted(node.rows) if rows[i].length]
        for child in node.children:
            blocks += filled.pop(id(child))
        sizes = [size for size, _ in blocks]
        filled[id(node)] = [
            (sum(sizes[b] for b in group) + node.end - node.start, [i for b in group for i in blocks[b][1]])
            for group in first_fit_decreasing(sizes, capacity - node.end)
        ]
    return [members for _, members in filled[id(root)]]


def fill_apart(lengths: array[int], capacity: int) -> list[list[int]]:
    """`fill_bins` where nothing is shared: the lengths of the rows are all that counts."""
    _refuse_longer(lengths, capacity)
    used = array("q", (i for i, length in enumerate(lengths) if length))
    bins = first_fit_decreasing(array("q", (lengths[i] for i in used)), capacity)
    if len(used) < len(lengths):
        for members in bins:
            members[:] = [used[i] for i in members]
    return bins


def _refuse_longer(lengths: Iterable[int], capacity: int) -> None:
    for i, length in enumerate(lengths):
        if length > capacity:
            raise ValueError(f"row {i} needs {length} tokens, more than the {capacity} of a bin")


def stored_tokens(rows: Sequence[TracedRow | Outline]) -> int:
    """How many tokens a bin of these rows stores: the length of `lay_out`, without laying out."""
    nodes = _bottom_up(prefix_tree(rows, share=True))
    return sum(node.end - node.start + sum(rows[i].length - node.end for i in node.rows) for node in nodes)


def lay_out(rows: Sequence[TracedRow], members: Sequence[int] | None = None, *, share: bool = True) -> Bin:
    """Lay the rows `members` (default: all) out in one bin, storing common untrained prefixes once if `share`; targets
    come in the order of `members`."""
    import numpy as np

    members = range(len(rows)) if members is None else members
    chosen = [rows[i] for i in members]
    none: Ints = np.zeros(0, dtype=np.int64)
    tokens, positions, reach = [none], [none], [none]
    places = [none] * len(chosen)
    stored = 0
    # A node comes with the places of the row positions above it; a reach alone says that its node is complete.
    stack: list[tuple[Node, Ints] | Ints] = [(prefix_tree(chosen, share=share), none)]
    while stack:
        top = stack.pop()
        if not isinstance(top, tuple):
            top[:] = stored
            continue
        node, above = top
        length = node.end - node.start
        path = np.concatenate([above, np.arange(stored, stored + length)])
        if length:
            tokens.append(chosen[_any_row(node)].tokens[node.start : node.end])
            positions.append(np.arange(node.start, node.end))
            reach.append(np.empty(length, dtype=np.int64))
            stack.append(reach[-1])
            stored += length
        for i in node.rows:
            row = chosen[i]
            own = len(row.tokens) - node.end
            tokens.append(row.tokens[node.end :])
            positions.append(np.arange(node.end, node.end + own))
            reach.append(np.full(own, stored + own, dtype=np.int64))
            places[i] = np.concatenate([path, np.arange(stored, stored + own)])[row.predecessors]
            stored += own
        stack += [(child, path) for child in reversed(node.children)]
    return Bin(
        rows=tuple(members),
        tokens=np.concatenate(tokens),
        positions=np.concatenate(positions),
        reach=np.concatenate(reach),
        target_places=np.concatenate([none, *places]),
        target_ids=np.concatenate([none, *(row.targets for row in chosen)]),
        unshared_tokens=sum(len(row.tokens) for row in chosen),
    )
