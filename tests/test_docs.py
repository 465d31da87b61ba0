"""The README and the pages: what they show, link to, name and run is what the zoo has."""

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import typer
from seqzoo.zoo import cli
from seqzoo.zoo.recipes import RECIPES, TABLES, find, parse_overrides
from seqzoo.zoo.recipes.recipe import override_all
from seqzoo.zoo.runs import tables

from seqzoo import zoo

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
every_file = pytest.mark.parametrize("page", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])

FOLDER = ROOT / "docs" / "models"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
SHIPPED = [find(name) for name in zoo.shipped()]  # pages show the figures of their cards
MODELS = sorted(
    {recipe.model.name for recipe in SHIPPED}
    & {name for name in zoo.__all__ if isinstance(getattr(zoo, name), type)}
)
every_model_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


def fences(page, *languages):
    """Content of the fenced blocks of some languages; ``""`` is a block of none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [content for language, content in found if language in languages]


def prose(text):
    """A page's text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(page):
    """Code spans, on one line each, and the lines of blocks of commands."""
    found = re.findall(r"`([^`]+)`", prose(page.read_text()))
    lines = [x for block in fences(page, "", "sh", "bash", "console") for x in block.splitlines()]
    found += [re.split(r"\s{2,}", line)[0] for line in lines if line.strip()]  # then a remark
    return [" ".join(span.replace("\\|", "|").split()) for span in found]


def anchors(path):
    """Anchors of a Markdown file's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def shown(page):
    """Names and contents of the generated tables of a page."""
    return {name: table for _, name, table, _ in tables.PLACE.findall(page.read_text())}


PROGRAM = typer.main.get_command(cli.app)


def commands():
    """Every command of the command line, by its words."""
    found = {}

    def walk(group, words):
        for name, command in group.commands.items():
            found[(*words, name)] = command
            if hasattr(command, "commands"):
                walk(command, (*words, name))

    walk(PROGRAM, ())
    return found


COMMANDS = commands()


def options(command):
    """The long options of a command."""
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


BLOCKS = [(page, code) for page in FILES for code in fences(page, "python")]


# Every page ---------------------------------------------------------------------------------------


@every_file
def test_tables_are_those_of_the_cards(page):
    text = page.read_text()
    assert tables.refreshed(text) == text, "refresh it: make docs"


def test_every_table_with_a_card_is_shown():
    assert {"summary", *(recipe.table for recipe in SHIPPED)} <= set().union(*map(shown, FILES))


@every_file
def test_links_lead_somewhere(page):
    for address in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if "://" in address:
            continue
        place, _, anchor = address.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), address
        assert not anchor or anchor in anchors(target), address


@every_file
def test_commands_exist(page):
    for span in spans(page):
        words = span.split()
        if words[0] != "seqzoo" or len(words) == 1:
            continue
        if words[1].startswith("--"):
            assert words[1] in options(PROGRAM), span
            continue
        known = next((words[1:n] for n in (3, 2) if tuple(words[1:n]) in COMMANDS), None)
        assert known, f"no command: {span}"
        command = COMMANDS[tuple(known)]
        assert known == ["study"] or not hasattr(command, "commands"), f"which command: {span}"
        used = {word for word in words if word.startswith("--")}
        assert used <= options(command), span


@every_file
def test_recipes_exist(page):
    """Names alone, and those within commands; with ``--set`` they must have the field."""
    for span in spans(page):
        words = span.split()
        if (words[0] != "seqzoo" and len(words) > 1) or "--import" in words:
            continue  # recipes of the reader's own
        for before, word in itertools.pairwise(["", *words]):
            if before != "--out" and re.fullmatch(r"[a-z][\w-]*/[\w-]+", word):
                assert word in RECIPES, f"{word} in {span!r}"
        if words[1:2] == ["train"]:
            find(words[2]).override(changed(words))
        if words[1:3] == ["study", "motion"]:
            assert words[3] in TABLES


@pytest.mark.parametrize(
    ("page", "code"), BLOCKS, ids=[f"{page.stem}-{n}" for n, (page, _) in enumerate(BLOCKS)]
)
def test_an_example_runs(page, code, request, tmp_path, monkeypatch):
    if "Polyphonic(" in code:
        request.getfixturevalue("published")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = re.sub(r"\bepochs=\d+", "epochs=1", code)  # the rest of the budget is small
    code = re.sub(r"\bsteps=\d{3,}", "steps=50", code)
    code = re.sub(r"\bsequences=\d{3,}", "sequences=100", code)
    code = re.sub(r"\b(num_samples|num_particles)=\d{2,}", r"\1=25", code)  # the least of k-hat
    exec(compile(code, page.name, "exec"), {"__name__": "example"})
    plt.close("all")


# The index ----------------------------------------------------------------------------------------


def rows_of_index():
    """Class and page of every line of the index's table."""
    return re.findall(r"^\| \[`(\w+)`\]\((\S+)\) \|", INDEX.read_text(), re.MULTILINE)


def test_there_are_models_to_write_of():
    assert {"RVAE", "REFH", "LGDS", "VRAE", "RNN", "SRN"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_a_recipe_has_a_page(name):
    page = dict(rows_of_index())[name]
    assert FOLDER / page in PAGES
    assert name in shown(FOLDER / page), "its figures"


def test_the_index_has_a_line_a_model_and_every_page():
    names, pages = zip(*rows_of_index())
    assert sorted(names) == MODELS
    assert {FOLDER / page for page in pages} == set(PAGES)


@pytest.mark.parametrize("name", MODELS)
def test_the_index_names_the_rules_that_train_a_model(name):
    line = next(x for x in INDEX.read_text().splitlines() if x.startswith(f"| [`{name}`]"))
    rules = {recipe.rule.name for recipe in RECIPES.values() if recipe.model.name == name}
    assert set(re.findall(r"`(\w+)`", re.split(r"(?<!\\)\|", line)[4])) == rules


# A page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_page_shows_the_factorisation_of_its_model(name):
    trained = [row for row in zoo.shipped() if find(row).model.name == name]
    shapes = {" ".join(zoo.load(row).extra_repr().split()) for row in trained}
    assert shapes & set(spans(FOLDER / dict(rows_of_index())[name]))


@every_model_page
def test_fields_that_are_set_exist(page):
    """``--set`` alone is about some row of the page."""
    names = shown(page)
    rows = [recipe for recipe in RECIPES.values() if recipe.model.name in names]
    for span in spans(page):
        if "--set" in span.split() and not span.startswith("seqzoo"):
            override_all(rows, changed(span.split()))


def changed(words):
    """What a command's ``--set`` options say."""
    return parse_overrides(after for word, after in itertools.pairwise(words) if word == "--set")
