"""An example on the terminal: trained tokens coloured, special tokens marked, white space that matters visible."""

from __future__ import annotations

from collections.abc import Sequence

from core.audit import CheckedExample
from core.preview.pieces import Piece

TRAINED, SPECIAL, RESET = "\x1b[32m", "\x1b[7m", "\x1b[0m"
OPEN, CLOSE = "⟦", "⟧"  # around trained text where there is no colour


def head_of(example: CheckedExample) -> str:
    """One line about an example: where it stands, its tokens, and why it is left out if it is."""
    trained = int((example.labels != -100).sum())
    words = f"{example.place} (row {example.number}): {example.length:,} tokens, {trained:,} trained"
    if example.cut:
        words += f", cut to {len(example.input_ids):,}"
    if not example.kept:
        words += ", left out: " + ("too long" if trained and not example.cut else "nothing trained")
    if example.straddling:
        words += f", {example.straddling:,} over a seam"
    return words


def painted(pieces: Sequence[Piece], *, colour: bool) -> str:
    """The pieces as text; trained ones green, or in ⟦brackets⟧ without colour, and special ones in reverse."""
    if colour:
        return "".join(_coloured(piece) for piece in pieces)
    parts, inside = [], False
    for piece in pieces:
        if piece.trained != inside:
            parts.append(OPEN if piece.trained else CLOSE)
            inside = piece.trained
        parts.append(_visible(piece.text))
    return "".join([*parts, CLOSE if inside else ""])


def _coloured(piece: Piece) -> str:
    style = (TRAINED if piece.trained else "") + (SPECIAL if piece.special else "")
    if not style:
        return _visible(piece.text)
    # a line break inside a colour would paint the rest of the line
    shown = _visible(piece.text, line_break="↵").split("\n")
    return "\n".join(f"{style}{line}{RESET}" if line else "" for line in shown)


def _visible(text: str, line_break: str = "") -> str:
    """Text without characters that move the cursor; tabs shown, and line breaks too where asked."""
    shown = []
    for char in text:
        if char == "\n":
            shown.append(f"{line_break}\n")
        elif char == "\t":
            shown.append("→\t")
        elif char.isprintable():
            shown.append(char)
        else:
            shown.append(f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
    return "".join(shown)
