"""A check of the language that examples are in; py3langid tells it, where a text is long and clear enough."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.types import Options
from plugins.checks.answers import parsed
from plugins.checks.learning import counted, watching

# dialects and the smallest languages are left out: they are told from their relatives too badly to be named
LATIN = {
    "af": "Afrikaans",
    "az": "Azerbaijani",
    "ca": "Catalan",
    "cs": "Czech",
    "cy": "Welsh",
    "da": "Danish",
    "de": "German",
    "en": "English",
    "eo": "Esperanto",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fi": "Finnish",
    "fr": "French",
    "ga": "Irish",
    "gl": "Galician",
    "ha": "Hausa",
    "hr": "Croatian or Serbian",
    "ht": "Haitian Creole",
    "hu": "Hungarian",
    "id": "Indonesian or Malay",
    "ig": "Igbo",
    "is": "Icelandic",
    "it": "Italian",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "mg": "Malagasy",
    "mt": "Maltese",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "rw": "Kinyarwanda",
    "sk": "Slovak",
    "sl": "Slovenian",
    "so": "Somali",
    "sq": "Albanian",
    "sv": "Swedish",
    "sw": "Swahili",
    "tl": "Tagalog",
    "tr": "Turkish",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "xh": "Xhosa",
    "yo": "Yoruba",
    "zu": "Zulu",
}
OTHER = {
    "am": "Amharic",
    "ar": "Arabic",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "el": "Greek",
    "fa": "Persian",
    "gu": "Gujarati",
    "he": "Hebrew",
    "hi": "Hindi",
    "hy": "Armenian",
    "ja": "Japanese",
    "ka": "Georgian",
    "kk": "Kazakh",
    "km": "Khmer",
    "kn": "Kannada",
    "ko": "Korean",
    "ky": "Kyrgyz",
    "lo": "Lao",
    "mk": "Macedonian",
    "ml": "Malayalam",
    "mn": "Mongolian",
    "mr": "Marathi",
    "my": "Burmese",
    "ne": "Nepali",
    "pa": "Punjabi",
    "ps": "Pashto",
    "ru": "Russian",
    "si": "Sinhala",
    "ta": "Tamil",
    "te": "Telugu",
    "tg": "Tajik",
    "th": "Thai",
    "tt": "Tatar",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "zh": "Chinese",
}
TWINS = {"bs": "hr", "sr": "hr", "ms": "id"}  # told apart by chance
LANGUAGES = {**LATIN, **OTHER}
NOTHING = "zxx"  # what is no language, such as numbers and code
LEAST_LETTERS, LEAST_WORDS = 60, 10
WIDE = "\u1100"  # from here on a letter says more, and words are not parted by spaces
LEAST_WIDE = 20
PLAIN_SHARE = 0.85  # of letters and spaces in a text; code and tables have less
LOOKED_AT = 200  # characters
SURE = 0.9
RARE_SHARE = 0.05
LEAST = 50  # texts of a known language from which on one is usual
UNKNOWN = 0


def language(facts: DataFacts, options: Options) -> Watch:
    """Examples in another language than nearly all others."""
    names = ["", *LANGUAGES]
    # the number of a language in `names`, of each example that is trained on and says enough
    codes, numbers = array("B"), array("q")
    waiting: list[str] = []

    def tell() -> None:
        codes.extend([names.index(language_of(text)) for text in waiting])
        waiting.clear()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part != "train":
            return
        for number, example in enumerate(examples, first):
            text = _own_words(example) if example.kept else ""
            if text:
                waiting.append(text)
                numbers.append(number)
        # the library takes half a second to load, so nothing is told where nothing can be said
        if len(numbers) >= LEAST:
            tell()

    def findings(facts: DataFacts) -> list[Finding]:
        counts = Counter(code for code in codes if code != UNKNOWN)
        if counts.total() < LEAST or len(counts) < 2:
            return []
        (usual, _), *others = counts.most_common()
        odd = [number for number, code in zip(numbers, codes, strict=True) if code not in (usual, UNKNOWN)]
        if len(odd) > RARE_SHARE * counts.total():
            return []
        listed = ", ".join(f"{LANGUAGES[names[code]]} {count:,}" for code, count in others)
        are = "is" if len(odd) == 1 else "are"
        message = f"{len(odd):,} of {counted(counts.total())} {are} not in {LANGUAGES[names[usual]]} like the others"
        return [Finding(f"{message} ({listed})", facts.places(odd), help="take them out, or add more of them")]

    def spread() -> dict[str, int]:
        counts = Counter(code for code in codes if code != UNKNOWN)
        return {LANGUAGES[names[code]]: count for code, count in counts.most_common()}

    return Watch(see, findings, spread)


def language_of(text: str) -> str:
    """The ISO 639 code of the language of `text`, one of `LANGUAGES`; empty where it cannot be told for sure."""
    found, probability = _identifier().classify(text)
    code = TWINS.get(found, str(found))
    if probability < SURE and code in TWINS.values():
        probability = sum(share for other, share in _identifier().rank(text) if TWINS.get(other, other) == code)
    if probability < SURE or code == NOTHING:
        return ""
    # a few words that are quoted in another script outweigh all around them
    latin = 2 * sum(map(str.isascii, text)) > len(text)
    return "" if latin and code in OTHER else code


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*LANGUAGES, *TWINS, NOTHING])
    return identifier


def _own_words(example: CheckedExample) -> str:
    """The first part of the answer that has running text enough to tell its language, else of the longest text of the
    row, which does not have the words that the format puts around it; empty where neither has."""
    answer = example.answer or example.text
    if parsed(answer) is None and (said := _running_text(answer)):
        return said
    others = (text for text in _texts(example.row) if text != answer)
    return _running_text(max(others, key=len, default="")) if example.answer else ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def _running_text(text: str) -> str:
    if len(text) < LEAST_WIDE:
        return ""
    shown = text[:LOOKED_AT]
    letters = sum(map(str.isalpha, shown))
    if letters + shown.count(" ") < PLAIN_SHARE * len(shown):
        return ""
    if letters >= LEAST_LETTERS and shown.count(" ") >= LEAST_WORDS - 1:
        return shown
    return shown if not shown.isascii() and sum(char >= WIDE for char in shown) >= LEAST_WIDE else ""


@hookimpl
def data_checks() -> list[DataCheck]:
    return [watching("language", language, description="Examples in another language than nearly all others.")]
