from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from core import hookspecs
from core import host as host_module
from core.errors import PluginError
from core.host import DISABLE_VARIABLE, KINDS, Host, load_host

Install = Callable[..., None]

ADAPTER = """
from core import Adapter, hookimpl

@hookimpl
def adapters():
    return [Adapter({name!r}, lambda plan: None, description="for a test")]
"""


@pytest.fixture
def no_builtins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "BUILTINS", ())
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_builtins: None) -> Install:
    """Installs a distribution with one plugin module, as pip would: code, metadata, entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, plugin: str, source: str, *, version: str = "1.0") -> None:
        module = distribution.replace("-", "_") + "_module"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[tunesmith.plugins]\n{plugin} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def module_of(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    exec(source, module.__dict__)
    return module


def test_every_builtin_loads_and_says_what_it_is() -> None:
    host = load_host()
    assert {"alpaca", "chat_template", "completion", "input_output"} <= set(host.formats)
    assert {"full", "lora"} <= set(host.adapters)
    assert "sft" in host.trainers
    tables = (host.formats, host.adapters, host.trainers, host.evaluators, host.loggers)
    components = [component for table in tables for component in table.values()]
    assert len(components) >= 15
    assert [component.name for component in components if not component.description] == []
    assert [name for table in tables for name, component in table.items() if component.name != name] == []
    assert [key for key, schema in host.recipe_keys.items() if not schema.get("description")] == []


def test_every_hook_that_offers_components_is_of_a_kind_with_a_table() -> None:
    offering = {
        name
        for name, hook in vars(hookspecs).items()
        if getattr(hook, "__annotations__", {}).get("return", "").startswith("list[")
    }
    assert offering - {"check_recipe"} == set(KINDS)
    fields = {field.name for field in dataclasses.fields(Host)}
    assert {kind.table for kind in KINDS.values()} <= fields
    host = load_host()
    offered = [
        (name, kind) for plugin in host.plugins for hook, kind in KINDS.items() for name in plugin.offers.get(hook, ())
    ]
    assert len(offered) >= 30
    assert all(isinstance(getattr(host, kind.table)[name], kind.type) for name, kind in offered)


def test_loading_twice_gives_the_same_because_nothing_is_kept() -> None:
    first, second = load_host(), load_host()
    assert first.plugins == second.plugins
    assert first.formats is not second.formats


def test_an_installed_plugin_is_found_with_its_distribution(install: Install) -> None:
    install("acme-norms", "norms", ADAPTER.format(name="norms_only"), version="2.3")
    host = load_host()
    (plugin,) = (plugin for plugin in host.plugins if plugin.name == "norms")
    assert (plugin.distribution, plugin.version) == ("acme-norms", "2.3")
    assert plugin.offers == {"adapters": ("norms_only",)}
    assert host.component_owners["adapters", "norms_only"] == "norms"


def test_two_owners_of_one_component_are_both_named(install: Install) -> None:
    install("acme-one", "one", ADAPTER.format(name="norms_only"))
    install("acme-two", "two", ADAPTER.format(name="norms_only"))
    with pytest.raises(PluginError, match=r"two plugins offer the adapter 'norms_only'.*acme-one.*acme-two") as error:
        load_host()
    assert error.value.help is not None
    assert f"{DISABLE_VARIABLE}=two" in error.value.help


def test_the_same_name_for_different_kinds_is_no_clash(no_builtins: None) -> None:
    source = ADAPTER.format(name="same") + (
        "from core import Evaluator\n@hookimpl\ndef evaluators():\n    return [Evaluator('same', lambda p, i, o: {})]\n"
    )
    host = load_host(extra=[module_of("both", source)])
    assert "same" in host.adapters
    assert "same" in host.evaluators


def test_two_owners_of_one_recipe_key_are_both_named(no_builtins: None) -> None:
    source = "from core import hookimpl\n@hookimpl\ndef recipe_keys():\n    return {'depth': {'type': 'integer'}}\n"
    with pytest.raises(PluginError, match=r"two plugins offer the recipe key 'depth'.*first.*second"):
        load_host(extra=[module_of("first", source), module_of("second", source)])


def test_two_entry_points_of_one_name_name_both_distributions(install: Install) -> None:
    install("acme-one", "norms", ADAPTER.format(name="one"))
    install("acme-two", "norms", ADAPTER.format(name="two"))
    with pytest.raises(PluginError, match=r"two plugins are called 'norms': one from acme-one, one from acme-two"):
        load_host()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_package_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(0)\n", "SystemExit"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_fatal_and_named(install: Install, source: str, reason: str) -> None:
    install("acme-broken", "broken", source)
    with pytest.raises(PluginError) as error:
        load_host()
    assert error.value.message.startswith("plugin 'broken' of acme-broken cannot be imported: ")
    assert reason in error.value.message
    assert error.value.help is not None
    assert f"{DISABLE_VARIABLE}=broken" in error.value.help


def test_the_disable_list_leaves_a_plugin_out_without_importing_it(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-broken", "broken", "1 / 0\n")
    install("acme-norms", "norms", ADAPTER.format(name="norms_only"))
    monkeypatch.setenv(DISABLE_VARIABLE, " broken , ")
    host = load_host()
    assert "broken" not in {plugin.name for plugin in host.plugins}
    assert "norms_only" in host.adapters


def test_an_unknown_name_in_the_disable_list_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE_VARIABLE, "plugins.adapters.lorra")
    with pytest.raises(PluginError, match=r"names 'plugins\.adapters\.lorra', and no plugin is called so") as error:
        load_host()
    assert "did you mean 'plugins.adapters.lora'?" in (error.value.help or "")


def test_the_disable_list_reaches_builtins() -> None:
    host = load_host(disabled=["plugins.adapters.lora"])
    assert "lora" not in host.adapters
    assert "lora_r" not in host.recipe_keys


def test_a_misspelt_hook_is_fatal_and_the_right_ones_are_listed(no_builtins: None) -> None:
    module = module_of("misspelt", "from core import hookimpl\n@hookimpl\ndef adapter():\n    return []\n")
    with pytest.raises(PluginError, match=r"'misspelt' .* implements a hook that does not exist: .*adapter") as error:
        load_host(extra=[module])
    assert error.value.help is not None
    assert "adapters" in error.value.help
    assert "check_recipe" in error.value.help


def test_a_hook_of_a_newer_host_may_be_marked_optional(no_builtins: None) -> None:
    source = ADAPTER.format(name="a") + "@hookimpl(optionalhook=True)\ndef generators():\n    return []\n"
    assert "a" in load_host(extra=[module_of("newer", source)]).adapters


def test_an_argument_the_hook_does_not_have_is_fatal(no_builtins: None) -> None:
    module = module_of("args", "from core import hookimpl\n@hookimpl\ndef check_recipe(recipe, host):\n    return []\n")
    with pytest.raises(PluginError, match=r"'args' .* does not fit its hook: .*host"):
        load_host(extra=[module])


def test_a_plugin_without_any_hook_is_fatal(no_builtins: None) -> None:
    with pytest.raises(PluginError, match=r"'bare' .* implements no hook"):
        load_host(extra=[module_of("bare", "def adapters():\n    return []\n")])


@pytest.mark.parametrize(
    ("hook", "body", "complaint"),
    [
        ("adapters", "return ['lora']", "returned 'lora', not a Adapter"),
        ("adapters", "return None", "returned None, not a list"),
        ("evaluators", "return {}", "returned {}, not a list"),
        ("recipe_keys", "return ['depth']", r"returned \['depth'\], not a dict"),
        ("trainers", "raise OSError('no disk')", "failed: OSError: no disk"),
    ],
)
def test_a_hook_that_returns_the_wrong_thing_is_named(no_builtins: None, hook: str, body: str, complaint: str) -> None:
    source = f"from core import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"
    with pytest.raises(PluginError, match=rf"{hook}\(\) of plugin 'wrong' \(wrong\) {complaint}"):
        load_host(extra=[module_of("wrong", source)])


def test_rules_across_keys_are_gathered_from_all_plugins(no_builtins: None) -> None:
    source = (
        "from core import Problem, hookimpl\n"
        "@hookimpl\n"
        "def check_recipe(recipe):\n"
        "    return [Problem(f'{__name__} saw {recipe}')]\n"
    )
    host = load_host(extra=[module_of("one", source), module_of("two", source)])
    recipe = "a recipe"
    assert {problem.message for problem in host.check_recipe(recipe)} == {  # type: ignore[arg-type]
        "one saw a recipe",
        "two saw a recipe",
    }
