"""`hotstart compare` on results with known differences; the figures as files."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import hotstart
import numpy as np
import pytest
from hotstart.cli import run_verb
from hotstart.commands import compare, curves, drawing, plots
from hotstart.commands.after_evaluation import find_comparable
from hotstart.commands.comparison_page import write_comparison_page
from hotstart.commands.entries import name_results, read_entries
from hotstart.commands.next_steps import compare_files
from hotstart.configs.reader import read_arguments
from hotstart.configs.schema import Compare
from hotstart.control import RowLog
from hotstart.evaluation import results
from hotstart.spec import ActionSpec, ConfigError, DataError
from matplotlib.axes import Axes
from matplotlib.colors import to_hex


def _labels(axes: Axes) -> list[str]:
    """The texts beside points."""
    return sorted(text.get_text() for text in axes.texts)


def _save(
    path,
    sampler,
    wins,
    task="lift",
    first_seed=100_000,
    rows=4,
    warm=2,
    latency_s=0.0,
    planner="sync",
):
    """A result whose episode i succeeds when wins[i].

    Moves are a straight line, calls take 10 ms.
    """
    line, ticks = [np.array([t / 24]) for t in range(24)], [1.0] * 24
    logs = [
        RowLog(
            first_seed + i,
            win if win is None else bool(win),
            1.0 if win else 0.5,
            24,
            line,
            ticks,
            [10, warm, warm],
        )
        for i, win in enumerate(wins)
    ]
    setting = results.Setting(
        task, "runs/demo", sampler, rate_hz=20.0, executed=8, latency_s=latency_s, planner=planner
    )
    found = results.summarise(logs, [(rows, 0.01)] * 3, setting, ActionSpec.plain(1), np.ones(1))
    results.save(found, path)
    return str(path)


def _line(text, start):
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_table_and_paired_difference(tmp_path, capsys):
    base = _save(tmp_path / "a.json", "ddim-10", [1] * 6 + [0] * 14, warm=10)
    other = _save(tmp_path / "b.json", "rti", [1] * 14 + [0] * 6)
    assert run_verb("compare", [base, other]) == 0
    text = capsys.readouterr().out
    assert "runs/demo" in text.splitlines()[0]
    assert _line(text, "ddim-10")[:4] == ["ddim-10", "lift", "20", "0.300"]
    assert "10 / 2 " in text
    seeds, difference = _line(text.partition("Difference from ddim-10")[2], "rti")[1:3]
    assert (seeds, difference) == ("20", "+0.400")
    assert "0.008" in text  # eight discordant pairs, all one way: p = 2 / 2**8
    assert "8 / 0" in text
    assert "+0.200" in text  # mean score


def test_success_that_is_not_reported_is_said_to_be_so_and_scores_are_compared(tmp_path, capsys):
    silent = _save(tmp_path / "a.json", "ddim-10", [None] * 8)
    scores = [0.5] * 4 + [-1.0] * 4
    result = results.load(tmp_path / "a.json")
    for episode, score in zip(result["per_episode"], scores, strict=True):
        episode["score"] = score
    results.save(result, tmp_path / "b.json")
    assert run_verb("compare", [silent, str(tmp_path / "b.json"), f"out={tmp_path / 'plots'}"]) == 0
    text = capsys.readouterr().out
    table, _, paired = text.partition("Difference from")
    assert table.count("not reported") == 2
    assert "0.000" not in table.splitlines()[4]
    assert "not reported" in paired
    assert "-0.750" in paired  # the mean difference of the scores
    told = _save(tmp_path / "c.json", "rti", [1] * 8)
    assert run_verb("compare", [silent, told]) == 0
    assert "not reported" in _line_of(
        capsys.readouterr().out.partition("Difference from")[2], "rti"
    )


def test_results_whose_episodes_were_solved_at_reset_or_ran_at_another_rate_are_remarked_on(
    tmp_path, capsys
):
    files = [
        _save(tmp_path / f"{sampler}.json", sampler, [1, 0, 1, 0])
        for sampler in ("ddim-10", "rti", "sdp")
    ]
    solved = results.load(tmp_path / "rti.json")
    others = {"rate": 0.333, "low": 0.061, "high": 0.792}
    results.save(
        solved | {"solved_at_reset": {"episodes": 1, "success_of_others": others}},
        tmp_path / "rti.json",
    )
    results.save(
        results.load(tmp_path / "sdp.json") | {"data_rate_hz": 50.0}, tmp_path / "sdp.json"
    )
    assert run_verb("compare", files) == 0
    text = capsys.readouterr().out
    assert (
        "Note: rti: 1 of 4 episodes were solved at reset; success of the others 0.333 [0.061, "
        "0.792]" in text
    )
    assert "Note: sdp ran at 20 Hz, on data of 50 Hz" in text
    assert "ddim-10:" not in text
    assert "ddim-10 ran" not in text


def _line_of(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_baseline_by_name_or_file_turns_the_difference_round(tmp_path, capsys):
    files = [
        _save(tmp_path / "a.json", "ddim-10", [1, 0, 0, 0]),
        _save(tmp_path / "b.json", "rti", [1, 1, 0, 0]),
    ]
    for wanted in ("rti", "b", "b.json", files[1]):
        assert run_verb("compare", [*files, f"baseline={wanted}"]) == 0
        assert "-0.250" in _line(
            capsys.readouterr().out.partition("Difference from rti")[2], "ddim-10"
        )
    with pytest.raises(ConfigError, match="valid are ddim-10, rti"):
        run_verb("compare", [*files, "baseline=sdp"])


def test_results_against_the_clock_are_told_apart_and_plotted(tmp_path, capsys, read_page):
    waits = [(0.0, "sync"), (0.1, "sync"), (0.1, "async")]
    files = [
        _save(tmp_path / f"{i}.json", "rti-2", [1, 0, 1], latency_s=s, planner=how)
        for i, (s, how) in enumerate(waits)
    ]
    assert run_verb("compare", [*files, f"out={tmp_path / 'plots'}"]) == 0
    text = capsys.readouterr().out
    for name in ("rti-2 0", "rti-2 100", "rti-2 100 async"):
        assert name in text
    assert {"latency.png", "latency.svg"} <= {file.name for file in (tmp_path / "plots").iterdir()}
    found = [results.load(tmp_path / f"{i}.json") for i in range(3)]
    figure = plots.against_latency(found, ["a", "b", "c"])
    assert _labels(figure.axes[0]) == ["rti-2 async", "rti-2 sync"]
    assert "Under charged latency" in read_page(tmp_path / "plots" / "comparison.html").text


def test_only_shared_seeds_count(tmp_path, capsys):
    base = _save(tmp_path / "a.json", "ddim-10", [1, 1, 1, 1])
    shifted = _save(tmp_path / "b.json", "rti", [0, 0, 1, 1], first_seed=100_002)
    run_verb("compare", [base, shifted])
    text = capsys.readouterr().out
    assert "2 of 4" in text
    assert "-1.000" in text.partition("Difference")[2]


def test_what_cannot_be_paired_is_said(tmp_path, capsys):
    base = _save(tmp_path / "a.json", "ddim-10", [1, 0])
    strange = _save(tmp_path / "b.json", "rti", [1, 0], first_seed=7)
    elsewhere = _save(tmp_path / "c.json", "sdp", [1, 0], task="pusht", rows=1)
    run_verb("compare", [base, strange, elsewhere])
    text = capsys.readouterr().out
    assert "Difference" not in text
    assert "share no seed (7..8, 100000..100001)" in text
    assert "the tasks differ (pusht, lift)" in text
    assert "different numbers of rows" in text


def _changed(path, other, **changes):
    """A copy of a result that says something else."""
    found = results.load(Path(path))
    results.save(found | changes, other)
    return str(other)


def _told(tmp_path, **told):
    """A result that tells its options and settings."""
    path = _save(tmp_path / "plain.json", "rti-2", [1, 0, 1])
    options = {"goal": [256, 256, 0.785], "control": "delta", "max_steps": 300, "belt_px_s": 0.0}
    made = {
        "task_options": options,
        "checkpoint_step": 3000,
        "sampler_settings": {"min_start": 0.3},
        "data_rate_hz": 20.0,
    }
    return _changed(path, tmp_path / "told.json", **made | told)


@pytest.mark.parametrize(
    "option", [{"goal": [100, 100, 0.0]}, {"belt_px_s": 10.0}, {"max_steps": 40}]
)
def test_other_options_of_a_task_are_other_scenes_and_never_paired(option, tmp_path, capsys):
    base = _told(tmp_path)
    options = results.load(Path(base))["task_options"] | option
    run_verb("compare", [base, _changed(base, tmp_path / "b.json", task_options=options)])
    text = capsys.readouterr().out
    assert "Difference" not in text
    (name,) = option
    assert "is not paired with" in text
    assert f"the same seed is another scene, the options of lift differ ({name} " in text
    assert (
        f"task.{name}=" in _line(text.partition("----")[2].partition("\n")[2], "rti-2")[1]
    )  # the names tell them apart


def test_other_views_of_the_same_scenes_are_paired_with_a_note(tmp_path, capsys):
    base = _told(tmp_path)
    options = results.load(Path(base))["task_options"] | {"control": "absolute"}
    run_verb("compare", [base, _changed(base, tmp_path / "b.json", task_options=options)])
    text = capsys.readouterr().out
    assert "Difference" in text
    assert "Note: the option control of the task differs: rti-2 task.control=delta delta" in text


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"sampler_settings": {"min_start": 0.625}},
            "results of rti-2 were made with different settings: min_start",
        ),
        ({"checkpoint_step": 6000}, "runs/demo held other weights for each of"),
        ({"weights_hash": "ab12"}, "runs/demo held other weights for each of"),
        ({"data_rate_hz": 10.0}, "the data's rates differ"),
    ],
)
def test_what_else_differs_is_said(changes, note, tmp_path, capsys):
    base = _told(tmp_path)
    run_verb("compare", [base, _changed(base, tmp_path / "b.json", **changes)])
    assert f"Note: {note}" in capsys.readouterr().out


def test_equal_results_need_no_note_and_older_ones_are_named(tmp_path, capsys):
    base = _told(tmp_path)
    run_verb("compare", [base, _changed(base, tmp_path / "b.json")])
    assert "Note" not in capsys.readouterr().out
    old = _save(tmp_path / "old.json", "ddim-10", [1, 0, 1])
    run_verb("compare", [base, old])
    assert (
        "Note: ddim-10: written by an older hotstart, which did not note the task's options"
        in capsys.readouterr().out
    )


def test_names_grow_until_they_differ(tmp_path):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    plain = [
        {"inference": "ddim", "task": "lift", "checkpoint": "x"},
        {"inference": "rti", "task": "lift", "checkpoint": "x"},
    ]
    assert name_results(plain, files) == ["ddim", "rti"]
    assert name_results([plain[0], plain[0] | {"checkpoint": "y"}], files) == ["ddim x", "ddim y"]
    assert name_results([plain[0], plain[0]], files) == ["ddim a", "ddim b"]


def test_names_say_which_settings_differ(tmp_path):
    files = [tmp_path / f"{i}.json" for i in range(4)]
    plain = {
        "inference": "rti-2",
        "task": "lift",
        "checkpoint": "x",
        "executed": 8,
        "precision": "fp32",
    }
    settings = [
        {"start": start, "solver": {"eta": eta}}
        for start, eta in ((0.2, 1.0), (0.5, 1.0), (0.5, 0.0))
    ]
    starts = [plain | {"sampler_settings": own} for own in settings]
    assert name_results(starts, files[:3]) == [
        "rti-2 start=0.2 solver.eta=1.0",
        "rti-2 start=0.5 solver.eta=1.0",
        "rti-2 start=0.5 solver.eta=0.0",
    ]
    forms = [
        starts[0],
        starts[0] | {"precision": "bf16"},
        starts[0] | {"inference": "rti-1"},
        starts[0] | {"inference": "ddim-2"},
    ]
    assert name_results(forms, files) == [
        "rti-2 precision=fp32",
        "rti-2 precision=bf16",
        "rti-1 precision=fp32",
        "ddim-2",
    ]
    old = {key: value for key, value in plain.items() if key not in ("executed", "precision")}
    assert name_results([plain, old, starts[0]], files[:3]) == [
        "rti-2 0",
        "rti-2 1",
        "rti-2 2",
    ]  # an old result says less


def test_wrong_arguments(tmp_path, capsys):
    path = _save(tmp_path / "a.json", "ddim-10", [1])
    for words, wanted in (
        ([], "files must be given"),
        (["out=x"], "files must be given: result files"),
        ([path, path], "given twice"),
        ([path, "colour=red"], "no 'colour'"),
        ([path, "measure=speed"], "success, score"),
    ):
        with pytest.raises(ConfigError, match=wanted):
            run_verb("compare", words)
    with pytest.raises(DataError, match="there is no result"):
        run_verb("compare", [path, str(tmp_path / "b.json")])
    assert run_verb("compare", ["--help"]) == 0
    assert "McNemar" in capsys.readouterr().out


def test_out_writes_plots_the_table_and_a_page(tmp_path, capsys, read_page):
    files = [
        _save(tmp_path / f"{sampler}.json", sampler, [1, 0, 1]) for sampler in ("ddim-10", "rti")
    ]
    assert run_verb("compare", [*files, f"out={tmp_path / 'cmp'}", "measure=score"]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "cmp").iterdir()}
    stems = ("score_nfe", "score_ms", "smoothness")
    assert set(written) == {
        "comparison.html",
        "comparison.txt",
        *(f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")),
    }
    told = capsys.readouterr().out
    assert written["comparison.txt"].decode().strip() in told
    assert told.endswith(f"next: open {tmp_path / 'cmp' / 'comparison.html'} in a browser\n")
    page = read_page(tmp_path / "cmp" / "comparison.html")
    assert page.tags.count("svg") == len(page.blocks["h3"]) == 3
    for stem in stems:
        assert written[f"{stem}.png"].startswith(b"\x89PNG")
        words = "".join(ElementTree.fromstring(written[f"{stem}.svg"]).itertext())
        assert "ddim-10" in words
        assert "rti" in words


@pytest.fixture
def page_of(tmp_path, read_page):
    """Compares results and reads the page, which has no plot unless one is asked for."""

    def write(*words, plot=False):
        options = read_arguments(words, Compare)
        entries = read_entries(options.files)
        found = compare.compare(entries, compare.find_base(entries, options.baseline))
        figures = {}
        if plot:
            names = [entry.name for entry in entries]
            figures["smoothness"] = plots.smoothness_bars([e.result for e in entries], names)
        page = tmp_path / "comparison.html"
        write_comparison_page(page, found, figures, compare.write_call(options, page.parent))
        return read_page(page)

    return write


def test_the_page_shows_every_result_and_each_difference_with_its_interval(tmp_path, page_of):
    base = _save(tmp_path / "a.json", "ddim-10", [1] * 6 + [0] * 14, warm=10)
    better = _save(tmp_path / "b.json", "rti-2", [1] * 14 + [0] * 6)
    same = _save(tmp_path / "c.json", "sdp-4", [1] * 5 + [0] * 13 + [1] * 2, warm=4)
    page = page_of(base, better, same)
    found, differences = page.tables
    assert [row[0] for row in found[1:]] == ["ddim-10", "rti-2", "sdp-4"]
    assert [row[4].strip() for row in found[1:]] == ["10", "10 then 2", "10 then 4"]
    assert found[1][2].strip() == "0.300 [0.145, 0.519]"
    shown = {row[0]: " ".join(row[2].split()) for row in differences[1:]}
    assert shown["rti-2"].endswith("] higher")
    assert shown["rti-2"].startswith("+0.400 [+0.1")
    assert shown["sdp-4"].endswith("] no difference shown")
    assert shown["sdp-4"].startswith("+0.050 [\u22120.")


def test_the_page_compares_jerk_where_every_episode_has_its_own(tmp_path, page_of):
    base = _save(tmp_path / "a.json", "ddim-10", [1, 1, 0, 1])
    known = [10.0, 20.0, None, 30.0]
    first = _changed(base, tmp_path / "x.json", jerk_per_episode=known)
    less = [jerk and jerk / 2 for jerk in known]
    second = _changed(base, tmp_path / "y.json", jerk_per_episode=less, inference="rti-2")
    found, differences = page_of(first, second).tables
    assert " ".join(found[1][6].split()) == "20 [10, 30]"
    assert " ".join(differences[1][5].split()) == "\u221210 [\u221215, \u22125] smoother"
    older = _changed(base, tmp_path / "z.json", jerk_per_episode=[])
    _, differences = page_of(older, second).tables
    assert differences[1][5].strip() == "\u2013"


def test_a_comparison_is_not_overwritten_unasked(tmp_path, read_page):
    files = []
    for sampler in ("ddim-10", "rti-2"):
        files.append(_save(tmp_path / f"{sampler}.json", sampler, [1, 0, 1]))
    out = tmp_path / "cmp"
    words = [*files, f"out={out}"]
    assert run_verb("compare", words) == 0
    with pytest.raises(ConfigError, match=rf"as out={out}_2, or say overwrite=true"):
        run_verb("compare", [files[0], f"out={out}"])
    with pytest.raises(ConfigError, match="not overwritten unasked"):
        hotstart.compare(*files, out=out)
    made = shlex.split(read_page(out / "comparison.html").commands[0])
    assert made[2:] == [*words, "overwrite=true"]
    assert compare_files([Path(files[0]), Path(files[1])]).endswith(f"out={tmp_path}/comparison")
    (tmp_path / "comparison").mkdir()
    assert compare_files([Path(files[0])]).endswith(f"out={tmp_path}/comparison_2")


def test_the_page_holds_the_command_that_made_it(tmp_path, page_of):
    files = []
    for name, sampler in (("it's a.json", "ddim-10"), ("b=c.json", "rti-2")):
        files.append(_save(tmp_path / name, sampler, [1, 0, 1]))
    page = page_of(*files, "baseline=rti-2", "measure=score")
    assert page.blocks["h2"][1] == "Difference from rti-2"
    words = shlex.split(page.commands[0])
    assert words[:2] == ["hotstart", "compare"]
    assert words[2:] == [*files, f"out={tmp_path}", "baseline=rti-2", "measure=score"]


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", 'a" onload="x', "$css ${x} & <b>"]
)
def test_the_page_escapes_what_results_say(hostile, tmp_path, page_of):
    base = _save(tmp_path / "a.json", "ddim-10", [1, 0])
    told = {"task": hostile, "checkpoint": hostile, "versions": {hostile: hostile}}
    first = _changed(base, tmp_path / "x.json", inference=hostile, **told)
    second = _changed(base, tmp_path / "y.json", inference=f"{hostile}2", **told)
    page = page_of(first, second, plot=True)
    assert not {"script", "b"} & set(page.tags)
    assert not {"onload", "src"} & {name for name, _ in page.attributes}
    assert page.tables[0][1][0] == hostile
    assert page.blocks["h1"] == [f"{hostile}: 2 results compared"]


def test_a_sampler_has_one_colour_in_all_plots(tmp_path):
    samplers = ("euler-4", "rti-2", "ddim-10", "ddim-2", "bid-4")
    found = []
    for sampler in samplers:
        found.append(results.load(Path(_save(tmp_path / f"{sampler}.json", sampler, [1, 0]))))
    styles = plots.choose_styles(found, samplers)
    colors = {name: style.color for name, style in styles.items()}
    assert colors["ddim-10"] == colors["ddim-2"] == drawing.SERIES[0]
    assert colors["rti-2"] == drawing.SERIES[1]
    assert len(set(colors.values())) == 4
    bars = plots.smoothness_bars(found, samplers).axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars] == list(colors.values())
    lines = plots.tradeoff(found, samplers, "nfe").axes[0].containers
    drawn = [line[0].get_color() for line in lines]
    assert drawn == [colors[name] for name in ("euler-4", "rti-2", "ddim-10", "bid-4")]


def test_labels_do_not_stand_on_each_other():
    figure, axes = drawing.make_axes("x", "y")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    drawing.label_points(axes, [(0.5, 0.5, "one"), (0.5, 0.5, "two"), (0.99, 0.5, "far right")])
    figure.draw_without_rendering()
    one, two, far = (text.get_window_extent() for text in axes.texts)
    assert not one.overlaps(two)
    assert far.x1 < axes.get_window_extent().x1


def test_bars_are_as_long_as_their_values(tmp_path):
    found = [
        results.load(Path(_save(tmp_path / f"{i}.json", "ddim", wins)))
        for i, wins in enumerate(([1, 0], [1, 1]))
    ]
    figure = plots.success_bars(found, ["half", "all"])
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.5, 1.0])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["half", "all"]
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the first is on top


def test_what_was_not_measured_is_not_drawn_as_zero(tmp_path):
    found = results.load(Path(_save(tmp_path / "a.json", "ddim", [1, 0])))
    found["smoothness"]["jerk_rms"] = None
    found["inference_ms"]["per_second_of_motion"] = None
    assert "not measured" in drawing.to_svg(plots.smoothness_bars([found], ["ddim"]))
    assert not plots.tradeoff([found], ["ddim"], "ms").axes[0].containers


def test_one_way_in_several_numbers_of_steps_is_one_line(tmp_path):
    samplers = [("ddim-10", 10), ("rti-2", 2), ("ddim-4", 4), ("ddim-2", 2)]
    found = [
        results.load(Path(_save(tmp_path / f"{sampler}.json", sampler, [1, 0], warm=warm)))
        for sampler, warm in samplers
    ]
    names = [sampler for sampler, _ in samplers]
    assert plots.families(found, names) == {"ddim": [0, 2, 3], "rti-2": [1]}
    assert plots.families(found, [f"{name} x" for name in names]) == {
        "ddim x": [0, 2, 3],
        "rti-2 x": [1],
    }
    assert plots.families([found[0], found[0]], ["ddim-10 a", "ddim-10 b"]) == {
        "ddim-10 a": [0],
        "ddim-10 b": [1],
    }
    for other in (
        {"checkpoint": "elsewhere"},
        {"latency_s": 0.1},
        {"sampler_settings": {"start_noise": 0.0}},
        {"precision": "bf16"},
    ):
        changed = [found[0], found[1], found[2] | other, found[3]]
        assert plots.families(changed, names) == {
            name: [i] for i, name in enumerate(names)
        }  # no line across two setups
    axes = plots.tradeoff(found, names, "nfe").axes[0]
    across = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    three = next(x for x in across if len(x) == 3)
    assert three == sorted(found[i]["nfe"]["per_action"] or 0.0 for i in (0, 2, 3))
    assert _labels(axes) == sorted(names)


def test_a_comparison_is_advised_with_results_of_the_same_scenes(tmp_path):
    out = tmp_path / "new.json"
    first = _save(tmp_path / "old.json", "ddim-10", [1, 0])
    _save(out, "rti-2", [1, 0])
    _save(tmp_path / "task.json", "ddim-10", [1, 0], task="can")
    _save(tmp_path / "seeds.json", "ddim-10", [1, 0], first_seed=7)
    _changed(first, tmp_path / "options.json", task_options={"robot": "Sawyer"})
    (tmp_path / "broken.json").write_text("{")
    assert find_comparable(out, results.load(out)) == [tmp_path / "old.json"]
    line = shlex.split(compare_files([tmp_path / "old.json", out]))
    assert read_arguments(line[2:], Compare).files == (tmp_path / "old.json", out)


def test_learning_curve_takes_records_that_lack_a_loss():
    metrics = [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 0.5, "validation_loss": 0.7},
        {"step": 30, "loss": 0.0},
    ]
    lines = curves.learning_curve(metrics).axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [[[10, 1.0], [20, 0.5]], [[20, 0.7]]]


def test_svgs_of_one_page_do_not_get_in_each_others_way():
    figure = curves.learning_curve([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}])
    first, second = (drawing.to_svg(figure, prefix=prefix, themed=True) for prefix in ("a-", "b-"))
    ids, others = (set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second))
    assert ids
    assert not ids & others
    used = set(re.findall(r'href="#([^"]+)"', first)) | set(re.findall(r"url\(#([^)]+)\)", first))
    assert used <= ids
    assert "currentColor" in first
    assert drawing.INK not in first


def test_the_use_of_experts_is_drawn_over_levels_and_over_training():
    levels = np.linspace(0, 1, 20)
    use = np.stack([np.stack([levels, 1 - levels], 1)] * 3)  # (3 layers, 20, 2 experts)
    record = {f"experts/layer{layer}/{expert}": 0.5 for layer in (1, 2, 3) for expert in (1, 2)}
    figure = curves.expert_use(
        use, levels, [{"step": 1}, {"step": 2, **record}, {"step": 4, **record}]
    )
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "layer 1",
        "layer 2",
        "layer 3",
    ]
    assert all(len(axes.collections) == 2 for axes in figure.axes)
    once = curves.expert_use(use, levels, [{"step": 2, **record}])  # nothing to draw over one step
    assert not once.axes[-1].collections
    assert drawing.to_png(figure).startswith(b"\x89PNG")
