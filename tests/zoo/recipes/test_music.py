"""The tables of music: recipes, scores, commands."""

import json
import math
import re

import numpy as np
import pytest
import torch
from seqzoo.data import Batch, MidiFolder, PianoRolls, Polyphonic, polyphonic, write_midi
from seqzoo.data.midi import read_midi
from seqzoo.zoo import catalogue, likelihoods, model_files, path_guides, store
from seqzoo.zoo.recipes import COLLECTIONS, RECIPES, Scores, find
from seqzoo.zoo.recipes import music_task as piano
from seqzoo.zoo.registry import read
from seqzoo.zoo.runs import tables
from seqzoo.zoo.runs.run import Interrupted, run
from seqzoo.zoo.studies import bench

from seqzoo import inference, zoo

KEYS = 88
LENGTHS = {"train": (9, 5, 7, 4), "validation": (4, 6), "test": (8, 3, 5)}
ROWS = [name for name in RECIPES if name.split("/")[0] in COLLECTIONS["music"]]
SMALL = {
    "data.chunk": 4,
    "fit.epochs": 2,
    "fit.batch_size": 3,
    "fit.validate_every": 1,
    "model.memory.hidden": 4,
    "model.latent_dim": 2,
    "model.likelihood.hidden": 3,
    "model.width": 4,
}
VRAE = {
    "warmup.fit.epochs": 1,
    "model.encoder.hidden": 3,
    "model.decoder.dim": 2,
    "model.decoder.hidden": 4,
    "model.decoder.width": 4,
    "model.guide.dim": 2,
    "model.guide.features_dim": 3 + KEYS,
    "model.guide.memory_dim": 4,
    "model.guide.hidden": 4,
}
PUBLISHED = {
    "model.encoder.units": 3,
    "model.encoder.incoming": 2,
    "model.decoder.dim": 2,
    "model.decoder.units": 3,
    "model.decoder.incoming": 2,
    "model.guide.dim": 2,
    "model.guide.features_dim": 12,
}
FURTHER = {
    "vrae": VRAE,
    "vrae-nade": {**VRAE, "model.decoder.natural_dim": KEYS + 3},
    "vrae-gp": {**PUBLISHED, "model.prior.dim": 2},
    "vrae-published": PUBLISHED,
    "gru": {"model.readout.sizes": [4 + KEYS, 4, KEYS]},
    "rnn-nade": {"model.readout.sizes": [4 + KEYS, 4, KEYS + 3]},
}
RUN = ("vrae", "vrae-published", "vrae-gp", "vrae-nade", "vosp", "rnn", "rnn-nade")


def rolls(lengths, seed=0):
    """Random rolls, about a tenth of the keys sounding, and one in every frame."""
    random = torch.Generator().manual_seed(seed)
    made = [(torch.rand(n, KEYS, generator=random) < 0.1).to(torch.uint8) for n in lengths]
    for roll in made:
        roll[:, 40] = 1
    return made


@pytest.fixture(scope="module")
def few():
    """Published sets become few and short, and generated music short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polyphonic, "fetch", lambda file: file)
        patch.setattr(polyphonic, "read_mat", lambda _, split: rolls(LENGTHS[split], len(split)))
        patch.setattr(piano, "GENERATED", 6)
        yield


def small(name):
    """A recipe that trains in no time."""
    recipe = find(name)
    for path, value in (SMALL | FURTHER.get(recipe.name.split("/")[1], {})).items():
        try:
            recipe = recipe.override({path: value})
        except ValueError:  # this row has no such field
            assert path in SMALL
    return recipe


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    """Folders of small trained models, not to be changed, and their cards."""
    folders = {}
    for name in RUN:
        folder = tmp_path_factory.mktemp(name)
        card = run(small(f"jsb/{name}"), 1, folder, device="cpu", progress=False)
        folders[name] = (folder, card)
    return folders


# Recipes ----------------------------------------------------------------------------------------


def test_every_data_set_has_the_same_rows():
    kinds = [
        [name.split("/")[1] for name in ROWS if name.startswith(f"{d}/")]
        for d in COLLECTIONS["music"]
    ]
    once = {"vrae-diagonal", "vrae-gp", "vrae-nade"}  # comparisons made once
    assert once <= set(kinds[0])
    kinds[0] = [kind for kind in kinds[0] if kind not in once]
    assert all(kind == kinds[0] for kind in kinds)
    assert len(ROWS) == 4 * len(kinds[0]) + len(once)
    assert {"vrae", "vrae-published", "vosp", "rnn", "rnn-nade"} <= set(kinds[0])


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("jsb/")])
def test_a_recipe_learns_with_every_parameter(name):
    """Under its own rule and under that of its warm-up, built from the recipe or from its card."""
    recipe = find(name)
    torch.manual_seed(0)
    net = recipe.model.build()
    torch.manual_seed(0)
    again = read(json.loads(json.dumps(recipe.model.to_json()))).build()
    assert repr(again) == repr(net)
    pairs = zip(net.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    batch = Batch((torch.rand(2, 3, KEYS) < 0.1).float())
    for how in (recipe.warmup.get("rule", {}), {}) if recipe.warmup else ({},):
        metrics = recipe.rule.build(net, **how).gradients(batch)
        assert torch.isfinite(metrics["loss"])
        for parameter_name, part in net.named_parameters():
            if part.requires_grad:
                assert part.grad.isfinite().all(), parameter_name
                assert part.grad.any(), parameter_name


def test_only_the_published_objective_is_no_bound():
    """And the figure that it minimises says so."""
    for recipe in map(find, ROWS):
        objective = recipe.rule.arguments.get("objective", "elbo")
        first, *further = recipe.task.columns
        if recipe.name.endswith(("vrae-published", "vosp-published")):
            assert objective == "marginal-increments"
            assert first == "published objective (no bound)"
            assert further == ["ELBO"]
        else:
            assert objective == "elbo" or objective.keys() <= {"particles", "frames", "elbo"}
            assert not any("no bound" in column for column in recipe.task.columns)


def test_training_data_are_cut_and_test_data_are_whole():
    for recipe in map(find, ROWS):
        assert recipe.data.arguments == {"name": recipe.table, "chunk": 100, "recut": True}
        assert recipe.validate
        assert recipe.fit["validate_every"] <= recipe.fit["epochs"]
        assert recipe.quickened().fit["epochs"] < recipe.fit["epochs"]
        assert recipe.task.unit == "nats per frame"


# Scores -----------------------------------------------------------------------------------------


def test_scores_are_weighted_means():
    values, weights = torch.tensor([[1.0, 10.0], [4.0, 40.0]]), torch.tensor([3, 1])
    figures = Scores(values, weights).figures
    torch.testing.assert_close(figures, torch.tensor([1.75, 17.5]))
    assert torch.equal(Scores(values, torch.ones(2)).figures, values.mean(0))


@pytest.fixture
def rnn():
    return zoo.RNN(KEYS, likelihoods.Bernoulli(KEYS), hidden=4)


@pytest.fixture
def vosp():
    return zoo.VOSP(KEYS, 2, likelihoods.Bernoulli(KEYS), hidden=4, width=5)


@pytest.fixture
def vrae():
    return zoo.VRAE(KEYS, 2, likelihoods.Bernoulli(KEYS), hidden=4)


@pytest.mark.parametrize("frames", [1, 8, 8000])
def test_a_figure_is_the_total_over_all_frames(few, rnn, frames, monkeypatch):
    """However sequences are batched: never a mean of means."""
    monkeypatch.setattr(piano, "FRAMES", frames)
    scores = piano.music_task("jsb", "exact NLL").measure(rnn, 0, "test")
    test = Polyphonic("jsb", "test").sequences
    totals = [-rnn.log_prob(roll[None].float()).item() for roll in test]
    expected = sum(totals) / sum(map(len, test))
    assert scores.figures.item() == pytest.approx(expected, rel=1e-5)
    assert scores.weights.tolist() == [8, 5, 3]  # the longest first
    by_length = sorted(zip(map(len, test), totals), reverse=True)
    alone = [total / length for length, total in by_length]
    assert scores.values[:, 0].tolist() == pytest.approx(alone, rel=1e-5)
    assert np.mean(alone) != pytest.approx(expected, rel=1e-4)


def test_figures_stand_side_by_side(few, vosp):
    names = ("ELBO", "IW-5", "IW-200 a frame")
    task = piano.music_task("jsb", *names)
    assert (task.metric, task.also, task.columns) == ("ELBO", names[1:], names)
    scores = task.measure(vosp, 0, "test")
    assert scores.values.shape == (3, 3)
    loose, tighter, tightest = scores.figures.tolist()
    assert tightest < tighter < loose
    assert torch.equal(task.measure(vosp, 0, "test").values, scores.values)  # the seed's draws
    assert not torch.equal(task.measure(vosp, 1, "test").values, scores.values)


def test_validation_looks_at_the_first_figure_alone(few, vosp, monkeypatch):
    called = []

    def bound(*_):
        called.append(_)
        return torch.zeros(2)

    monkeypatch.setitem(piano.FIGURES, "SMC", bound)
    task = piano.music_task("jsb", "ELBO", "SMC-500")
    scores = task.measure(vosp, 0, "validation")
    assert scores.values.shape == (2, 1)
    assert scores.weights.tolist() == [6, 4]
    assert not called


@pytest.mark.parametrize(
    ("kind", "name", "stream", "bound", "number"),
    [
        ("rnn", "exact NLL", "ELBO", inference.elbo, 1),
        ("vrae", "ELBO", "ELBO", inference.elbo, 5),
        ("vrae", "IW-7", "importance bound", inference.importance_bound, 7),
        ("vrae", "SMC-20", "particle bound", inference.particle_bound, 20),
        ("vosp", "IW-5 a frame", "frame bound", inference.frame_bound, 5),
    ],
)
def test_a_figure_by_its_name(kind, name, stream, bound, number, request):
    net, batch = request.getfixturevalue(kind), PianoRolls(rolls((5, 3))).batch()
    with inference.rng.RandomStream("cpu", stream, 0):
        found = piano.figure(name)(net, batch)
    assert torch.equal(found, bound(net, batch, number))
    assert found.shape == (2,)


def test_the_published_objective_is_above_the_elbo_by_what_increments_share(trained):
    net = zoo.load(trained["vrae-published"][0])
    batch = PianoRolls(rolls((5, 3))).batch()
    variance = net.posterior(batch).variance
    shared = torch.log1p(variance[:, :-1] / variance[:, 1:]).sum(-1) / 2
    bounds = []
    for name in ("published objective (no bound)", "ELBO"):
        torch.manual_seed(0)
        bounds.append(piano.figure(name)(net, batch))
    expected = (shared * batch.mask[:, 1:]).sum(1)
    torch.testing.assert_close(bounds[0] - bounds[1], expected, rtol=1e-3, atol=1e-3)


# Runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUN)
def test_a_run_leaves_weights_and_a_card(name, trained):
    folder, card = trained[name]
    recipe, net = small(f"jsb/{name}"), zoo.load(folder)
    assert net.card == card == json.loads((folder / store.CARD).read_text())
    assert card["metric"] == recipe.task.metric
    assert tuple(card["also"]) == recipe.task.also
    assert card["epochs_run"] == 2
    figures = recipe.task.measure(net, 1, "test").figures.tolist()
    assert [card["value"], *card["also"].values()] == pytest.approx(figures, rel=1e-5)
    assert all(map(math.isfinite, figures))
    assert sorted(path.name for path in folder.iterdir()) == [store.CARD, store.WEIGHTS]
    if name.startswith("rnn"):  # exact, so that no draw differs
        again = recipe.task.measure(net, 1, "validation").figures.item()
        assert card["validation"] == pytest.approx(again, rel=1e-5)
    assert math.isfinite(card["validation"])


@pytest.mark.parametrize("name", ["rnn", "vrae"])
def test_a_run_stopped_by_hand_goes_on_to_the_same_weights(name, trained, tmp_path, monkeypatch):
    """The warm-up is not done again."""
    fresh, seen = Polyphonic.fresh, []

    def stopped(self, epoch):
        seen.append(epoch)
        if len(seen) == stop:
            raise KeyboardInterrupt
        return fresh(self, epoch)

    monkeypatch.setattr(Polyphonic, "fresh", stopped)
    recipe = small(f"jsb/{name}")
    stop = 3 if recipe.warmup else 2  # in the second epoch of two
    with pytest.raises(Interrupted):
        run(recipe, 1, tmp_path, device="cpu", progress=False)
    left = {path.name for path in tmp_path.glob("*.pt")}
    assert left == ({"checkpoint.pt", "warmup0.pt"} if recipe.warmup else {"checkpoint.pt"})
    card = run(recipe, 1, tmp_path, device="cpu", progress=False)
    assert seen[stop - 1 :] == [1, 1]
    folder, whole = trained[name]
    assert (tmp_path / store.WEIGHTS).read_bytes() == (folder / store.WEIGHTS).read_bytes()
    for key in ("value", "also", "validation"):
        assert card[key] == whole[key]


def test_reproduce_prints_a_table_a_data_set(few, seqzoo, in_process, tmp_path):
    """Figures of a kind share a column; a row without it has a dash there."""
    words = ["reproduce", "music", "--seeds", 1, "--jobs", 1, "--out", tmp_path]
    for name in ("jsb/rnn", "jsb/vosp", "nottingham/rnn"):
        words += ["--only", name]
    for path, value in {**SMALL, "fit.epochs": 1}.items():
        if path != "model.likelihood.hidden":
            words += ["--set", f"{path}={value}"]
    code, out, error = seqzoo(*words)
    assert (code, error) == (0, "")
    progress, chorales, tunes = out.split("\n\n")
    assert progress.count(" seed 0: ") == 3
    rows = cells(chorales)
    assert rows.keys() == {"RNN", "VOSP"}
    assert list(rows["RNN"]) == ["exact NLL", "ELBO", "IW-500 a frame"]
    for title, empty in (("RNN", {"ELBO", "IW-500 a frame"}), ("VOSP", {"exact NLL"})):
        for column, figure in rows[title].items():
            assert (figure == "-") == (column in empty)
            assert figure == "-" or 1 < float(figure) < 100
    assert cells(tunes).keys() == {"RNN"}
    assert list(cells(tunes)["RNN"]) == ["exact NLL"]
    for table, name in ((chorales, "jsb"), (tunes, "nottingham")):
        last = f"{name}: nats per frame, mean ± sd; published: Bayer & Osendorfer (2014), Table 1."
        assert last in table


def cells(table):
    """The figures of every row of a printed table, by the column under which they end."""
    head, *lines = table.strip("\n").splitlines()
    known = [c for c in ("exact NLL", "ELBO", "IW-500 a frame") if f" {c} " in head]
    ends = {column: head.index(f" {column} ") + len(column) + 1 for column in known}
    return {
        line.split()[0]: {column: line[:end].split()[-1] for column, end in ends.items()}
        for line in lines
        if " nats per frame" not in line and not line.startswith("*")
    }


def test_the_readmes_table_has_a_column_for_every_kind_of_figure(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path)
    for name in ("vrae-published", "vosp", "rnn"):
        model_files.save_card(
            tmp_path / f"jsb/{name}.json", store.summarise([trained[name][1]] * 2)
        )
    head, _, *rows = tables.markdown("jsb").splitlines()
    columns = [cell.strip().removesuffix(", nats per frame") for cell in head.split("|")[2:-4]]
    kinds = ["published objective (no bound)", "ELBO", "IW-500 a frame", "exact NLL"]
    assert columns == kinds
    found = {row.split("|")[1].strip(): row.split("|")[2:-4] for row in rows}
    assert list(found) == ["VRAE as published", "VOSP", "RNN"]
    for title, filled in (("VRAE as published", "1100"), ("VOSP", "0110"), ("RNN", "0001")):
        assert [cell.strip() != "-" for cell in found[title]] == [x == "1" for x in filled]
    for title, name in (("RNN", "rnn"), ("VOSP", "vosp")):
        value = trained[name][1]["value"]
        column = kinds.index(find(f"jsb/{name}").task.metric)
        assert found[title][column].split()[0] == f"{value:#.3g}"


# Commands ---------------------------------------------------------------------------------------


def test_evaluate_scores_a_users_own_midi_files(trained, seqzoo, tmp_path):
    for number, roll in enumerate(rolls((9, 4), seed=5)):
        write_midi(tmp_path / f"{number}.mid", roll, step=piano.STEPS["jsb"])
    folder, card = trained["rnn"]
    code, out, _ = seqzoo("evaluate", folder, "--json", "--how", f"midi={tmp_path}")
    assert code == 0
    result = json.loads(out)
    net, own = zoo.load(folder), MidiFolder(tmp_path, step=0.5)
    assert result["n_sequences"] == 2
    expected = -net.log_prob(own.batch()).sum().item() / own.frames
    assert result["value"] == pytest.approx(expected, rel=1e-5)
    assert result["value"] != pytest.approx(card["value"], rel=1e-3)
    assert "transpose=C" in result["notes"][0]
    code, out, _ = seqzoo("evaluate", folder, "--how", f"midi={tmp_path}")
    assert out.splitlines()[1:] == [f"  note: {note}" for note in result["notes"]]
    moved = {"midi": str(tmp_path), "transpose": "C"}
    how = [word for name, value in moved.items() for word in ("--how", f"{name}={value}")]
    code, out, _ = seqzoo("evaluate", folder, "--json", *how)
    assert "transpose" not in " ".join(json.loads(out)["notes"])
    own = MidiFolder(tmp_path, step=0.5, transpose="C")
    expected = -net.log_prob(own.batch()).sum().item() / own.frames
    assert json.loads(out)["value"] == pytest.approx(expected, rel=1e-5)
    code, _, error = seqzoo("evaluate", folder, "--how", "transpose=C")
    assert code == 2
    assert "give their folder" in error
    code, _, error = seqzoo("evaluate", folder, "--how", f"midi={tmp_path / 'nowhere'}")
    assert code == 2
    assert "check its name" in error
    code, _, error = seqzoo("evaluate", folder, "--how", "chains=3")
    assert code == 2
    assert "RNN is not scored with" in error


def test_a_score_that_independent_keys_beat_is_told(trained, tmp_path):
    """One chord held for long: its own rates score almost 0, a hardly trained model does not."""
    roll = torch.zeros(40, 88)
    roll[:, [40, 44, 47]] = 1
    write_midi(tmp_path / "chord.mid", roll, step=piano.STEPS["jsb"])
    assert piano.independent_keys(PianoRolls([roll])) == pytest.approx(0, abs=1e-3)
    for name in ("rnn", "vrae-published"):
        net, task = zoo.load(trained[name][0]), find(f"jsb/{name}").task
        how = {"midi": str(tmp_path), "transpose": "C"}
        (note,) = task.measure(net, 0, "test", how).notes
        assert "independent keys" in note
    assert task.measure(net, 0, "test").notes == ()


@pytest.mark.parametrize("name", ["vrae", "vosp", "rnn", "rnn-nade"])
def test_sample_writes_music(name, trained, seqzoo, tmp_path):
    folder, net = trained[name][0], zoo.load(trained[name][0])
    for file in ("x.mid", "x.npz", "x.png"):
        code, out, error = seqzoo("sample", folder, "--seed", 4, "--out", tmp_path / file)
        assert (code, out, error) == (0, f"wrote {tmp_path / file}\n", "")
    played = read_midi(tmp_path / "x.mid", step=piano.STEPS["jsb"])
    assert torch.equal(played, net.sample(1, 6, seed=4)[0].to(torch.uint8))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with np.load(tmp_path / "x.npz") as file:
        saved = [file[name] for name in file]
    assert np.array_equal(np.stack(saved), net.sample(3, 6, seed=4).numpy())


@pytest.mark.parametrize("file", ["x.gif", "x.wav", "x"])
def test_sample_refuses_another_ending(file, trained, seqzoo, tmp_path):
    code, out, error = seqzoo("sample", trained["rnn"][0], "--out", tmp_path / file)
    assert (code, out) == (2, "")
    assert error.startswith(f"seqzoo: cannot write {file!r}: end it with one of ")
    assert not list(tmp_path.iterdir())


def test_kl_prints_both_divergences(trained, seqzoo, tmp_path):
    folder = trained["vrae-published"][0]
    code, out, _ = seqzoo("study", "kl", folder, "--out", tmp_path / "kl.png")
    assert code == 0
    _, *lines, correlation, last = out.splitlines()
    assert last == f"wrote {tmp_path / 'kl.png'}"
    words, _, value = correlation.partition(": ")
    assert words == "correlation of ln s with that of the step before"
    assert -1 <= float(value) <= 1
    assert (tmp_path / "kl.png").read_bytes().startswith(b"\x89PNG")
    rows = [re.split(r"\s{2,}", line) for line in lines]
    figures = {title: float(value) for title, value, _ in rows}
    assert list(figures) == [
        "exact KL",
        "marginal increments (no bound)",
        "difference",
        "information that increments share",
        "floor of the exact KL, 2 dimensions",
    ]
    exact, marginal, difference, shared, floor = figures.values()
    assert difference == pytest.approx(exact - marginal, abs=0.0011)
    assert difference == pytest.approx(shared, abs=0.0011)
    assert floor == pytest.approx(math.log(2), abs=0.0006)
    net, totals, frames = zoo.load(folder), 0.0, 0
    for roll in Polyphonic("jsb", "test").sequences:
        q = net.posterior(roll[None].float())
        p = net.prior(torch.ones(1, len(roll), dtype=torch.bool))
        totals += torch.distributions.kl_divergence(q, p).item()
        frames += len(roll)
    assert exact == pytest.approx(totals / frames, abs=0.0006)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rnn", "has no latent path"),
        ("vrae", "has no diagonal guide"),
        ("vosp", "has no diagonal guide"),
    ],
)
def test_kl_refuses_a_model_without_a_diagonal_guide(name, message, trained, seqzoo):
    code, out, error = seqzoo("study", "kl", trained[name][0])
    assert (code, out) == (2, "")
    assert message in error


def test_bench_music_prints_both_ways_and_their_ratio(seqzoo):
    sizes = ("--sequences", 2, "--steps", 3, "--units", 5, "--units", 7)
    code, out, _ = seqzoo("bench", "music", *sizes, "--repeats", 1)
    assert code == 0
    head, _, *rows = out.splitlines()
    assert head.startswith("VRAE, B=2, T=3, 32 latents")
    assert [row.split()[0] for row in rows] == ["5", "7"]
    for row in rows:
        _, slow, fast, ratio = row.split()
        assert float(ratio[:-1]) == pytest.approx(float(slow) / float(fast), rel=0.05)


# A site a time step -----------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("guide", ["Increments", "MarkovChain"])
def test_a_site_a_time_step_is_the_same_bound(guide, drift):
    """In expectation: within 4.5 standard errors, which are below a hundredth of the bound."""
    keys, dims, hidden, copies, draws = 3, 2, 4, 600, 4
    net = zoo.VRAE(
        *(keys, dims, likelihoods.Bernoulli(keys)),
        hidden=hidden,
        guide=getattr(path_guides, guide)(hidden, dims),
        decoder=zoo.decoders.CausalDecoder(dims, keys, hidden, drift=drift),
    )
    with torch.no_grad():
        for part in net.parameters():
            if part.requires_grad:
                part.add_(0.2 * torch.randn_like(part))
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    obs = (torch.rand(3, 5, keys) < 0.5).float()
    batch = Batch(obs.repeat(copies, 1, 1), mask.repeat(copies, 1))
    rules = inference.SequenceELBO(net), bench.StepwiseELBO(bench.StepwiseVRAE(net))
    losses = torch.stack(
        [torch.stack([rule.gradients(batch)["loss"] for _ in range(draws)]) for rule in rules]
    )
    (one, other), error = losses.mean(1), (losses.var(1).sum() / draws).sqrt()
    assert error < 0.01 * one
    assert abs(one - other) < 4.5 * error
