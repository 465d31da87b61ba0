"""The README and the pages: tables are fresh, links lead somewhere, examples run, verbs exist."""

import re
from pathlib import Path

import pytest
from seqzoo.zoo import cli, tables
from seqzoo.zoo.recipes import RECIPES, TABLES
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])

LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [(page, code) for page in PAGES for code in BLOCK.findall(page.read_text())]


def anchors(text):
    """What GitHub makes of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@every_page
def test_tables_are_those_of_the_cards(page):
    text = page.read_text()
    assert tables.refreshed(text) == text, "refresh it: make docs"


def test_every_table_is_shown():
    shown = {place[1] for page in PAGES for place in tables.PLACE.findall(page.read_text())}
    assert {"summary", *TABLES} <= shown


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text()
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{link}: no such heading"


@pytest.mark.parametrize(
    ("page", "code"), BLOCKS, ids=[f"{page.stem}-{n}" for n, (page, _) in enumerate(BLOCKS)]
)
def test_an_example_runs(page, code, request, tmp_path, monkeypatch):
    if "Polyphonic(" in code:
        request.getfixturevalue("published")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


@every_page
def test_verbs_and_recipes_exist(page):
    text = page.read_text()
    verbs = get_command(cli.app).commands
    for verb in re.findall(r"^seqzoo ([a-z]+)|`seqzoo ([a-z]+)", text, flags=re.MULTILINE):
        assert "".join(verb) in verbs, f"there is no seqzoo {''.join(verb)}"
    known = {name.split("/")[0] for name in RECIPES}
    for name in re.findall(r"`(?:seqzoo [a-z]+ )?([a-z0-9-]+/[a-z0-9-]+)[ `]", text):
        if name.split("/")[0] in known:
            assert name in RECIPES, f"there is no recipe {name}"
