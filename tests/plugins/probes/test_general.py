"""The checks of the built-in probe tell an answer that follows its instruction from one that does not."""

from __future__ import annotations

import pytest

from core.probes import Instruction
from plugins.probes import general

CASES = {
    "capitals": (general.capitals, "RAIN IS WATER.", "Rain is WATER.", "123"),
    "small_letters": (general.small_letters, "blue, as the sky", "Blue", ""),
    "bullets": (general.bullets(3), "- a\n- b\n\n* c", "- a\n- b", "- a\n- b\nand c"),
    "numbered": (general.numbered(2), "1. Rhine\n2. Elbe", "1. Rhine\n3. Elbe", "1. Rhine"),
    "words": (general.words(3), "three short words", "these are four words", " "),
    "one_word_of": (general.one_word_of("yes", "no"), " Yes. ", "yes, it is", ""),
    "number": (general.number, "1,024.5", "17 days", "seven"),
    "json_with": (general.json_with("name"), '{"name": "a"}', '{"title": "a"}', "name: a"),
    "json_list": (general.json_list(2), '["a", "b"]', '["a"]', '{"a": 1}'),
    "ends_with": (general.ends_with("The end."), "It rained. The end.", "The end.", "The end. It rained"),
    "starts_with": (general.starts_with("In short:"), "In short: water", "In short:", "Rain, in short: water"),
    "without": (general.without("z"), "a dog barks loudly", "a lazy dog barks", "a dog"),
    "with_words": (general.with_words("sun", "sea"), "The Sun sets over the sea", "the sun", ""),
    "sentences": (general.sentences(2), "One. Two!", "One.", "One. Two. Three."),
    "quoted": (general.quoted, ' "Good day" ', "Good day", '"'),
}


@pytest.mark.parametrize("name", CASES)
def test_a_check_tells_followed_from_not(name: str) -> None:
    followed, right, *wrong = CASES[name]
    assert followed(right)
    assert len(wrong) == 2
    assert not any(followed(answer) for answer in wrong)


def test_the_probe_is_what_its_documentation_says() -> None:
    (probe,) = general.probes()
    assert probe.name == "default"
    assert probe.texts is not None
    assert probe.instructions is not None
    texts, asked = probe.texts(), probe.instructions()
    assert (len(texts), len(asked)) == (24, 43)
    assert len(set(texts)) == len(texts)
    assert all(len(text.split()) >= 40 for text in texts)
    assert len({one.prompt for one in asked}) == len(asked)
    assert all(isinstance(one, Instruction) and not one.followed("") for one in asked)
