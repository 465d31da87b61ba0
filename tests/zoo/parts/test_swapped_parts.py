"""Parts that were swapped in and do not fit: each error is one sentence on what to do."""

import math

import pyro.distributions as dist
import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import LinearChain
from seqzoo.zoo import decoders, likelihoods, priors
from seqzoo.zoo.parts.memory import Memory, Reader
from torch import nn
from torch.nn.functional import softplus

from seqzoo import inference, zoo

B, T, M, K, H = 3, 6, 4, 2, 5
MASK = torch.arange(T) < torch.tensor([4, 6, 2])[:, None]
gaussian = likelihoods.Gaussian(M)


@pytest.fixture
def batch():
    return Batch(torch.randn(B, T, M), MASK)


def loss(net, batch):
    return inference.SequenceELBO(net).gradients(batch)["loss"]


def local(net, batch):
    return inference.LocalELBO(net).gradients(batch)["loss"]


def refused(build, batch, complaint, by=loss):
    with pytest.raises(ValueError, match=complaint):
        by(build(), batch)


# Parts of a VRAE --------------------------------------------------------------------------------


class Guide(nn.Module):
    """A guide whose law is what ``make`` does with mask, mean and spread."""

    def __init__(self, make=None, features_dim=H, dim=K):
        super().__init__()
        self.make = make or (lambda *law: LinearChain(law[0], 0.0, *law[1:]))
        if features_dim is not None:
            self.features_dim = features_dim
        if dim is not None:
            self.dim = dim
        self.heads = nn.Linear(H, 2 * K)

    def forward(self, features, mask, prior, decoder=None):
        mean, spread = self.heads(features).chunk(2, -1)
        return self.make(mask, mean, softplus(spread))


class Prior(nn.Module):
    """A prior whose law is what ``make`` does with a mask."""

    def __init__(self, make, dim=K):
        super().__init__()
        self.make = make
        if dim is not None:
            self.dim = dim

    def forward(self, mask):
        return self.make(mask)


class Net(nn.Module):
    """An encoder or a decoder: a linear map whose output ``change`` changes."""

    def __init__(self, inputs, outputs, change=lambda value: value, features_dim=None):
        super().__init__()
        self.net, self.change = nn.Linear(inputs, outputs), change
        if features_dim is not None:
            self.features_dim = features_dim

    def forward(self, inputs, mask=None):
        return self.change(self.net(inputs))


class Law(nn.Module):
    """A likelihood whose law is what ``make`` does with its natural parameters."""

    def __init__(self, make, **sizes):
        super().__init__()
        self.make = make
        for name, size in (sizes or {"dim": M, "natural_dim": M}).items():
            setattr(self, name, size)

    def distribution(self, natural):
        return self.make(natural)

    def check(self, value):
        pass


def vrae(likelihood=gaussian, **parts):
    return zoo.VRAE(M, K, likelihood, H, **parts)


def plain(natural):
    return torch.distributions.Independent(torch.distributions.Normal(natural, 1.0), 1)


def normal(mask, *moments):
    return dist.Normal(*(moments or (torch.zeros(*mask.shape, K), 1.0))).to_event(2)


def reader(change=lambda value: value):
    return Net(M, H, change, H)


WRONG = {
    "guide, no path": (
        lambda: vrae(guide=Guide(normal)),
        r"guide must return an inference\.Path.*L",
    ),
    "prior, no path": (lambda: vrae(prior=Prior(normal)), r"prior must return an inference\.Path"),
    "guide, latents": (
        lambda: vrae(
            guide=Guide(lambda mask, m, s: LinearChain(mask, 0.0, m[..., :1], s[..., :1]))
        ),
        r"guide must return a distribution over paths .* = \(3, 6, 2\), got \(3, 6, 1\)",
    ),
    "guide, steps": (
        lambda: vrae(
            guide=Guide(lambda mask, m, s: LinearChain(mask[:, 1:], 0.0, m[:, 1:], s[:, 1:]))
        ),
        r"guide must return a distribution over paths .* = \(3, 6, 2\), got \(3, 5, 2\)",
    ),
    "guide, parts": (
        lambda: vrae(guide=Guide(lambda mask, m, s: LinearChain(mask, 0.0, m[:, 1:], s[:, 1:]))),
        "offset must broadcast",
    ),
    "prior, latents": (
        lambda: vrae(prior=Prior(priors.WienerProcess(K + 1))),
        r"prior must return a distribution over paths .* got \(3, 6, 3\)",
    ),
    "guide without dim": (
        lambda: vrae(guide=Guide(dim=None)),
        "guide needs an attribute dim: Guide",
    ),
    "guide without features_dim": (
        lambda: vrae(guide=Guide(features_dim=None)),
        "guide needs an attribute features_dim",
    ),
    "prior without dim": (lambda: vrae(prior=Prior(normal, None)), "prior needs an attribute dim"),
    "encoder without features_dim": (
        lambda: vrae(encoder=Net(M, H)),
        "encoder needs an attribute features_dim",
    ),
    "encoder, width": (
        lambda: vrae(encoder=Net(M, H + 1, features_dim=H)),
        r"encoder must return .*features_dim\] = \(3, 6, 5\), got \(3, 6, 6\)",
    ),
    "encoder, steps": (
        lambda: vrae(encoder=reader(lambda value: value[:, 1:])),
        r"encoder must return .*\(3, 5, 5\)",
    ),
    "encoder, a pair": (
        lambda: vrae(encoder=reader(lambda value: (value, None))),
        "encoder must return .* got tuple",
    ),
    "encoder, frames": (
        lambda: vrae(encoder=Reader(M + 1, H)),
        "encoder reads 5 values a step, the model has 4 values a frame",
    ),
    "decoder, latents": (
        lambda: vrae(decoder=decoders.CausalDecoder(K + 1, M, H)),
        "decoder reads 3 values a step, the model has 2 latents",
    ),
    "decoder, one latent": (  # which broadcasts
        lambda: vrae(decoder=decoders.CausalDecoder(1, M, H)),
        "decoder reads 1 values a step",
    ),
    "decoder of both sides, latents": (
        lambda: vrae(decoder=decoders.BidirectionalDecoder(K + 1, M, H)),
        "decoder reads 3 values",
    ),
    "decoder, outputs": (
        lambda: vrae(decoder=decoders.CausalDecoder(K, M + 1, H), obs_mean=0.5),
        "decoder has 5 outputs a frame, .* natural_dim = 4",
    ),
    "decoder of one's own, outputs": (
        lambda: vrae(decoder=Net(K, 1)),  # which broadcasts
        r"decoder must return .*natural_dim\] = .*6, 4\), got .*6, 1\)",
    ),
    "likelihood of torch": (
        lambda: vrae(Law(plain)),
        r"likelihood's distribution must be one of pyro\.distributions.*got torch\.dist",
    ),
    "likelihood without an event": (
        lambda: vrae(Law(lambda natural: dist.Normal(natural, 1.0))),
        r"likelihood's distribution must have event shape \(4,\), got \(\) .*to_event\(1\)",
    ),
    "likelihood without dim": (
        lambda: vrae(Law(plain, natural_dim=M)),
        "likelihood needs an attribute dim",
    ),
    "likelihood without natural_dim": (
        lambda: vrae(Law(plain, dim=M)),
        "likelihood needs an attribute natural_dim",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_parts_that_do_not_fit_a_vrae(mistake, batch):
    refused(WRONG[mistake][0], batch, WRONG[mistake][1])


def test_parts_that_do_not_fit_a_vosp(batch):
    def vosp(likelihood=gaussian, **parts):
        return zoo.VOSP(M, K, likelihood, H, width=H, **parts)

    for build, complaint in (
        (lambda: vosp(guide=Guide(normal)), r"guide must return an inference\.Path"),
        (lambda: vosp(prior=Prior(normal)), r"prior must return an inference\.Path"),
        (lambda: vosp(guide=Guide(dim=None)), "guide needs an attribute dim"),
        (lambda: vosp(Law(plain)), r"pyro\.distributions"),
    ):
        refused(build, batch, complaint)
    assert torch.isfinite(loss(vosp(guide=Guide()), batch))


def test_what_is_generated_is_checked_too():
    with pytest.raises(ValueError, match="prior must return"):
        vrae(prior=Prior(normal)).sample(2, 3)
    with pytest.raises(ValueError, match="decoder must return"):
        vrae(decoder=Net(K, 1)).sample(2, 3)


def test_parts_that_fit(batch):
    own = {
        "prior": Prior(lambda mask: LinearChain(mask, 0.9, 0.0, torch.ones(1, K))),
        "encoder": reader(),
        "guide": Guide(),
        "decoder": Net(K, M),
    }
    likelihood = Law(lambda natural: dist.Normal(natural, 1.0).to_event(1))
    for name, part in own.items():
        assert torch.isfinite(loss(vrae(**{name: part}), batch)), name
    net = vrae(likelihood, **own)
    assert torch.isfinite(loss(net, batch))
    fitted = inference.fit(inference.SequenceELBO(net), batch, epochs=2, progress=False)
    assert math.isfinite(fitted.history[-1]["loss"])


# Parts of an rVAE -------------------------------------------------------------------------------


class Leaky(nn.Module):
    """The mean is a leaky average of a linear code of the frames; the spread is constant."""

    def __init__(self, latents=K, statistics=K):
        super().__init__()
        if latents is not None:
            self.latent_dim = latents
        if statistics is not None:
            self.statistics_dim = statistics
        self.code = nn.Linear(M, K)

    def initial(self, rows):
        return torch.zeros(rows, K)

    def encode(self, obs):
        return self.code(obs)

    def step(self, features, past):
        return 0.9 * past + 0.1 * features

    def forward(self, features, past):
        return dist.Normal(self.step(features, past), 1.0).to_event(1)


class Doubling(Leaky):
    """Tells twice as many statistics as it began with."""

    def step(self, features, past):
        return torch.cat((past, features), -1)


class Eventless(Leaky):
    """Forgets ``to_event``."""

    def forward(self, features, past):
        return dist.Normal(self.step(features, past), 1.0)


class Plain(Leaky):
    """A law of torch's."""

    def forward(self, features, past):
        return plain(self.step(features, past))


class Long(Leaky):
    """Begins with other statistics than it says."""

    def initial(self, rows):
        return torch.zeros(rows, K + 1)


def rvae(guide=None, likelihood=gaussian, **parts):
    return zoo.RVAE(M, K, likelihood, hidden=H, guide=guide, **parts)


LOCAL = {
    "step": (lambda: rvae(Doubling()), r"guide's step must return .* = \(3, 2\), got \(3, 4\)"),
    "initial": (lambda: rvae(Long()), r"guide's initial must return .* = \(3, 2\), got \(3, 3\)"),
    "to_event": (
        lambda: rvae(Eventless()),
        r"guide's distribution must have event shape \(2,\), got \(\) .*to_event\(1\)",
    ),
    "torch": (lambda: rvae(Plain()), r"guide's distribution must be one of pyro\.distributions"),
    "latent_dim": (lambda: rvae(Leaky(None)), "guide needs an attribute latent_dim: Leaky"),
    "statistics_dim": (lambda: rvae(Leaky(K, None)), "guide needs an attribute statistics_dim"),
    "decoder": (
        lambda: rvae(decoder=nn.Linear(K, 1)),
        r"decoder must return .*natural_dim\] = \(12, 4\), got \(12, 1\)",
    ),
    "likelihood": (lambda: rvae(likelihood=Law(plain)), r"distribution must be one of pyro"),
    "event": (
        lambda: rvae(likelihood=Law(lambda natural: dist.Normal(natural, 1.0))),
        r"distribution must have event shape \(4,\)",
    ),
    "natural_dim": (lambda: rvae(likelihood=Law(plain, dim=M)), "needs an attribute natural_dim"),
}


@pytest.mark.parametrize("mistake", LOCAL)
@pytest.mark.parametrize("rule", [inference.LocalELBO, inference.BPTT])
def test_parts_that_do_not_fit_an_rvae(mistake, rule, batch):
    build, complaint = LOCAL[mistake]
    refused(build, batch, complaint, lambda net, data: rule(net).gradients(data))


def test_parts_that_fit_an_rvae(batch):
    own = {"guide": Leaky(), "decoder": nn.Linear(K, M)}
    for net in (rvae(), rvae(own["guide"]), rvae(decoder=own["decoder"]), rvae(**own)):
        assert torch.isfinite(local(net, batch))
        assert net.filter(batch).mean.shape == (B, T, K)


def test_an_rvae_puts_out_as_many_numbers_as_its_likelihood_needs(batch):
    def laplace(natural):
        centre, log_scale = natural.chunk(2, -1)
        return dist.Laplace(centre, log_scale.exp()).to_event(1)

    net = rvae(likelihood=Law(laplace, dim=M, natural_dim=2 * M))
    assert torch.isfinite(local(net, batch))


# Nets that do not say how wide they are ---------------------------------------------------------


def forgetful(read=M, hidden=H, inputs=M, outputs=H):
    """A memory of ``hidden`` units over ``read`` values that may say otherwise."""
    memory = Memory(read, hidden)
    memory.inputs, memory.outputs = inputs, outputs
    return memory


def rnn(**parts):
    return zoo.RNN(M, gaussian, H, **parts)


def vosp(**parts):
    return zoo.VOSP(M, K, gaussian, H, width=H, **parts)


def encoding(inputs, outputs):
    return rvae(zoo.guides.GaussianGuide(M, K, H, encoder=nn.Linear(inputs, outputs)))


class Recurrent(nn.Module):
    """An encoder made of one of torch's own nets."""

    features_dim = H

    def __init__(self, kind, inputs):
        super().__init__()
        self.net = kind(inputs, H)

    def forward(self, obs, mask):
        if isinstance(self.net, nn.GRU):
            return self.net(obs.transpose(0, 1))[0].transpose(0, 1)
        return torch.stack([self.net(frame) for frame in obs.unbind(1)], 1)


WIDTHS = {
    "encoder": (
        lambda: vrae(encoder=Net(M + 1, H, features_dim=H)),
        r"encoder .* \(3, 6, 4\): mat1",
    ),
    "encoder, GRU": (
        lambda: vrae(encoder=Recurrent(nn.GRU, M + 1)),
        "encoder .* Expected 5, got 4",
    ),
    "encoder, cell": (
        lambda: vrae(encoder=Recurrent(nn.GRUCell, M + 1)),
        "encoder .* got 4 expected 5",
    ),
    "decoder": (lambda: vrae(decoder=Net(K + 1, M)), r"decoder .* \(1, 3, 6, 2\): mat1"),
    "memory's inputs": (lambda: rnn(memory=forgetful(M + 1)), r"memory .* \(3, 6, 4\)"),
    "memory's outputs": (
        lambda: rnn(memory=forgetful(hidden=H + 1, outputs=H)),
        r"memory must return .*outputs\] = \(3, 6, 5\), got \(3, 6, 6\)",
    ),
    "memory's inputs, VOSP": (
        lambda: vosp(memory=forgetful(M + 1)),
        r"memory .* \(3, 6, 4\)",
    ),
    "memory's outputs, VOSP": (
        lambda: vosp(memory=forgetful(hidden=H + 1, outputs=H)),
        r"memory must return .*outputs\] = \(3, 6, 5\), got \(3, 6, 6\)",
    ),
    "readout": (lambda: rnn(readout=nn.Linear(H + 1, M)), r"readout .* \(3, 6, 5\): mat1"),
    "readout's outputs": (
        lambda: rnn(readout=nn.Linear(H, 1)),  # which broadcasts
        r"readout must return .*natural_dim\] = \(3, 6, 4\), got \(3, 6, 1\)",
    ),
}
LOCAL_WIDTHS = {
    "decoder": (lambda: rvae(decoder=nn.Linear(K + 1, M)), r"decoder .* \(12, 2\): mat1"),
    "past_decoder": (
        lambda: rvae(past_decoder=nn.Linear(K + 1, 2 * K)),
        r"past_decoder .* \(12, 2\): mat1",
    ),
    "past_decoder's outputs": (
        lambda: rvae(past_decoder=nn.Linear(K, 1)),  # which broadcasts
        r"past_decoder must return .*statistics_dim\] = \(12, 4\), got \(12, 1\)",
    ),
    "encoder": (lambda: encoding(M + 1, H), r"guide's encode fails on .* 4\): mat1"),
    "encoder's outputs": (lambda: encoding(M, H + 1), r"guide's encode fails on .* 4\): mat1"),
}


@pytest.mark.parametrize("mistake", WIDTHS)
def test_nets_of_other_widths(mistake, batch):
    refused(WIDTHS[mistake][0], batch, WIDTHS[mistake][1])


@pytest.mark.parametrize("mistake", LOCAL_WIDTHS)
@pytest.mark.parametrize("rule", [inference.LocalELBO, inference.BPTT])
def test_nets_of_other_widths_in_an_rvae(mistake, rule, batch):
    build, complaint = LOCAL_WIDTHS[mistake]
    refused(build, batch, complaint, lambda net, data: rule(net).gradients(data))


def test_what_is_generated_by_nets_of_other_widths():
    for net, complaint in (
        (vrae(decoder=Net(K + 1, M)), "the decoder fails"),
        (rnn(readout=nn.Linear(H + 1, M)), "the readout fails"),
        (rvae(past_decoder=nn.Linear(K + 1, 2 * K)), "the past_decoder fails"),
    ):
        with pytest.raises(ValueError, match=complaint):
            net.sample(2, 3)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyError])
def test_other_errors_of_a_part_stay_what_they_are(batch, error):
    def broken(value):
        raise error("no idea")

    with pytest.raises(error, match="no idea"):
        loss(vrae(encoder=reader(broken)), batch)


# Arguments in the wrong place -------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda part: zoo.VRAE(M, K, gaussian, part),
        lambda part: zoo.VRAE(
            *(M, K, gaussian, part), encoder=reader(), decoder=Net(K, M), guide=Guide()
        ),
        lambda part: zoo.VOSP(M, K, gaussian, part),
        lambda part: zoo.VOSP(M, K, gaussian, part, memory=Memory(M, H)),
        lambda part: zoo.RNN(M, gaussian, part),
        lambda part: zoo.RNN(M, gaussian, part, memory=Memory(M, H)),
        lambda part: zoo.RVAE(M, K, gaussian, part),
        lambda part: zoo.TVAE(M, K, gaussian, part),
    ],
)
def test_a_part_where_a_number_of_units_belongs(build):
    for part in (priors.WienerProcess(K), Memory(M, H)):
        with pytest.raises(ValueError, match=r"hidden must be a whole number, got .* by name"):
            build(part)
    assert isinstance(build(H), nn.Module)


def test_parts_are_given_by_name():
    for build in (zoo.VOSP, zoo.RVAE):
        with pytest.raises(TypeError, match="positional"):
            build(M, K, gaussian, H, Guide())
    with pytest.raises(TypeError, match="positional"):
        zoo.RNN(M, gaussian, H, Memory(M, H))


def test_a_scale_that_is_not_positive_is_named_before_lr():
    net = vrae(guide=Guide(lambda mask, mean, spread: LinearChain(mask, 0.0, mean, -spread)))
    batch = Batch(torch.zeros(B, T, M))
    with pytest.raises(FloatingPointError, match=r"not to blame.*scale that is not positive"):
        inference.fit(inference.SequenceELBO(net), batch, epochs=1, progress=False)
