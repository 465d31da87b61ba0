"""Denoising and imputation against enumeration over tiny models, and what must not leak."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from seqzoo.data import Batch, hide_steps
from seqzoo.inference import conditional_smc as smc
from seqzoo.inference import denoise, impute
from seqzoo.zoo import decoders, likelihoods, path_guides
from seqzoo.zoo.models.rnn import RNN
from seqzoo.zoo.models.vosp import VOSP
from seqzoo.zoo.models.vrae import VRAE
from seqzoo.zoo.parts.likelihoods import NADE
from seqzoo.zoo.pictures import plot_rolls
from seqzoo.zoo.studies import restoration

M, T, K, H = 2, 3, 1, 5
RATE = 0.3
# all sequences there are, [64, T, M]
ALL = torch.tensor(list(itertools.product((0.0, 1.0), repeat=T * M))).view(-1, T, M)
SEEN = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]])
OBSERVED = torch.tensor([[[False, True], [False, False], [True, True]]])
NOISY = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]])


class Spread(torch.nn.Module):
    """A user's decoder: every frame sees the whole path."""

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(T * K, T * M)

    def forward(self, inputs, mask):
        return self.mix(inputs.flatten(-2)).unflatten(-1, (T, M))


def louder(module, times):
    """Weights large enough for every step to matter to every other."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(times)
    return module


def wrong_guide(features):
    """A guide that reads next to nothing and looks in the wrong place."""
    guide = path_guides.MarkovChain(features, K)
    with torch.no_grad():
        guide.heads.weight *= 0.3
        guide.heads.bias[K:] = torch.tensor([0.8, 1.0])  # mean, spread
    return guide


def eager_guide(features):
    """A guide that moves far with the data it reads."""
    guide = path_guides.MarkovChain(features, K)
    with torch.no_grad():
        guide.heads.weight[K : 2 * K] *= 12
        guide.heads.bias[:] = torch.tensor([-2.0, 0.0, 0.5])  # gate, mean, spread
    return guide


def likelihood(name):
    return likelihoods.Bernoulli(M) if name == "bernoulli" else louder(NADE(M, 4), 250)


def vrae(keys="bernoulli", decoder=None, guide=None):
    emission = likelihood(keys)
    if decoder is None:
        decoder = louder(decoders.CausalDecoder(K, emission.natural_dim, H, 6), 3.0)
    guide = wrong_guide(H) if guide is None else guide
    return VRAE(M, K, emission, H, guide=guide, decoder=decoder).eval()


def vosp(keys="bernoulli"):
    net = louder(VOSP(M, K, louder(likelihood(keys), 0.4), H, width=6), 2.5).eval()
    with torch.no_grad():
        net.recognition.heads.bias[:] = torch.tensor([0.8, 1.5])  # mean, spread
    return net


NETS = {
    "VRAE": vrae,
    "VRAE, NADE": lambda: vrae("nade"),
    "VRAE, autoregressive guide": lambda: vrae(guide=path_guides.Autoregressive(H, K, H, 6)),
    "VRAE, eager guide": lambda: vrae(guide=eager_guide(H)),
    "VRAE, the decoder sees all": lambda: vrae(decoder=louder(Spread(), 4.0)),
    "VOSP": vosp,
    "VOSP, NADE": lambda: vosp("nade"),
}
every_net = pytest.mark.parametrize("name", NETS)


def build(name):
    torch.manual_seed(3)
    return NETS[name]()


@functools.cache
def log_joint(name):
    """log p(x) of ``ALL`` under a net, by quadrature over the innovations of the path."""
    with torch.no_grad():
        return _log_joint(build(name))


def _log_joint(net):
    points, weights = np.polynomial.hermite_e.hermegauss(25)
    points, logs = torch.tensor(points).float(), torch.tensor(np.log(weights / weights.sum()))
    encoding = net.prepare(Batch(ALL))
    prior = net.prior(encoding.mask)
    if isinstance(net, VOSP):  # frames share no noise: each has an integral of its own
        path = prior.from_innovations(points[:, None, None, None].expand(-1, len(ALL), T, K))
        terms = net.frames(path, encoding).log_prob(ALL).double() + logs[:, None, None]
        return terms.logsumexp(0).sum(-1)
    one = net.prepare(Batch(ALL[:1]))
    grid = torch.cartesian_prod(*[points] * T)[:, None, :, None]
    natural = net.natural(net.prior(one.mask).from_innovations(grid), one)
    terms = net.likelihood.distribution(natural).log_prob(ALL).double().sum(-1)
    return (terms + torch.cartesian_prod(*[logs] * T).sum(-1)[:, None]).logsumexp(0)


def conditional(name):
    """p(missing bits | observed ones), ``[8]``, and which sequences these are."""
    fits = ((ALL == SEEN) | ~OBSERVED).all(-1).all(-1)
    return log_joint(name)[fits].softmax(0), ALL[fits]


def distance(samples, probabilities, outcomes):
    """Total variation between frequencies and a distribution."""
    same = (samples[:, None] == outcomes).flatten(2).all(-1)
    assert same.any(1).all()
    return float((same.double().mean(0) - probabilities).abs().sum() / 2)


@every_net
def test_the_oracle_is_a_law(name):
    assert float(log_joint(name).logsumexp(0)) == pytest.approx(0, abs=1e-5)


# Imputation -----------------------------------------------------------------------------------


@every_net
def test_resampling_draws_from_the_exact_conditional_and_gibbs_does_not(name):
    net = build(name)
    law, outcomes = conditional(name)
    batch = Batch(SEEN, observed=OBSERVED)
    found = impute(net, batch, "resample", steps=16, num_particles=5, num_chains=2000)
    assert distance(found.samples[:, 0], law, outcomes) < 0.04
    expected = (law[:, None, None] * outcomes).sum(0)
    assert torch.allclose(found.mean[0].double(), expected, atol=0.03)
    if name in ("VRAE", "VOSP"):  # by the same guide, taken for the truth
        wrong = impute(net, batch, "gibbs", steps=24, num_chains=2500)
        assert distance(wrong.samples[:, 0], law, outcomes) > 0.08


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("VRAE, NADE", marks=pytest.mark.slow),
        "VRAE, the decoder sees all",
        "VOSP, NADE",
    ],
)
def test_two_particles_are_enough_to_be_right_in_the_end(name):
    net = build(name)
    law, outcomes = conditional(name)
    batch = Batch(SEEN, observed=OBSERVED)
    found = impute(net, batch, "resample", steps=40, num_particles=2, num_chains=800)
    assert distance(found.samples[:, 0], law, outcomes) < 0.05


def padded():
    """Three sequences of 6, 2 and 4 frames with single keys and whole frames hidden."""
    random = np.random.default_rng(0)
    obs = torch.tensor(random.integers(0, 2, (3, 6, M))).float()
    mask = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    observed = torch.tensor(random.random((3, 6, M)) < 0.6)
    observed[0, 3:5] = False
    return Batch(obs, mask, observed=observed)


def whole():
    """The same with nothing hidden but padding."""
    return Batch(padded().obs, padded().mask)


every_method = pytest.mark.parametrize("method", ["mode", "gibbs", "resample"])
any_length = pytest.mark.parametrize(
    "name", [name for name in NETS if name != "VRAE, the decoder sees all"]
)


@every_method
@any_length
def test_hidden_values_have_no_influence_and_seen_ones_are_kept(name, method):
    net, batch = build(name), padded()
    how = {"method": method, "steps": 3, "num_chains": 3, "num_particles": 3}
    found = impute(net, batch, **how)
    real = batch.mask[..., None].expand_as(batch.obs)
    for other in (math.nan, -7.0):
        changed = batch.obs.masked_fill(~batch.observed | ~real, other)
        again = impute(net, Batch(changed, batch.mask, observed=batch.observed), **how)
        assert torch.equal(again.mean, found.mean)
        assert torch.equal(again.samples, found.samples)
    kept = batch.observed & real
    assert torch.equal(found.mean[kept], batch.obs[kept])
    assert torch.equal(found.samples[:, kept], batch.obs[kept].expand(3, -1))
    assert not found.mean[~real].any()
    assert not found.samples[:, ~real].any()
    assert ((found.mean >= 0) & (found.mean <= 1)).all()
    assert ((found.samples == 0) | (found.samples == 1)).all()
    assert found.samples.shape == (3, *batch.obs.shape)


@every_method
def test_imputation_obeys_its_seed_and_leaves_the_callers_stream_alone(method):
    net, batch = build("VRAE"), padded()
    how = {"method": method, "steps": 2, "num_chains": 5}
    state = torch.get_rng_state()
    first, again, other = (impute(net, batch, seed=seed, **how).samples for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert method == "mode" or not torch.equal(first, other)


def test_the_published_way_replaces_by_modes():
    net, batch = build("VRAE"), padded()
    found = impute(net, batch, steps=20, num_chains=1).samples[0]
    again = net.reconstruct(Batch(found, batch.mask), method="mode")
    missing = ~batch.observed & batch.mask[..., None]
    assert torch.equal(found[missing], again[missing])  # it has come to rest


def test_rows_done_apart_are_done_alike(monkeypatch):
    net, batch = build("VOSP"), padded()
    monkeypatch.setattr("seqzoo.inference.restore.SIZE", 1)
    found = impute(net, batch, "gibbs", steps=2)
    kept = batch.observed & batch.mask[..., None]
    assert torch.equal(found.mean[kept], batch.obs[kept])
    assert denoise(net, batch, rate=RATE).shape == batch.obs.shape


# Denoising ------------------------------------------------------------------------------------


def clean_chances(name, upto):
    """p(x_t = 1 | noisy frames up to ``upto(t)``), ``[T, M]``."""
    log_noise = torch.where(
        NOISY > 0, torch.where(ALL > 0, 1.0, RATE), torch.where(ALL > 0, 0.0, 1 - RATE)
    )
    log_noise = log_noise.log().double().sum(-1)  # [64, T]
    joint, chances = log_joint(name), []
    for t in range(T):
        posterior = (joint + log_noise[:, : upto(t) + 1].sum(1)).softmax(0)
        chances.append((posterior[:, None] * ALL[:, t]).sum(0))
    return torch.stack(chances)


@every_net
def test_denoising_weighs_paths_by_the_noise(name):
    net = build(name)
    whole = name == "VRAE, the decoder sees all"
    found = denoise(net, NOISY, rate=RATE, num_samples=10_000, probabilities=True)[0].double()
    expected = clean_chances(name, lambda t: T - 1 if whole else t)
    assert torch.allclose(found, expected, atol=0.025)
    assert not found[NOISY[0] == 0].any()  # silent keys stay silent
    bits = denoise(net, NOISY, rate=RATE, num_samples=10_000)[0]
    clear = (expected - 0.5).abs() > 0.03
    assert torch.equal(bits[clear] > 0, expected[clear] > 0.5)


def test_a_lag_looks_ahead():
    net = build("VRAE")
    seen, encoding = smc.evidence_of_noise(NOISY, RATE), net.prepare(Batch(NOISY))
    with torch.no_grad():
        steps = smc.PathSteps(net, encoding)
        found = smc.smooth(net.likelihood, steps, seen, encoding.mask, 20_000, lag=1)
    expected = clean_chances("VRAE", lambda t: min(t + 1, T - 1))
    assert torch.allclose(found[0].double(), expected, atol=0.025)


@pytest.mark.parametrize("memory_input", ["samples", "restored", "noisy"])
@pytest.mark.parametrize("name", ["VOSP", "VOSP, NADE"])
def test_a_vosp_denoises_online(name, memory_input):
    net, batch = build(name), whole()
    how = {"rate": RATE, "num_samples": 6, "probabilities": True, "memory_input": memory_input}
    found = denoise(net, batch, **how)
    for t in range(5):
        changed = batch.obs.clone()
        changed[:, t + 1 :] = 1 - changed[:, t + 1 :]
        again = denoise(net, Batch(changed, batch.mask), **how)
        assert torch.equal(again[:, : t + 1], found[:, : t + 1])
        assert not torch.equal(again[:, t + 1], found[:, t + 1])


def test_the_memory_takes_three_kinds_of_input():
    net, batch = build("VOSP"), padded()
    how = {"rate": 0.9, "num_samples": 6, "probabilities": True}
    kinds = ("samples", "restored", "noisy")
    a, b, c = (denoise(net, batch.obs, memory_input=kind, **how) for kind in kinds)
    assert torch.equal(b[:, 0], c[:, 0])  # no past yet
    assert not torch.equal(a, b)
    assert not torch.equal(b, c)


@every_net
def test_denoising_as_published_is_a_reconstruction(name):
    net = build(name)
    assert torch.equal(denoise(net, NOISY), net.reconstruct(NOISY, method="mode"))


@pytest.mark.parametrize("rate", [None, RATE])
@any_length
def test_denoising_leaves_padding_silent_and_obeys_its_seed(name, rate):
    net, batch = build(name), whole()
    how = {"rate": rate, "num_samples": 4, "probabilities": rate is not None}
    state = torch.get_rng_state()
    found = denoise(net, batch, **how)
    assert not found[~batch.mask].any()
    dirty = batch.obs.masked_fill(~batch.mask[..., None], math.nan)
    assert torch.equal(denoise(net, Batch(dirty, batch.mask), **how), found)
    assert torch.equal(torch.get_rng_state(), state)
    if rate is not None:
        assert not torch.equal(denoise(net, batch, seed=1, **how), found)


# What it says when something is wrong ----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch": SEEN}, "nothing is missing"),
        ({"batch": Batch(SEEN)}, "nothing is missing"),
        ({"batch": Batch(SEEN, observed=torch.ones_like(OBSERVED))}, "nothing is missing"),
        ({"batch": Batch(SEEN + 0.5, observed=OBSERVED)}, "must be 0 or 1"),
        ({"method": "magic"}, "method must be one of mode, gibbs, resample"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"num_chains": 0}, "num_chains of 'mode' must be at least 1, got 0"),
        (
            {"method": "resample", "num_chains": 1},
            "num_chains of 'resample' must be at least 2, got 1",
        ),
        (
            {"method": "resample", "num_particles": 1},
            "num_particles of 'resample' must be at least 2, got 1",
        ),
    ],
    ids=str,
)
def test_imputation_names_the_mistake(change, sentence):
    call = {"net": build("VRAE"), "batch": Batch(SEEN, observed=OBSERVED), **change}
    with pytest.raises(ValueError, match=sentence):
        impute(**call)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rate": 0.0}, "rate must be above 0 and below 1"),
        ({"rate": 1.0}, "rate must be above 0 and below 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"memory_input": "magic"}, "memory_input must be one of samples, restored, noisy"),
        ({"batch": NOISY * 2}, "must be 0 or 1"),
        ({"net": RNN(M, likelihoods.Bernoulli(M), H)}, "RNN has no latent path"),
        ({"net": VRAE(M, K, likelihoods.Gaussian(M), H)}, "Gaussian values are not binary"),
        (
            {"net": VOSP(M, K, likelihoods.Bernoulli(M), H, decoder_input="path")},
            "share latent noise",
        ),
    ],
    ids=str,
)
def test_denoising_names_the_mistake(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        denoise(**{"net": build("VRAE"), "batch": NOISY, "rate": RATE, **change})


def test_values_of_other_kinds_are_imputed_by_gibbs():
    net = VRAE(M, K, likelihoods.Gaussian(M), H)
    found = impute(net, Batch(SEEN + 0.3, observed=OBSERVED), "gibbs", steps=3)
    assert torch.equal(found.mean[OBSERVED], (SEEN + 0.3)[OBSERVED])
    with pytest.raises(ValueError, match="not binary"):
        impute(net, Batch(SEEN, observed=OBSERVED), "resample")


# Scores and filters ---------------------------------------------------------------------------


def test_scores_against_a_hand_count():
    clean = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]])
    found = torch.tensor([[[0.9, 0.6], [0.2, 0.7], [1.0, 1.0]]])
    where = torch.tensor([[[True], [True], [False]]])
    row = restoration.score("a", found, clean, where, graded=True)
    assert row[:4] == ("a", 2 / 3, 2 / 3, 2 / 3)
    expected = -np.mean(np.log([0.9, 0.4, 0.2, 0.7]))
    assert row.nats == pytest.approx(expected, rel=1e-6)
    silent = restoration.score("b", torch.zeros_like(clean), clean, where)
    assert silent == ("b", 0.0, 0.0, 0.0, None)


def test_filters_by_hand():
    roll = torch.tensor([[1.0, 1, 0, 1, 0, 1, 1]])[..., None]
    mask = torch.tensor([[True] * 6 + [False]])
    assert restoration.supported(roll, mask)[0, :, 0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert restoration.likelier(roll, torch.tensor([0.2]), 0.2)[0, :, 0].equal(roll[0, :, 0])
    assert not restoration.likelier(roll, torch.tensor([0.2]), 0.3).any()
    observed = torch.tensor([[False, True, False, True, True, False, False]])[..., None]
    assert restoration.carried(roll, observed)[0, :, 0].tolist() == [0, 1, 1, 1, 0, 0, 0]


def test_the_tables_have_a_row_for_every_way(published_music, tmp_path):
    net = VRAE(88, 2, likelihoods.Bernoulli(88), 4, obs_mean=0.05).eval()
    net.card = {"name": "jsb/vrae"}
    rows = list(restoration.denoising(net, 2, picture=tmp_path / "a.npz"))
    assert [row.name.split(",")[0] for row in rows] == [
        "left as it is",
        "kept if a neighbour frame has it",
        "kept by how often a key sounds",
        "by modes",
        "by weights",
    ]
    assert rows[0].recall == 1
    with np.load(tmp_path / "a.npz") as rolls:
        assert len(rolls) == 6
        assert (rolls["noisy, sequence 2"] >= rolls["clean, sequence 2"]).all()
    rows = list(restoration.imputation(net, 2, 4, ["mode", "gibbs"], picture=tmp_path / "b.npz"))
    assert [row.nats is None for row in rows] == [False, True, False, False]
    with np.load(tmp_path / "b.npz") as rolls:
        hidden = rolls["original"] != rolls["corrupted"]
        assert hidden.any(1).sum() <= 4
        errors = rolls["original"] != rolls["recovered"]
        assert np.array_equal(errors, rolls["errors"] > 0)


@pytest.fixture
def published_music(monkeypatch):
    """Three short chorales in place of the published ones."""
    rolls = [torch.zeros(length, 88) for length in (9, 3, 12)]
    for number, roll in enumerate(rolls):
        roll[:, 40 + number :: 12] = 1

    from seqzoo.data import PianoRolls

    monkeypatch.setattr(
        restoration, "Polyphonic", lambda name, split, chunk=None: PianoRolls(rolls, chunk)
    )


def test_a_sequence_must_have_room_for_what_is_hidden(published_music):
    net = VRAE(88, 2, likelihoods.Bernoulli(88), 4)
    net.card = {"name": "jsb/vrae"}
    with pytest.raises(ValueError, match="no test sequence of jsb has 41 frames"):
        list(restoration.imputation(net, 2, 40))
    with pytest.raises(ValueError, match=r"cannot write 'a\.gif'"):
        list(restoration.denoising(net, 2, picture=__import__("pathlib").Path("a.gif")))


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_rolls_are_drawn(ending, tmp_path):
    rolls = {name: (torch.rand(20 + i, 88) < 0.1).float() for i, name in enumerate("abc")}
    path = tmp_path / f"rolls{ending}"
    plot_rolls(rolls, path, columns=2, hidden=torch.arange(20) > 15)
    assert path.stat().st_size > 5000
    plot_rolls({"silence": torch.zeros(5, 88)}, path)
    with pytest.raises(ValueError, match="no roll"):
        plot_rolls({}, path)


def test_whole_frames_hidden_by_the_data_module_are_understood():
    net = build("VOSP")
    batch = hide_steps(Batch(ALL[20:24]), 1, seed=3)
    found = impute(net, batch, "resample", steps=4)
    assert (found.mean != batch.obs).any(-1).sum(1).max() == 1
