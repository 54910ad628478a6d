"""Commands of the documentation run in a folder with small data, unless they say what they need."""

import shutil
from pathlib import Path

import pytest

from tests.docs import sandbox
from tests.docs.pages import PAGES, Block, blocks


def steps_of(page: Path) -> list[tuple[Block, str]]:
    """The blocks of commands of a page that run everywhere, and what follows each on the page."""
    found = blocks(page)
    pairs = zip(found, [*(block.text for block in found[1:]), ""], strict=False)
    runs = [(block, answer) for block, answer in pairs if block.is_shell or block.is_python]
    return [(block, answer) for block, answer in runs if not block.needs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sandbox.make(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """The page's own, so that pages run in any order."""
    return Path(shutil.copytree(data, tmp_path / "reader", symlinks=True))


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if steps_of(p)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    monkeypatch.chdir(folder)
    shell = sandbox.Shell(capfd)
    problems = [problem for step in steps_of(page) for problem in shell.run(*step)]
    assert not problems, "\n".join(problems)
