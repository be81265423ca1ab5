"""Scoring speed: items per second of our greedy generation and of our likelihood of multiple choices, beside others.

    python benchmarks/bench_eval.py [--quick] [--json FILE] [--items N] [--rounds N] [--cases CASE ...]

SmolLM2-135M-Instruct in float32 on the quickstart's held-out rows. Peers: (a) "loop", transformers' `generate` (or one
forward pass per choice) item by item; (b) "lm_eval", the Hugging Face backend of lm-evaluation-harness in batches of
the same size, given the same model object (left out, with a word, where it is not installed). All take turns in one
process; each figure is the median over the rounds. Refuses to give figures unless all answers are the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yml"
CHOICES = 4
CLOSE = 1e-3  # nats; float32 sums in another order
CASES = ("zero_shot", "few_shot", "choices")
GOALS = {"loop": 5.0, "lm_eval": 1.5}


@dataclass(frozen=True)
class Setting:
    """A model, its tokenizer, the prompts of both columns, and the questions with the choices of each.

    White space at the end of a question stands at the beginning of its choices: lm_eval counts it there.
    """

    model: Any
    tokenizer: Any
    prompts: Mapping[str, Sequence[str]]
    questions: Sequence[str]
    choices: Sequence[Sequence[str]]
    new_tokens: int
    batch: int
    stops: frozenset[int]


Runner = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="6 items, 6 tokens, one round: does it run?")
    parser.add_argument("--json", type=Path, help="write {case: {ours, peer, ratio}} to this file")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="others stay in the file as they are")
    arguments = parser.parse_args()
    items, rounds, new_tokens = (6, 1, 6) if arguments.quick else (arguments.items, arguments.rounds, 32)
    with tempfile.TemporaryDirectory() as folder:
        setting = prepared(Path(folder), items, new_tokens)
    figures: dict[str, dict[str, float]] = {}
    for name in (case for case in arguments.cases if case in setting.prompts):
        runners = {"ours": ours(setting, name), "loop": loop(setting, name)}
        figures |= measured(f"generate_{name}", runners | harness(setting, name), rounds, items, same_texts)
    if "choices" in arguments.cases:
        runners = {"ours": our_choices(setting), "loop": loop_choices(setting)}
        figures |= measured("choices", runners | harness_choices(setting), rounds, items, same_numbers)
    if arguments.json:
        if arguments.json.is_file():
            figures = json.loads(arguments.json.read_text(encoding="utf-8")) | figures
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


def prepared(folder: Path, items: int, new_tokens: int) -> Setting:
    """The quickstart's model, and its prompts without and with worked examples."""
    import torch

    from core.data import prepare
    from core.evaluation.generate import make_decoding
    from core.evaluation.prompts import few_shot, zero_shot
    from core.host import load_host
    from core.models import load_base, load_tokenizer
    from core.plan import make_plan
    from core.recipe import load_recipe

    asked = [f"evaluation.limit={items}", f"evaluation.max_new_tokens={new_tokens}", f"output_dir={folder}/run"]
    plan = make_plan(load_recipe(RECIPE, [*asked, "test_datasets=null", "adapter=null"]), load_host())
    tokenizer = load_tokenizer(plan)
    data = prepare(plan, tokenizer)
    rows = data.test[:items]
    options: dict[str, Any] = next(dict(one.options) for one in plan.evaluation.columns if one.kind == "prompted")
    answers = list(dict.fromkeys(item.references[0] for item in data.test))
    texts = list(zero_shot(rows).texts)
    space = texts[0][len(texts[0].rstrip()) :]
    model: Any = load_base(plan).eval()
    assert model.dtype == torch.float32
    return Setting(
        model=model,
        tokenizer=tokenizer,
        prompts={
            "zero_shot": texts,
            "few_shot": list(few_shot(plan, options, data, rows, tokenizer).texts),
        },
        questions=[text.rstrip() for text in texts],
        choices=[[space + answers[(index + step) % len(answers)] for step in range(CHOICES)] for index in range(items)],
        new_tokens=new_tokens,
        batch=min(64, items),
        stops=make_decoding(plan, model, tokenizer).stop_ids,
    )


def measured(
    case: str, runners: Mapping[str, Runner], rounds: int, items: int, same: Callable[[Any, Any], str]
) -> dict[str, dict[str, float]]:
    """Items per second of each runner, medians over `rounds` in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds):
        results = {}
        for name, runner in runners.items():
            started = time.perf_counter()
            results[name] = runner()
            seconds[name].append(time.perf_counter() - started)
            print(f"{case} {name}, round {turn + 1}: {items / seconds[name][-1]:.2f} items/s", file=sys.stderr)
        for name, result in results.items():
            difference = same(results["ours"], result)
            if difference:
                raise SystemExit(f"error: {case}: ours and {name} differ: {difference}")
    speed = {name: items / statistics.median(values) for name, values in seconds.items()}
    return {
        f"{case}_vs_{name}": {"ours": speed["ours"], "peer": value, "ratio": speed["ours"] / value}
        for name, value in speed.items()
        if name != "ours"
    }


def ours(setting: Setting, column: str) -> Runner:
    from core.data import encode_prompt
    from core.evaluation.generate import Decoding, generate
    from core.evaluation.greedy import make_decoder

    def run() -> list[str]:
        prompts = [encode_prompt(text, setting.tokenizer) for text in setting.prompts[column]]
        decoding = Decoding(setting.stops, setting.tokenizer.pad_token_id, setting.new_tokens, setting.batch)
        answers = generate(make_decoder(setting.model), setting.tokenizer, prompts, decoding)
        return [answer.text for answer in answers]

    return run


def loop(setting: Setting, column: str) -> Runner:
    import torch

    def run() -> list[str]:
        found = []
        for text in setting.prompts[column]:
            ids = setting.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                out = setting.model.generate(
                    **ids,
                    do_sample=False,
                    max_new_tokens=setting.new_tokens,
                    eos_token_id=sorted(setting.stops),
                    pad_token_id=setting.tokenizer.pad_token_id,
                )
            new = [token for token in out[0, ids["input_ids"].shape[1] :].tolist() if token not in setting.stops]
            found.append(str(setting.tokenizer.decode(new, clean_up_tokenization_spaces=False)))
        return found

    return run


def harness(setting: Setting, column: str) -> dict[str, Runner]:
    peer = _peer(setting)
    if peer is None:
        return {}
    from lm_eval.api.instance import Instance

    until = [str(setting.tokenizer.decode([stop])) for stop in sorted(setting.stops)]
    asked = {"until": until, "max_gen_toks": setting.new_tokens, "do_sample": False}
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(text, dict(asked)), idx=0)
        for text in setting.prompts[column]
    ]
    return {"lm_eval": lambda: peer.generate_until(requests, disable_tqdm=True)}


def our_choices(setting: Setting) -> Runner:
    from core.evaluation.generate import Decoding
    from core.evaluation.greedy import make_decoder
    from core.evaluation.likelihood import measure_choices

    def run() -> list[list[float]]:
        decoding = Decoding(setting.stops, setting.tokenizer.pad_token_id, setting.new_tokens, setting.batch)
        found = measure_choices(
            make_decoder(setting.model), setting.tokenizer, setting.questions, setting.choices, decoding
        )
        return [[-found[index][f"nll:{n}"] for n in range(CHOICES)] for index in range(len(setting.choices))]

    return run


def loop_choices(setting: Setting) -> Runner:
    import torch

    def one(prompt: str, choice: str) -> float:
        start = len(setting.tokenizer(prompt)["input_ids"])
        ids = setting.tokenizer(prompt + choice, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = setting.model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1].float()
        return float(logits.log_softmax(-1).gather(1, ids[0, start:, None]).sum())

    def run() -> list[list[float]]:
        pairs = zip(setting.questions, setting.choices, strict=True)
        return [[one(prompt, choice) for choice in listed] for prompt, listed in pairs]

    return run


def harness_choices(setting: Setting) -> dict[str, Runner]:
    peer = _peer(setting)
    if peer is None:
        return {}
    from lm_eval.api.instance import Instance

    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(prompt, choice), idx=number)
        for prompt, listed in zip(setting.questions, setting.choices, strict=True)
        for number, choice in enumerate(listed)
    ]

    def run() -> list[list[float]]:
        sums = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
        return [sums[start : start + CHOICES] for start in range(0, len(sums), CHOICES)]

    return {"lm_eval": run}


def _peer(setting: Setting) -> Any:
    if find_spec("lm_eval") is None:
        print("lm_eval is not installed: left out (pip install 'tunesmith[lm-eval]')", file=sys.stderr)
        return None
    from lm_eval.models.huggingface import HFLM

    logging.disable(logging.WARNING)
    return HFLM(pretrained=setting.model, tokenizer=setting.tokenizer, batch_size=setting.batch, device="cpu")


def same_texts(first: Sequence[str], second: Sequence[str]) -> str:
    """The first difference of two lists of answers, or nothing."""
    pairs = enumerate(zip(first, second, strict=True))
    return next((f"item {index}: {one!r}, {other!r}" for index, (one, other) in pairs if one != other), "")


def same_numbers(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> str:
    """The first difference of two lists of log-likelihoods, or nothing."""
    for index, (ones, others) in enumerate(zip(first, second, strict=True)):
        if any(abs(one - other) > CLOSE for one, other in zip(ones, others, strict=True)):
            return f"item {index}: {list(ones)}, {list(others)}"
    return ""


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as Markdown."""
    lines = ["| case | ours, items/s | peer, items/s | ratio | goal |", "|---|---|---|---|---|"]
    for case, row in figures.items():
        goal = GOALS[case.partition("_vs_")[2]]
        lines.append(f"| {case} | {row['ours']:.2f} | {row['peer']:.2f} | {row['ratio']:.2f} | {goal:g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
