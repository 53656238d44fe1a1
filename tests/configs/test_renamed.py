"""Old names on the command line: each is refused with the new one, which exists."""

import pytest
from hotstart.cli import main
from hotstart.commands import bench
from hotstart.configs import compose, renamed
from hotstart.configs.schema import VERBS
from hotstart.spec import ConfigError
from hotstart.system.options import read_options


def list_known() -> set[str]:
    """Every option of every verb and benchmark, those of parts and of robosuite's environments."""
    known = set()
    for verb in VERBS.values():
        for cls in filter(None, (verb.options, *verb.actions.values())):
            known |= set(compose.flatten_options(cls))
    for name in bench.list_names():
        known |= set(read_options(bench._import(name).Options))
    for axis, targets in compose.TARGETS.items():
        for target in targets:
            options = read_options(compose.find_target(target))
            known |= {f"{axis}.{name}" for name in options}
    return known


@pytest.mark.parametrize(("old", "new"), renamed.OPTIONS.items())
def test_every_old_option_is_refused_with_the_new_one(old, new, capsys):
    for command in (["train"], ["data", "info"], ["bench", "density"]):
        assert main([*command, f"{old}=x"]) == 2
        assert f"{old} has another name now: write {new}=x" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), renamed.VALUES.items())
def test_every_old_value_is_refused_with_the_new_one(old, new, capsys):
    for argument in (old, f"{old},other"):
        assert main(["train", argument]) == 2
        assert f"{old} has another name now: write {new}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), renamed.BENCHMARKS.items())
def test_every_old_benchmark_is_refused_with_the_new_one(old, new, capsys):
    assert main(["bench", old]) == 2
    assert f"write bench {new}" in capsys.readouterr().err
    assert new in bench.list_names()
    assert old not in bench.list_names()


def test_new_names_exist_and_old_ones_do_not():
    known = list_known()
    environments = {name for name in renamed.OPTIONS.values() if name.startswith("task.options.")}
    assert set(renamed.OPTIONS.values()) - environments <= known
    assert not set(renamed.OPTIONS) & known


def test_new_values_are_choices():
    for new in renamed.VALUES.values():
        axis, _, choice = new.partition("=")
        if "." not in axis:
            assert choice in compose.list_choices(axis)


def test_arguments_without_an_old_name_pass():
    renamed.refuse_renamed(["slots", "runs/slots", "seed=3", "actions=as_given"])
    with pytest.raises(ConfigError, match="num_envs=3"):
        renamed.refuse_renamed(["seed=1", "slots=3"])
