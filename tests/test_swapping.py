"""Parts that were swapped in and do not fit: each mistake gets one sentence on what to do."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from seqzoo.data import Batch, collate
from seqzoo.inference import LinearChain
from seqzoo.inference.paths import kl_steps, marginal_increments
from seqzoo.zoo import decoders, likelihoods, path_guides, priors
from seqzoo.zoo.parts.memory import Memory, Reader
from torch import nn
from torch.distributions import kl_divergence
from torch.nn.functional import softplus

from seqzoo import inference, zoo

B, T, M, K, H = 3, 6, 4, 2, 5
MASK = torch.arange(T) < torch.tensor([4, 6, 2])[:, None]
FULL = torch.ones(B, T, dtype=torch.bool)
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


# Laws of paths ----------------------------------------------------------------------------------


class Shifted(LinearChain):
    """A chain that is moved by three, the rest of it as it was."""

    def from_innovations(self, noise):
        return super().from_innovations(noise) + 3

    def to_innovations(self, path):
        return super().to_innovations(path - 3)


class Named(LinearChain):
    """A Wiener process with arguments of its own, a law that is not changed."""

    def __init__(self, mask, spread):
        self.spread = spread
        super().__init__(mask, 1.0, torch.zeros(1, K), torch.full((1, K), spread))


def chain(kind=LinearChain):
    return kind(FULL, 0.0, torch.zeros(1, K), torch.ones(1, K))


def test_a_subclass_of_a_chain_is_not_taken_for_one():
    q, p = chain(Shifted), chain()
    path = q.rsample((4000,))
    truth = 9 / 2 * K  # a step: two normals, three standard deviations apart
    assert kl_steps(q, p, path).mean().item() == pytest.approx(truth, abs=0.1)
    assert kl_steps(p, q, p.rsample((4000,))).mean().item() == pytest.approx(truth, abs=0.1)
    assert not kl_steps(p, p).any()
    for laws in ((q, p), (p, q)):
        with pytest.raises(NotImplementedError, match="Shifted"):
            kl_steps(*laws)
        with pytest.raises(NotImplementedError, match="Shifted"):
            kl_divergence(*laws)
        with pytest.raises(ValueError, match="Shifted"):
            marginal_increments(*laws)
    assert not kl_divergence(p, p).any()


def test_a_law_that_is_expanded_stays_what_it_is():
    for law in (chain(Shifted), Named(MASK, 0.5), priors.GaussianProcess(K)(MASK)):
        wide = law.expand((7, B))
        assert type(wide) is type(law)
        assert (*wide.batch_shape, *wide.event_shape) == (7, B, T, K)
        path = law.sample((7,))
        assert torch.equal(wide.log_prob(path), law.log_prob(path))
        assert torch.equal(wide.mode, law.mode.expand(7, B, T, K))
        assert law.batch_shape == (B,)
    assert Named(MASK, 0.5).expand((7, B)).spread == 0.5


class Moving(path_guides.Diagonal):
    """A guide whose law is a changed chain."""

    def forward(self, features, mask, prior, decoder=None):
        law = super().forward(features, mask, prior)
        return Shifted(mask, 0.0, law.offset, law.scale)


def test_a_changed_chain_is_trained_by_its_own_divergence(batch):
    torch.manual_seed(0)
    net = zoo.VRAE(M, K, gaussian, H, prior=priors.WhiteNoise(K), guide=Moving(H, K))
    with torch.no_grad():
        for part in net.recognition.parameters():
            part.zero_()
    terms = inference.evaluate.elbo_terms(net, net.prepare(batch), 2000)
    sd = math.log(2) + path_guides.MIN_SPREAD
    a_step = K * (-math.log(sd) + (sd**2 + 9 - 1) / 2)
    found = terms.divergence.mean(0)
    torch.testing.assert_close(found[MASK], torch.full((12,), a_step), atol=0.2, rtol=0)
    assert not found[~MASK].any()


def test_a_changed_chain_does_not_make_a_vosp_framewise():
    assert zoo.VOSP(M, K, gaussian, H, width=H).framewise
    net = zoo.VOSP(M, K, gaussian, H, width=H, prior=priors.WhiteNoise(K), guide=Moving(H, K))
    assert not net.framewise


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((0.0, torch.zeros(B, T - 1, K), torch.ones(1, K)), "offset must broadcast to .*3, 6, 2"),
        ((0.0, torch.zeros(B, T, K), torch.ones(B, T, K - 1 + 2)), "offset must broadcast"),
        ((torch.ones(B + 1, 1, K), torch.zeros(1, K), torch.ones(1, K)), "coefficient must"),
        ((torch.ones(()), torch.zeros(1, K), torch.ones(1, K)), r"coefficient must .* got \(\)"),
        ((0.0, torch.zeros(1, K), torch.ones(2, B, T, K)), "scale must broadcast"),
        ((0.0, torch.zeros(1, K), 1.0), "scale must be a tensor"),
    ],
)
def test_the_parts_of_a_chain_must_broadcast(parts, complaint):
    with pytest.raises(ValueError, match=complaint):
        LinearChain(MASK, *parts)


def test_parts_that_broadcast_are_taken():
    for shape in ((K,), (1, K), (T, 1), (B, 1, K), (B, T, K)):
        law = LinearChain(MASK, 0.5, torch.zeros(1, K), torch.ones(shape))
        assert law.event_shape == (T, K)
        assert law.rsample().shape == (B, T, K)


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
    for part in (priors.WienerProcess(K), Memory(M, H), "many"):
        with pytest.raises(ValueError, match=r"hidden must be an int, got .* by name"):
            build(part)
    assert isinstance(build(H), nn.Module)


def test_parts_are_given_by_name():
    for build in (zoo.VOSP, zoo.RVAE):
        with pytest.raises(TypeError, match="positional"):
            build(M, K, gaussian, H, Guide())
    with pytest.raises(TypeError, match="positional"):
        zoo.RNN(M, gaussian, H, Memory(M, H))


# Rules and networks -----------------------------------------------------------------------------

UNTRAINABLE = {
    "BPTT, VRAE": (inference.BPTT, "VRAE", "a FrameModel .*, and VRAE is a SequenceModel:"),
    "BPTT, VOSP": (inference.BPTT, "VOSP", "a FrameModel .*, and VOSP is a SequenceModel:"),
    "BPTT, SRN": (inference.BPTT, "SRN", "a FrameModel .*, and SRN is an AnswerModel:"),
    "local, REFH": (inference.LocalELBO, "REFH", "a FrameModel .*, and REFH is an EnergyModel:"),
    "folded, LGDS": (inference.FoldedRule, "LGDS", "a Recurrent network, and LGDS is a Linear"),
    "contrastive, RVAE": (
        *(inference.ContrastiveDivergence, "RVAE"),
        r"an EnergyModel \(REFH, TRBM, RTRBM\), and RVAE is a FrameModel:",
    ),
    "sequence, RVAE": (inference.SequenceELBO, "RVAE", "and RVAE is a FrameModel:"),
    "sequence, REFH": (inference.SequenceELBO, "REFH", "and REFH is an EnergyModel:"),
    "sequence, LGDS": (
        *(inference.SequenceELBO, "LGDS"),
        "networks with trainable parameters, and LGDS has none:",
    ),
    "EM, RVAE": (inference.EM, "RVAE", r"a LinearSystem \(LGDS\), and RVAE is a FrameModel:"),
    "average, SRN": (inference.Average, "SRN", "a buffer mean .*, and SRN has none:"),
    "targets, RVAE": (inference.TargetPropagation, "RVAE", "and RVAE is a FrameModel:"),
    "straight, VRAE": (inference.StraightThrough, "VRAE", "and VRAE is a SequenceModel:"),
    "plain, LGDS": (inference.OutputBPTT, "LGDS", "an AnswerModel .*, and LGDS is a Linear"),
}
TRAINERS = {
    "VRAE": "SequenceELBO",
    "VOSP": "SequenceELBO",
    "SRN": "StraightThrough",
    "REFH": "ContrastiveDivergence",
    "LGDS": "EM",
    "RVAE": "LocalELBO",
}
NETWORKS = {
    "VRAE": lambda: zoo.VRAE(M, K, gaussian, H),
    "VOSP": lambda: zoo.VOSP(M, K, gaussian, H, width=5),
    "RNN": lambda: zoo.RNN(M, gaussian, H),
    "SRN": lambda: zoo.SRN(M, zoo.likelihoods.Categorical(3), H),
    "REFH": lambda: zoo.REFH(M, H, gaussian),
    "LGDS": lambda: zoo.LGDS(2),
    "RVAE": lambda: zoo.RVAE(M, K, gaussian, H),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_a_rule_names_what_a_network_lacks_and_who_trains_it(case):
    rule_of, name, sentence = UNTRAINABLE[case]
    expected = f"^{rule_of.__name__} trains .*{sentence}.* {TRAINERS[name]} trains it$"
    with pytest.raises(ValueError, match=expected):
        rule_of(NETWORKS[name]())


@pytest.mark.parametrize("name", TRAINERS)
def test_who_is_named_trains_it(name):
    getattr(inference, TRAINERS[name])(NETWORKS[name]())


def test_a_network_of_no_kind_is_told_which_one_to_inherit():
    with pytest.raises(
        ValueError, match=r"Linear inherits none of the kinds .*: see SequenceModel$"
    ):
        inference.SequenceELBO(nn.Linear(2, 2))


def test_names_decide_nothing():
    """A user's helpers may be called as methods of another kind are."""

    class Helpful(zoo.RVAE):
        def read(self, batch):
            return self.prepare(batch)

        def prepare(self, batch):
            return batch

        def measure(self, obs):
            return obs

        framewise = causal = at_every_step = True

    net, batch = Helpful(M, K, gaussian, H), Batch(torch.randn(B, T, M))
    inference.LocalELBO(net).gradients(batch)
    assert inference.loo(net, batch, num_samples=30, unit="frame").elpd.shape == (B, T)
    with pytest.raises(ValueError, match="Helpful is a FrameModel: LocalELBO trains it"):
        inference.SequenceELBO(net)


class Clamped(inference.EnergyModel):
    """A harmonium's protocol, without what options alone need."""

    check = encode = step = initial = free_energy = gibbs = random_frames = lambda self: None


def test_contrastive_divergence_asks_for_sampled_hidden_units_only_if_it_samples_them():
    inference.ContrastiveDivergence(Clamped())
    with pytest.raises(ValueError, match=r"and Clamped has no sample_hidden$"):
        inference.ContrastiveDivergence(Clamped(), sample_past=True)


# Precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "LGDS"])
def test_observations_of_another_precision_are_refused(name):
    net, obs = NETWORKS[name](), torch.randn(2, 5, M)
    said = r"obs are float64, .* weights are float32: use obs\.float\(\), or net\.double\(\)"
    with pytest.raises(ValueError, match=said):
        net.check(obs.double())
    with pytest.raises(ValueError, match=r"obs are float16, .*: use obs\.float\(\)$"):
        net.check(obs.half())
    net.double().check(obs.double())
    with pytest.raises(ValueError, match=r"obs are float32, .* float64: use obs\.double\(\)$"):
        net.check(obs)


def test_a_network_may_have_parameters_of_several_kinds():
    net = NETWORKS["VRAE"]()
    net.prior.double()
    assert next(net.parameters()).dtype != next(net.decoder.parameters()).dtype
    net.check(torch.randn(2, 5, M))


def test_a_rule_refuses_another_precision_before_anything_is_touched():
    for rule_of, name in ((inference.LocalELBO, "RVAE"), (inference.SequenceELBO, "VRAE")):
        with pytest.raises(ValueError, match="obs are float64"):
            rule_of(NETWORKS[name]()).gradients(Batch(torch.randn(2, 5, M).double()))


# Rules and data ---------------------------------------------------------------------------------


class Telling(inference.LearningRule):
    """Returns what it was told to."""

    def __init__(self, net, metrics):
        super().__init__(net)
        self.metrics = metrics

    def gradients(self, batch):
        for part in self.net.parameters():
            part.grad = torch.zeros_like(part)
        return self.metrics


def told(metrics, data=None):
    data = Batch(torch.zeros(B, T, M)) if data is None else data
    return inference.fit(Telling(nn.Linear(M, M), metrics), data, epochs=1, progress=False)


GOOD = {"loss": torch.tensor(1.0), "frames": torch.tensor(12.0)}


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"loss": GOOD["loss"]}, r"Telling must return .*'frames'.*got \['loss'\]"),
        ({"frames": GOOD["frames"]}, "Telling must return .*'loss'"),
        (torch.tensor(1.0), "Telling must return a dictionary .* got Tensor"),
        ({"loss": 1.0, "frames": GOOD["frames"]}, "its loss is a float"),
        (None, "Telling must return a dictionary .* got NoneType"),
    ],
)
def test_what_a_rule_must_return(metrics, complaint):
    with pytest.raises(ValueError, match=complaint):
        told(metrics)
    assert told(GOOD).history[0]["loss"] == 1


def test_a_rule_that_makes_no_update(batch):
    class Idle(inference.LearningRule):
        def updates(self, batch):
            return iter(())

    with pytest.raises(ValueError, match=r"Idle must return .* no update in epoch 0"):
        inference.fit(Idle(nn.Linear(M, M)), batch, epochs=1, progress=False)


@pytest.mark.parametrize(
    "data", [[torch.zeros(T, M)] * B, torch.zeros(B, T, M), np.zeros((B, T, M))], ids=type
)
def test_sequences_in_any_form_are_trained_on(data):
    assert told(GOOD, data).history == told(GOOD).history


@pytest.mark.parametrize("data", ["ppc", 3, {"obs": torch.zeros(B, T, M)}], ids=type)
def test_data_that_are_none_get_one_sentence(data):
    for rule in (Telling(nn.Linear(M, M), GOOD), inference.EM(zoo.LGDS(1))):
        with pytest.raises(ValueError, match=r"expected a Batch, a tensor .*, got \w+$"):
            inference.fit(rule, data, progress=False)


def test_a_scale_that_is_not_positive_is_named_before_lr():
    net = vrae(guide=Guide(lambda mask, mean, spread: LinearChain(mask, 0.0, mean, -spread)))
    batch = Batch(torch.zeros(B, T, M))
    with pytest.raises(FloatingPointError, match=r"not to blame.*scale that is not positive"):
        inference.fit(inference.SequenceELBO(net), batch, epochs=1, progress=False)


@pytest.mark.parametrize(
    ("sequences", "targets", "complaint"),
    [
        ([np.zeros((T, M))], None, r"sequence 0 is no tensor but ndarray: use torch\.as_tensor"),
        (
            [torch.zeros(T, M), torch.zeros(2, M + 1)],
            None,
            r"sequence 1 has shape \(2, 5\), sequence 0 \(6, 4\): all axes but the first",
        ),
        ([torch.zeros(T, M), torch.zeros(T)], None, r"sequence 1 has shape \(6,\)"),
        ([torch.zeros(())], None, r"sequence 0 has shape \(\)"),
        ([torch.zeros(T, M)], [4], "target 0 is no tensor but int"),
        (
            [torch.zeros(T, M)] * 2,
            [torch.zeros(1), torch.zeros(2)],
            r"target 1 has shape \(2,\), target 0 \(1,\): all axes must agree",
        ),
    ],
)
def test_sequences_that_cannot_be_collated(sequences, targets, complaint):
    with pytest.raises(ValueError, match=complaint):
        collate(sequences, targets)


def test_sequences_that_can_be_collated():
    batch = collate([torch.zeros(T, M), torch.zeros(2, M)], torch.tensor([1, 0]))
    assert batch.mask.sum(1).tolist() == [T, 2]
    assert batch.target.tolist() == [1, 0]
    assert collate(torch.zeros(B, T, M, M)).obs.shape == (B, T, M, M)
