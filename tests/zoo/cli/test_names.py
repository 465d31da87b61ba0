"""Names on the command line: what is mistyped is answered at once, with the nearest names."""

import json
import subprocess
import sys

import pytest
from seqzoo.zoo import catalogue
from seqzoo.zoo.names import instead, nearest
from seqzoo.zoo.recipes import COLLECTIONS, RECIPES, TABLES, index, rows

# In one program: each command leaves the modules that it imported to the next.
QUICK = """
import contextlib, io, json, sys
from seqzoo.zoo.cli import main
found = []
for words in json.loads(sys.argv[1]):
    sys.argv, said = ["seqzoo", *words.split()], io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    said.seek(0)
    found.append((code, said.read(), sorted({"torch", "numpy", "pyro"} & set(sys.modules))))
from seqzoo import data, inference, zoo
assert [data.PPC, inference.fit, zoo.RVAE, zoo.load]
print(json.dumps([found, [name for name in HEAVY if name in sys.modules]]))
"""
#: Modules that only some uses of the package need.
HEAVY = ["accelerate", "arviz", "matplotlib", "numba", "optuna", "pandas", "pynwb", "scipy.stats"]
HEAVY += ["xarray"]
ANSWERED = {
    "list": (0, "0.000562 ± 2e-05 (n=3)"),
    "--help": (0, "seqzoo train"),
    "--version": (0, "seqzoo "),
    "reproduce --help": (0, "--seeds"),
    "study kl --help": (0, "KL"),
    "trian ppc/rvae": (2, "train"),
    "train ppc/rvae --sed 1": (2, "--seed"),
    "train ppc/rvae --seed x": (2, "--seed"),
    "train ppc/rvea": (2, "did you mean ppc/rvae"),
    "evaluate rvae": (2, "balls/rvae"),
    "sample ppc/rvea --out x.png": (2, "ppc/rvae"),
    "diagnose jsb/vrea": (2, "jsb/vrae"),
    "reproduce bals": (2, "did you mean balls?"),
    "search ppc/rvea": (2, "ppc/rvae"),
    "study chains ppc/refh balls/rehf": (2, "balls/refh"),
    "study motion bals": (2, "balls"),
}


def test_help_lists_and_mistakes_do_not_wait_for_torch():
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}{QUICK}", json.dumps([*ANSWERED])],
        check=True,
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": "", "PYTHONUTF8": "1"},
    )
    answers, heavy = json.loads(done.stdout)
    for (words, (code, said)), found in zip(ANSWERED.items(), answers):
        assert (words, code, []) == (words, found[0], found[2])
        assert said in found[1]
    assert heavy == []  # once the package itself is imported, torch with it


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
