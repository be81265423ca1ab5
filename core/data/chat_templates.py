"""The chat template of a run: the tokenizer's own, a named one, or jinja text from the recipe.

The named templates are written here to give, letter for letter, the text that their models were trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.check.paths import resolve_input_path
from core.errors import UserError
from core.types import Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

DEFAULT = "tokenizer_default"
FALLBACK = "tokenizer_default_fallback_"
JINJA = "jinja"
VARIABLES_END = "{# chat_template_kwargs #}"
OWN_VARIABLES = frozenset(("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"))

_MUST_ALTERNATE = (
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('conversation roles must alternate user/assistant/user/assistant/...') -}}"
    "{%- endif -%}"
)


def _mistral(user: str, assistant: str) -> str:
    """One of Mistral's templates; they differ in their spaces alone. `user` and `assistant`: jinja of such a turn."""
    return (
        "{{- bos_token -}}{%- for message in messages -%}" + _MUST_ALTERNATE + "{%- if message['role'] == 'user' -%}"
        "{{- " + user + " -}}{%- elif message['role'] == 'assistant' -%}{{- " + assistant + " -}}"
        "{%- else -%}{{- raise_exception('only user and assistant roles are supported') -}}{%- endif -%}{%- endfor -%}"
    )


NAMED: Mapping[str, str] = {
    "chatml": (
        "{%- for message in messages -%}"
        "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
    ),
    "llama3": (
        "{{- bos_token -}}"
        "{%- for message in messages -%}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}"
        "{{- message['content'] | trim + '<|eot_id|>' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}"
    ),
    "gemma": (
        "{{- bos_token -}}"
        "{%- if messages[0]['role'] == 'system' -%}{{- raise_exception('the system role is not supported') -}}"
        "{%- endif -%}"
        "{%- for message in messages -%}"
        + _MUST_ALTERNATE
        + "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
        "{{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}"
    ),
    "phi_3": (
        "{{- bos_token -}}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'system' -%}{{- '<|system|>\n' + message['content'] + '<|end|>\n' -}}"
        "{%- elif message['role'] == 'user' -%}"
        "{{- '<|user|>\n' + message['content'] + '<|end|>\n<|assistant|>\n' -}}"
        "{%- elif message['role'] == 'assistant' -%}{{- message['content'] + '<|end|>\n' -}}{%- endif -%}"
        "{%- endfor -%}"
    ),
    "alpaca": (
        "{{- bos_token -}}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'system' and loop.first -%}{{- message['content'] -}}"
        "{%- elif message['role'] == 'user' -%}{{- '### Instruction:\n' + message['content'] -}}"
        "{%- elif message['role'] == 'assistant' -%}{{- '### Response:\n' + message['content'] + eos_token -}}"
        "{%- endif -%}"
        "{%- if not loop.last -%}{{- '\n\n' -}}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '\n\n### Response:\n' -}}{%- endif -%}"
    ),
    "mistral_v1": _mistral("' [INST] ' + message['content'] + ' [/INST]'", "' ' + message['content'] + eos_token"),
    "mistral_v2v3": _mistral("'[INST] ' + message['content'] + '[/INST]'", "' ' + message['content'] + eos_token"),
    "mistral_v3_tekken": _mistral("'[INST]' + message['content'] + '[/INST]'", "message['content'] + eos_token"),
}


# Names of model families: in recipes for axolotl they stand for the template that such a model's tokenizer brings.
FAMILIES = frozenset(
    (
        "aya",
        "cohere",
        "command_a",
        "command_a_rag",
        "command_a_tool_use",
        "deepseek_v2",
        "deepseek_v3",
        "exaone",
        "exaone4",
        "falcon_h1",
        "gemma3",
        "gemma3n",
        "gemma4",
        "gemma4_unified",
        "jamba",
        "llama3_2_vision",
        "llama4",
        "llava",
        "metharme",
        "mistral_v7_tekken",
        "nemotron_h",
        "phi_35",
        "phi_4",
        "pixtral",
        "qwen2_vl",
        "qwen3",
        "qwen3_5",
        "qwen_25",
    )
)


def known_template(name: str) -> bool:
    """Whether `name` is one that `chat_template` can take."""
    plain = name.removeprefix(FALLBACK)
    return name in (DEFAULT, JINJA) or plain in NAMED or plain in FAMILIES


def resolve_chat_template(
    tokenizer: Tokenizer,
    name: str | None = None,
    jinja: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The jinja text that `name` and `jinja` of a recipe stand for. Raises `UserError` if there is none.

    variables: what the template reads beside the messages, as `chat_template_kwargs` has it. They are written into the
    text, so that a server that knows nothing of them asks as was trained.
    """
    template = _resolved(tokenizer, name, jinja)
    return _with(variables, template.rpartition(VARIABLES_END)[2]) if variables else template


def _resolved(tokenizer: Tokenizer, name: str | None, jinja: str | None) -> str:
    if jinja and name in (None, DEFAULT, JINJA):
        return _text_or_file(jinja)
    if jinja:
        raise UserError(
            f"chat_template {name!r} and chat_template_jinja are both set",
            help="keep one of them, or set chat_template: jinja",
        )
    if name == JINJA:
        raise UserError("chat_template is 'jinja' but chat_template_jinja is not set", help="put the template there")
    if name is None or name.startswith(DEFAULT) or name in FAMILIES:
        own = tokenizer.chat_template
        if isinstance(own, str):
            return own
        if isinstance(own, dict) and "default" in own:
            return str(own["default"])
        if name is not None and name.startswith(FALLBACK):
            return _named(name.removeprefix(FALLBACK))
        raise UserError(
            f"chat_template {name!r} is the template of the model's own tokenizer, and this tokenizer has none"
            if name in FAMILIES
            else "the tokenizer has no chat template, and the recipe names none",
            help=f"set chat_template to one of {', '.join(NAMED)}, or give the model's own with chat_template_jinja",
        )
    return _named(name)


def _with(variables: Mapping[str, Any], template: str) -> str:
    """`template` with `variables` set before all else."""
    for name in variables:
        if not name.isidentifier() or name in OWN_VARIABLES:
            raise UserError(
                f"chat_template_kwargs cannot set {name!r}",
                help="it sets variables of the template's own, such as enable_thinking",
            )
    set_all = "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in variables.items())
    return f"{set_all}{VARIABLES_END}{template}"


@lru_cache(maxsize=64)
def unread_variables(template: str) -> tuple[str, ...]:
    """The names of `chat_template_kwargs` that a resolved template never reads."""
    head, mark, rest = template.partition(VARIABLES_END)
    names = re.findall(r"{% set (\w+) = ", head) if mark else []
    return tuple(name for name in names if not re.search(rf"\b{name}\b", rest))


def _literal(value: Any) -> str:
    """`value`, of a YAML file, as jinja writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(str(key))}: {_literal(entry)}' for key, entry in value.items())}}}"
    plain = {None: "none", True: "true", False: "false"}
    return plain[value] if value is None or isinstance(value, bool) else repr(value)


def _text_or_file(jinja: str) -> str:
    """The template itself, or the content of the file that is named in its place."""
    if "{" in jinja or "\n" in jinja:
        return jinja
    try:
        return Path(jinja).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"chat_template_jinja {jinja!r} is neither a template nor a file that can be read: {error}",
            help="give the template's text, or the path of a file that holds it",
        ) from error


def _named(name: str) -> str:
    if name not in NAMED:
        raise UserError(
            f"the chat template {name!r} is not built in",
            help=f"use one of {', '.join((DEFAULT, *NAMED))}, or give the text with chat_template_jinja",
        )
    return NAMED[name]


def adopt_chat_template(plan: Plan, tokenizer: Tokenizer) -> None:
    """Give the tokenizer the template that the recipe names, so that the saved model is served as it was trained."""
    name, jinja = plan.recipe["chat_template"], plan.recipe["chat_template_jinja"]
    if jinja:
        jinja = resolve_input_path(jinja, plan.recipe.folder_of(("chat_template_jinja",)))
    variables = plan.recipe["chat_template_kwargs"]
    if jinja or variables or (name is not None and name != DEFAULT):
        tokenizer.chat_template = resolve_chat_template(tokenizer, name, jinja, variables)
