"""Names on the command line: what is mistyped is answered at once, with the nearest names."""

import pytest
from seqzoo.zoo import catalogue
from seqzoo.zoo.names import instead, nearest
from seqzoo.zoo.recipes import COLLECTIONS, RECIPES, TABLES, index, rows


def test_the_names_known_without_torch_are_those_of_the_registry():
    """Where this fails, ``make docs`` writes the index anew."""
    assert [*catalogue.recipes().items()] == [*index().items()]
    assert sorted(catalogue.tables()) == sorted([*TABLES, *COLLECTIONS])


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("ppc/rvea", "ppc/rvae"),
        ("kf-true", "ppc/kf-true"),
        ("KF-TRUE", "ppc/kf-true"),
        ("PPC/RVAE", "ppc/rvae"),
        ("ppc-rvae", "ppc/rvae"),
    ],
)
def test_the_nearest_name_comes_first(name, first):
    found = nearest(name, RECIPES)
    assert found[0] == first
    assert len(found) <= 3


def test_a_name_like_no_other_gets_no_proposal():
    assert nearest("qqqq", RECIPES) == []
    assert nearest("", RECIPES) == []
    assert instead("qqqq", RECIPES, "look there") == "look there"
    assert instead("rvea", ["rvae"], "") == "did you mean rvae?"


def test_rows_are_found_by_half_their_name():
    assert [recipe.name for recipe in rows("ppc", ["kf-true", "ppc/kf1", "kf1"])] == [
        "ppc/kf-true",
        "ppc/kf1",
    ]
    assert [r.name for r in rows("music", ["vosp"])] == [f"{t}/vosp" for t in COLLECTIONS["music"]]
    assert rows("balls") == [recipe for recipe in RECIPES.values() if recipe.table == "balls"]
    with pytest.raises(ValueError, match="its table is ppc"):
        rows("balls", ["ppc/kf1"])
    with pytest.raises(ValueError, match="ppc/kf-true"):
        rows("ppc", ["kf_true"])
