"""Training on data of one's own: every name learns, and says where it does not."""

import math
import warnings

import numpy as np
import pytest
import torch
from seqzoo.zoo.fitting.advice import of_curve
from seqzoo.zoo.fitting.baselines import OwnPast
from seqzoo.zoo.plans.defaults import NAMES, Sizes, plan_for
from seqzoo.zoo.plans.facts import Facts, as_recording, in_pieces

from seqzoo import data, inference, zoo

CHANNELS = 8


def spikes(trials=16, seed=0, missing=0.05, steps=(24, 32)):
    """Counts of eight neurons that follow one slow rotation; the last is dead."""
    random = np.random.default_rng(seed)
    weights = np.random.default_rng(9).normal(size=(2, CHANNELS))
    found = []
    for _ in range(trials):
        time = np.arange(random.integers(*steps)) * 2 * math.pi / 20 + random.uniform(0, 6)
        rates = np.exp(np.stack([np.cos(time), np.sin(time)], 1) @ weights - 0.3)
        rates[:, -1] = 0
        counts = random.poisson(rates).astype(float)
        counts[random.random(len(counts)) < missing] = np.nan
        found.append(counts)
    return data.Recording(found, bin=0.02)


TRAIN, VALIDATION, TEST = spikes(), spikes(5, seed=1), spikes(5, seed=2)
#: Few updates at a high rate: each model then predicts better than the mean, in a second or two.
SMALL = {"model.hidden": 16, "rule.weights": {"x": 0.3}}
QUICK = {
    "lgds": {"rule.iterations": 3},
    "poisson-lgds": {"rule.iterations": 2},
    "rvae": {"updates": 40, "fit.lr": 2e-2, **SMALL},
    "rvae-bptt": {"updates": 25, "fit.lr": 2e-2, **SMALL},
    "tvae": {"updates": 25, "fit.lr": 2e-2, **SMALL},
    "refh": {"updates": 30, "fit.lr": 2e-2},
    "trbm": {"updates": 30, "fit.lr": 2e-2},
    "rtrbm": {"updates": 20, "fit.lr": 2e-2},
    "vrae": {"updates": 15, "fit.lr": 2e-2},
    "vosp": {"updates": 10, "fit.lr": 2e-2},
    "gru": {"updates": 10, "fit.lr": 2e-2},
}


#: Their network, or their rule, is that of another name.
ALIKE = "rvae-bptt", "trbm"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ALIKE)) for n in NAMES]
)
def test_every_model_learns_and_comes_back(name, tmp_path):
    model = zoo.fit_model(
        name, TRAIN, VALIDATION, latent_dim=2, changes=QUICK[name], progress=False, device="cpu"
    )
    score = model.score(TEST)
    assert score > 0.1  # bits per spike above the mean of each channel
    model.save(tmp_path / "saved")
    back = zoo.load(tmp_path / "saved")
    assert inference.score(back, TEST) == score
    training = back.card["training"]
    assert training["rule"]["part"] == type(model.plan.rule.build(model.net)).__name__
    assert model.filter(TEST)["mean"].dims == ("trial", "time", "latent")


def test_a_comparison_is_scored_beside_what_needs_no_model(tmp_path):
    changes = {name: QUICK[name] for name in ("gru", "lgds")}
    with pytest.warns(UserWarning, match="refh was not trained"):
        fits = zoo.compare(
            ["gru", "refh", "lgds"],
            TRAIN,
            VALIDATION,
            latent_dim=2,
            changes={**changes, "refh": {"fit.lr": 1e30, "updates": 20, "fit.clip": 1e30}},
            progress=False,
            device="cpu",
        )
    assert list(fits) == ["gru", "lgds"]
    assert "refh" in fits.failed
    assert "refh was not trained" in str(fits)
    true = torch.full(TEST.batch().obs.shape, 0.5)
    table = fits.score(TEST, true_rates=true)
    assert table.column("model")[:2] == ["gru", "lgds"]
    scores = dict(zip(table.column("model"), table.column("next bin (bits/spike)")))
    assert scores["gru"] == inference.score(fits["gru"].net, TEST)
    assert scores["mean of each channel"] == 0
    assert scores["true rates"] == inference.bits_per_spike(true, TEST.batch())
    others = dict(zip(table.column("model"), table.column("held-out (bits/spike)")))
    hidden = TEST.split_channels(0.75, seed=0)[1].batch()
    limit = inference.bits_per_spike(true[..., : hidden.obs.shape[-1]], hidden)
    assert others["true rates"] == pytest.approx(limit)
    assert "<table>" in table._repr_html_()


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    def run(checkpoint, seed=3):
        changes = {"updates": 6, "model.hidden": 8, "fit.batch_size": 8}
        arguments = {"changes": changes, "seed": seed, "checkpoint": checkpoint, "device": "cpu"}
        return zoo.fit_model("gru", TRAIN, VALIDATION, progress=False, **arguments)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # six updates teach nothing
        whole, original = run(None), data.Recording.rows
        calls = []

        def stops(self, index):
            calls.append(index)
            if len(calls) == 4:  # in the second of three epochs
                raise KeyboardInterrupt
            return original(self, index)

        data.Recording.rows = stops
        try:
            run(tmp_path / "gru.pt")
        except KeyboardInterrupt:
            pass
        finally:
            data.Recording.rows = original
        after, other = run(tmp_path / "gru.pt"), run(None, seed=4)
    assert len(after.history) == len(whole.history)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, after.net.state_dict()[name])
    assert whole.history[-1]["loss"] != other.history[-1]["loss"]


def test_own_past_is_the_moving_average_step_by_step():
    past = OwnPast(TRAIN, "bits/spike")
    batch = TEST.batch()
    keep = 1 - 1 / (past.time + 1)
    for row in range(2):
        for channel in (0, 3):
            state, mean = 0.0, float(past.means[channel])
            for t in range(20):
                found = float(past.predict(batch)[row, t, channel])
                assert found == pytest.approx(mean + past.gain * state, abs=1e-5)
                seen = bool(batch.observed[row, t, channel])
                news = float(batch.obs[row, t, channel]) - mean if seen else 0.0
                state = keep * state + (1 - keep) * news


@pytest.mark.parametrize(
    ("scores", "kinds"),
    [
        ([5, 4, 3, 2, 1, 0], ["falling"]),
        ([5, 1, 0.1, 0.01, 0.0, 0.0], []),
        ([5, 1, 0, 2, 3, 4], ["overfits"]),
        ([0, 1, 2, 3], ["overfits"]),
        ([1, 0], []),
    ],
)
def test_advice_on_a_curve(scores, kinds):
    assert [each.kind for each in of_curve(scores, by_gradient=True, updates=100)] == kinds


def test_a_model_that_learned_nothing_warns():
    with pytest.warns(UserWarning, match="no better than the mean"):
        model = zoo.fit_model(
            "rvae", TRAIN, VALIDATION, updates=1, changes={"fit.lr": 1e-9}, progress=False
        )
    assert model.advice[0].kind == "useless"


def test_facts_and_pieces():
    facts = Facts.of(TRAIN)
    assert (facts.channels, facts.trials, facts.kind) == (CHANNELS, len(TRAIN), "counts")
    long = data.Recording([np.arange(1000.0).reshape(500, 2)], inputs=[np.arange(500.0)[:, None]])
    pieces = in_pieces(long, 200)
    assert pieces.lengths.tolist() == [167, 167, 166]
    assert torch.equal(torch.cat(pieces.trials), long.trials[0])
    assert torch.equal(torch.cat(pieces.inputs), long.inputs[0])
    batch = TRAIN.batch()
    again = as_recording(batch, "train").batch()
    assert torch.equal(again.obs, batch.obs)
    assert torch.equal(again.observed, batch.observed)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: zoo.compare(["rave"], TRAIN, VALIDATION), "did you mean"),
        (lambda: zoo.compare("rvae", TRAIN, VALIDATION), "list of models"),
        (lambda: zoo.compare(["gru", "gru"], TRAIN, VALIDATION), "once"),
        (lambda: zoo.compare(["gru"], TRAIN, VALIDATION, changes={"vosp": {}}), "among the names"),
        (
            lambda: zoo.fit_model("gru", TRAIN, VALIDATION, changes={"fit.rl": 1}),
            "cannot change 'fit.rl'",
        ),
        (
            lambda: zoo.fit_model("gru", TRAIN, VALIDATION, changes={"model.hiden": 1}),
            "hidden",
        ),
        (
            lambda: zoo.fit_model("gru", TRAIN, VALIDATION.select(channels=[0, 1])),
            "8 channels and validation 2",
        ),
        (
            lambda: zoo.fit_model("gru", data.Recording([np.ones((5, 2))]), VALIDATION),
            "channels|same",
        ),
    ],
)
def test_mistakes_are_told(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_data_and_counts_its_updates(name):
    plan = plan_for(name, Facts.of(TRAIN), Sizes(3, None))
    assert zoo.part.describe(plan.model.build()).to_json() == plan.model.to_json()
    if plan.by_gradient:
        rule = plan.changed({"updates": 200})
        loader = data.Loader(TRAIN, rule.fit["batch_size"])
        built = rule.rule.build(rule.model.build())
        made = sum(built.count(batch) for batch in loader.epoch(0))
        epochs = rule.epochs(int(TRAIN.lengths.sum()), len(TRAIN))
        assert epochs * made * 1.6 >= 200
        assert epochs * made <= 500
