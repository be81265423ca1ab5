"""Data set format `medqa`: rows with a question, a rationale and an answer."""

from core import DatasetFormat, Example, RowError, Segment, hookimpl

OPTIONS = {"with_rationale": {"type": "boolean", "default": False, "description": "Train on the rationale too."}}


def render(row, options, tokenizer):
    for field in ("question", "answer"):
        if not row.get(field):
            raise RowError(f"field {field!r} is missing or empty", field=field)
    answer = row["answer"]
    if options["with_rationale"]:
        answer = f"{row['rationale']}\n\n{answer}"
    return [
        Example(
            [
                Segment(f"Question: {row['question']}\nAnswer:\n"),
                Segment(answer, trained=True, answer=True),
                Segment(tokenizer.eos_token, trained=True),
            ]
        )
    ]


@hookimpl
def dataset_formats():
    return [DatasetFormat("medqa", render, options_schema=OPTIONS, description="Medical questions with short answers")]
