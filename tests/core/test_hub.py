from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import RecipeError, UserError
from core.hub import UPLOADED, publish, refuse_upload
from tests.core.plans import make_test_plan


def test_nothing_is_asked_of_the_hub_without_the_key(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.HfApi", lambda *_, **__: asked.append("api"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda *_: asked.append("token"))
    plan = make_test_plan(tmp_path, tiny_model)
    refuse_upload(plan)
    publish(plan)
    assert asked == []
    with pytest.raises(UserError):
        refuse_upload(make_test_plan(tmp_path, tiny_model, hub_model_id="team/model"))
    assert asked == ["token"], "the recorder works"


def test_a_login_is_needed_before_anything_is_computed(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="hub_model_id 'team/model' needs a login"):
        refuse_upload(make_test_plan(tmp_path, tiny_model, hub_model_id="team/model"))
    with pytest.raises(RecipeError, match="'<your-hub-model-id>' is no name of a repository"):
        refuse_upload(make_test_plan(tmp_path, tiny_model, hub_model_id="<your-hub-model-id>"))


def test_the_model_alone_is_uploaded_to_a_private_repository(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> str:
            calls.append(("create", {"name": name, **options}))
            return f"https://hub/{name}"

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    plan = make_test_plan(tmp_path, tiny_model, hub_model_id="team/model")
    publish(plan)
    assert calls[0] == ("create", {"name": "team/model", "private": True, "exist_ok": True})
    assert calls[1][1]["repo_id"] == "team/model"
    assert calls[1][1]["folder_path"] == plan.output_dir
    assert calls[1][1]["allow_patterns"] == list(UPLOADED)
    assert not {"run.json", "*.jsonl", "*"} & set(UPLOADED)


def test_a_hub_that_cannot_be_reached_loses_nothing(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub:
        def create_repo(self, name: str, **options: Any) -> str:
            raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    plan = make_test_plan(tmp_path, tiny_model, hub_model_id="team/model")
    with pytest.raises(UserError, match=r"is saved in .*could not be uploaded to 'team/model': no route") as caught:
        publish(plan)
    assert caught.value.help is not None
    assert f"hf upload team/model {plan.output_dir}" in caught.value.help
