"""The report: it parses, loads nothing, escapes what it is given, and holds the figures."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hotstart.commands import curves, report
from hotstart.commands.page import VIDEO_BYTES
from hotstart.commands.video import write_video
from hotstart.control import RowLog
from hotstart.evaluation import intervals, results
from hotstart.spec import ActionSpec

VOID = {"wbr", "meta", "link", "br", "img", "hr", "input"}
LOADING = {"src", "href", "xlink:href", "action", "poster", "data", "srcset"}


class Page(HTMLParser):
    """Checks that every tag is closed in order; keeps attributes and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.attributes = []
        self.words = []
        self.tags = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def _result(sampler, wins, seconds=0.02, rows=4, calls=None):
    line, ticks = [np.array([t / 24]) for t in range(24)], [1.0] * 24
    logs = [
        RowLog(
            100_000 + i,
            win if win is None else bool(win),
            1.0 if win else 0.5,
            24,
            line,
            ticks,
            [10, 10, 10],
        )
        for i, win in enumerate(wins)
    ]
    setting = results.Setting(
        "lift", "runs/demo/checkpoints/last", sampler, rate_hz=20.0, executed=8, wall_seconds=90.0
    )
    timed = [(rows, each) for each in calls or [seconds] * 9]
    return results.summarise(logs, timed, setting, ActionSpec.plain(1), np.ones(1))


def _write(path, **changes):
    metrics = [
        {"step": s, "loss": 1 / s, "learning_rate": 1e-4, "seconds": s / 10}
        for s in range(10, 100, 10)
    ]
    content = {
        "title": "Lift from 100 demonstrations",
        "task": "lift",
        "results": [
            _result("ddim-10", [1] * 47 + [0] * 3),
            _result("ddpm-100", [1] * 30 + [0] * 20, seconds=0.2),
        ],
        "metrics": [*metrics, {"step": 90, "validation_loss": 0.2}],
        "videos": [],
        "facts": {"demonstrations": "100 scripted episodes", "training": "2000 steps, 6.2 minutes"},
        "notes": [],
    }
    report.write_report(path, **content | changes)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_further_plots_stand_under_their_headings(tmp_path):
    use = np.full((2, 5, 4), 0.25)
    figure = curves.expert_use(use, np.linspace(0, 1, 5), [])
    text, page = _write(tmp_path / "report.html", figures={"Experts": figure})
    assert "Experts" in page.text
    assert 'aria-label="Experts"' in text
    assert "share of each expert" in text
    assert "share of each expert" not in _write(tmp_path / "report.html")[0]


def test_the_page_holds_the_figures(tmp_path):
    _, page = _write(tmp_path / "new" / "report.html")
    assert "94% of 50 evaluated episodes succeeded, seeds from 100000 on." in page.text
    low, high = (round(100 * value) for value in intervals.wilson(47, 50)[1:])
    assert f"95 % interval: {low} to {high} %" in page.text
    for words in (
        "100 scripted episodes",
        "2000 steps, 6.2 minutes",
        "100 episodes, 2 samplers, 3.0 minutes",
    ):
        assert words in page.text
    assert "20 ms20 ms12.5 ms" in "".join(
        page.words
    )  # p50, p95, and 5 ms per plan at 2.5 plans a second
    assert (
        "ddpm-100 succeeded less often than ddim-10 on the same 50 scenes (difference \u221234 "
        "points" in page.text
    )
    assert (
        "its calls took 10 times as long as those of ddim-10 (10 to 10, medians of 9 and 9 calls)"
        in page.text
    )
    assert page.tags.count("svg") == 3
    assert f"numpy {np.__version__}" in page.text
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]


def test_success_that_is_not_reported_is_no_percentage(tmp_path):
    _, page = _write(
        tmp_path / "report.html",
        results=[_result("ddim-10", [None] * 9), _result("ddpm-100", [None] * 9)],
    )
    assert "0.5 The mean score of 9 evaluated episodes; success is not reported." in page.text
    assert page.text.count("not reported") == 3  # and once in each line of the table
    assert "True success rate" not in page.text
    assert "Score" in page.text


def test_episodes_that_were_solved_at_reset_are_said(tmp_path):
    result = _result("ddim-10", [1] * 3 + [0] * 7)
    result["solved_at_reset"] = {
        "episodes": 2,
        "success_of_others": {"rate": 0.125, "low": 0.022, "high": 0.471},
    }
    _, page = _write(tmp_path / "report.html", results=[result])
    assert (
        "2 of 10 episodes were solved at reset; success of the others 0.125 [0.022, 0.471]."
        in page.text
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([0.014, 0.02, 0.03], "(difference"),  # three calls say nothing about speed
        (
            [0.010, 0.012, 0.014, 0.016, 0.018, 0.020, 0.022, 0.024],
            "how long their calls take cannot be told apart",
        ),
        (
            [0.010] * 8,
            "its calls took 0.5 times as long as those of ddim-10 (0.5 to 0.5, medians of 8 and 9 "
            "calls)",
        ),
    ],
)
def test_speed_is_claimed_only_with_an_interval(tmp_path, seconds, said):
    found = [_result("ddim-10", [1, 0, 1, 1]), _result("rti-2", [1, 1, 1, 1], calls=seconds)]
    _, page = _write(tmp_path / "report.html", results=found)
    assert said in page.text
    assert ("times as long" in page.text) == ("times as long" in said)


def test_calls_that_serve_other_numbers_of_rows_are_not_compared(tmp_path):
    found = [_result("ddim-10", [1, 0]), _result("rti-2", [1, 1], seconds=0.002, rows=1)]
    assert "times as long" not in _write(tmp_path / "report.html", results=found)[1].text


def test_the_page_loads_nothing(tmp_path):
    video = tmp_path / "ddim-10_100000_success.mp4"
    write_video(video, [np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 100, 10)], 10)
    text, page = _write(tmp_path / "report.html", videos=[video])
    links = [value for name, value in page.attributes if name in LOADING]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.findall(r"url\((?!#)|@import|<script", text)
    assert not [
        value
        for name, value in page.attributes
        if (value or "").startswith("http") and not name.startswith("xmlns")
    ]


def test_videos_are_inside_with_how_they_went(tmp_path):
    videos = [
        tmp_path / name
        for name in ("ddim-10_100000_success.mp4", "ddim-10_100001_failure_-0.25.mp4", "other.mp4")
    ]
    for shade, video in enumerate(videos):
        write_video(video, [np.full((32, 32, 3), 20 * shade + i, np.uint8) for i in range(5)], 10)
    _, page = _write(tmp_path / "report.html", videos=videos)
    sources = [value.partition("base64,")[2] for name, value in page.attributes if name == "src"]
    assert [base64.b64decode(source) for source in sources] == [
        video.read_bytes() for video in videos
    ]
    assert "\u2713 Success seed 100000, ddim-10" in page.text
    assert "\u2715 Failure seed 100001, ddim-10, score -0.25" in page.text
    assert "There is no video" not in page.text


def test_too_large_videos_stay_outside(tmp_path):
    videos = [tmp_path / name for name in ("large.mp4", "small.mp4")]
    videos[0].write_bytes(bytes(VIDEO_BYTES + 1))
    videos[1].write_bytes(bytes(10))
    text, page = _write(tmp_path / "report.html", videos=videos)
    assert page.tags.count("video") == 1
    assert "1 video was too large for this page" in page.text
    assert len(text) < 8_000_000


def test_without_a_video_it_says_what_to_install(tmp_path):
    assert "libosmesa6" in _write(tmp_path / "a.html")[1].text
    told = _write(
        tmp_path / "b.html", notes=["There will be no video. Run `apt-get install libegl1`."]
    )
    assert "<code>apt-get install libegl1</code>" in told[0]
    assert "libosmesa6" not in told[1].text


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", 'a" onload="x', "$css ${sections} & <b>"]
)
def test_text_is_escaped(tmp_path, hostile):
    result = _result(hostile, [1, 0]) | {"checkpoint": hostile, "versions": {hostile: hostile}}
    content = {
        "results": [result, _result("ddim", [1, 1])],
        "facts": {hostile: hostile},
        "notes": [hostile],
    }
    _, page = _write(tmp_path / "report.html", title=hostile, task=hostile, **content)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "onload" not in [name for name, _ in page.attributes]
    assert page.text.count(" ".join(hostile.split())) >= 6


def test_little_to_tell_is_told_all_the_same(tmp_path):
    _, page = _write(tmp_path / "report.html", results=[], metrics=[], facts={})
    assert "Nothing was evaluated yet" in page.text
    assert "svg" not in page.tags
    _, page = _write(
        tmp_path / "one.html",
        results=[_result("ddim-10", [1], rows=1)],
        metrics=[{"step": 1, "loss": 1.0}],
    )
    assert "A call plans for one robot." in page.text
    assert "hotstart compare" not in page.text
