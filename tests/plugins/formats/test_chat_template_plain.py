"""Templates whose text is known without rendering every conversation: told apart rightly, and the same text."""

from __future__ import annotations

from typing import Any

import pytest

from core.data.chat_templates import NAMED
from plugins.formats.chat_template import plain, turns
from plugins.formats.chat_template.plain import is_plain
from plugins.formats.chat_template.turns import find_turns
from tests.plugins.formats.model_templates import LLAMA_AND_END, QWEN

LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<h>' + message['role'] + '</h>\n\n' + message['content'] | trim + '<e>' %}"
    "{% if loop.index0 == 0 %}{% set content = '<b>' + content %}{% endif %}{{ content }}{% endfor %}"
)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content.strip() }}{% endgeneration %}"
    "{% else %}{{ m.content ~ '|' }}{% endif %}{% endfor %}"
)
FIRST_APART = (
    "{% set rest = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% if messages[0].role == 'system' %}{{ '<s>' + messages[0].content + '</s>' }}{% endif %}"
    "{% for m in rest %}{% if m.content is string %}{{ '<' + m.role + '>' + m.content + '\n' }}{% endif %}"
    "{% if loop.previtem is defined and loop.previtem.role == 'user' %}-{% endif %}{% endfor %}"
)
PLAIN = {**NAMED, "llama 3": LLAMA_3, "marked": MARKED, "first apart": FIRST_APART, "llama and end": LLAMA_AND_END}


def each(body: str) -> str:
    return "{% for m in messages %}" + body + "{% endfor %}"


OTHERS = {
    "asks for a content": each("{% if m.content %}{{ m.content }}{% endif %}"),
    "compares contents": each("{% if m.content == 'a' %}b{% endif %}"),
    "cuts": each("{{ m.content.split('</think>')[-1] }}"),
    "slices": each("{{ m.content[:4] }}"),
    "upper": each("{{ m['content'] | upper }}"),
    "trims more than the content": each("{{ ('a ' + m.content) | trim }}"),
    "trims with characters": each("{{ m.content | trim('x') }}"),
    "counts": each("{{ m.content | length }}"),
    "writes a whole message": each("{{ m | tojson }}"),
    "writes all messages": "{{ messages }}",
    "goes through fields": each("{% for key in m %}{{ m[key] }}{% endfor %}"),
    "calls a method of the message": each("{{ m.get('content') }}"),
    "sets and looks": each("{% set text = m.content %}{% if 'x' in text %}y{% endif %}"),
    "sets another name of a message": each("{% set other = m %}{{ other.content | upper }}"),
    "takes a name twice": each("{{ m.content }}") + "{% for m in tools %}{{ m.content }}{% endfor %}",
    "keeps in a namespace": "{% set ns = namespace(a='') %}"
    + each("{% set ns.a = m.content %}")
    + "{{ ns.a | length }}",
    "captures": "{% set text %}" + each("{{ m.content }}") + "{% endset %}{{ text | upper }}",
    "filters what is written": "{% filter upper %}" + each("{{ m.content }}") + "{% endfilter %}",
    "calls a macro": "{% macro say(x) %}{{ x | upper }}{% endmacro %}" + each("{{ say(m.content) }}"),
    "maps": "{{ messages | map(attribute='content') | join }}",
    "filters the list": "{% for m in messages | selectattr('content') %}{{ m.content }}{% endfor %}",
    "looks at the one before": each("{{ m.content }}{% if loop.previtem.content == m.content %}!{% endif %}"),
    "changes": each("{% if loop.changed(m.content) %}{{ m.content }}{% endif %}"),
    "a date": "{{ strftime_now('%Y') }}" + each("{{ m.content }}"),
    "not jinja": "{% for",
    "tools": QWEN,
}
TEXTS = ["yes", " yes", "\nyes \n", "", " \t", "{{ x }}", "TunesmithMark", "<e>", "你好", "a|", "</s>"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_templates_give_the_text_that_rendering_gives(
    name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_plain(PLAIN[name])
    chats = [
        [{"role": role, "content": TEXTS[(start + 3 * turn) % len(TEXTS)]} for turn, role in enumerate(roles)]
        for roles in (["user", "assistant"], ["user", "assistant"] * 2, ["system", "user", "assistant"])
        for start in range(len(TEXTS))
    ]
    compared = 0
    for chat in chats:
        known = found(chat, PLAIN[name], tokenizer)
        with monkeypatch.context() as patch:
            patch.setattr(turns, "_plain_skeleton", lambda *given: None)
            assert known == found(chat, PLAIN[name], tokenizer)
        compared += not isinstance(known, str)
    assert compared >= len(TEXTS)


@pytest.mark.parametrize("name", OTHERS)
def test_templates_that_look_at_contents_are_rendered_every_time(name: str) -> None:
    assert not is_plain(OTHERS[name])


def test_conversations_of_a_plain_template_are_rendered_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    find_turns(messages, NAMED["chatml"], tokenizer)
    monkeypatch.setattr(type(tokenizer), "apply_chat_template", lambda *given, **more: pytest.fail("rendered again"))
    made, tail = find_turns([{**one, "content": "c"} for one in messages], NAMED["chatml"], tokenizer)
    assert [turn.content for turn in made] == ["c", "c"]
    assert "".join(turn.header + turn.lead + turn.content + turn.end for turn in made) + tail == (
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
    )


def test_a_tokenizer_with_a_rendering_of_its_own_is_asked(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def own(*given: Any, **more: Any) -> str:
        return "own text"

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", own)
    turns._plain_skeleton.cache_clear()
    assert plain.is_plain(NAMED["chatml"])
    assert turns._plain_skeleton(tokenizer, NAMED["chatml"], ("user",), ()) is None
    turns._plain_skeleton.cache_clear()


def found(chat: list[dict[str, str]], template: str, tokenizer: Any) -> Any:
    """What `find_turns` gives, or what it says against the conversation."""
    from core import RowError

    try:
        return find_turns(chat, template, tokenizer)
    except RowError as error:
        return error.message
