"""Uploading the tuned model, where the recipe asks for it with `hub_model_id`. Nothing else ever leaves the machine."""

from __future__ import annotations

from typing import Any

from core.errors import Problem, RecipeError, UserError
from core.types import Plan

# what makes a model; the report, the metrics and the checkpoints stay here
UPLOADED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "README.md",
)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN; or take hub_model_id out of the recipe"


def refuse_upload(plan: Plan) -> None:
    """Before anything is computed: raise `UserError` where the upload asked for cannot work at the end."""
    name = plan.recipe["hub_model_id"]
    if not name:
        return
    from huggingface_hub import get_token, utils
    from huggingface_hub.errors import HFValidationError

    tools: Any = utils
    try:
        tools.validate_repo_id(name)
    except HFValidationError as error:
        message = f"{name!r} is no name of a repository on the hub"
        help = "write organisation/name, or take hub_model_id out of the recipe"
        raise RecipeError([Problem(message, key=("hub_model_id",), at="value", help=help)]) from error
    if get_token() is None:
        raise UserError(f"hub_model_id {name!r} needs a login, and there is none", help=LOGIN)


def publish(plan: Plan) -> None:
    """Upload the tuned model in `plan.output_dir`, from the main process; the token is the hub's own and never stored.

    Raises `UserError` where the hub refuses or cannot be reached; the model is saved by then.
    """
    from core.processes import is_main

    name = plan.recipe["hub_model_id"]
    if not name or not is_main():
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from core.console import say
    from core.models.loading import quiet, shortened

    api = HfApi()
    try:
        with quiet():
            address = api.create_repo(name, private=True, exist_ok=True)
            # checkpoints and repeats lie in folders below, and stay here
            api.upload_folder(
                repo_id=name, folder_path=plan.output_dir, allow_patterns=list(UPLOADED), ignore_patterns=["*/*"]
            )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"the tuned model is saved in {plan.output_dir}, but could not be uploaded to {name!r}: {shortened(error)}",
            help=f"upload it with `hf upload {name} {plan.output_dir}` once the hub can be reached",
        ) from error
    say(f"uploaded to {address}")
