"""Commands of the documentation run in a folder with small data, unless they say what they need."""

from pathlib import Path

import pytest

from tests.docs import sandbox
from tests.docs.pages import PAGES, blocks

RUNNABLE = {
    page: [block for block in blocks(page) if block.is_shell and not block.needs] for page in PAGES
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sandbox.make(tmp_path_factory.mktemp("reader"))


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if RUNNABLE[p]], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    shell = sandbox.Shell()
    assert not [problem for block in RUNNABLE[page] for problem in shell.run(block)]
