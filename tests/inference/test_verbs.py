"""The verbs that all networks have: against slow oracles, and what must not change a result."""

import functools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from seqzoo.data import Batch, Lorenz, Recording, as_batch
from seqzoo.zoo import likelihoods
from seqzoo.zoo.models import gibbs, vrae
from seqzoo.zoo.parts.likelihoods import exponential_family
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from seqzoo import inference, zoo

M, K, T = 4, 2, 5
LENGTHS = 5, 3, 4

counts = likelihoods.Poisson(M)
MODELS = {
    "LGDS": lambda: zoo.LGDS(K, M),
    "PoissonLGDS": lambda: zoo.PoissonLGDS(K, M),
    "RVAE": lambda: zoo.RVAE(M, K, counts, hidden=6),
    "RVAE, told": lambda: zoo.RVAE(M, K, counts, hidden=6, sees_missing=True),
    "TVAE": lambda: zoo.TVAE(M, K, counts, hidden=6),
    "REFH": lambda: zoo.REFH(M, 5, counts, scale=0.3),
    "TRBM": lambda: zoo.TRBM(M, 5, counts, scale=0.3),
    "RTRBM": lambda: zoo.RTRBM(M, 5, counts, scale=0.3),
    "VRAE": lambda: zoo.VRAE(M, K, counts, hidden=6),
    "VRAE, told": lambda: zoo.VRAE(M, K, counts, hidden=6, sees_missing=True),
    "VRAE, bidirectional": lambda: zoo.VRAE(
        M, K, counts, hidden=6, decoder=zoo.decoders.BidirectionalDecoder(K, M, 6)
    ),
    "VOSP": lambda: zoo.VOSP(M, K, counts, hidden=6, width=6),
    "RNN": lambda: zoo.RNN(M, counts, hidden=6),
}
every_model = pytest.mark.parametrize("name", MODELS)
PAGE = Path(__file__).parents[2] / "docs" / "how_to.md"


def build(name):
    """A network with weights large enough that data matter."""
    torch.manual_seed(0)
    net = MODELS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
        if "LGDS" in name:
            net.emission.copy_(torch.randn(M, K) / 2)
            net.dynamics.copy_(torch.tensor([[0.9, 0.2], [-0.2, 0.9]]))
            net.process.mul_(0.1)
    return net.eval()


def trials():
    """Trials with a gap, a dead channel in one, and single missing values."""
    random = np.random.default_rng(1)
    found = [random.poisson(1.5, (length, M)).astype(np.float32) for length in LENGTHS]
    for where in ((0, slice(1, 3)), (1, slice(None), 3), (2, 3, 1)):
        found[where[0]][where[1:]] = math.nan
    return found


def recording():
    return Recording(trials(), 0.02, [0.0, 1.0, 2.0], list("abcd"), ["x", "y", "z"])


def everything(net, data, seed=0):
    """What all verbs say of some data, by name."""
    found = {}
    for given in net.latents_given:
        states = inference.latents(net, data, given, num_samples=2, seed=seed)
        found |= {f"{name} given {given}": part.values for name, part in states.items()}
    for given in net.rates_given:
        rates = inference.rates(net, data, given, num_samples=2, seed=seed)
        found[f"rates given {given}"] = rates.values
    for kind in ("next", "cosmooth", "likelihood"):
        try:
            found[kind] = inference.score(net, data, kind, num_samples=2, seed=seed)
        except ValueError:
            continue  # the test of the table says which
    return found


@functools.cache
def expected(name):
    """``everything`` of the recording."""
    return everything(build(name), recording())


@pytest.fixture(autouse=True)
def few(one_step, monkeypatch):
    """Few particles, for speed."""
    for module in (inference.path_filter, vrae):
        monkeypatch.setattr(module, "PARTICLES", 3)


@pytest.fixture
def quiet(monkeypatch):
    """A function that takes the noise away, so that results of other trials can be compared."""

    def off():
        for name, value in (("randn", 0.0), ("randn_like", 0.0), ("rand", 0.5), ("rand_like", 0.5)):
            like = name.endswith("like")

            def constant(*size, value=value, like=like, **how):
                how = {key: part for key, part in how.items() if key != "generator"}
                if like:
                    return torch.full_like(size[0], value, **how)
                size = size[0] if not isinstance(size[0], int) else size
                return torch.full(tuple(size), value, **how)

            monkeypatch.setattr(torch, name, constant)
        monkeypatch.setattr(torch, "normal", lambda mean, std, **how: mean.clone())
        monkeypatch.setattr(torch, "poisson", lambda rate, **how: rate.clone())
        for module in (exponential_family, gibbs):
            monkeypatch.setattr(module, "sample_bits", lambda mean: mean)

        def mean(self, shape=()):
            return self.mean.expand(*shape, *self.mean.shape).clone()

        for family in (MultivariateNormal, torch.distributions.Normal):
            monkeypatch.setattr(family, "sample", mean)

    return off


# What must not change a result ------------------------------------------------------------------


@every_model
def test_results_have_the_coordinates_of_the_recording(name):
    net, spikes = build(name), recording()
    real = spikes.batch().mask.numpy()
    for given in net.latents_given:
        found = inference.latents(net, spikes, given, num_samples=3)
        assert found.attrs["given"] == given
        assert found["mean"].dims == ("trial", "time", "latent")
        assert found["draws"].dims == ("draw", "trial", "time", "latent")
        assert found.sizes["draw"] == 3
        assert ("sd" in found) == (name != "RNN")
        for part in found.values():
            shown = part.notnull().all("latent").values
            assert np.array_equal(shown, np.broadcast_to(real, shown.shape))
        assert list(found["trial"].values) == ["x", "y", "z"]
        assert_close(found["time"].values[:3], np.array([0, 0.02, 0.04]))
        assert list(found["start"].values) == [0.0, 1.0, 2.0]
    for given in net.rates_given:
        rates = inference.rates(net, spikes, given, num_samples=3)
        assert rates.attrs["given"] == given
        assert rates.dims == ("trial", "time", "neuron")
        assert list(rates["neuron"].values) == list("abcd")
        assert np.array_equal(rates.notnull().all("neuron").values, real)
    assert inference.rates(net, spikes.batch()).dims == ("trial", "time", "channel")
    assert inference.latents(net, spikes).attrs["given"] == net.latents_given[-1]


@every_model
def test_padding_and_the_order_of_trials_change_nothing(name, quiet):
    net, spikes = build(name), recording()
    quiet()
    found, turned = everything(net, spikes), everything(net, spikes.select([2, 0, 1]))
    alone = everything(net, spikes.select([1]))  # beside others it is padded
    for key, value in alone.items():
        if isinstance(value, float):
            assert math.isclose(turned[key], found[key], rel_tol=1e-4)
            continue
        axis = 1 if key.startswith("draws") else 0
        for other, place in ((found[key], 1), (turned[key], 2)):
            row = np.take(np.take(other, [place], axis), range(LENGTHS[1]), axis + 1)
            np.testing.assert_allclose(row, value, 2e-4, 2e-5, err_msg=key)


@every_model
def test_what_is_given_is_all_that_is_read(name, quiet):
    net, batch = build(name), recording().batch()
    quiet()
    changed = torch.where(torch.arange(T)[:, None] >= 3, batch.obs + 3, batch.obs)
    other = Batch(changed, batch.mask, observed=batch.observed)
    for given, until in (("past", 4), ("present", 3), ("all", 0)):
        if given in net.rates_given:
            first, second = (
                inference.rates(net, each, given, num_samples=5).values for each in (batch, other)
            )
            np.testing.assert_allclose(first[:, :until], second[:, :until], 1e-5, 1e-6)
            assert not np.array_equal(first[0, until:], second[0, until:])
        if given in net.latents_given:
            first, second = (
                inference.latents(net, each, given)["mean"].values for each in (batch, other)
            )
            np.testing.assert_allclose(first[:, :until], second[:, :until], 1e-5, 1e-6)


@every_model
def test_results_follow_the_seed_and_no_filler_and_leave_state_and_mode_alone(name):
    """What is not observed may hold anything: the same seed then gives the same bits."""
    net, spikes = build(name).train(), recording()
    seen = spikes.batch()
    filled = torch.where(seen.observed & seen.mask[..., None], seen.obs, 50.0)
    assert (seen.obs[filled == 50] == 0).all()  # those of a recording are 0
    before = torch.get_rng_state()
    again = everything(net, Batch(filled, seen.mask, observed=seen.observed))
    other = everything(net, spikes, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert net.training
    differ = False
    for key, value in expected(name).items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
        differ |= not np.array_equal(other[key], value, equal_nan=True)
    assert differ


# The table in the docs ---------------------------------------------------------------------------


def table():
    """What the page says of each model: latents given, rates given, likelihood."""
    found = {}
    for line in re.findall(r"^\| `.*\|$", PAGE.read_text(), re.MULTILINE):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[3].split(";")[0] in ("exact", "bound", "none"):
            names, rest = re.findall(r"`(\w+)`", cells[0]), cells[0].rpartition("`")[2]
            found |= {name + rest: cells[1:] for name in names}
    return found


@every_model
def test_the_table_says_what_a_model_gives(name):
    net, spikes = build(name), recording()
    latents, rates, likelihood = table()[name.replace(", told", "")]
    for given in ("past", "present", "all"):
        for verb, known in ((inference.latents, latents), (inference.rates, rates)):
            if given in known.split(", "):
                assert verb(net, spikes, given).attrs["given"] == given
            else:
                with pytest.raises(ValueError, match=f"given .*not '{given}'"):
                    verb(net, spikes, given)
    assert math.isfinite(inference.score(net, spikes, "cosmooth"))
    if "past" in rates:
        assert math.isfinite(inference.score(net, spikes, "next"))
        predicted = inference.predict_next(net, spikes, num_samples=2).mean
        assert predicted.shape == (3, T, M)
    else:
        for verb in (inference.predict_next, inference.score):
            with pytest.raises(ValueError, match=r"predicts no next frame|not 'past'"):
                verb(net, spikes)
    if likelihood.startswith("none"):
        with pytest.raises(ValueError, match="no tractable likelihood"):
            inference.score(net, spikes, "likelihood")
        return
    first, second = (inference.predictive_bound(net, spikes, seed=seed) for seed in (0, 1))
    assert torch.equal(first, second) == (likelihood == "exact")


# Oracles ------------------------------------------------------------------------------------------


def joint(system, steps):
    """Mean and covariance of x_1 .. x_T and y_1 .. y_T, written out."""
    A, C, R = system.dynamics, system.emission, torch.eye(M, dtype=torch.float64)
    mean, cov = [system.initial_mean], [system.initial_covariance]
    for _ in range(1, steps):
        mean.append(A @ mean[-1])
        cov.append(A @ cov[-1] @ A.T + system.process)
    states = torch.zeros(steps, K, steps, K, dtype=torch.float64)
    for t in range(steps):
        for s in range(t, steps):
            states[s, :, t] = torch.linalg.matrix_power(A, s - t) @ cov[t]
            states[t, :, s] = states[s, :, t].T
    emit = torch.block_diag(*[C] * steps)
    states = states.reshape(steps * K, steps * K)
    spread = emit @ states @ emit.T + torch.block_diag(*[R] * steps)
    return torch.cat(mean), states, emit, spread


def test_a_linear_system_agrees_with_its_joint_gaussian():
    net, spikes = build("LGDS"), recording()
    batch = spikes.batch()
    bound = inference.predictive_bound(net, batch)
    for row, steps in enumerate(LENGTHS):
        mean, states, emit, spread = joint(net.system(), steps)
        obs, seen = batch.obs[row, :steps].double().flatten(), batch.observed[row, :steps].flatten()
        found = MultivariateNormal((emit @ mean)[seen], spread[seen][:, seen]).log_prob(obs[seen])
        assert_close(bound[row], found)
        for given, extra in (("past", 0), ("present", 1), ("all", steps)):
            rates = inference.rates(net, spikes, given).values[row]
            for t in range(steps):
                known = seen & (torch.arange(steps * M) < (t + extra) * M)
                gain = torch.linalg.solve(spread[known][:, known], (states @ emit.T)[:, known].T).T
                x = mean + gain @ (obs - emit @ mean)[known]
                assert_close(torch.tensor(rates[t]).double(), (emit @ x).view(steps, M)[t])
                if given != "past":
                    latents = inference.latents(net, spikes, given)
                    left = states - gain @ (emit @ states)[known]
                    sd = left.diagonal().sqrt().view(steps, K)[t]
                    assert_close(torch.tensor(latents["mean"].values[row, t]), x.view(steps, K)[t])
                    assert_close(torch.tensor(latents["sd"].values[row, t]), sd)


def test_an_rnn_expects_what_its_natural_parameters_say():
    net, batch = build("RNN"), recording().batch()
    natural = net.natural(batch.obs, batch.observed)
    rates = inference.rates(net, batch).values
    real = batch.mask.numpy()
    np.testing.assert_allclose(rates[real], net.likelihood.mean(natural).detach()[batch.mask], 1e-5)
    poisson = torch.distributions.Poisson(net.likelihood.mean(natural))
    total = (poisson.log_prob(batch.obs) * batch.observed).sum((1, 2))
    assert_close(inference.predictive_bound(net, batch), total.detach())


def test_a_linear_recurrent_vae_predicts_as_bayes_says():
    torch.manual_seed(0)
    net = zoo.RVAE(
        *(M, K, likelihoods.Gaussian(M, 0.5)),
        hidden=5,
        decoder=torch.nn.Linear(K, M),
        past_hidden=0,
    )
    batch = Batch(torch.randn(2, 4, M))
    past = torch.cat((net.initial(2)[:, None], inference.run_filter(net, batch)[:, :-1]), 1)
    line, D, b = net.past_decoder[0], 0.5 * net.decoder.weight, 0.5 * net.decoder.bias
    W, precision = line.weight, 1 / net.past_scale**2
    cov = torch.linalg.inv(torch.eye(K) + precision * W.T @ W)
    mean = precision * (past - line.bias) @ W @ cov
    mean[:, 0], first = 0, torch.eye(K)  # nothing is known of the first state
    total = torch.zeros(2)
    for t in range(4):
        spread = D @ (first if t == 0 else cov) @ D.T + 0.25 * torch.eye(M)
        law = MultivariateNormal(mean[:, t] @ D.T + b, spread)
        total += law.log_prob(batch.obs[:, t])
    rates = inference.rates(net, batch, "past", num_samples=10_000).values
    np.testing.assert_allclose(rates, (mean @ D.T + b).detach(), atol=0.03)
    assert_close(inference.predictive_bound(net, batch, 10_000), total.detach(), atol=0.1, rtol=0)


class Straight(torch.nn.Module):
    """A causal decoder without memory: natural parameters linear in z_t."""

    causal = True

    def __init__(self):
        super().__init__()
        self.memory, self.line = zoo.memory.Memory(K, 1), torch.nn.Linear(K, M, bias=False)

    def forward(self, inputs, mask=None):
        return self.line(inputs)

    def take(self, inputs, remembered):
        return inputs

    def emit(self, remembered, taken):
        return self.line(taken)


def test_particles_of_a_linear_path_model_agree_with_the_kalman_filter():
    torch.manual_seed(0)
    net = zoo.VRAE(
        *(M, K, likelihoods.Gaussian(M, 1.0)),
        hidden=6,
        prior=zoo.priors.AR1(K, coefficient=0.8),
        decoder=Straight(),
        decoder_input="path",
    )
    batch = Batch(torch.randn(2, 6, M), observed=torch.rand(2, 6, M) > 0.2)
    chain = net.path_prior(batch.mask)
    Q = torch.diag(chain.scale.expand(2, 6, K)[0, 1].square()).double()
    P = torch.diag(chain.scale.expand(2, 6, K)[0, 0].square()).double()
    exact = zoo.LGDS(K, M)
    exact.assign(
        exact.system()._replace(
            dynamics=0.8 * torch.eye(K, dtype=torch.float64),
            process=Q,
            emission=net.decoder.line.weight.double(),
            initial_covariance=P,
            offset=torch.zeros(M, dtype=torch.float64),
            noise=torch.eye(M, dtype=torch.float64),
        )
    )
    for given in ("past", "present"):
        found = inference.rates(net, batch, given, num_samples=20_000).values
        np.testing.assert_allclose(found, inference.rates(exact, batch, given).values, atol=0.05)
    latents = inference.latents(net, batch, "present")
    assert latents["mean"].shape == (2, 6, K)


# Scores -----------------------------------------------------------------------------------------


def test_scores_agree_with_a_slow_transcription():
    net, batch = build("TVAE"), recording().batch()
    hidden = [1, 3]
    shown = batch.observed.clone()
    shown[..., hidden] = False
    for kind, channels, data, given in (
        ("next", range(M), batch, "past"),
        ("cosmooth", hidden, Batch(batch.obs, batch.mask, observed=shown), "present"),
    ):
        rates = inference.rates(net, data, given, num_samples=30).values.astype(float)
        gain = spikes = error = number = 0.0
        parts = []
        for m in channels:
            seen = batch.observed[..., m].numpy()
            y, r = batch.obs[..., m].numpy()[seen], rates[..., m][seen]
            gain += sum(b * math.log(a / y.mean()) - a + y.mean() for a, b in zip(r, y))
            spikes += y.sum()
            error, number = error + ((y - r) ** 2).sum(), number + len(y)
            parts.append(1 - ((y - r) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        expected = gain / spikes / math.log(2), error / number, np.mean(parts)
        for unit, value in zip(("bits/spike", "mse", "r2"), expected):
            found = inference.score(net, batch, kind, unit, hidden, num_samples=30)
            assert math.isclose(found, value, rel_tol=1e-5), (kind, unit)


def test_hidden_channels_are_not_read_and_are_those_of_the_recording():
    spikes = recording()
    _, held_out = spikes.split_channels(0.75, seed=5)
    numbers = ["abcd".index(channel) for channel in held_out.channels]
    net = build("VRAE")
    fraction, listed = (inference.score(net, spikes, "cosmooth", "mse", n) for n in (0.25, numbers))
    assert inference.score(net, spikes, "cosmooth", "mse", numbers, seed=5) == inference.score(
        net, spikes, "cosmooth", "mse", 0.25, seed=5
    )
    assert fraction != listed


def test_the_likelihood_in_bits_is_relative_to_the_mean_rates():
    net, batch = build("RNN"), recording().batch()
    seen = batch.observed
    means = batch.obs.sum((0, 1)) / seen.sum((0, 1))
    null = (torch.distributions.Poisson(means).log_prob(batch.obs) * seen).sum()
    nats = inference.predictive_bound(net, batch).sum()
    bits = (nats - null) / batch.obs.sum() / math.log(2)
    found = inference.score(net, batch, "likelihood", "bits/spike")
    assert math.isclose(found, float(bits), rel_tol=1e-4)
    assert math.isclose(
        inference.score(net, batch, "likelihood"), float(nats / batch.frames), rel_tol=1e-5
    )


def test_what_has_no_meaning_is_refused_in_a_sentence():
    net, spikes, traces = build("RVAE"), recording(), torch.randn(2, 5, M)
    line = build("LGDS")
    for call, message in (
        (lambda: inference.score(net, spikes, "future"), "kind must be one of"),
        (lambda: inference.score(net, spikes, "next", "nats/frame"), "unit of 'next' must be"),
        (lambda: inference.score(line, traces, "next", "bits/spike"), "unit of counts"),
        (lambda: inference.score(line, spikes, "likelihood", "bits/spike"), "is a density"),
        (lambda: inference.score(net, spikes, "cosmooth", held_out=1.5), "held_out"),
        (lambda: inference.score(net, spikes, "cosmooth", held_out=[7]), "from 0 to 3"),
        (lambda: inference.score(net, spikes, "cosmooth", held_out=[1, 1]), "twice"),
        (lambda: inference.score(net, spikes, "cosmooth", held_out=[]), "some held in"),
        (lambda: inference.score(net, 0 * traces, "next", "bits/spike"), "no spike"),
        (lambda: inference.score(net, 0 * traces, "next", "r2"), "no channel varies"),
        (lambda: inference.latents(net, spikes, "future"), "given must be one of"),
        (lambda: inference.latents(zoo.SRN(M, likelihoods.Categorical(3)), spikes), "no latent st"),
        (lambda: inference.rates(torch.nn.Linear(1, 1), spikes), "tells no expected frames"),
        (lambda: inference.predictive_bound(torch.nn.Linear(1, 1), spikes), "has no likelihood"),
        (lambda: inference.rates(net, spikes.select(channels=[0, 1])), "4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert inference.score(line, traces) == inference.score(line, traces, "next", "r2")


def test_sets_that_are_always_the_same_are_taken_as_they_are():
    spikes = recording()
    assert torch.equal(as_batch(spikes).obs, spikes.batch().obs)
    with pytest.raises(ValueError, match="got the data set Lorenz: use its"):
        as_batch(Lorenz(2, 3))
