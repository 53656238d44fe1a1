"""The demo's report: it loads nothing, escapes what it is given, and every comparison has its
interval.
"""

import re

import numpy as np
import pytest
from hotstart.commands import demo_page
from hotstart.commands.demo_claims import describe_success, read_seconds, subtract
from hotstart.commands.demo_film import Film, choose_pair
from hotstart.commands.demo_rows import DemoRow
from hotstart.commands.video import write_gif, write_video
from hotstart.configs.schema import Demo
from hotstart.control import RowLog
from hotstart.evaluation import results
from hotstart.evaluation.intervals import mcnemar
from hotstart.spec import ActionSpec
from hotstart.system.options import read_options

INTERVAL = re.compile(r"\[[+\u2212][\d.]+, [+\u2212][\d.]+\]")
COMPARES = ("more often", "less often", "longer", "earlier", "smoother", "less smooth", "shown")


def _result(sampler, wins, steps=24, latency_s=0.0, **changes):
    line = [np.array([(t / 24) ** 3]) for t in range(steps)]
    ticks, nfe = [1.0] * steps, [10, 2, 2]
    logs = []
    for i, win in enumerate(wins):
        logs.append(RowLog(100_000 + i, bool(win), float(win), steps, line, ticks, nfe))
    setting = results.Setting("lift", "runs/demo", sampler, 20.0, 8, latency_s, "sync", 90.0)
    timed = [(4, 0.02)] * 9
    return results.summarise(logs, timed, setting, ActionSpec.plain(1), np.ones(1)) | changes


FOUND = {
    DemoRow("ddim-10"): _result("ddim-10", [1] * 18 + [0] * 2),
    DemoRow("rti-2"): _result("rti-2", [1] * 17 + [0] * 3),
    DemoRow("ddim-10", "sync"): _result("ddim-10", [1] * 4 + [0] * 16, 60, 0.5),
    DemoRow("rti-2", "sync"): _result("rti-2", [1] * 17 + [0] * 3, 30, 0.1),
}


@pytest.fixture
def write(tmp_path, read_page):
    """Write the page with changed parts, and read it."""

    def page(found=FOUND, film=None, **changes):
        facts = {"demonstrations": "100 scripted episodes"}
        metrics = [{"step": step, "loss": 1 / step} for step in (10, 20)]
        parts = {"title": "Lift", "task": "lift", "facts": facts, "commands": {}}
        report = demo_page.DemoReport(
            found=found, evaluation_ms=50.0, metrics=metrics, film=film, **parts | changes
        )
        demo_page.write_demo(tmp_path / "report.html", report)
        return read_page(tmp_path / "report.html")

    return page


def test_every_sentence_that_compares_has_its_interval_and_its_count(write):
    sentences = write().blocks["li"]
    assert len(sentences) == 8
    for sentence in sentences:
        assert any(word in sentence for word in COMPARES)
        assert INTERVAL.search(sentence), sentence
        assert "n = 20" in sentence
    assert sentences[0].startswith("RTI-2 and DDIM-10: no difference in success shown")
    assert sentences[1].startswith(
        "RTI-2 (waits) succeeds more often than DDIM-10 (waits) (85 % against 20 %; +65 points ["
    )


def test_a_warm_start_is_compared_with_fresh_plans_at_its_cost_too(write):
    row = DemoRow("ddim-2", "sync")
    sentences = write({**FOUND, row: _result("ddim-2", [1] * 5 + [0] * 15, 50, 0.1)}).blocks["li"]
    (fresh,) = [each for each in sentences if "than DDIM-2" in each]
    assert fresh.startswith("RTI-2 (waits) succeeds more often than DDIM-2 (waits) (85 % against")


def test_the_demo_charges_fresh_plans_at_the_cost_of_the_warm_start_and_films_the_same_pair():
    charged = list(read_options(Demo)["charged"].default)
    assert {"rti-2:sync", "ddim-2:sync"} <= set(charged)
    rows = [DemoRow(*word.split(":")) for word in charged]
    assert choose_pair(rows) == [DemoRow("ddim-10", "sync"), DemoRow("rti-2", "sync")]


@pytest.mark.parametrize(("wins", "said"), [(6, "more often"), (5, "no difference")])
def test_a_difference_is_claimed_where_its_interval_is_beside_0(wins, said):
    ours, base = [1] * wins + [0] * (10 - wins), [1] + [0] * 9
    interval = mcnemar(ours, base).difference
    assert (interval.low > 0) == (said == "more often")
    sentence = describe_success(_result("a", ours), "A", _result("b", base), "B")
    assert said in sentence


def test_differences_count_seeds_that_both_have():
    many = _result("a", [1] * 6, 40)
    few = _result("b", [1] * 2, 20)
    assert subtract(many, few, read_seconds) == (1.0, 1.0, 1.0)
    assert "n = 2)" in describe_success(many, "A", few, "B")


def test_the_table_holds_every_row_with_its_numbers(write):
    (head, *lines), *_ = write().tables
    rows = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert list(rows) == [demo_page.name_row(row) for row in FOUND]
    late = rows["DDIM-10 (waits)"]
    assert late["charged for it"] == "500 ms"
    assert late["success"].startswith("20 % [8\u2013")
    assert late["time to end [s]"] == "3.00 [3.00, 3.00]"
    assert late["n"] == "20"
    assert rows["RTI-2"]["NFE of a plan"] == "10 then 2"
    assert rows["RTI-2"]["difference"].startswith("\u22125 [")
    assert rows["DDIM-10"]["difference"] == "\u2013"


def test_the_page_loads_nothing_and_holds_the_film(write, tmp_path):
    video, gif = tmp_path / "side_by_side.mp4", tmp_path / "side_by_side.gif"
    frames = [np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 100, 10)]
    write_video(video, frames, 10)
    write_gif(gif, frames, 10, 32)
    page = write(film=Film(video, gif, "Seed 7, the first."))
    assert page.tags.count("video") == 1
    assert "Seed 7, the first." in page.text
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "poster", "srcset"):
            assert value.startswith(("data:", "#"))


def test_without_a_film_it_says_what_to_install(write):
    assert "libosmesa6" in write().text
    page = write(notes=["There will be no video: `apt-get install libegl1`."])
    assert page.commands == ["apt-get install libegl1"]


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "$css ${sections} & <b>"])
def test_text_is_escaped(write, hostile):
    changes = {"checkpoint": hostile, "versions": {hostile: hostile}}
    found = {DemoRow(hostile + "-2"): _result(hostile, [1, 0], **changes)}
    page = write(found, title=hostile, facts={hostile: hostile}, notes=[hostile])
    assert not {"script", "b"} & set(page.tags)
    assert page.text.count(hostile) >= 6
