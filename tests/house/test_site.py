"""The site of docs/ is built without a warning, and nobody who reads it is sent to another server's files."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from places import ROOT

#: Attributes by which a browser fetches something as it shows a page.
FETCHING = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("link", "href"),
}


class _Fetches(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag != "link" or dict(attrs).get("rel") != "canonical":
            self.found += [value for name, value in attrs if (tag, name) in FETCHING]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.mark.wide
def test_every_page_is_there_in_its_languages(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    built = {path.stem for path in site.glob("*.html")}
    assert pages | {"index", "about", "changelog", "contributing"} <= built
    assert {path.stem for path in (ROOT / "docs" / "zh").glob("*.md")} <= {
        p.stem for p in (site / "zh").glob("*.html")
    }


@pytest.mark.wide
def test_reading_fetches_nothing_from_elsewhere(site):
    for path in [*site.glob("*.html"), *site.glob("zh/*.html")]:
        fetches = _Fetches()
        fetches.feed(path.read_text(encoding="utf-8"))
        assert fetches.found and not [url for url in fetches.found if "//" in url], path.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), (
            style.name
        )


@pytest.mark.wide
def test_links_out_of_docs_lead_to_the_site_s_own_pages(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="contributing.html"' in index and 'href="zh/about.html"' in index
    about = (site / "about.html").read_text(encoding="utf-8")
    assert 'href="serving.html"' in about and 'src="images/report.png"' in about
