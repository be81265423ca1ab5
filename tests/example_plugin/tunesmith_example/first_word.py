"""Metric `first_word`: the answer begins with the right word. core generates, averages and gives the interval."""

from core import Evaluator, hookimpl

OPTIONS = {"ignore_case": {"type": "boolean", "default": True, "description": "Take upper and lower case as equal."}}


def score(prediction, item, options):
    def first(text):
        words = text.casefold().split() if options["ignore_case"] else text.split()
        return words[:1]

    return {"first_word": float(first(prediction) == first(item.references[0]))}


@hookimpl
def evaluators():
    return [Evaluator("first_word", score, options_schema=OPTIONS, description="The first word is right")]
