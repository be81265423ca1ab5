"""What every plugin has to keep, as checks that an author calls from pytest.

`check_plugin(module, model=tiny_model, folder=tmp_path, rows={...})` runs all that fit; each check stands alone too.
A check that fails raises `ConformanceError`, which says what was expected and what was found.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.host import BUILTINS, GROUP, Host, load_host
from core.probes import Probe
from core.testing.data import check_data_check
from core.testing.failure import ConformanceError, require
from core.testing.recipes import tiny_plan
from core.testing.training import check_adapter, check_logger, check_trainer
from core.types import DatasetFormat, Evaluator, GenerationRequest, Generator, Item, Options, Row, Schema

if TYPE_CHECKING:
    from core.types import Tokenizer

__all__ = [
    "ConformanceError",
    "check_adapter",
    "check_data_check",
    "check_evaluator",
    "check_format",
    "check_generator",
    "check_import",
    "check_logger",
    "check_plugin",
    "check_probe",
    "check_schemas",
    "check_trainer",
    "host_with",
    "options_for",
]

# Importing any of these takes seconds; a plugin imports them inside its functions.
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "pandas",
    "bitsandbytes",
    "wandb",
    "mlflow",
)


def check_plugin(
    module: ModuleType,
    *,
    model: Path,
    folder: Path,
    rows: Mapping[str, Row] | None = None,
    options: Mapping[str, Options] | None = None,
    references: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
    plain_text: Collection[str] = (),
) -> list[str]:
    """Run every check that fits what `module` offers; returns what was checked, such as `adapter norm_tuning`.

    model: a small model folder (the fixture `tiny_model`). folder: an empty folder to write into.
    rows: a golden row for each data set format by its name; plain_text: the formats whose rows have no answer.
    options, references: options and a right answer, by name, for those that need other than their defaults and "yes".
    values: recipe keys for the runs of adapters and trainers.
    """
    from core.models import load_tokenizer

    check_import(module.__name__)
    host = host_with(module)
    checked = ["import"]
    for owner, schema in _schemas(module).items():
        check_schemas(schema, owner)
        checked.append(f"schema of {owner}")
    tokenizer = load_tokenizer(tiny_plan(folder / "tokenizer", model, host))
    for format in _offered(module, "dataset_formats"):
        require(format.name in (rows or {}), f"give a golden row for the data set format {format.name!r} in `rows`")
        chosen = options_for(format.options_schema, (options or {}).get(format.name, {}), host)
        check_format(format, (rows or {})[format.name], chosen, tokenizer, answer=format.name not in plain_text)
        checked.append(f"dataset format {format.name}")
    for evaluator in _offered(module, "evaluators"):
        chosen = options_for(evaluator.options_schema, (options or {}).get(evaluator.name, {}), host)
        check_evaluator(evaluator, chosen, reference=(references or {}).get(evaluator.name, "yes"))
        checked.append(f"metric {evaluator.name}")
    for probe in _offered(module, "probes"):
        check_probe(probe)
        checked.append(f"probe {probe.name}")
    for generator in _offered(module, "generators"):
        checked.append(f"generator {generator.name}: {check_generator(generator, tokenizer, model)}")
    for adapter in _offered(module, "adapters"):
        plan = tiny_plan(folder / adapter.name, model, host, {"adapter": adapter.name, **(values or {})})
        check_adapter(plan)
        checked.append(f"adapter {adapter.name}")
    for check in _offered(module, "data_checks"):
        check_data_check(check, tokenizer, host.formats["alpaca"], (options or {}).get(check.name, {}))
        checked.append(f"data check {check.name}")
    for trainer in _offered(module, "trainers"):
        plan = tiny_plan(folder / trainer.name, model, host, {"trainer": trainer.name, **(values or {})})
        check_trainer(plan)
        checked.append(f"trainer {trainer.name}")
    for logger in _offered(module, "loggers"):
        check_logger(logger, tiny_plan(folder / f"logger-{logger.name}", model, host), host)
        checked.append(f"logger {logger.name}")
    return checked


def host_with(module: ModuleType) -> Host:
    """All that is installed, and `module`. Raises `core.PluginError` if it clashes with anything or misuses a hook."""
    installed = {entry.value for entry in entry_points(group=GROUP)} | set(BUILTINS)
    return load_host() if module.__name__ in installed else load_host(extra=[module])


def check_import(name: str) -> None:
    """Importing the module `name` and asking its hooks imports no heavy package (in a fresh interpreter)."""
    program = (
        f"import sys, importlib\nmodule = importlib.import_module({name!r})\n"
        "for hook in [value for value in vars(module).values() if hasattr(value, 'tunesmith_impl')]:\n"
        "    hook.__code__.co_argcount or hook()\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    require(done.returncode == 0, f"{name} cannot be imported in a fresh interpreter:\n{done.stderr}")
    require(
        not done.stdout.split(), f"importing {name} imports {done.stdout.strip()}: import them inside functions instead"
    )


def check_schemas(properties: Mapping[str, Schema], owner: str) -> None:
    """Each schema of `properties` is valid Draft 2020-12, has a description, and its default is valid under it."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError

    for key, schema in properties.items():
        where = f"the schema of {key!r} ({owner})"
        try:
            Draft202012Validator.check_schema(schema)
            if "default" in schema:
                Draft202012Validator(schema).validate(schema["default"])
        except SchemaError as error:
            raise ConformanceError(f"{where} is not valid JSON Schema 2020-12: {error.message}") from error
        except ValidationError as error:
            raise ConformanceError(f"the default of {key!r} ({owner}) is not valid: {error.message}") from error
        require(str(schema.get("description", "")).strip() != "", f"{where} has no description")


def options_for(schema: Schema, given: Options, host: Host) -> Options:
    """`given` with every default, as the data set or metric would get it in a recipe that sets nothing else."""
    from core.check import item_options, resolve_defaults
    from core.recipe import Recipe

    options: Options = item_options(schema, dict(given), resolve_defaults(Recipe(Path("recipe.yml"), "", {}), host))
    return options


def check_format(
    format: DatasetFormat, row: Row, options: Options, tokenizer: Tokenizer, *, answer: bool = True
) -> None:
    """A golden row gives examples that train exactly the marked text, and that ask what they train.

    answer: whether the row is a question with an answer, as opposed to plain text. Raises `ConformanceError`.
    """
    from core.data.items import item_of
    from core.data.tokenise import IGNORED, tokenize_example

    before = dict(row)
    examples = format.render(row, options, tokenizer)
    require(dict(row) == before, f"{format.name}.render changed the row it was given")
    require(isinstance(examples, list) and bool(examples), f"{format.name}.render returned {examples!r}, no examples")
    for example in examples:
        tokens = tokenize_example(example, tokenizer)
        require(
            tokens.straddling == 0,
            f"{format.name}: {tokens.straddling} tokens reach from text that is not trained into text that is, "
            f"or the other way round; end the text before in a line break, not in a space: {example}",
        )
        trained = [label for label in tokens.labels if label != IGNORED]
        require(len(trained) > 0, f"{format.name}: nothing in the example is trained: {example}")
        if example.input_ids is not None:
            require(
                all(label in (IGNORED, token) for token, label in zip(tokens.input_ids, tokens.labels, strict=True)),
                f"{format.name}: a label is neither its own token nor {IGNORED}: {example}",
            )
            continue
        expected = "".join(segment.text for segment in example.segments if segment.trained)
        found = tokenizer.decode(trained, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        require(
            str(found).strip() == expected.strip(), f"{format.name}: labels decode to {found!r}, not to {expected!r}"
        )
        if answer:
            item = item_of(example, row, "golden:1", 0, tokenizer)
            text = "".join(segment.text for segment in example.segments)
            require(item.references[0] != "", f"{format.name}: the answer is empty: {example}")
            require(
                text.startswith(item.prompt + item.references[0]),
                f"{format.name}: prompt and answer are not what is trained: {item.prompt + item.references[0]!r}",
            )


def check_evaluator(evaluator: Evaluator, options: Options, *, reference: str = "yes") -> None:
    """Finite numbers for any prediction, an empty one too, and a right answer scores no worse than none."""
    facts = {"seconds": 0.5, "tokens": 3.0, "nll": 2.0, "characters": 3.0}
    item = Item(0, {"output": reference}, "Is 2 even? Answer yes or no.", (reference,), "golden:1", facts)
    if evaluator.choices is not None:
        # the reference is the likeliest of its choices
        for number, choice in enumerate(evaluator.choices(item, options)):
            facts |= {f"nll:{number}": 1.0 if choice == reference else 2.0, f"tokens:{number}": 3.0}
    if evaluator.complete is not None:
        options = evaluator.complete([item], options)
    scores = {
        text: evaluator.score(text, item, options)
        for text in ("", reference, "no\nno no", '{"a": [', "\u00e9\U0001f600")
    }
    for text, figures in scores.items():
        require(
            all(isinstance(key, str) and math.isfinite(value) for key, value in figures.items()),
            f"metric {evaluator.name} gives {figures} for the prediction {text!r}: not all finite numbers",
        )
    given = [figures for figures in scores.values() if figures]
    require(bool(given), f"metric {evaluator.name} applies to none of the predictions {list(scores)}")
    require(
        len({frozenset(figures) for figures in given}) == 1 or evaluator.name in given[0],
        f"metric {evaluator.name} gives other figures for other predictions, and none is called {evaluator.name!r}",
    )
    if scores[reference] and scores[""]:
        key = evaluator.name if evaluator.name in scores[reference] else next(iter(scores[reference]))
        right, empty = scores[reference][key], scores[""].get(key, scores[reference][key])
        better = right >= empty if evaluator.higher_is_better else right <= empty
        require(better, f"metric {evaluator.name} scores the right answer {right} and an empty one {empty}")
    if evaluator.summarise:
        summary = evaluator.summarise(given, options)
        require(
            bool(summary) and all(math.isfinite(value) for value in summary.values()),
            f"metric {evaluator.name} sums up to {summary}: not all finite numbers",
        )


def check_probe(probe: Probe) -> None:
    """It has something to measure, the same each time, and no instruction is followed by an empty answer."""
    texts = list(probe.texts()) if probe.texts else []
    instructions = list(probe.instructions()) if probe.instructions else []
    require(bool(texts or instructions), f"probe {probe.name} has neither texts nor instructions")
    require(all(text.strip() for text in texts), f"probe {probe.name}: one of its texts is empty")
    for instruction in instructions:
        require(bool(instruction.prompt.strip()), f"probe {probe.name}: {instruction.name} asks nothing")
        require(not instruction.followed(""), f"probe {probe.name}: an empty answer follows {instruction.prompt!r}")
    again = [one.prompt for one in probe.instructions()] if probe.instructions else []
    require([one.prompt for one in instructions] == again, f"probe {probe.name} asks something else each time")


def check_generator(generator: Generator, tokenizer: Tokenizer, model: Path) -> str:
    """Answers of at most the length asked for, one for each prompt; or why it cannot run here, which it has to say."""
    prompts = [tokenizer(text)["input_ids"] for text in ("Is 2 even?", "Is 3 even? Say why.")]
    request = GenerationRequest(prompts, frozenset({int(tokenizer.eos_token_id)}), 4, tokenizer, str(model))
    try:
        answers = generator.generate(request)
    except UserError as error:
        require(bool(error.help), f"generator {generator.name} says no way out of: {error.message}")
        return f"not run, {error.message}"
    require(len(answers) == len(prompts), f"generator {generator.name} gives {len(answers)} answers to 2 prompts")
    for answer in answers:
        fits = 1 <= len(answer) <= 4 and all(isinstance(token, int) for token in answer)
        require(fits, f"generator {generator.name} answers {answer}: not 1 to 4 token ids")
    return "answers"


def _offered(module: ModuleType, hook: str) -> list[Any]:
    """What the hook `hook` of `module` returns, if it is implemented."""
    return list(_implemented(module, hook)() or ())


def _implemented(module: ModuleType, hook: str) -> Callable[[], Any]:
    """The function of `module` that implements `hook`, or one that gives None."""
    function: Callable[[], Any] | None = getattr(module, hook, None)
    return function if function is not None and hasattr(function, "tunesmith_impl") else lambda: None


def _schemas(module: ModuleType) -> dict[str, Mapping[str, Schema]]:
    """The schemas that `module` brings, by whose they are."""
    keys = _implemented(module, "recipe_keys")() or {}
    components = [
        component for hook in ("dataset_formats", "evaluators", "data_checks") for component in _offered(module, hook)
    ]
    owned = {component.name: component.options_schema for component in components}
    return {name: schema for name, schema in {"the recipe keys": keys, **owned}.items() if schema}
