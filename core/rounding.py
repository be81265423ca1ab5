"""Figures as people round them: half goes away from zero, and 29/200 is 14.5 %, whatever a float makes of it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

EXACT = 12  # decimals beyond which a difference is the noise of binary fractions
LARGE = 1e12  # from here on a float has no half to round that anybody would see


def rounded(value: float, digits: int = 0, *, signed: bool = False) -> str:
    """`value` with `digits` decimals; signed: with a plus unless it is negative. What rounds to zero has no minus."""
    sign = "+" if signed else ""
    if not abs(value) < LARGE:  # nan, infinite or huge
        return f"{value:{sign}.{digits}f}"
    decimal = Decimal(repr(round(float(value), EXACT))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    if not decimal:
        decimal = abs(decimal)
    return f"{decimal:{sign}f}"


def percent_of(share: float, digits: int = 0, *, signed: bool = False) -> str:
    """`share` (0..1) as per cent, without the sign %."""
    return rounded(100 * share, digits, signed=signed)
