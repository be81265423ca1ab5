"""The tokenizer of a run: the model's own, with the recipe's special tokens, able to end and to pad a text."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import Problem, RecipeError, UserError
from core.models.config import load_config, model_arguments
from core.models.loading import explained, load_arguments, quiet, shortened
from core.models.source import loadable_source, model_source, resolve_base_model
from core.models.token_texts import renamed
from core.types import Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

AUTO_CLASS = "AutoTokenizer"
# Tokens that vocabularies set aside for padding, in order of preference.
PAD_CANDIDATES = (
    "<|finetune_right_pad_id|>",
    "<|finetune_right_pad|>",
    "<pad>",
    "<|pad|>",
    "[PAD]",
    "<|padding|>",
    "<|PAD|>",
    "<|endoftext|>",
)
EOS_CANDIDATES = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>", "<end_of_turn>", "<eos>")
# Spaces, line breaks, digits, accents, scripts, symbols: where two tokenizers of different kinds come apart.
PROBES = (
    "Hello world, this is a test.",
    "  two spaces, a tab\tand lines\n\n1. 2023\n",
    'café naïve Straße 你好 🙂 {"a": [1, 23]} def f(x):\n    return x',
)


def load_tokenizer(plan: Plan) -> Tokenizer:
    """The tokenizer of the base model (or of `tokenizer_config`), with `special_tokens` and `tokens` applied.

    Pad and end may be one token: labels are never masked by the pad id, so nothing is lost by it. Raises `UserError`
    for a tokenizer that cannot be loaded or has no end token, `RecipeError` where `tokenizer_type` or `model_type`
    contradict the model's own files.
    """
    from core.console import say

    load_config(plan)
    tokenizer, notes = read_tokenizer(plan)
    for note in notes:
        say(note)
    return tokenizer


def read_tokenizer(plan: Plan) -> tuple[Tokenizer, list[str]]:
    """As `load_tokenizer`, with the remarks for the user instead of printing them."""
    source, arguments = _source(plan)
    tokenizer = _own_tokenizer(source, arguments)
    notes: list[str] = []
    _check_tokenizer_type(plan, tokenizer, source, arguments)
    if texts := plan.recipe["added_tokens_overrides"]:
        tokenizer = renamed(tokenizer, texts)
        notes.append(f"{len(texts)} tokens of the vocabulary have new texts: {', '.join(texts.values())}")
    _add_tokens(plan, tokenizer, notes)
    if tokenizer.eos_token_id is None:
        raise _no_eos(source, tokenizer)
    if tokenizer.pad_token_id is None:
        _choose_pad(tokenizer, notes)
    return tokenizer, notes


def added_tokens(plan: Plan) -> list[int]:
    """The ids that the recipe's `special_tokens` and `tokens` add to the model's own vocabulary, padding left out.

    Their embeddings are new: unless they are trained, the model learns nothing about them.
    """
    if not plan.recipe["special_tokens"] and not plan.recipe["tokens"]:
        return []
    source, arguments = _source(plan)
    own = _own_tokenizer(source, arguments).get_vocab()
    tokenizer, _ = read_tokenizer(plan)
    return sorted(
        number
        for token, number in tokenizer.get_vocab().items()
        if token not in own and number != tokenizer.pad_token_id
    )


def _source(plan: Plan) -> tuple[str, dict[str, Any]]:
    if elsewhere := plan.recipe["tokenizer_config"]:
        source = loadable_source(_tokenizer_folder(elsewhere, plan.recipe.folder_of(("tokenizer_config",))))
        return source, load_arguments(source, revision=None, trust_remote_code=plan.trust_remote_code)
    return model_source(plan), model_arguments(plan)


def _tokenizer_folder(text: str, recipe_folder: Path) -> str:
    """As for a base model, but a folder with nothing but a tokenizer will do."""
    for parent in (recipe_folder, Path.cwd()):
        folder = (parent / Path(text).expanduser()).absolute()
        if (folder / "tokenizer_config.json").is_file():
            return str(folder)
    return resolve_base_model(text, recipe_folder)


def _own_tokenizer(source: str, arguments: Mapping[str, Any]) -> Tokenizer:
    from transformers import AutoTokenizer

    with explained("the tokenizer of", source), quiet():
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        # some classes make up their special tokens where there are no files, and read every text as unknown
        if len(tokenizer) <= max(1, len(tokenizer.all_special_tokens)):
            raise ValueError("it has no vocabulary (no tokenizer.json or tokenizer.model)")
    return tokenizer


def _check_tokenizer_type(plan: Plan, own: Tokenizer, source: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a class that reads the same files into another tokenizer: it would load, and train on wrong tokens."""
    asked = plan.recipe["tokenizer_type"]
    if not asked or asked == AUTO_CLASS:
        return
    import transformers

    def problem(message: str, help: str) -> RecipeError:
        return RecipeError([Problem(message, key=("tokenizer_type",), at="value", help=help)])

    remove = f"remove tokenizer_type, or set it to {AUTO_CLASS}"
    kind = getattr(transformers, asked, None) if asked.isidentifier() else None
    if kind is None or not hasattr(kind, "from_pretrained"):
        known = [name for name in dir(transformers) if name.endswith(("Tokenizer", "TokenizerFast"))]
        near = get_close_matches(asked, known, n=1)
        raise problem(
            f"tokenizer_type {asked!r} is not a tokenizer of transformers",
            f"did you mean {near[0]!r}? Or {remove}" if near else remove,
        )
    if type(own) is kind:
        return
    contradiction = f"tokenizer_type {asked!r} contradicts the model's own tokenizer files ({type(own).__name__}): "
    try:
        with quiet():
            other = kind.from_pretrained(source, **arguments)
            encoded = [(other(text)["input_ids"], own(text)["input_ids"]) for text in PROBES]
    except Exception as error:  # whatever a foreign class raises on these files, the answer is the same
        raise problem(contradiction + shortened(error), remove) from error
    for text, (theirs, ours) in zip(PROBES, encoded, strict=True):
        if theirs != ours:
            read = other.decode(theirs)
            differs = f"it reads {text!r} as {read!r}" if read != text else f"it splits {text!r} into other tokens"
            raise problem(contradiction + differs, remove)


def _add_tokens(plan: Plan, tokenizer: Tokenizer, notes: list[str]) -> None:
    """Apply `special_tokens` (a map of roles) and `tokens` (a list, or such a map); note which of them are new."""
    from transformers import AddedToken

    before = set(tokenizer.get_vocab())
    tokens = plan.recipe["tokens"] or []
    # older recipes give `tokens` as a map of roles
    given = {**(tokens if isinstance(tokens, Mapping) else {}), **(plan.recipe["special_tokens"] or {})}
    # null means unset
    roles = {role: value for role, value in given.items() if value is not None}
    if extra := roles.pop("additional_special_tokens", None):
        _add_extra_special(tokenizer, extra)
    if roles:
        tokenizer.add_special_tokens(roles)
    if not isinstance(tokens, Mapping):
        tokenizer.add_tokens([AddedToken(token, lstrip=False, rstrip=False, normalized=False) for token in tokens])
    if roles and hasattr(tokenizer, "update_post_processor") and {"bos_token", "eos_token"} & set(roles):
        _follow_new_bos(tokenizer)
    if new := sorted(set(tokenizer.get_vocab()) - before):
        notes.append(f"{len(new)} tokens added to the vocabulary: {', '.join(new)}")


def _add_extra_special(tokenizer: Tokenizer, extra: list[str]) -> None:
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in extra], special_tokens=True)


def _follow_new_bos(tokenizer: Tokenizer) -> None:
    # only a tokenizer that writes these tokens itself has to be told of the new ones
    if getattr(tokenizer, "add_bos_token", False) or getattr(tokenizer, "add_eos_token", False):
        tokenizer.update_post_processor()


def _choose_pad(tokenizer: Tokenizer, notes: list[str]) -> None:
    """A token set aside for padding where the vocabulary has one, else the end token."""
    vocabulary = tokenizer.get_vocab()
    taken = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    unused = next((token for token in PAD_CANDIDATES if token in vocabulary and token not in taken), None)
    tokenizer.pad_token = unused or tokenizer.eos_token
    if unused is None:
        notes.append(f"no pad token: padding with the end token {tokenizer.eos_token!r} (labels are not masked by it)")
    else:
        notes.append(f"no pad token: padding with {unused!r}, which the vocabulary sets aside")


def _no_eos(source: str, tokenizer: Tokenizer) -> UserError:
    vocabulary = tokenizer.get_vocab()
    there = [token for token in EOS_CANDIDATES if token in vocabulary]
    return UserError(
        f"the tokenizer of {source!r} has no end token (eos_token), so a model cannot learn to stop",
        help=f"name one: `special_tokens: {{eos_token: {there[0] if there else '</s>'!r}}}`"
        + (f" (its vocabulary has {', '.join(there)})" if there else ""),
    )
