"""Data made by hand for tests of data checks, and what every check has to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.audit.facts import CheckedExample, DataCheck, DataFacts, Finding
from core.testing.failure import require
from core.types import DatasetFormat, DatasetPlan, Options, Row

if TYPE_CHECKING:
    from core.types import Tokenizer


def make_facts(
    train: Sequence[Row],
    *,
    tokenizer: Tokenizer,
    format: DatasetFormat,
    validation: Sequence[Row] = (),
    test: Sequence[Row] = (),
    options: Options | None = None,
    sequence_len: int = 2048,
    strategy: str = "drop",
) -> DataFacts:
    """What a check sees of these rows; their places are `train.jsonl:1` and on, and the like for the others."""
    defaults = {name: schema["default"] for name, schema in format.options_schema.items() if "default" in schema}
    chosen = {**defaults, **(options or {})}

    def made(name: str, rows: Sequence[Row]) -> list[CheckedExample]:
        dataset = DatasetPlan(f"{name}.jsonl", format, chosen, ("datasets", 0))
        limit = (sequence_len, strategy) if name != "test" else (10**9, "drop")
        return [example for n, row in enumerate(rows, 1) for example in _examples(dataset, n, row, tokenizer, limit)]

    return DataFacts(made("train", train), made("validation", validation), made("test", test), tokenizer, sequence_len)


def check_data_check(
    check: DataCheck, tokenizer: Tokenizer, format: DatasetFormat, options: Options | None = None
) -> None:
    """Findings of one line, at places that are there, for any data: none at all, tokens alone, good rows and bad ones.

    format: `alpaca`. Raises `ConformanceError`.
    """
    defaults = {name: schema["default"] for name, schema in check.options_schema.items() if "default" in schema}
    chosen = {**defaults, **(options or {})}
    good = [{"instruction": f"Is {n} even?", "input": "", "output": "no" if n % 2 else "yes"} for n in range(120)]
    odd = [{"instruction": "\x07 <b>Ã©</b>", "output": text} for text in ("n/a", "{", "{}", "yes " * 200, "Да, 你好")]
    tokens = DatasetFormat("tokens", lambda row, options, tokenizer: [_given(row)])
    for facts in (
        DataFacts((), (), (), tokenizer, 2048),
        make_facts(good, tokenizer=tokenizer, format=format),
        make_facts([*odd, *odd, *good], tokenizer=tokenizer, format=format, validation=odd, test=[*odd, *good[:3]]),
        make_facts(odd, tokenizer=tokenizer, format=format, sequence_len=8, strategy="truncate"),
        make_facts([{"ids": [5, 6, 7]}] * 3, tokenizer=tokenizer, format=tokens),
    ):
        _require_findings(check, facts, chosen)


def _require_findings(check: DataCheck, facts: DataFacts, options: Mapping[str, Any]) -> None:
    found = check.check(facts, options)
    require(
        isinstance(found, list) and all(isinstance(finding, Finding) for finding in found),
        f"data check {check.name} returned {found!r}, not a list of Finding",
    )
    places = {example.place for example in facts.every()}
    for finding in found:
        require(
            bool(finding.message.strip()) and "\n" not in finding.message and not finding.message.endswith("."),
            f"data check {check.name}: a message is one line without a full stop, not {finding.message!r}",
        )
        unknown = [place for place in finding.places if place not in places]
        require(not unknown, f"data check {check.name} names places that are not in the data: {unknown[:3]}")
        require(finding.number >= 0, f"data check {check.name} counts {finding.number} examples")


def _examples(
    dataset: DatasetPlan, number: int, row: Row, tokenizer: Tokenizer, limit: tuple[int, str]
) -> list[CheckedExample]:
    from core.data.collect import Limits, checked
    from core.data.files import SourceRow
    from core.data.tokenise import end_ids, tokenize_example

    source = SourceRow(dict(row), f"{dataset.path}:{number}")
    return [
        checked(
            dataset, number, source, example, tokenize_example(example, tokenizer), end_ids(tokenizer), Limits(*limit)
        )
        for example in dataset.format.render(row, dataset.options, tokenizer)
    ]


def _given(row: Row) -> Any:
    from core.types import Example

    return Example(input_ids=row["ids"])
