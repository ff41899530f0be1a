"""The report of a run: one file that holds everything it shows, and a browser that shows it."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest
from small_runs import small_run

from minisnn import cli, figures
from minisnn.figures import page as report
from minisnn.runs import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(run folder, text of its report)"""
    path = tmp_path_factory.mktemp("report") / "run"
    run = small_run(path, model="syna-c", silent=(2,))
    assert cli.main(["report", str(path), "--limit", "16"]) == 0
    return run, (path / "report.html").read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
    """Open tags, and what the file asks of others."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.asked, self.pictures, self.wrong = [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action") and not value.startswith("data:"):
                self.asked.append(value)
            self.pictures += name == "src" and value.startswith("data:image/png;base64,")
        if tag == "img" and not dict(attributes).get("alt"):
            self.wrong.append("a picture without words")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")


def test_the_file_needs_no_other(written):
    _, text = written
    page = Page(text)
    assert page.pictures == len(figures.NAMES) and page.asked == [] and page.open == [] and page.wrong == []
    assert not re.search(r"url\(|@import|<script|http", text.split("</style>")[0])


def test_it_says_what_the_run_was(written):
    run, text = written
    assert run.config["command"] in text.replace("&#x27;", "'") and "--model syna-c" in text
    for words in (
        "test accuracy",
        "spikes per sample",
        "stage 2 shortcut",
        "As the authors' scripts count",
        "batch norm",
        "train_loss",
        "2 (on the test set)",
        "&quot;network&quot;",
    ):
        assert words in text, words


def test_a_pruned_run_tells_how_it_came_about(written, tmp_path, capsys):
    run, _ = written
    assert cli.main(["prune", str(run.path), "--out", str(tmp_path / "pruned")]) == 0
    assert cli.main(["report", str(tmp_path / "pruned"), "--limit", "16", "--out", str(tmp_path / "page.html"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["report"] == str(tmp_path / "page.html") and found["figures"] == len(figures.NAMES)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"minisnn prune {run.path} --checkpoint last" in text and "<dt>removed shortcuts</dt><dd>2</dd>" in text
    assert report.commands(Run.open(tmp_path / "pruned")).splitlines()[0] == run.config["command"]


def test_what_the_scripts_do_not_know_is_said(tmp_path):
    subject = figures.Subject(small_run(tmp_path / "run", model="ms"), limit=8)
    text = report.page(subject, [])
    assert "As the authors" not in text and "use the measured accounting" in text


def test_unusable_input(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_without_network_shows_every_figure(written, tmp_path):
    _run, text = written
    script = (
        "<script>addEventListener('load', () => { document.title = 'figures ' + JSON.stringify([...document.images].map("
        "i => i.complete ? i.naturalWidth : 0)) + ' wider ' + (document.documentElement.scrollWidth > innerWidth) "
        "})</script>"
    )
    (tmp_path / "page.html").write_text(text.replace("</body>", script + "</body>"), encoding="utf-8")
    found = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--proxy-server=127.0.0.1:9",
            "--window-size=1200,900",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    title = re.search(r"<title>figures (\[.*?\]) wider (\w+)</title>", found.stdout)
    assert title, found.stderr[-2000:]
    widths = json.loads(title[1])
    assert len(widths) == len(figures.NAMES) and min(widths) > 500
    assert title[2] == "false"  # no scrolling to the side
