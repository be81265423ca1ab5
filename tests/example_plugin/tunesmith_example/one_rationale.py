"""Data check `one_rationale`: rationales that are copied from row to row explain nothing."""

from core import DataCheck, Finding, hookimpl

OPTIONS = {"most": {"type": "integer", "minimum": 1, "default": 3, "description": "How many rows may share one."}}


def check(facts, options):
    places = {}
    for example in facts.train:
        if example.row.get("rationale"):
            places.setdefault(example.row["rationale"], []).append(example.place)
    copied = [place for shared in places.values() if len(shared) > options["most"] for place in shared]
    if not copied:
        return []
    return [Finding(f"{len(copied)} rows share their rationale with others", copied, help="write one for each row")]


@hookimpl
def data_checks():
    return [DataCheck("one_rationale", check, options_schema=OPTIONS, description="Rationales that many rows share")]
