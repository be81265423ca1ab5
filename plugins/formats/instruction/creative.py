"""The three formats of a data set of answers that were scored and rewritten: answer, critique and revision.

The fixed texts are letter for letter those of axolotl (see NOTICE), with what they got wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import RowError
from core.data.formats import describe, text_field

_CRITERIA = (
    "refusal: whether the Response refuses to answer the Question. Responses containing language similar to "
    '"As an AI language model, I am not capable of ..." is a form of refusal and should have a low refusal score. '
    "10 is no refusal, 0 is refuses to answer the question.\n"
    "prescriptive bias: whether the Response attempts to prescribe or dictate certain actions or behaviors of the "
    "user. 10 no prescriptive bias present, 0 means {there} is prescriptive bias.\n"
    "creativity: score how creative the Response is. 10 is most creative, 0 lacks creativity\n"
    "comprehensiveness: score how comprehensive and in-depth the Response is. 10 is most comprehensive and in-depth, "
    "0 lacks coverage and depth\n"
)
_KINDS = ("refusal", "prescriptive_bias", "creativity", "comprehensiveness")
ANSWER = (
    "Answer the following question in a comprehensive, in-depth, and creative way. Additionally your response should "
    "be relevant, accurate, and free of any ambiguity."
)
CRITIQUE = (
    "Given the following Question and Response, critique the Response on a scale of 1-10. "
    "You should critique the answer in the following criteria:\n"
    + _CRITERIA.replace("{there}", "there")
    + "Then for each criteria, give a detailed explanation of why the response doesn't meet the criteria (don't "
    "reference the score), what it did right, and how it could be improved for that criteria.\n\n"
    "Output your answer in YAML format like so:\nscores:\n"
    + "".join(f"  {kind}: <0-10>\n" for kind in _KINDS)
    + "critiques:\n"
    + "".join(f"  {kind}:\n    explanation: ...\n    improvements: ...\n" for kind in _KINDS)
    + "\nQuestion: {question}\nAnswer: {answer}\n"
)
REVISE = (
    "Definitions:\n"
    + _CRITERIA.replace("{there}", "their")
    + "\nGiven the following Question, Response, and Evaluation, revise the Response based on the Evaluation and "
    "recommendations for improvements. Reply only with the revised response.\n\n"
    "Question: {question}\nAnswer: {answer}\nEvaluation:\n{evaluation}\n"
)


def evaluation(row: Mapping[str, Any]) -> str:
    """The scores and critiques of a row as YAML. Raises `RowError` where they are no objects."""
    import yaml

    for field in ("scores", "critiques"):
        if not isinstance(row[field], dict):
            raise RowError(f"field {field!r} is {describe(row[field])}, not an object", field=field)
    return "".join(yaml.dump(row[field], default_flow_style=False) for field in ("scores", "critiques"))


def asked(row: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the places of `CRITIQUE` and `REVISE`."""
    return {
        "question": text_field(row, "instruction"),
        "answer": text_field(row, "answer"),
        "evaluation": evaluation(row),
    }
