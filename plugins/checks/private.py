"""A hint of secrets and personal data: counted and located, never printed."""

from __future__ import annotations

import re
from collections.abc import Callable

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.looked import looked_up
from core.audit.watching import Marks, each_once, sorting
from core.types import Options
from plugins.checks.learning import counted, watching

EMAIL = re.compile(r"[\w.+-]{1,64}@([\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[A-Za-z]{2,24})\b")
# names that are set apart for examples (RFC 2606), and what documentation uses beside them
EXAMPLES = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost|email|domain|company)(?:\.\w{2,6})?$", re.IGNORECASE)
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?|\(\d{3}\) ?)\d{2,4}(?:[ .-]?\d{2,4}){1,4}(?![\w-])"
)
# the look behind comes after the first digit, so that the search can skip to digits
CARD = re.compile(r"[3-6](?<![\d.-].)\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?![\d-])")
KEY = re.compile(
    r"AKIA[0-9A-Z]{16}\b|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,}|xox[abprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{30,}"
    r"|sk-[A-Za-z0-9_-]{32,}|[sr]k_live_[A-Za-z0-9]{20,}|AIza[\w-]{35}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
KEY_BEGINS = (
    "AKIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "xox",
    "hf_",
    "sk-",
    "k_live_",
    "AIza",
    "eyJ",
    "-----BEGIN ",
)
_DIGITS = re.compile(r"\d")


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812-1)."""
    values = [int(digit) for digit in reversed(digits)]
    doubled = (value * 2 - 9 * (value > 4) for value in values[1::2])
    return len(set(digits)) > 1 and (sum(values[::2]) + sum(doubled)) % 10 == 0


def _email(text: str) -> bool:
    return "@" in text and any(not EXAMPLES.search(found[1]) for found in EMAIL.finditer(text))


def _phone(text: str) -> bool:
    # numbers that begin with 555 after the area code are set apart for fiction
    return ("+" in text or "(" in text) and any(
        9 <= len(digits := "".join(_DIGITS.findall(found[0]))) <= 15 and "555" not in digits[-7:-4]
        for found in PHONE.finditer(text)
    )


def _card(text: str) -> bool:
    # a search for single digits takes longer than to find none of them
    return any(digit in text for digit in "3456") and any(
        luhn("".join(_DIGITS.findall(found[0]))) for found in CARD.finditer(text)
    )


KINDS: dict[str, Callable[[str], bool]] = {
    "e-mail": _email,
    "phone": _phone,
    "card": _card,
    "key": lambda text: any(begin in text for begin in KEY_BEGINS) and KEY.search(text) is not None,
}


def private_data(facts: DataFacts, options: Options) -> Watch:
    """Examples that seem to hold e-mail addresses, phone or card numbers, or keys."""

    def kinds_of(example: CheckedExample) -> list[str]:
        text = example.text
        return [kind for kind, seems in KINDS.items() if seems(text)]

    def say(facts: DataFacts, kinds: dict[str, Marks]) -> list[Finding]:
        if not kinds:
            return []
        places = each_once(facts, kinds)
        listed = ", ".join(f"{kind} {len(kinds[kind]):,}" for kind in kinds)
        message = f"what looks like personal data or secrets in {counted(len(places))} ({listed})"
        each = [(kind, number) for kind in kinds for number in kinds[kind].numbers]
        details = looked_up(each, lambda one: f"{facts.place(one[1])}: {one[0]}")
        help = "a tuned model can repeat them: look, and take them out"
        return [Finding(message, places, help=help, details=details, private=True)]

    return sorting(kinds_of, say)


@hookimpl
def data_checks() -> list[DataCheck]:
    text = "A hint of e-mail addresses, phone and card numbers, and keys; they are never printed."
    return [watching("private_data", private_data, description=text)]
