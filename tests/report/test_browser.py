"""A real browser opens the pages: every part is there, nothing is fetched, nothing sticks out."""

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from milan_mm.report.results_page import results_page
from milan_mm.report.run_page import run_page
from tests.evaluation.rows import result
from tests.report.folders import record, train_row, write_part, write_run
from tests.report.test_results_page import ROWS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --hide-scrollbars --dump-dom"""
# Asks the page itself how wide it is at the width of a phone, and which parts have a place on it.
PROBE = """<iframe id="phone" srcdoc="{}" style="width: 390px; height: 800px; border: 0"></iframe>
<script>
document.getElementById("phone").onload = event => {{
  const page = event.target.contentDocument;
  const parts = [...page.querySelectorAll("section, svg path, img, table")];
  const shown = parts.filter(part => part.getClientRects().length).map(part => part.tagName);
  document.title = JSON.stringify({{
    width: page.documentElement.scrollWidth,
    sections: shown.filter(name => name === "SECTION").length,
    curves: shown.filter(name => name === "path").length,
    fetched: event.target.contentWindow.performance.getEntriesByType("resource").length,
  }});
}};
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page is checked as text only")
def test_a_browser_shows_every_part_at_the_width_of_a_phone(tmp_path: Path):
    assert _look(run_page(write_run(tmp_path / "run")), tmp_path) == dict(
        width=390, sections=9, curves=7, fetched=0
    )
    assert _look(results_page(ROWS, "r.jsonl"), tmp_path) == dict(
        width=390, sections=3, curves=9, fetched=0
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page is checked as text only")
def test_no_script_of_a_name_runs_in_a_browser(tmp_path: Path):
    names = [
        "<script>document.title='ran'</script>",
        "<img src=x onerror=document.title='ran'>",
        "\"><svg onload=document.title='ran'>",
        "</style><script>document.title='ran'</script>",
        "javascript:document.title='ran'",
    ]
    rows = [result(name, weights=name, command=name, data=name, precision=name) for name in names]
    run = write_run(tmp_path / "run")
    write_part(
        run,
        14,
        [train_row(7) | {names[0]: 1.0, names[1]: 2.0}],
        command=names[2],
        plan=names,
        changes=[dict(field=name, recipe=name, now=name) for name in names],
        record=record(recipe=names[1], classes=names, versions={name: name for name in names}),
    )
    for page in (results_page(rows, names[0], names), run_page(run)):
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        command = [str(BROWSER), *QUIET.split(), f"--user-data-dir={tmp_path}/b", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        head = done.stdout.partition("</title>")[0]
        assert "ran" not in head.partition("<title>")[2].replace("document.title='ran'", "")
        assert done.stdout.count("document.title") > 5


def _look(page: str, folder: Path) -> dict[str, int]:
    """What the browser says about a page."""
    file = folder / "probe.html"
    file.write_text(PROBE.format(html.escape(page)), encoding="utf-8")
    command = [str(BROWSER), *QUIET.split(), f"--user-data-dir={folder}/browser", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    return json.loads(html.unescape(title))
