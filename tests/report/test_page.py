"""The report as a page: whole, safe, and as a browser shows it."""

import html.parser
import re
import shutil

import numpy as np
import pytest

from dbp.report.page import POLICY, page
from dbp.report.record import RunRecord
from tests.processes import run
from tests.report.runs import HOSTILE, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEADLESS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
VOID = {"meta", "link", "br", "img", "hr", "wbr"}


class Elements(html.parser.HTMLParser):
    """The elements of a page; checks that all are closed, in order."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def elements(text):
    parser = Elements()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser.found


@pytest.fixture
def record(tmp_path):
    found = RunRecord.of(write_run(tmp_path / HOSTILE.replace("/", "_")))
    found.tables["validation/confusion_matrix"] = np.array([[50, 10, 0], [2, 30, 8], [0, 0, 20]])
    return found


@pytest.fixture
def several(tmp_path, record):
    other = RunRecord.of(write_run(tmp_path / "other", epochs=6, learning_rate=1e-2))
    return page([record, other])


def test_a_page_is_sound_and_needs_nothing_from_elsewhere(record, several):
    for text in (page([record]), several):
        found = elements(text)
        names = {name for name, _ in found}
        assert not names & {"script", "iframe", "object", "form", "base", "b>node"}
        for name, attributes in found:
            assert not [key for key in attributes if key.startswith("on")]
            links = [value for key, value in attributes.items() if key in ("src", "href", "srcset", "action")]
            assert all(value.startswith("data:") for value in links), (name, attributes)
        assert not re.search(r"url\(|@import|https?://|//[a-z]+\.", text)
        assert [a["content"] for _, a in found if a.get("http-equiv") == "Content-Security-Policy"] == [POLICY]
        assert "<script>" not in text
        assert "<b>node</b>" not in text
        assert len(text) < 120_000


def test_a_page_of_one_run_has_all_its_parts(record):
    text = page([record])
    heads = re.findall("<h2>(.*?)</h2>", text)
    assert heads == ["Curves", "What is taken for what", "Time and memory", "What happened", "Config and provenance"]
    for part in (
        "epoch 3, the best",
        "Started 2 times.",
        "resumed from step-20.h5",
        "<span>accuracy 0.9000</span>",
        "300 MB",
    ):
        assert part in text
    assert "Not shown" not in text


def test_a_page_of_several_runs_shows_what_differs(several):
    assert re.search(r"<code>optimizer.<wbr>learning_rate</code></th><td>0.001</td><td>0.01</td>", several)
    assert re.search(r"<code>epochs</code></th><td>4</td><td>6</td>", several)
    assert several.count('<details class="run">') == 2
    assert several.count("<svg") == 2
    assert 'class="curve run-1"' in several


def test_a_run_of_which_nothing_is_known_has_a_page_that_says_so(tmp_path):
    (tmp_path / "status.json").write_text("{")
    text = page([RunRecord.of(tmp_path)])
    assert elements(text)
    assert "state unknown" in text
    assert re.search(r"Not shown: \d+ things", text)


def test_a_page_that_is_served_loads_itself_anew(record):
    assert '<meta http-equiv="refresh" content="5">' in page([record], refresh_seconds=5)
    assert 'http-equiv="refresh"' not in page([record])


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.slow
def test_a_browser_shows_it_on_a_phone_without_a_word_on_its_console(tmp_path, record, several):
    """A frame as wide as a phone holds the page; it must not be wider than the frame, and nothing may be refused."""
    for name, text in (("one.html", page([record])), ("several.html", several)):
        (tmp_path / name).write_text(text)
        (tmp_path / f"frame-{name}").write_text(
            f"<iframe id=f src={name} width=375 height=3000 style='border:0'></iframe><script>onload=()=>{{"
            "const d=document.getElementById('f').contentDocument;"
            "document.title=[d.documentElement.scrollWidth,d.querySelectorAll('svg').length,"
            "d.fonts.status,getComputedStyle(d.querySelector('.card')).borderRadius].join(' ')}</script>"
        )
        outcome = run(
            CHROMIUM,
            *HEADLESS,
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}/profile",
            "--dump-dom",
            tmp_path / f"frame-{name}",
            timeout=60,
        )
        assert outcome.code == 0, outcome.text
        assert "CONSOLE" not in outcome.err, outcome.err
        width, charts, _, radius = re.search("<title>(.*?)</title>", outcome.out)[1].split()
        assert (int(width), int(charts) > 1, radius) == (375, True, "10px"), name
