"""One field of a recipe varied, and its command."""

import pytest
from seqzoo.zoo.recipes import RECIPES, find
from seqzoo.zoo.runs.run import run
from seqzoo.zoo.studies.variation import vary

ROW = "onetomany-class-t2/stptt"


@pytest.fixture
def small(tiny, monkeypatch, in_process):
    """A row that trains in no time."""
    recipe = tiny(find(ROW))
    monkeypatch.setitem(RECIPES, ROW, recipe)
    return recipe


def test_every_value_is_trained_once_and_scored_in_every_way(small, tmp_path):
    said = []
    ways = {"num_samples": [1, 3]}
    found = vary(small, "model.hidden", [4, 6], 2, tmp_path / "a", protocol=ways, say=said.append)
    assert len(said) == 2 * 2
    assert [one.changes for one in found] == [
        {"model.hidden": hidden, "num_samples": paths} for hidden in (4, 6) for paths in (1, 3)
    ]
    plain = vary(small, "model.hidden", [4, 6], 2, tmp_path / "a", say=said.append)
    assert all("kept" in line for line in said[4:])
    for one, hidden in zip(plain, (4, 6)):
        for seed in range(2):
            recipe = small.override({"model.hidden": hidden})
            card = run(recipe, seed, tmp_path / f"{hidden}{seed}", progress=False)
            assert one.values[seed] == card["value"]
            assert one.validation[seed] == card["validation"]
    mean, sd = plain[0].spread
    a, b = plain[0].values
    assert mean == pytest.approx((a + b) / 2)
    assert sd == pytest.approx(abs(a - b) / 2**0.5)
    assert found[0].values != found[1].values


def test_the_table_of_a_field(small, seqzoo, refused, tmp_path):
    words = ["study", "vary", ROW, "rule.noise=[0,0.5]", "--seeds", 1, "--jobs", 1]
    code, out, error = seqzoo(*words, "--runs", tmp_path)
    assert (code, error) == (0, "")
    *_, head, first, second = out.splitlines()
    assert head.split() == ["rule.noise", "mean", "sd", "n", "validation"]
    assert [first.split()[0], second.split()[0]] == ["0", "0.5"]
    assert first.split()[2:4] == ["-", "1"]
    assert "in brackets: rule.noise=[0.1]" in refused("study", "vary", ROW, "rule.noise=0.1")
    assert "no argument 'nose'" in refused("study", "vary", ROW, "rule.nose=[1]")
    two = ["--how", "num_samples=3"]
    assert "in brackets: num_samples=[3]" in refused(*words, "--runs", tmp_path, *two)
    with pytest.raises(ValueError, match=r"give one value or more, such as rule.noise=\[1,2\]"):
        vary(small, "rule.noise", [], 1, tmp_path)
