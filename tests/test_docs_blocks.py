"""Every command and every Python block of the README and the documentation runs, at tiny size.

A block that cannot run (a download, hardware) has the comment `<!-- not run: WHY -->`
in front of it. The blocks of one page run one after the other in one empty folder.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from hotstart import cli
from hotstart.envs.base import TaskEnv

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S[^>]*-->\s*$")
SMALL = {
    "collect": ["episodes=2", "workers=0"],
    "train": ["training.steps=2", "training.batch=4", "training.threads=1"],
    "evaluate": ["episodes=2", "num_envs=2", "workers=0"],
    "finetune": [
        *("method.iterations=1", "method.rows=2", "method.chunks=1"),
        *("episodes=2", "num_envs=2", "workers=0"),
    ],
    "checkpoint": ["count=2", "steps=2"],
    "export": ["plans=2"],
    "bench": ["calls=1"],
}
"""Verb -> options that take the place of a page's own ones."""


EPISODE = 12
"""Ticks of an evaluation's episode."""


class Block(NamedTuple):
    language: str
    text: str


def list_pages():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if "notebook" not in page.parts:
            pages.append(page)
    return pages


def read_blocks(page):
    """The blocks of a page that run, and how many of it do not."""
    text = page.read_text()
    run, left_out = [], 0
    for found in FENCE.finditer(text):
        if found[1] not in ("bash", "python"):
            continue
        if NOT_RUN.search(text[: found.start()]):
            left_out += 1
        else:
            run.append(Block(found[1], found[2]))
    return run, left_out


def make_small(words):
    """A command at tiny size: options that say how much is done are replaced."""
    verb, *rest = words
    small = SMALL.get(verb, [])
    replaced = {option.lstrip("+").partition("=")[0] for option in small}
    kept = [word for word in rest if word.partition("=")[0] not in replaced]
    return [verb, *kept, *small]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A run of two steps on random pushing, for pages that begin with a trained run."""
    pytest.importorskip("pymunk")
    folder = tmp_path_factory.mktemp("tiny")
    given = ["task=pusht", "demonstrator=random", "keep=all", "episodes=2", "workers=0"]
    assert cli.main(["collect", str(folder / "data.zarr"), *given, "task.max_steps=30"]) == 0
    given = ["task=pusht", "denoiser.channels=[8,16]", "denoiser.groups=4", *SMALL["train"]]
    assert cli.main(["train", str(folder / "data.zarr"), f"runs={folder}", "name=run", *given]) == 0
    return folder


@pytest.fixture
def short_episodes(monkeypatch):
    """Evaluations run for 12 ticks only; demonstrators need their time."""
    build = TaskEnv.__init__

    def build_short(self, **options):
        build(self, **{**options, "max_steps": min(options["max_steps"], EPISODE)})

    def shorten_evaluations(verb):
        if verb in ("evaluate", "finetune"):
            monkeypatch.setattr(TaskEnv, "__init__", build_short)
        else:
            monkeypatch.setattr(TaskEnv, "__init__", build)

    return shorten_evaluations


def put_in_place(words, tiny_run):
    """The runs and data sets that a command reads and the page has not made."""
    read = words
    if words[:2] == ["data", "repair"]:
        read = words[:-1]  # the last one is written
    for word in read:
        if word.startswith("out="):
            continue
        path = Path(word.rpartition("=")[2])
        if path.exists() or path.is_absolute():
            continue
        if re.fullmatch(r"runs/\w+", str(path)) and words[0] != "train":
            shutil.copytree(tiny_run / "run", path)
        if re.fullmatch(r"data/\w+\.zarr", str(path)) and words[0] != "collect":
            shutil.copytree(tiny_run / "data.zarr", path)


def run_block(block, names, tiny_run=None, shorten_evaluations=lambda verb: None):
    if block.language == "python":
        text = re.sub(r"(TrainingSettings\(steps=)\d+", r"\g<1>2", block.text)
        exec(compile(text, "<a block of the page>", "exec"), names)
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "hotstart", f"only hotstart's own commands run in a test: {line}"
        if tiny_run is not None:
            put_in_place(words[1:], tiny_run)
        shorten_evaluations(words[1])
        assert cli.main(make_small(words[1:])) == 0, line


PAGES = [page for page in list_pages() if read_blocks(page)[0]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, tiny_run, short_episodes):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in read_blocks(page)[0]:
        run_block(block, names, tiny_run, short_episodes)


def test_blocks_are_found():
    blocks = [read_blocks(page) for page in list_pages()]
    assert sum(len(found) for found, _ in blocks) >= 2


def test_what_does_not_run_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nhotstart evaluat x\n```\n\n<!-- not run: why -->\n```bash\nrm x\n```\n"
    )
    found, left_out = read_blocks(page)
    assert left_out == 1
    with pytest.raises(AssertionError, match="evaluat"):
        run_block(found[0], {})
    with pytest.raises(AssertionError, match="only hotstart's own"):
        run_block(Block("bash", "rm x"), {})
    with pytest.raises(AttributeError):
        run_block(Block("python", "import hotstart\nhotstart.lod()"), {})


def test_no_sentence_of_the_readme_is_long():
    text = re.sub(r"```.*?```|^\|.*?$", "", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    sentences = re.split(r"(?<=[.:!?])\s+|\n\n|\n- ", text)
    assert len(sentences) > 40
    assert [each for each in sentences if len(each.split()) > 25] == []
