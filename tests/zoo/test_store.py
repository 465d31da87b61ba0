"""Recipes as data, and trained models on disk."""

import dataclasses
import json
import math
import pickle
import socket

import pytest
import torch
from safetensors.torch import load_file, save
from seqzoo.data import PPC
from seqzoo.zoo import catalogue, folders, model_files, store
from seqzoo.zoo.recipes import RECIPES, find, parse_overrides, part, table
from seqzoo.zoo.registry import parse, read
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs.run import Interrupted, run
from seqzoo.zoo.signature import accepted

from seqzoo import data, inference, zoo

ROWS = [name for name in RECIPES if name.startswith("ppc/")]
SHIPPED = [name for name in zoo.shipped() if name.startswith("ppc/")]
REQUIRED = ["refh", "trbm", "rtrbm", "rvae", "tvae", "kf1", "kf2"]
CARD = [
    *("configuration", "metric", "unit", "value", "sd", "n", "seeds", "wall_time_s"),
    *("hardware", "date", "published", "note", "command"),
]


def tiny(name):
    """A recipe that trains in no time, with a task that keeps the models it scored."""
    recipe = find(name)
    for size in {"hidden", "hidden_dim"} & set(accepted(recipe.model.cls)):
        recipe = recipe.override({f"model.{size}": 8})
    if recipe.rule is not None:
        budget = {"rule.iterations": 2} if recipe.rule.name == "EM" else {"fit.epochs": 3}
        budget |= {"warmup.fit.epochs": 1} if recipe.warmup else {}
        recipe = recipe.override({"data.sequences": 4, "data.steps": 12, **budget})
    scored = []

    def score(model, seed, split):
        scored.append(model)
        test = PPC(2, 20, seed=seed, split=split)
        position = data.ppc.decode(model.reconstruct(test.obs))
        return data.ppc.wrap(position - test.state[..., 0]).square().mean(1)

    task = dataclasses.replace(recipe.task, score=score)
    return dataclasses.replace(recipe, task=task), scored


def trained(name, folder, seed=0):
    recipe, scored = tiny(name)
    card = run(recipe, seed, folder, device="cpu", progress=False)
    return card, scored[-1]


@pytest.fixture(scope="module")
def rvae(tmp_path_factory):
    """A folder with a trained rVAE, not to be changed."""
    folder = tmp_path_factory.mktemp("rvae")
    trained("ppc/rvae", folder)
    return folder


@pytest.fixture
def folder(rvae, tmp_path):
    """A copy of it that may be damaged."""
    for name in (store.WEIGHTS, store.CARD):
        (tmp_path / name).write_bytes((rvae / name).read_bytes())
    return tmp_path


def edit(folder, change):
    content = json.loads((folder / store.CARD).read_text())
    change(content)
    (folder / store.CARD).write_text(json.dumps(content))


def rewrite(folder, tensors):
    """Puts other weights in, with their checksum: a whole model, though a wrong one."""
    card = store.load_card(folder / store.CARD)
    model_files.save_pair(folder / store.WEIGHTS, folder / store.CARD, save(tensors), card)


# Trained models -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_a_trained_model_comes_back_as_it_was(name, tmp_path):
    card, model = trained(name, tmp_path, seed=2)
    loaded = zoo.load(tmp_path)
    obs = PPC(3, 30, seed=7).obs
    assert torch.equal(loaded.reconstruct(obs), model.reconstruct(obs))
    assert not loaded.training
    assert loaded.card == card == json.loads((tmp_path / store.CARD).read_text())
    assert card["name"] == name
    assert card["seed"] == 2
    assert math.isfinite(card["value"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.CARD, store.WEIGHTS]


def test_loading_leaves_the_random_state_alone():
    """Though to build a network draws weights: one of each class."""
    before = torch.get_rng_state()
    for name in {find(name).model.name: name for name in zoo.shipped()}.values():
        zoo.load(name)
        assert torch.equal(torch.get_rng_state(), before), name


def test_loading_a_folder_leaves_the_random_state_alone(rvae, tmp_path):
    before = torch.get_rng_state()
    zoo.load(rvae)
    with pytest.raises(zoo.ModelError):
        zoo.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_loading_leaves_the_random_state_of_gpus_alone(device):
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    zoo.load("ppc/rvae", device)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("name", ["ppc/kf1", "ppc/refh", "ppc/rvae"])
def test_the_seed_of_a_run_decides_the_model(name, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        trained(name, tmp_path / folder, seed)
    a, b, c = (load_file(tmp_path / folder / store.WEIGHTS) for folder in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def stop_in_epoch(number, patch):
    """Makes drawing the data of one epoch do what ctrl-C does."""
    fresh = PPC.fresh

    def stopped(self, epoch):
        if epoch == number:
            raise KeyboardInterrupt
        return fresh(self, epoch)

    patch.setattr(PPC, "fresh", stopped)


def test_a_run_stopped_by_hand_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    recipe, _ = tiny("ppc/tvae")
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    run(recipe, 0, whole, progress=False)
    fresh = PPC.fresh
    with monkeypatch.context() as patch:
        stop_in_epoch(2, patch)
        with pytest.raises(Interrupted, match="give the same command again"):
            run(recipe, 0, halved, progress=False)
    assert sorted(path.name for path in halved.iterdir()) == [folders.MARK, "checkpoint.pt"]
    seen = []
    monkeypatch.setattr(PPC, "fresh", lambda self, epoch: seen.append(epoch) or fresh(self, epoch))
    run(recipe, 0, halved, progress=False)
    assert seen == [2]
    assert (whole / store.WEIGHTS).read_bytes() == (halved / store.WEIGHTS).read_bytes()


def test_a_validated_recipe_keeps_its_best_epoch(tmp_path):
    recipe, _ = tiny("ppc/refh")
    seen = []

    def score(model, seed, split):
        if split == "validation":
            seen.append({name: value.clone() for name, value in model.state_dict().items()})
            return torch.tensor([[3.0, 1.0, 2.0][len(seen) - 1]])
        return torch.zeros(2)

    task = dataclasses.replace(recipe.task, score=score)
    recipe = dataclasses.replace(recipe, task=task).override({"validate": True})
    run(recipe, 0, tmp_path, progress=False)
    kept = load_file(tmp_path / store.WEIGHTS)
    assert len(seen) == 3
    assert all(torch.equal(kept[name], value) for name, value in seen[1].items())
    assert not torch.equal(seen[1]["obs_weight"], seen[2]["obs_weight"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"garbage" * 100,
        lambda content: content[:8] + b"\xff" * 40 + content[48:],
    ],
    ids=["truncated", "empty", "garbage", "damaged header"],
)
def test_damaged_weights(damage, folder):
    path = folder / store.WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(zoo.ModelError, match=r"weights\.safetensors are damaged or cut short"):
        zoo.load(folder)


def test_missing_weights(folder):
    (folder / store.WEIGHTS).unlink()
    with pytest.raises(zoo.ModelError, match=r"weights\.safetensors are missing"):
        zoo.load(folder)


def lacking(tensors):
    tensors.pop(next(iter(tensors)))


def reshaped(tensors):
    name = next(iter(tensors))
    tensors[name] = tensors[name].repeat(2, *[1] * (tensors[name].dim() - 1))


@pytest.mark.parametrize("change", [lacking, reshaped])
def test_weights_that_do_not_fit_the_card(change, folder):
    tensors = load_file(folder / store.WEIGHTS)
    change(tensors)
    rewrite(folder, tensors)
    with pytest.raises(zoo.ModelError, match="does not fit the model on its card"):
        zoo.load(folder)


def test_a_card_of_another_size_does_not_fit_the_weights(folder):
    edit(folder, lambda card: card["configuration"]["model"].update(hidden=9))
    with pytest.raises(zoo.ModelError, match="does not fit the model on its card"):
        zoo.load(folder)


@pytest.mark.parametrize("text", [b"", b'{"name": "ppc/rv', b"\xff\xfe\x00garbage"])
def test_a_card_that_is_no_json(text, folder):
    (folder / store.CARD).write_bytes(text)
    with pytest.raises(zoo.ModelError, match=r"card\.json is damaged"):
        zoo.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.pop("configuration"),
        lambda card: card["configuration"].pop("model"),
        lambda card: card["configuration"].update(model=None),
        lambda card: card["configuration"].update(model="RVAE"),
        lambda card: card["configuration"]["model"].pop("part"),
        lambda card: card["configuration"]["model"].update(part="Transformer"),
        lambda card: card["configuration"]["model"].update(heads=8),
        lambda card: card["configuration"]["model"].update(hidden="many"),
        lambda card: card["configuration"]["model"].update(likelihood=15),
    ],
    ids=[
        *("no configuration", "no model", "null", "text", "no part", "unknown part"),
        *("unknown argument", "bad argument", "bad part"),
    ],
)
def test_a_card_that_describes_no_model(change, folder):
    edit(folder, change)
    with pytest.raises(zoo.ModelError, match="the card does not describe a model of this zoo"):
        zoo.load(folder)


def test_a_card_that_is_a_list(folder):
    (folder / store.CARD).write_text("[1, 2]")
    with pytest.raises(zoo.ModelError, match="card"):
        zoo.load(folder)


@pytest.mark.parametrize("ask", [zoo.load, zoo.card])
def test_an_unknown_name_is_answered_with_those_it_resembles(ask, rvae, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path)
    with pytest.raises(zoo.ModelError, match=r"no model called 'ppc/onr': seqzoo list"):
        ask("ppc/onr")
    (tmp_path / "ppc").mkdir()
    for name in ("one", "two"):
        (tmp_path / "ppc" / f"{name}.json").write_bytes((rvae / store.CARD).read_bytes())
        (tmp_path / "ppc" / f"{name}.safetensors").write_bytes((rvae / store.WEIGHTS).read_bytes())
    with pytest.raises(zoo.ModelError, match=r"no model called 'ppc/onr': did you mean ppc/one"):
        ask("ppc/onr")


def test_a_folder_without_a_card_says_so(tmp_path):
    with pytest.raises(store.ModelError, match=r"the folder .* has no card\.json"):
        zoo.load(tmp_path)


def test_a_shipped_model_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ppc" / "rvae").mkdir(parents=True)
    assert isinstance(zoo.load("ppc/rvae"), zoo.RVAE)


def test_a_card_may_come_without_weights(rvae, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path)
    (tmp_path / "ppc").mkdir()
    (tmp_path / "ppc/one.json").write_bytes((rvae / store.CARD).read_bytes())
    assert zoo.shipped() == []
    assert store.carded() == ["ppc/one"]
    assert zoo.card("ppc/one")["name"] == "ppc/rvae"
    with pytest.raises(zoo.ModelError, match="weights of ppc/one do not come with seqzoo"):
        zoo.load("ppc/one")


def test_saving_twice_leaves_one_model_and_no_parts(tmp_path):
    for bias in (1.0, 2.0):
        net = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(net.bias, bias)
        store.save_model(tmp_path, net, {"value": torch.tensor(bias)})
    assert torch.equal(load_file(tmp_path / store.WEIGHTS)["bias"], torch.full((2,), 2.0))
    assert store.load_card(tmp_path / store.CARD)["value"] == 2.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.CARD, store.WEIGHTS]


def test_summarise_gives_mean_sd_and_number():
    cards = [
        {"name": "a", "value": value, "seed": seed, "wall_time_s": 10.0 + seed}
        for seed, value in enumerate([1.0, 2.0, 6.0])
    ]
    total = store.summarise(cards)
    assert total["value"] == pytest.approx(3.0)
    assert total["sd"] == pytest.approx(math.sqrt(7.0))
    assert (total["n"], total["seeds"], total["values"]) == (3, [0, 1, 2], [1.0, 2.0, 6.0])
    assert total["wall_time_s"] == pytest.approx(11.0)
    assert total["name"] == "a"


def test_summarise_spreads_further_figures_likewise():
    cards = [
        {"value": 1.0, "also": {"mean of 8": value}, "seed": 0, "wall_time_s": 1.0}
        for value in (2.0, 4.0)
    ]
    further = store.summarise(cards)["also"]["mean of 8"]
    assert further == {"value": 3.0, "sd": pytest.approx(math.sqrt(2)), "values": [2.0, 4.0]}


def test_one_seed_has_no_sd():
    total = store.summarise([{"value": 1.0, "seed": 4, "wall_time_s": 1.0}])
    assert (total["value"], total["sd"], total["n"]) == (1.0, None, 1)


def test_a_model_that_is_shipped_is_found_with_a_whole_card(tmp_path, monkeypatch):
    target = tmp_path / "zoo"
    cards = {"ppc/refh": [], "ppc/order0": []}
    for seed in (3, 4):
        for name, seeds in cards.items():
            seeds.append(trained(name, tmp_path / "runs" / name / f"seed{seed}", seed)[0])
    assert reproduce.ship(cards, tmp_path / "runs", target) == ["ppc/refh", "ppc/order0"]
    monkeypatch.setattr(catalogue, "SHIPPED", target)
    assert zoo.shipped() == ["ppc/order0", "ppc/refh"]
    obs = PPC(2, 20, seed=9).obs
    first = zoo.load(tmp_path / "runs" / "ppc/refh" / "seed3")
    assert torch.equal(zoo.load("ppc/refh").reconstruct(obs), first.reconstruct(obs))
    card = zoo.card("ppc/refh")
    assert set(CARD) <= card.keys()
    assert (card["n"], card["seeds"], card["weights_seed"]) == (2, [3, 4], 3)
    assert card["published"] == find("ppc/refh").published


# What comes with the package ------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("row", REQUIRED)
def test_the_table_of_paper_000_comes_with_the_package(row):
    assert f"ppc/{row}" in zoo.shipped()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_reconstructs_offline(name, offline):
    obs = PPC(2, 30, seed=11).obs
    net = zoo.load(name)
    rates = net.reconstruct(obs)
    assert rates.shape == obs.shape
    assert torch.isfinite(rates).all()
    assert (rates >= 0).all()
    earlier = net.reconstruct(obs[:, :20])
    torch.testing.assert_close(rates[:, :20], earlier, rtol=1e-4, atol=1e-5)


def test_a_shipped_card_is_whole():
    for name in zoo.shipped():
        card = zoo.card(name)
        assert set(CARD) <= card.keys(), name
        assert card["n"] == len(card["seeds"]) == len(card["values"]), name
        assert card["value"] == pytest.approx(sum(card["values"]) / card["n"]), name
        assert card["configuration"] == find(name).configuration(), name
        assert card["published"] == find(name).published, name


@pytest.mark.parametrize("name", sorted({*SHIPPED} - {"ppc/order0", "ppc/tvae-static"}))
def test_a_shipped_model_that_knows_the_past_beats_the_raw_decoding(name):
    obs, state = (test := PPC(4, 300, seed=12, split="test")).obs, test.state[..., 0]
    raw = data.ppc.position_mse(data.ppc.decode(obs), state)
    net = data.ppc.decode(zoo.load(name).reconstruct(obs))
    assert data.ppc.position_mse(net, state) < raw


def test_the_shipped_files_are_small():
    sizes = [path.stat().st_size for path in catalogue.SHIPPED.rglob("*") if path.is_file()]
    assert max(sizes) < 8e6
    assert sum(sizes) < 41e6


# Parts ----------------------------------------------------------------------------------------


def poisson_refh(**arguments):
    return part(zoo.REFH, obs_dim=15, likelihood=part(zoo.likelihoods.Poisson, dim=15), **arguments)


def test_a_part_builds_its_parts_first():
    net = poisson_refh(hidden_dim=4).build()
    assert isinstance(net, zoo.REFH)
    assert isinstance(net.likelihood, zoo.likelihoods.Poisson)
    assert (net.hidden_dim, net.likelihood.dim) == (4, 15)


def test_set_changes_a_nested_argument_of_a_copy():
    before = poisson_refh(hidden_dim=4)
    after = before.set(["likelihood", "dim"], 7).set(["hidden_dim"], 5)
    assert after.arguments["likelihood"].arguments == {"dim": 7}
    assert after.arguments["hidden_dim"] == 5
    assert before == poisson_refh(hidden_dim=4)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (["hidden_units"], "REFH has no argument 'hidden_units': did you mean hidden_dim"),
        (["likelihood", "size"], "Poisson has no argument 'size'"),
        (["hidden_dim", "size"], "REFH.hidden_dim has no fields"),
        (["nothing", "size"], "REFH.nothing has no fields"),
    ],
)
def test_set_refuses_what_is_not_there(path, message):
    with pytest.raises(ValueError, match=message):
        poisson_refh(hidden_dim=4).set(path, 3)


def test_an_unknown_part_says_how_it_becomes_known():
    with pytest.raises(ValueError, match=r"unknown part 'Transformer': .*classes=\[Transformer\]"):
        read({"part": "Transformer"})


def test_configurations_survive_json():
    for name, recipe in RECIPES.items():
        content = json.loads(json.dumps(recipe.configuration()))
        assert content == recipe.configuration(), name
        for field in ("model", "rule", "data"):
            original = getattr(recipe, field)
            assert (content[field] is None) == (original is None), name
            assert original is None or read(content[field]) == original, name


def test_recipes_travel_between_processes():
    for name, recipe in RECIPES.items():
        there = pickle.loads(pickle.dumps(recipe))
        assert there.configuration() == recipe.configuration(), name
        assert there.task.metric == recipe.task.metric, name


def test_arguments_passed_on_to_base_classes_are_known():
    assert {"through_time", "window", "k"} <= set(accepted(inference.ContrastiveDivergence))
    assert {"transition", "statistics", "hidden"} <= set(accepted(zoo.TVAE))
    assert "self" not in accepted(zoo.TVAE)


# Overrides ------------------------------------------------------------------------------------


def test_overrides_are_read_as_python_literals():
    pairs = ["rule.k=5", " fit.lr = 1e-3", "fit.schedule=cosine", "model.x=a=b", "rule.window=None"]
    assert parse_overrides(pairs) == {
        "rule.k": 5,
        "fit.lr": 1e-3,
        "fit.schedule": "cosine",
        "model.x": "a=b",
        "rule.window": None,
    }
    assert parse("[1, 2]") == [1, 2]


def test_an_override_may_be_a_part():
    gaussian = part(zoo.likelihoods.Gaussian, dim=15)
    assert parse("Gaussian(dim=15)") == parse("Gaussian(15)") == gaussian
    changed = find("ppc/rvae").override({"model.likelihood": gaussian, "model.hidden": 8})
    assert isinstance(changed.model.build().likelihood, zoo.likelihoods.Gaussian)
    nested = parse("VRAE(88, 8, Bernoulli(88), prior=AR1(8, coefficient=-0.5))")
    assert nested.arguments["prior"] == part(zoo.priors.AR1, dim=8, coefficient=-0.5)
    assert parse("[MLP([2, 3], 'tanh')]") == [part(zoo.nets.MLP, sizes=[2, 3], nonlinearity="tanh")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Gaussian(dim=x)", "Gaussian.dim takes a whole number, not 'x'"),
        ("Gaussian(dim=1 + 1)", r"'1 \+ 1' is neither a number"),
        ("Gaussian(*[15])", "write every argument out"),
        ("Gaussian(**{'dim': 15})", "write every argument out"),
        ("Gaussian(size=15)", "Gaussian has no argument 'size': it has dim"),
        ("Gaussian(15, 1.0, 2, 3)", "Gaussian has no name for its argument"),
        ("Nothing(15)", "unknown part 'Nothing'"),
        ("open('x', 'w')", "unknown part 'open'"),
        ("os.remove('x')", "write the name of a class"),
        ("(lambda: 15)()", "write the name of a class"),
        ("[__import__('os')]", "unknown part '__import__'"),
    ],
)
def test_an_override_is_parsed_and_never_evaluated(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.likelihood", "Gaussian", r"is a part, such as Poisson\(dim=15\), and 'Gaussian'"),
        ("model.guide", "GaussianGuide", "RVAE.guide takes a part of class FrameGuide"),
    ],
)
def test_text_in_place_of_a_part_is_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        find("ppc/rvae").override({path: value})


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"give FIELD=VALUE.*got 'rule.k'"):
        parse_overrides(["rule.k"])


def test_override_changes_a_copy():
    before = find("ppc/refh")
    changes = {"rule.k": 5, "fit.lr": 1.0, "model.likelihood.dim": 3, "validate": True}
    after = before.override(changes)
    assert after.rule.arguments["k"] == 5
    assert after.fit == {**before.fit, "lr": 1.0}
    assert after.model.arguments["likelihood"].arguments["dim"] == 3
    assert after.validate
    assert before.rule.arguments["k"] == 1
    assert not before.validate
    assert before.configuration() != after.configuration()


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("ppc/refh", "rule.kk", "ContrastiveDivergence has no argument 'kk'"),
        ("ppc/refh", "published", "cannot set 'published': start with model"),
        ("ppc/refh", "fit.learning_rate", "fit has no argument 'learning_rate': it has .*lr"),
        ("ppc/refh", "fit", "cannot set 'fit' of ppc/refh"),
        ("ppc/refh", "fit.lr.decoder", "cannot set 'fit.lr.decoder'"),
        ("ppc/refh", "model", "cannot set 'model' of ppc/refh"),
        ("ppc/refh", "model.hidden_dim.x", "REFH.hidden_dim has no fields"),
        ("ppc/order0", "rule.k", "cannot set 'rule.k' of ppc/order0"),
        ("ppc/refh", "", "cannot set ''"),
    ],
)
def test_overrides_of_fields_that_do_not_exist(name, path, message):
    with pytest.raises(ValueError, match=message):
        find(name).override({path: 3})


@pytest.mark.parametrize("name", ["ppc/kf1", "ppc/order0"])
def test_a_row_without_a_training_loop_has_no_budget_to_override(name):
    with pytest.raises(ValueError, match="epochs"):
        find(name).override({"fit.epochs": 3})


@pytest.mark.parametrize("path", ["data.seed", "rule.net", "fit.rule", "fit.data", "fit.seed"])
def test_what_a_run_sets_itself_cannot_be_overridden(path):
    with pytest.raises(ValueError, match=path.split(".")[1]):
        find("ppc/refh").override({path: 3})


def test_unknown_recipes_and_tables_list_what_there_is():
    with pytest.raises(ValueError, match="no recipe called 'ppc/nope'"):
        find("ppc/nope")
    with pytest.raises(ValueError, match="no table called 'nope'"):
        table("nope")


def test_a_table_holds_its_rows():
    assert [recipe.name for recipe in table("ppc")] == [n for n in RECIPES if n[:4] == "ppc/"]


def test_quick_is_the_same_recipe_with_a_smaller_budget():
    recipe = find("ppc/refh")
    quick = recipe.quickened()
    assert quick.model == recipe.model
    assert quick.fit["epochs"] < recipe.fit["epochs"]


def test_a_checkpoint_of_another_rule_is_not_gone_on_from(tmp_path, monkeypatch):
    recipe, _ = tiny("ppc/tvae")
    with monkeypatch.context() as patch:
        stop_in_epoch(2, patch)
        with pytest.raises(Interrupted):
            run(recipe, 0, tmp_path, progress=False)
    with pytest.raises(ValueError, match="another run"):
        run(recipe.override({"rule.minibatch": 7}), 0, tmp_path, progress=False)
    run(recipe, 0, tmp_path, progress=False)
