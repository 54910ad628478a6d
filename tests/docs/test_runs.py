"""Commands of the documentation run in a folder with small data, unless they say what they need."""

import shutil
from pathlib import Path

import pytest

from tests.docs import sandbox
from tests.docs.pages import PAGES, Block, blocks


def steps_of(page: Path) -> list[Block]:
    """The blocks of a page that run everywhere."""
    return [b for b in blocks(page) if (b.is_shell or b.is_python) and not b.needs]


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
    problems = [problem for step in steps_of(page) for problem in shell.run(step)]
    assert not problems, "\n".join(problems)
