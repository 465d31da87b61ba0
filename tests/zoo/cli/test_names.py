"""Names on the command line: what is mistyped is answered at once, with the nearest names."""

import subprocess
import sys

import pytest
from seqzoo.zoo.cli import options
from seqzoo.zoo.names import instead, nearest
from seqzoo.zoo.recipes import COLLECTIONS, RECIPES, TABLES, rows

QUICK = """
import sys
from seqzoo.zoo.cli import main
sys.argv = ["seqzoo", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(ended.code, sorted({"torch", "numpy", "pyro"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--help", 0, "seqzoo train"),
        ("--version", 0, "seqzoo "),
        ("reproduce --help", 0, "--seeds"),
        ("study kl --help", 0, "KL"),
        ("trian ppc/rvae", 2, "train"),
        ("train ppc/rvae --sed 1", 2, "--seed"),
        ("train ppc/rvae --seed x", 2, "--seed"),
        ("train ppc/rvea", 2, "did you mean ppc/rvae"),
        ("evaluate rvae", 2, "balls/rvae"),
        ("sample ppc/rvea --out x.png", 2, "ppc/rvae"),
        ("diagnose jsb/vrea", 2, "jsb/vrae"),
        ("reproduce bals", 2, "did you mean balls?"),
        ("search ppc/rvea", 2, "ppc/rvae"),
        ("study chains ppc/refh balls/rehf", 2, "balls/refh"),
        ("study motion bals", 2, "balls"),
    ],
)
def test_help_and_mistakes_do_not_wait_for_torch(words, code, said):
    done = subprocess.run(
        [sys.executable, "-c", QUICK, *words.split()],
        check=True,
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": ""},
    )
    assert done.stdout.splitlines()[-1] == f"{code} []"
    assert said in done.stdout + done.stderr


def test_the_names_known_without_torch_are_those_of_the_registry():
    assert sorted(options.recipes()) == sorted(RECIPES)
    assert sorted(options.tables()) == sorted([*TABLES, *COLLECTIONS])


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
