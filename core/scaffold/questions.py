"""Questions with proposals: answered by flags, on a terminal, or by the proposals themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import UserError

Answers = Mapping[str, str]


def _no_proposal(answers: Answers) -> str | None:
    return None


def _takes_anything(value: str, answers: Answers) -> None:
    return None


@dataclass(frozen=True)
class Question:
    """flag: `--base-model` is the answer `base_model`. propose(answers so far) -> text, or None where there is none.

    check(value, answers so far): raises `UserError` for a value that will not do.
    """

    flag: str
    text: str
    propose: Callable[[Answers], str | None] = _no_proposal
    check: Callable[[str, Answers], None] = _takes_anything

    @property
    def name(self) -> str:
        """The answer's key."""
        return self.flag.lstrip("-").replace("-", "_")


def answer(
    questions: Sequence[Question],
    given: Mapping[str, str | None],
    *,
    yes: bool,
    ask: Callable[[str], str] | None,
) -> dict[str, str]:
    """Every answer by name: what is `given`, else what `ask` brings, else (with `yes`) the proposal.

    Raises `UserError` with everything that is missing or will not do; on a terminal the question comes again instead.
    """
    if (
        not yes
        and ask is None
        and (missing := [question.flag for question in questions if given[question.name] is None])
    ):
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"there is no terminal to ask on, and {', '.join(missing)} {verb} not given",
            help="give them, or --yes to take what is proposed",
        )
    answers: dict[str, str] = {}
    refusals: list[UserError] = []
    for question in questions:
        value = given[question.name]
        if value is None and not yes and ask is not None:
            answers[question.name] = _asked(question, answers, ask)
            continue
        if value is None:
            value = question.propose(answers)
        if value is None:
            if not refusals:  # else what it would be proposed from is what is wrong
                refusals.append(UserError(f"{question.flag} is missing: nothing can be proposed", help="give it"))
            continue
        answers[question.name] = value
        try:
            question.check(value, answers)
        except UserError as error:
            refusals.append(error)
    if refusals:
        helps = dict.fromkeys(error.help for error in refusals if error.help)
        raise UserError("\n".join(error.message for error in refusals), help="\n  ".join(helps) or None)
    return answers


def _asked(question: Question, answers: Answers, ask: Callable[[str], str]) -> str:
    proposed = question.propose(answers)
    while True:
        value = ask(f"{question.text}{f' [{proposed}]' if proposed else ''}: ").strip() or proposed
        if value is None:
            print("  an answer is needed")
            continue
        try:
            question.check(value, {**answers, question.name: value})
        except UserError as error:
            print(f"  {error.message}" + (f"\n  {error.help}" if error.help else ""))
        else:
            return value
