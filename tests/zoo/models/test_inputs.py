"""Models with inputs: against exact densities, against the model without, and verb by verb."""

import dataclasses

import pyro.distributions as dist
import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference.linear.kalman import LinearGaussian, kalman_filter
from seqzoo.zoo.models import vrae
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian, Poisson
from torch import nn

from seqzoo import inference, zoo

B, T, M, K, D = 3, 6, 4, 2, 2
CUT = 3  # the first step whose inputs change


def build(name, input_dim=D, **options):
    """A small model with random weights in evaluation mode."""
    torch.manual_seed(0)
    likelihood, options = Bernoulli(M), {"input_dim": input_dim, **options}
    net = {
        "RVAE": lambda: zoo.RVAE(M, K, likelihood, 6, **options),
        "RVAE, predictor": lambda: zoo.RVAE(
            M, K, likelihood, 6, predictor_hidden=5, predict_frame=True, **options
        ),
        "TVAE": lambda: zoo.TVAE(M, K, likelihood, 6, **options),
        "VRAE": lambda: zoo.VRAE(M, K, likelihood, 6, **options),
        "VRAE, path": lambda: zoo.VRAE(M, K, likelihood, 6, decoder_input="path", **options),
        "VRAE, both ways": lambda: zoo.VRAE(
            M,
            K,
            likelihood,
            6,
            decoder=zoo.decoders.BidirectionalDecoder(K + input_dim, M, 5),
            **options,
        ),
        "VOSP": lambda: zoo.VOSP(M, K, likelihood, 6, width=5, **options),
        "RNN": lambda: zoo.RNN(M, likelihood, 6, **options),
    }[name]()
    return net.eval()


NAMES = (
    *("RVAE", "RVAE, predictor", "TVAE", "VRAE", "VRAE, path", "VRAE, both ways", "VOSP", "RNN"),
)


def sequences(missing=False, seed=1):
    random = torch.Generator().manual_seed(seed)
    obs = torch.rand(B, T, M, generator=random).round()
    mask = torch.arange(T) < torch.tensor([T, 4, 5])[:, None]
    observed = torch.rand(B, T, M, generator=random) < 0.7 if missing else None
    return Batch(obs, mask, observed=observed, inputs=torch.randn(B, T, D, generator=random))


def changed(batch, start=0):
    """The same frames beside other inputs from a step on."""
    inputs = batch.inputs.clone()
    inputs[:, start:] = 2 - inputs[:, start:]
    return dataclasses.replace(batch, inputs=inputs)


def verbs(net, batch):
    """Every verb that a model has, and its value on a batch."""
    frames, inputs = isinstance(net, inference.FrameModel), batch.inputs
    ahead = inputs if net.input_dim else None
    found = {
        "sample": net.sample(B, T, inputs=ahead),
        "to_arviz": scored(inference.to_arviz(net, batch, 3)),
        "sbc": inference.sbc(inference.simulator(net, batch), 1, 5).pits["log_likelihood"]
        if not isinstance(net, zoo.RNN)
        else batch.obs * inputs[..., :1],
        "predictive_bound": inference.predictive_bound(net, batch, 4),
        "rates": torch.tensor(inference.rates(net, batch, num_samples=3).values),
        "latents": torch.tensor(inference.latents(net, batch)["mean"].values),
    }
    if isinstance(net, inference.Recurrent):
        found["run_filter"] = inference.run_filter(net, batch)
        found["predict_next"] = inference.predict_next(net, batch).mean
        found["rollout"] = inference.rollout(net, batch, T, inputs=ahead).mean
        found["frame_pit"] = inference.frame_pit(net, batch, 9)
    if frames:
        for rule in (inference.LocalELBO, inference.BPTT):
            torch.manual_seed(0)
            found[rule.__name__] = rule(net).gradients(batch)["loss"]
        found["loo"] = inference.loo(net, batch, 25, unit="frame").elpd
        now = None if ahead is None else inputs[0]
        past = found["run_filter"][0]
        found["clamped_gibbs"] = inference.clamped_gibbs(net, past, 2, 2, 1, inputs=now)
    else:
        found["elbo"] = inference.elbo(net, batch)
        found["importance_bound"] = inference.importance_bound(net, batch, 3)
    if not isinstance(net, zoo.RNN):
        found["reconstruct"] = net.reconstruct(batch)
    if getattr(net, "framewise", False):
        found["frame_bound"] = inference.frame_bound(net, batch, 3)
    if getattr(net, "causal", False):
        found["particle_bound"] = inference.particle_bound(net, batch, 5)
    if isinstance(net, (zoo.VRAE, zoo.VOSP)):
        found["denoise"] = inference.denoise(net, batch, 0.1, 5, probabilities=True)
        if batch.observed is not None:
            for way in ("mode", "gibbs", "resample"):
                found[f"impute, {way}"] = inference.impute(net, batch, way, 2, 2, 3).mean
    return found


def scored(tree):
    group = tree.log_likelihood
    return torch.tensor(next(iter(group.data_vars.values())).values)


# Without weight on the inputs, and with -----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_inputs_without_weight_change_nothing_and_others_change_every_verb(
    name, one_step, monkeypatch
):
    for module in (inference.path_filter, vrae):
        monkeypatch.setattr(module, "PARTICLES", 3)
    batch = sequences(missing=True)
    plain, net, still = build(name, 0), build(name), build(name)
    weights = plain.state_dict()
    for key, value in still.state_dict().items():  # inputs are the last columns wherever read
        value.zero_()
        if key in weights:
            value[tuple(map(slice, weights[key].shape))] = weights[key]
    without, ignored = verbs(plain, batch), verbs(still, batch)
    before, after = verbs(net, batch), verbs(net, changed(batch))
    for verb, expected in without.items():
        assert torch.allclose(ignored[verb], expected, atol=1e-5, equal_nan=True), verb
        same = torch.allclose(before[verb], after[verb], equal_nan=True)
        assert not same, f"{verb} ignores inputs"


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_depends_on_inputs_up_to_its_frame(name):
    batch, net = sequences(), build(name)
    other = changed(batch, CUT)
    if isinstance(net, inference.Recurrent):
        pairs = [
            (inference.predict_next(net, each).mean, inference.run_filter(net, each))
            for each in (batch, other)
        ]
        values = [torch.cat(pair, -1) for pair in pairs]
    else:
        path = torch.randn(B, T, K)
        values = [net.natural(path, net.prepare(each)) for each in (batch, other)]
    one, two = (value[0] for value in values)  # the longest sequence
    assert torch.equal(one[:CUT], two[:CUT]) == (name != "VRAE, both ways")
    assert not torch.allclose(one[CUT], two[CUT])
    assert not torch.allclose(one[-1], two[-1])


@pytest.mark.parametrize("name", ["RVAE", "VRAE, path", "RNN"])
def test_inputs_in_padding_change_nothing(name):
    batch, net = sequences(), build(name)
    longer = nn.functional.pad(batch.obs, (0, 0, 0, 2))
    inputs = nn.functional.pad(batch.inputs, (0, 0, 0, 2), value=float("nan"))
    padded = Batch(longer, nn.functional.pad(batch.mask, (0, 2)), inputs=inputs)
    found = [inference.latents(net, each)["mean"].values[:, :T] for each in (batch, padded)]
    torch.testing.assert_close(*map(torch.tensor, found), equal_nan=True)


# Exact densities ----------------------------------------------------------------------------------


class LinearMemory(nn.Module):
    """h_t = A h_{t-1} + B [x_t, s_t], a memory of a user's."""

    def __init__(self, dynamics, drive):
        super().__init__()
        self.register_buffer("dynamics", dynamics)
        self.register_buffer("drive", drive)
        self.outputs, self.inputs = drive.shape

    def initial(self, *rows):
        return self.drive.new_zeros(*rows, self.outputs)

    def step(self, inputs, state):
        return state @ self.dynamics.mT + inputs @ self.drive.mT

    def output(self, state):
        return state

    def forward(self, inputs):
        states = [self.initial(*inputs.shape[:-2])]
        for now in inputs.unbind(-2):
            states.append(self.step(now, states[-1]))
        return torch.stack(states[1:], -2)


def system():
    """A linear-Gaussian system of two states, one sensor and one input, in its steady state."""
    A, C = torch.tensor([[0.9, 0.3], [-0.2, 0.8]]), torch.tensor([[1.0, 0.5]])
    Q, R = torch.diag(torch.tensor([0.3, 0.2])), torch.tensor([[0.4]])
    P = Q
    for _ in range(200):
        gain = P @ C.mT / (C @ P @ C.mT + R)
        P = A @ (P - gain @ C @ P) @ A.mT + Q
    drive, direct = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.7]])
    exact = LinearGaussian(A, Q, C, torch.zeros(2), P, None, R, drive, direct)
    return exact, gain, float((C @ P @ C.mT + R).sqrt())


def driven(seed=0):
    """Data of one sensor beside one input, which is zero at the first step."""
    random = torch.Generator().manual_seed(seed)
    inputs = 2 * torch.randn(2, 8, 1, generator=random)
    inputs[:, 0] = 0  # a Kalman filter's first state has no transition before it
    return Batch(torch.randn(2, 8, 1, generator=random), inputs=inputs)


def test_an_rnn_that_is_a_kalman_filter_has_its_likelihood():
    exact, gain, sd = system()
    A, C, drive, direct = exact.dynamics, exact.emission, exact.input_dynamics, exact.input_emission
    kept = A @ (torch.eye(2) - gain @ C)
    memory = LinearMemory(kept, torch.cat((A @ gain, kept @ drive - A @ gain @ direct), 1))
    readout = nn.Linear(3, 1, bias=False)
    readout.weight.data = torch.cat((C, C @ drive + direct), 1) / sd
    net = zoo.RNN(1, Gaussian(1, sd), memory=memory, readout=readout, input_dim=1)
    batch = driven()
    variance = torch.zeros_like(batch.obs)
    expected = kalman_filter(
        exact.map(torch.Tensor.double), batch.obs, variance, inputs=batch.inputs
    )
    torch.testing.assert_close(
        net.log_prob(batch).double(), expected.log_likelihood, rtol=1e-4, atol=1e-3
    )


class LinearDecoder(nn.Module):
    """g_t = a g_{t-1} + e_t + b s_t and x_t = c g_t + d s_t, a stepped decoder of a user's."""

    causal = True

    def __init__(self, a, b, c, d):
        super().__init__()
        self.memory = LinearMemory(torch.tensor([[a]]), torch.tensor([[1.0, b]]))
        self.c, self.d = c, d

    def take(self, inputs, remembered):
        return inputs

    def emit(self, remembered, taken):
        return self.c * remembered + self.d * taken[..., 1:]

    def forward(self, inputs, mask=None):
        return self.emit(self.memory(inputs), inputs)


class FromPrior(nn.Module):
    """q(z | x) = p(z), a guide of a user's."""

    dim, features_dim = 1, 4

    def forward(self, features, mask, prior, decoder, inputs):
        assert inputs.shape == (*mask.shape, 1)
        return prior


def test_particles_of_a_linear_vrae_have_the_likelihood_of_a_kalman_filter():
    a, b, c, d = 0.8, 1.5, 0.7, -0.5
    net = zoo.VRAE(
        1,
        1,
        Gaussian(1),
        4,
        prior=zoo.priors.WhiteNoise(1),
        decoder=LinearDecoder(a, b, c, d),
        guide=FromPrior(),
        input_dim=1,
    )
    square = [torch.tensor([[value]]).double() for value in (a, 1.0, c, 1.0, 1.0, b, d)]
    A, Q, C, P, R, drive, direct = square
    exact = LinearGaussian(A, Q, C, torch.zeros(1).double(), P, None, R, drive, direct)
    batch = driven().window(0, 5)
    variance = torch.zeros_like(batch.obs)
    expected = kalman_filter(exact, batch.obs, variance, inputs=batch.inputs).log_likelihood
    found = inference.particle_bound(net, batch, 20_000)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05)
    whole = inference.importance_bound(net, batch, 20_000, at_once=20_000)
    torch.testing.assert_close(whole.double(), expected, rtol=0, atol=0.3)
    blind = dataclasses.replace(batch, inputs=torch.zeros_like(batch.inputs))
    assert ((inference.particle_bound(net, blind, 2000) - expected).abs() > 1).any()


class ExactGuide(nn.Module):
    """The posterior of x ~ N(0, 1), u ~ N(f x + g s, p), y ~ N(h x + j s, r)."""

    latent_dim = statistics_dim = 1

    def __init__(self, f, g, p, h, j, r):
        super().__init__()
        self.numbers = f, g, p, h, j, r

    def initial(self, rows):
        return torch.zeros(rows, 1)

    def encode(self, frames):
        return frames  # y_t, s_t

    def moments(self, features, past):
        f, g, p, h, j, r = self.numbers
        y, s = features.split(1, -1)
        known = (past != 0).to(y)
        precision = 1 + known * f**2 / p + h**2 / r
        return (known * f * (past - g * s) / p + h * (y - j * s) / r) / precision, precision

    def step(self, features, past):
        return self.moments(features, past)[0]

    def forward(self, features, past):
        mean, precision = self.moments(features, past)
        return dist.Normal(mean, precision.rsqrt()).to_event(1)


def test_the_frames_of_a_linear_rvae_have_the_exact_density_given_past_and_inputs():
    f, g, h, j = 0.9, -1.2, 0.8, 1.6
    p, r = 0.3**2, 0.5**2
    guide, decoder, recall = ExactGuide(f, g, p, h, j, r), nn.Linear(2, 1), nn.Linear(2, 1)
    net = zoo.RVAE(
        1,
        1,
        Gaussian(1, 0.5),
        guide=guide,
        decoder=decoder,
        past_decoder=recall,
        past_scale=0.3,
        input_dim=1,
    )
    decoder.weight.data, recall.weight.data = (
        torch.tensor([[h / 0.5, j / 0.5]]),
        torch.tensor([[f, g]]),
    )
    decoder.bias.data.zero_(), recall.bias.data.zero_()
    batch = driven()
    loss = inference.LocalELBO(net, bound="iwae", num_samples=3).gradients(batch)["loss"]
    u = torch.cat((torch.zeros(2, 1, 1), inference.run_filter(net, batch)[:, :-1]), 1)
    y, s = batch.obs, batch.inputs
    pair = torch.cat((u - g * s, y - j * s), -1)
    cov = torch.tensor([[f * f + p, f * h], [f * h, h * h + r]])
    both = dist.MultivariateNormal(torch.zeros(2), cov).log_prob(pair)
    first = dist.Normal(0.0, (h * h + r) ** 0.5).log_prob(pair[..., 1])
    expected = torch.cat((first[:, :1], both[:, 1:]), 1)
    torch.testing.assert_close(loss, -expected.mean(), rtol=1e-4, atol=1e-4)
    foreseen = net.predict_state(u[:, 3], s[:, 3])
    precision = 1 + f**2 / p
    torch.testing.assert_close(foreseen.mean, f * (u[:, 3] - g * s[:, 3]) / p / precision)
    torch.testing.assert_close(foreseen.variance, torch.full((2, 1), 1 / precision))


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*still falling")
@pytest.mark.parametrize("name", ["RVAE", "VRAE", "VOSP", "RNN"])
def test_a_model_learns_from_inputs_that_drive_the_data(name):
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 12, D, generator=random)
    rates = torch.exp(inputs @ torch.randn(D, M, generator=random) / 2)
    batch = Batch(torch.poisson(rates, generator=random), inputs=inputs)
    bounds = []
    for input_dim in (0, D):
        torch.manual_seed(0)
        net = {
            "RVAE": lambda n: zoo.RVAE(M, K, Poisson(M), 16, input_dim=n),
            "VRAE": lambda n: zoo.VRAE(M, K, Poisson(M), 16, input_dim=n),
            "VOSP": lambda n: zoo.VOSP(M, K, Poisson(M), 16, width=16, input_dim=n),
            "RNN": lambda n: zoo.RNN(M, Poisson(M), 16, input_dim=n),
        }[name](input_dim)
        frames = isinstance(net, inference.FrameModel)
        rule = inference.LocalELBO(net) if frames else inference.SequenceELBO(net)
        inference.fit(rule, batch, epochs=20, lr=4e-2, progress=False)
        bounds.append(float(inference.predictive_bound(net, batch, 10).sum()) / batch.frames)
    assert bounds[1] > bounds[0] + 1


def test_inputs_stay_beside_their_frames_in_windows_minibatches_chunks_and_shards():
    batch, folds = sequences(missing=True).rows([0, 1, 2, 0]), []
    batch = dataclasses.replace(batch, inputs=batch.obs[..., :D])

    class Watched(inference.LocalELBO):
        def loss(self, fold):
            folds.append(fold)
            return super().loss(fold)

    rule = Watched(build("RVAE"), window=4, minibatch=5, chunk=2, drop_past=0.5)
    inference.fit(rule, batch, epochs=1, batch_size=2, shards=2, progress=False)
    assert sum(fold.rows for fold in folds) == batch.frames
    assert all(torch.equal(fold.inputs, fold.obs[:, :D]) for fold in folds)


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RVAE", "VRAE", "VOSP", "RNN"])
def test_a_batch_without_fitting_inputs_is_refused(name):
    net, batch = build(name), sequences()
    rule = inference.LocalELBO if name == "RVAE" else inference.SequenceELBO
    for inputs, found in ((None, "none"), (batch.inputs[..., :1], "1")):
        unfit = dataclasses.replace(batch, inputs=inputs)
        for verb in (inference.predictive_bound, lambda n, b: rule(n).gradients(b)):
            with pytest.raises(
                ValueError, match=f"reads 2 inputs a frame, and this batch has {found}"
            ):
                verb(net, unfit)
    with pytest.raises(ValueError, match=r"shape \[3, 6, 2\], got NoneType"):
        net.sample(B, T)
    with pytest.raises(ValueError, match="leave inputs out"):
        build(name, 0).sample(B, T, inputs=batch.inputs)


def test_a_rollout_needs_the_inputs_of_its_frames():
    net, batch = build("RNN"), sequences()
    for inputs in (None, batch.inputs[:, :2], torch.full((B, T, D), float("nan"))):
        with pytest.raises(ValueError, match=r"shape \[3, 6, 2\]|NaN"):
            inference.rollout(net, batch, T, inputs=inputs)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"decoder": zoo.decoders.CausalDecoder(K, M)}, "2 latents and 2 inputs"),
        ({"decoder": zoo.decoders.CausalDecoder(K + D, M)}, "input_dim=0"),
        ({"encoder": zoo.memory.Reader(M, 5)}, "6 values a frame"),
    ],
)
def test_parts_built_for_other_inputs_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        zoo.VRAE(M, K, Poisson(M), input_dim=D, **part)
    with pytest.raises(ValueError, match="with input_dim 2 it needs 6"):
        zoo.RNN(M, Poisson(M), memory=zoo.memory.Memory(M, 5), input_dim=D)
