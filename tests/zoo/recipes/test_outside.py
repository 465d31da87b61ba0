"""Recipes and classes of a user's own module, under the same commands as the zoo's."""

import json
import sys
from pathlib import Path

import pytest
from seqzoo.zoo import recipes, registry

from seqzoo import zoo

MODULE = '''
import torch
from seqzoo import data, inference, zoo
from seqzoo.zoo.recipes import Recipe, Task, part


class Half(zoo.guides.GaussianGuide):
    """A guide that thinks twice."""

    def __init__(self, obs_dim, latent_dim, hidden=8, twice=True):
        super().__init__(obs_dim, latent_dim, hidden)


def score(model, seed, split, power=2):
    test = data.PPC(3, 10, seed=seed, split=split)
    return (model.reconstruct(test.obs) - test.obs).abs().pow(power).mean((1, 2))


def write_samples(model, path, seed, direction=None):
    torch.save(model.sample(1, 3, seed=seed, direction=direction), path)


net = part(
    zoo.RVAE,
    obs_dim=15,
    latent_dim=2,
    hidden=8,
    likelihood=part(zoo.likelihoods.Poisson, dim=15),
    guide=part(Half, obs_dim=15, latent_dim=2),
)
RECIPES = [
    Recipe(
        "mine/half",
        "an rVAE that thinks twice",
        task=Task("error", "spikes²", score, write_samples),
        model=net,
        rule=part(inference.LocalELBO),
        data=part(data.PPC, sequences=4, steps=10),
        fit={"epochs": 1},
    )
]
'''


@pytest.fixture
def forgotten():
    """Forgets the module again, as a new program would not know it."""
    known = [registry.PARTS, registry.RULES_AND_DATA, registry.IMPORTED, recipes.RECIPES]
    known.append(recipes.TABLES)
    before = [each.copy() for each in known]

    def forget():
        sys.modules.pop("mine", None)
        for each, content in zip(known, before):
            each.clear()
            (each.update if isinstance(each, dict) else each.extend)(content)

    yield forget
    forget()


def test_a_recipe_from_outside_is_reproduced_shipped_and_scored(
    seqzoo, forgotten, tmp_path, monkeypatch
):
    """Its runs are processes of their own, which must know the module, too."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODULE)
    how = ["--import", "mine.py", "--seeds", 1, "--ship", "weights"]
    code, out, error = seqzoo("reproduce", "mine", *how)
    assert code == 0, error
    assert "shipped to weights: mine/half" in out
    card = json.loads((tmp_path / "weights/mine/half.json").read_text())
    assert (card["n"], card["configuration"]["model"]["guide"]["part"]) == (1, "Half")
    forgotten()
    code, out, error = seqzoo("evaluate", "weights/mine/half", "--import", "mine", "--json")
    assert code == 0, error
    assert json.loads(out)["value"] == pytest.approx(card["values"][0])


@pytest.mark.parametrize("name", ["nothing", "nothing.py"])
def test_a_module_that_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no "):
        zoo.recipes.import_module(name)


def test_names_that_are_taken():
    recipe = zoo.recipes.find("ppc/refh")
    zoo.recipes.register(recipe)  # once more is the same
    with pytest.raises(ValueError, match="two recipes called ppc/refh"):
        zoo.recipes.register(recipe.override({"fit.lr": 1.0}))
