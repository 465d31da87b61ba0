"""Film: its tables, pictures and commands."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo.zoo import catalogue, cli, nets, pictures
from seqzoo.zoo.models.baselines import Order0
from seqzoo.zoo.recipes import RECIPES, find, table
from seqzoo.zoo.recipes.balls import RECURSION
from seqzoo.zoo.recipes.film_task import FilmTask, next_frame_task, spatial_vae
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs.run import run, train
from seqzoo.zoo.studies import bench, motion
from typer.testing import CliRunner

from seqzoo import inference, zoo

SMALL = {"data.sequences": 2, "data.steps": 6, "fit.epochs": 1}


def tiny(name):
    """A recipe of film that trains in no time, on small networks."""
    recipe = find(name)
    changes = dict(SMALL) if recipe.data else {}
    if not recipe.by_gradient:
        changes.pop("fit.epochs", None)
    if recipe.model.name in ("REFH", "TRBM", "RTRBM"):
        changes["model.hidden_dim"] = 6
    if recipe.warmup:
        changes["warmup.fit.epochs"] = 1
    if name == "mnist/rvae-map":
        few = spatial_vae(grid=16, channels=2, width=4, strides=[2, 2])
        recipe = dataclasses.replace(recipe, model=few)
    return recipe.override(changes)


# Pictures ---------------------------------------------------------------------------------------


@pytest.fixture
def film():
    return torch.rand(3, 5, 36)


def test_a_gif_moves(film, tmp_path):
    pictures.plot_film(film, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 5
        assert gif.size == (
            3 * 8 * 21,
            8 * 21,
        )  # frames of 6 pixels and a border, 21 times as large
        gif.seek(4)
        seen = np.asarray(gif.convert("L"))
    shown = seen[10::21, 10::21][1:-1, 1:7]  # the first film's last frame, a sample a pixel
    assert np.abs(shown / 255 - film[0, 4].view(6, 6).numpy()).max() < 0.02


def test_a_strip_shows_every_so_many_frames(film, tmp_path):
    pictures.plot_film(film, tmp_path / "film.png", shown=2, every=3)
    with Image.open(tmp_path / "film.png") as strip:
        seen = np.asarray(strip)[::2, ::2]
    assert seen.shape == (3 * 8, 2 * 8)
    for row, column, t in ((0, 0, 0), (2, 1, 3)):
        shown = seen[8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7]
        assert np.abs(shown / 255 - film[row, t].view(6, 6).numpy()).max() < 0.003


def test_numbers_are_kept_as_they_are(film, tmp_path):
    pictures.plot_film(film, tmp_path / "film.npz")
    with np.load(tmp_path / "film.npz") as file:
        assert np.array_equal(file["film"], film.numpy())


def test_film_that_cannot_be_drawn(film, tmp_path):
    with pytest.raises(ValueError, match=r"film\.mp4'.*\.gif, \.png, \.npz"):
        pictures.plot_film(film, tmp_path / "film.mp4")
    with pytest.raises(ValueError, match="square frames, got 35"):
        pictures.plot_film(film[..., 1:], tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


# Nets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 15, 28, 30, 33, 64])
def test_convolutional_nets_keep_any_size(size):
    encoder, decoder = nets.ConvEncoder(size, 7, (2, 3)), nets.ConvDecoder(4, size, 5, (3, 2))
    assert encoder(torch.rand(2, 3, size**2)).shape == (2, 3, 7)
    assert decoder(torch.rand(2, 3, 4)).shape == (2, 3, size**2)
    image = torch.rand(4, size**2)
    torch.testing.assert_close(encoder(image)[1:2], encoder(image[1:2]))


def test_a_convolutional_net_sees_the_picture_and_not_a_row_of_pixels():
    """A pixel moves the code of the convolution that looks at its place, and of no other."""
    encoder = nets.ConvEncoder(12, 5, (2,))
    first = encoder[0](torch.zeros(1, 1, 12, 12))
    dot = torch.zeros(144)
    dot[7 * 12 + 2] = 1.0  # row 7, column 2
    moved = (encoder[0](dot.view(1, 1, 12, 12)) != first).any(1)[0].nonzero()
    assert {tuple(place.tolist()) for place in moved} == {(r, c) for r in (3, 4) for c in (0, 1)}


def test_too_many_convolutions_are_refused():
    with pytest.raises(ValueError, match="12 pixels cannot be halved 4 times"):
        nets.ConvEncoder(12, 5, (2, 2, 2, 2))


# Tables -----------------------------------------------------------------------------------------

ROWS = [name for name, recipe in RECIPES.items() if isinstance(recipe.task, FilmTask)]


def short(recipe):
    """The recipe, scored on two short films in place of two hundred long ones."""
    film, size = recipe.task.film, {"sequences": 2, "steps": 12}
    few = next_frame_task("short", lambda **which: film(**{**which, **size}))
    return dataclasses.replace(recipe, task=few)


def test_the_score_is_the_error_of_the_next_frame():
    """Order 0 against the definition, for both renderings."""
    from seqzoo.zoo.recipes.balls import SQUARED, SUTSKEVER

    for task, expected in ((SQUARED, 0.0118), (SUTSKEVER, 0.0131)):
        assert inspect.signature(task.score).parameters["sequences"].default == 200
        scores = task.measure(Order0(), 0, "test", {"sequences": 30})
        assert scores.values.shape == (30, 2)
        obs = task.film(sequences=30, seed=0, split="test").obs
        error = (obs[:, 1:] - obs[:, :-1]).square().mean((1, 2))
        torch.testing.assert_close(scores.values[:, 0], error)
        torch.testing.assert_close(scores.values[:, 1], error)
        assert float(error.mean()) == pytest.approx(expected, rel=0.05)


def test_a_single_chain_and_the_mean_of_chains_are_told_apart():
    """A model that adds noise of its own to the mean: the mean of 8 chains has an eighth of it."""

    class Noisy(Order0):
        def sample_next(self, past, previous, num_samples=1):
            return previous + 0.1 * torch.randn(num_samples, *previous.shape)

    task = find("balls/order0").task
    how = {"sequences": 8}
    single, together = task.measure(Noisy(), 0, "test", how).figures
    base = task.measure(Order0(), 0, "test", how).figures[0]
    assert float(single - base) == pytest.approx(0.01, rel=0.02)
    assert float(together - base) == pytest.approx(0.01 / 8, rel=0.02)


#: Rows that differ from another of this table in a number or a rendering.
ALIKE = "balls/order0-sutskever", "balls/rvae-first-order", "balls/rvae-map"


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ALIKE])
def test_every_row_of_film_trains_scores_and_comes_back(name, tmp_path, request):
    if name.startswith("mnist/"):
        request.getfixturevalue("published")
    recipe = short(tiny(name))
    card = run(recipe, 0, tmp_path, device="cpu", progress=False)
    assert card["metric"] == "next-frame MSE (short), single chain"
    assert 0 < card["value"] < 1
    assert 0 < card["also"]["mean of 8 chains"] <= card["value"] * (1 + 1e-6)
    net = zoo.load(tmp_path)
    film = recipe.task.film(seed=3, split="validation").obs[:, :5]
    assert len(film) == 2
    assert inference.predict_next(net, film, num_samples=2).samples.shape == (2, *film.shape)


def test_a_frozen_recursion_keeps_every_bit(tmp_path):
    recipe = tiny("balls/rvae-frozen")
    torch.manual_seed(1000)  # as the warm-up starts
    start = recipe.model.build().state_dict()
    found = train(recipe, 0, tmp_path, "cpu", resume=False, progress=False).net.state_dict()
    kept = {name for name, value in start.items() if torch.equal(found[name], value)}
    frozen = tuple(f"recognition.{part}." for part in RECURSION)
    assert kept == {name for name in start if name.startswith(frozen)} | {"past_scale"}


def test_the_recipes_of_film_stay_what_they_are_when_quick():
    for name in ROWS:
        quick = find(name).quickened()
        assert quick.model == find(name).model
        assert not quick.by_gradient or quick.fit["epochs"] < find(name).fit["epochs"]


# Commands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "things"), [("balls", 3), ("mnist", 2)])
def test_real_film_moves_as_it_should(name, things, request):
    if name == "mnist":
        request.getfixturevalue("published")
    task = table(name)[0].task
    film = task.film(sequences=8, seed=1, split="validation")
    seen, kept = motion.MEASURES[name](film.obs)
    assert kept == film.steps
    dark = film.obs.clone()
    dark[:, 7] = 0.0
    assert motion.MEASURES[name](dark).kept == 7
    assert seen.found > 0.95 * things
    assert seen.second_order < 0.1
    assert seen.mirrored > 0.85
    assert seen.contacts > 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of two tiny models of balls, with names as the real ones have."""
    folder = tmp_path_factory.mktemp("film")
    for name in ("balls/refh", "balls/rvae"):
        recipe = short(tiny(name))
        cards = [run(recipe, 0, folder / name / "seed0", device="cpu", progress=False)]
        reproduce.ship({name: cards}, folder, folder / "zoo")
    return folder / "zoo"


@pytest.fixture
def shipped(trained, monkeypatch):
    """A zoo of the tiny models alone."""
    monkeypatch.setattr(catalogue, "SHIPPED", trained)


def said(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_motion_prints_real_film_and_every_model_in_its_directions(shipped, tmp_path):
    picture = tmp_path / "films.png"
    head, *rows = said("study", "motion", "balls", "--films", 2, "--frames", 12, "--out", picture)
    on = "after 10 real frames"
    titles = ["real film", "rEFH, forwards", "rEFH, backwards", f"rEFH, {on}"]
    titles += [
        "rVAE, backwards",
        "rVAE, forwards",
        f"rVAE, {on} at the mean",
        f"rVAE, {on} by draws",
    ]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == titles
    found, kept, _, speed, *_ = (float(word) for word in rows[0].split()[2:])
    assert head.split()[1:5] == ["found", "kept", "apart", "speed"]
    assert kept == 12
    assert found == pytest.approx(3, abs=0.1)
    assert speed == pytest.approx(0.26, abs=0.06)  # 0.5 / sqrt(3) for a ball of three, on average
    with Image.open(picture) as strip:
        assert strip.size == (2 * 12 * 32, 2 * 8 * 32)


def test_chains_prints_a_row_for_every_model(shipped):
    how = ["--frames", 3, "--num-chains", 3, "--steps", 50, "--num-warmup", 2]
    first, head, *rows, least = said("study", "chains", "balls/refh", "balls/rvae", *how)
    assert first == "3 chains from random starts, 2 steps, then 50; 3 test frames"
    assert head.split()[:2] == ["model", "R-hat"]
    assert [row.split()[0] for row in rows] == ["balls/refh", "balls/rvae"]
    for row in rows:
        rhat, worst, share, size = row.split()[1:]
        assert 0.9 < float(rhat) <= float(worst)
        assert share.endswith("%")
        assert 0 < float(size) <= 150 * 2
    assert least.startswith("independent samples ")
    assert 1 < float(least.split()[2]) < 1.1
    result = CliRunner().invoke(cli.app, ["study", "chains", "balls/refh", "--steps", "49"])
    assert result.exit_code == 2  # so few that independent draws would look apart


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study", "motion", "ppc"], "the table ppc is not about film"),
        (
            ["study", "chains", "balls/refh", "jsb/vosp"],
            "jsb/vosp samples no frames by Gibbs chains",
        ),
        (["sample", "ppc/kf1", "--out", "x.png", "--direction", "backwards"], "not 'backwards'"),
    ],
)
def test_commands_of_film_refuse_what_is_none(words, message):
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(cli.app, words, catch_exceptions=False)


def test_evaluate_takes_another_protocol(tmp_path, monkeypatch):
    recipe = short(tiny("balls/rvae"))
    monkeypatch.setitem(RECIPES, "balls/rvae", recipe)
    run(recipe, 0, tmp_path, device="cpu", progress=False)
    figures = []
    for way in ("predictor", "posterior", "gibbs"):
        first, second = said("evaluate", tmp_path, "--how", f"method={way}")
        assert first.startswith("balls/rvae: next-frame MSE (short), single chain ")
        assert second.startswith("  mean of 8 chains: ")
        figures.append(first)
    assert len(set(figures)) == 3
    expected = float(
        recipe.task.measure(zoo.load(tmp_path), 0, "test", {"method": "posterior"}).figures[0]
    )
    assert f" {expected:.4g} per pixel" in figures[1]
    for words, message in (
        ("method=magic", "method must be one of"),
        ("chain=3", "not scored with"),
    ):
        with pytest.raises(ValueError, match=message):
            said("evaluate", tmp_path, "--how", words)


@pytest.mark.parametrize("name", ["balls/refh", "balls/rvae"])
def test_sample_writes_a_film(name, shipped, tmp_path):
    said("sample", name, "--out", tmp_path / "film.npz", "--direction", "backwards", "--seed", 2)
    film = zoo.load(name).sample(4, 100, seed=2, noise=False, direction="backwards")
    with np.load(tmp_path / "film.npz") as file:
        assert np.array_equal(file["film"], film.numpy())
    said("sample", name, "--out", tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames > 90  # equal frames are merged
        assert gif.size[0] == 4 * gif.size[1]


def test_bench_frames_prints_every_rule(monkeypatch):
    monkeypatch.setattr(bench, "_time", lambda *_: 0.5)
    monkeypatch.setattr(bench, "_step", lambda *_: None)
    rows = said("bench", "frames", "--batches", 2)[2:]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == [
        *("CD-25, rEFH", "CD-25, TRBM", "LocalELBO, rVAE", "BPTT, rVAE")
    ]
    assert all(row.split()[-2:] == ["2", "400"] for row in rows)


# What comes with the package --------------------------------------------------------------------

SHIPPED = [name for name in zoo.shipped() if name in ROWS]


@pytest.mark.parametrize("name", ["refh", "trbm", "rtrbm", "rvae", "tvae"])
def test_the_models_of_balls_come_with_the_package(name):
    assert f"balls/{name}" in SHIPPED


def test_the_model_of_digits_comes_with_the_package():
    assert "mnist/rvae" in SHIPPED


#: A model of each class, and those that must know velocity.
PREDICTING = {find(name).model.name: name for name in SHIPPED}.values()
KNOWING = "balls/refh", "balls/rtrbm", "balls/rvae", "mnist/rvae"


@pytest.mark.parametrize("name", sorted({*PREDICTING, *KNOWING}))
def test_a_shipped_model_predicts_film(name, request):
    if name.startswith("mnist/"):
        request.getfixturevalue("published")
    task = find(name).task
    film = task.film(sequences=2, seed=21, split="validation").obs[:, :20]
    predicted = inference.predict_next(zoo.load(name), film, num_samples=8).mean
    error = (predicted - film)[:, 1:].square().mean()
    order0 = (film[:, 1:] - film[:, :-1]).square().mean()
    if name in KNOWING:
        assert error < 0.8 * order0
    else:
        assert torch.isfinite(error)


@pytest.mark.slow
def test_only_the_rVAEs_chains_fail_to_agree():
    """What the paper says of clamped Gibbs sampling, as R-hat."""
    film = find("balls/rvae").task.film(sequences=2, seed=21, split="validation").obs[:, :20]
    found = {}
    for name in ("balls/rtrbm", "balls/rvae"):
        net = zoo.load(name)
        past = inference.run_filter(net, film)[:, 10::3].flatten(0, 1)
        followed = inference.clamped_gibbs(net, past)
        found[name] = float(inference.convergence(followed).rhat.amax(-1).median())
    assert found["balls/rtrbm"] < 1.15
    assert found["balls/rvae"] > 1.25
