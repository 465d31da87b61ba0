"""What every model of the zoo must do: the suites of ``inference.testing``, and what is the zoo's.

A model that is listed here goes through all tests of its kind.
"""

import pytest
import torch
from seqzoo.data import Batch, ppc
from seqzoo.inference import testing
from seqzoo.zoo import decoders, likelihoods, memory, path_guides, priors, store
from seqzoo.zoo.models import baselines
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import NADE
from seqzoo.zoo.recipes.population import PopulationReadout, SpringFilter

from seqzoo import inference, zoo

B, T, M = 3, 8, 15

poisson = zoo.likelihoods.Poisson(M)


def counts():
    """Spike counts, ``[B, T, M]``."""
    return torch.poisson(8 * ppc.tuning(torch.linspace(-1, 1, B * T).view(B, T)))


def over(choices):
    """A fixture that runs all tests of a class with each of the choices, by name."""

    @pytest.fixture(autouse=True, params=list(choices))
    def chosen(self, request):
        self.name = request.param

    return chosen


class Frames:
    """The zoo also refuses frames of another precision. Its models learn in few updates."""

    epochs, lr = 15, 0.06

    def bad_observations(self, obs):
        precision = (obs.double(), r"float64, the network's weights are float32: use")
        return super().bad_observations(obs) | {"another precision": precision}


class Counts(Frames):
    """Data of neurons, which cannot fire less than never, beside inputs that few models read."""

    def batch(self):
        return Batch(counts(), inputs=torch.randn(B, T, 2))

    def bad_observations(self, obs):
        return super().bad_observations(obs) | {"below zero": (-torch.ones_like(obs), "negative")}


# Networks that carry u along --------------------------------------------------------------------


def film_guide(rate=None):
    return zoo.guides.FilmGuide(M, 4, hidden=6, emission_dim=2, rate=rate)


MODELS = {
    "RVAE": lambda: zoo.RVAE(M, 2, poisson, hidden=6),
    "RVAE, means": lambda: zoo.RVAE(M, 2, poisson, hidden=6, statistics="mean", input_dim=2),
    "RVAE, film guide": lambda: zoo.RVAE(
        *(M, 4, poisson), hidden=6, emission_dim=2, guide=film_guide(), predictor_hidden=5
    ),
    "TVAE": lambda: zoo.TVAE(M, 2, poisson, hidden=6),
    "TVAE, static": lambda: zoo.TVAE(M, 2, poisson, hidden=6, transition=False),
    "REFH": lambda: zoo.REFH(M, 7, poisson, scale=0.1),
    "TRBM": lambda: zoo.TRBM(M, 7, poisson, scale=0.1),
    "RTRBM": lambda: zoo.RTRBM(M, 7, poisson, scale=0.1),
    "LGDS": lambda: zoo.LGDS(2, readout=PopulationReadout()),
    "SpringFilter": SpringFilter,
}
TRAINED = {
    "RVAE": inference.LocalELBO,
    "RVAE, means": inference.BPTT,
    "RVAE, film guide": inference.LocalELBO,
    "TVAE": inference.LocalELBO,
    "TVAE, static": inference.BPTT,
    "REFH": inference.ContrastiveDivergence,
    "TRBM": inference.ContrastiveDivergence,
    "RTRBM": inference.ContrastiveDivergence,
}


class TestFilters(Counts, testing.FilteringConformance):
    chosen = over(MODELS)
    factorisation = "p(x["
    clip, constant = None, ()
    epochs, lr = testing.FilteringConformance.epochs, testing.FilteringConformance.lr

    def build(self):
        return MODELS[self.name]()

    @property
    def rules(self):
        return (TRAINED[self.name],) if self.name in TRAINED else ()

    def bad_observations(self, obs):
        """Kalman filters, in float64, read any precision."""
        bad = super().bad_observations(obs)
        if not self.rules:
            del bad["another precision"]
        return bad

    def loss(self, rule, batch):
        """Of a harmonium the reconstruction error: its loss is no measure of fit."""
        if isinstance(rule, inference.ContrastiveDivergence):
            return float((rule.net.reconstruct(batch.obs) - batch.obs).square().mean())
        return super().loss(rule, batch)

    def test_what_it_generates_are_counts(self):
        assert (self.samples(self.build(), seed=4)["sample"] >= 0).all()


@pytest.fixture
def obs():
    return counts()


def test_a_film_guide_begins_with_what_the_frame_says_alone(obs):
    """And, if asked, with how fast that changes."""
    guide = film_guide(rate=3.0)
    with torch.no_grad():
        guide.heads.weight.zero_()
    features, past = guide.encode(obs[:, 0]), torch.randn(B, guide.statistics_dim)
    alone, _ = guide.moments(features, guide.initial(B))  # a blank past: the frame alone
    mean, spread = guide.moments(features, past)
    torch.testing.assert_close(mean[:, :2], alone[:, :2])
    torch.testing.assert_close(mean[:, 2:], 3 * (alone[:, :2] - past[:, :2]))
    assert (spread > 0).all()
    mixed = film_guide()
    with torch.no_grad():
        mixed.heads.weight.zero_()
    features = mixed.encode(obs[:, 0])
    first, second = (mixed.moments(features, u)[0][:, 2:] for u in (past, past + 1))
    assert not torch.allclose(first, second)  # there is something of the past to keep


def test_only_the_predictor_learns_from_prediction(obs):
    """Its site gives gradients to its own parameters, and changes no other's."""
    torch.manual_seed(0)
    net = MODELS["RVAE, film guide"]()
    found = []
    for weight in (1.0, 0.0):
        torch.manual_seed(1)
        inference.LocalELBO(net, weights={"foreseen": weight}).gradients(Batch(obs))
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, gradient in found[0].items():
        same = torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-6)
        assert same != name.startswith("predictor."), name


def test_a_guide_of_another_size_is_refused():
    guide = zoo.guides.GaussianGuide(M, latent_dim=3, hidden=4)
    with pytest.raises(ValueError, match="3 latents"):
        zoo.RVAE(M, 2, poisson, guide=guide)


# Models of whole sequences ----------------------------------------------------------------------

SEQUENCE_MODELS = {
    "VRAE": lambda: zoo.VRAE(M, 2, poisson, hidden=6),
    "VRAE, as published": lambda: zoo.VRAE(
        *(M, 2, poisson),
        encoder=memory.Reader(M, 6, "both"),
        guide=path_guides.Diagonal(12, 2),
        decoder=decoders.BidirectionalDecoder(2, M, 6),
        decoder_input="path",
    ),
    "VRAE, AR1": lambda: zoo.VRAE(
        M, 2, poisson, hidden=6, prior=priors.AR1(2), guide=path_guides.MarkovChain(6, 2)
    ),
    "VOSP": lambda: zoo.VOSP(M, 2, poisson, hidden=6, width=5),
    "VOSP, path": lambda: zoo.VOSP(
        M, 2, poisson, memory=memory.DeepTransition(M, 6, 4), width=5, decoder_input="path"
    ),
    "VOSP, sees missing": lambda: zoo.VOSP(
        M, 2, poisson, hidden=6, width=5, sees_missing=True, input_dim=2
    ),
    "RNN": lambda: zoo.RNN(M, poisson, hidden=6),
    "RNN, deep": lambda: zoo.RNN(M, poisson, memory=memory.Memory(M, 6, "lstm", layers=2)),
}


LINEAR_MODELS = {
    "LGDS, learned": lambda: zoo.LGDS(2, M),
    "LGDS, full": lambda: zoo.LGDS(2, M, noise="full"),
    "PoissonLGDS": lambda: zoo.PoissonLGDS(2, M),
}


class TestLinearModels(Frames, testing.SequenceConformance):
    """Trained by EM, which fills no gradients."""

    chosen = over(LINEAR_MODELS)
    factorisation = "p(x[t] | x[t-1]) p(y[t] | x[t])"
    rules = ()
    constant = ("filter.covariance", "filter.variance")

    def build(self):
        """Some system: at first C is [I 0], and most channels say nothing."""
        net, random = LINEAR_MODELS[self.name](), torch.Generator().manual_seed(3)
        net.dynamics.mul_(0.9)
        net.emission.copy_(torch.randn(net.emission.shape, generator=random) / 3)
        net.offset.fill_(0.5)
        return net

    def batch(self):
        return Batch(counts()[..., : self.build().obs_dim])

    def bad_observations(self, obs):
        """They read any precision, in float64."""
        bad = super().bad_observations(obs)
        del bad["another precision"]
        negative = {"below zero": (-torch.ones_like(obs), "negative")}
        return bad | (negative if self.name == "PoissonLGDS" else {})


class TestSequenceModels(Counts, testing.SequenceConformance):
    chosen = over(SEQUENCE_MODELS)
    factorisation = "p(x[t] | "
    constant = ()

    def build(self):
        return SEQUENCE_MODELS[self.name]()

    def test_it_has_the_methods_that_make_sense_for_it(self):
        net, latent = self.build(), not isinstance(self.build(), zoo.RNN)
        has = set(self.methods(net))
        assert has >= ({"posterior", "reconstruct"} if latent else {"log_prob"})
        assert ("filter" in has) == isinstance(net, zoo.VOSP)
        assert ("reconstruct" in has) == ("posterior" in has) == latent == ("log_prob" not in has)
        for name, value in self.outputs(net, self.batch()).items():
            if name.startswith(("posterior", "filter")):
                assert value.shape == (B, T, 2), name

    def test_what_it_generates_are_counts(self):
        drawn = self.samples(self.build(), seed=4)["sample"]
        assert torch.equal(drawn, drawn.round())
        assert (drawn >= 0).all()

    def test_all_but_the_priors_scale_is_learned(self):
        """And that, too, where one asks for it."""
        fixed = [name for name, p in self.build().named_parameters() if not p.requires_grad]
        assert fixed == ([] if self.name.startswith("RNN") else ["prior.log_scale"])

    def test_it_shows_what_it_guesses_with(self):
        first = repr(self.build()).splitlines()[1]
        assert "p(x[t] | " in first
        assert ("q(z[" in first) != self.name.startswith("RNN")


MODELS_OF_TRACES = {
    "RNN, private": lambda: zoo.RNN(M, likelihoods.LearnedGaussian(M), hidden=6, private=True),
    "VOSP, private": lambda: zoo.VOSP(
        *(M, 2, likelihoods.LearnedGaussian(M)),
        hidden=6,
        width=5,
        sees_missing=True,
        input_dim=2,
        private=True,
    ),
}


class TestModelsOfTraces(Frames, testing.SequenceConformance):
    chosen = over(MODELS_OF_TRACES)
    factorisation = "p(x[t] | "
    constant = ()

    def build(self):
        return MODELS_OF_TRACES[self.name]()

    def batch(self):
        return Batch(torch.randn(B, T, M), inputs=torch.randn(B, T, 2))


# Networks that answer a sequence -----------------------------------------------------------------

OUT = 4  # classes, keys or values of an answer
CUT = torch.arange(T) < torch.tensor([[5], [8], [1]])  # lengths of sequences, where they differ
ANSWERING_MODELS = {
    "SRN": lambda: SRN(M, likelihoods.Categorical(OUT), hidden=6),
    "SRN, hybrid": lambda: SRN(
        M, likelihoods.Categorical(OUT), hidden=6, stochastic=0.5, nonlinearity="tanh"
    ),
    "SRN, stochastic": lambda: SRN(M, likelihoods.Categorical(OUT), hidden=6, stochastic=1.0),
    "SRN, every step": lambda: SRN(
        *(M, zoo.likelihoods.Bernoulli(OUT)), hidden=6, stochastic=0.5, every_step=True
    ),
    "SRN, every step, deterministic": lambda: SRN(
        *(M, zoo.likelihoods.Bernoulli(OUT)), hidden=6, nonlinearity="tanh", every_step=True
    ),
    "SRN, sees missing": lambda: SRN(
        *(M, zoo.likelihoods.Bernoulli(OUT)), hidden=6, every_step=True, sees_missing=True
    ),
    "MDRNN": lambda: MDRNN(M, OUT, components=3, hidden=6),
    "MDRNN, hybrid": lambda: MDRNN(M, OUT, components=3, hidden=6, stochastic=0.5),
}


def answers_of(net, obs):
    """A target that depends on the frames: of the last step, or of every one."""
    level = obs[..., :OUT] if net.every_step else obs[:, -1, :OUT]
    if isinstance(net.output, likelihoods.Categorical):
        return level.argmax(-1)
    return (level > 1).float() if isinstance(net.output, zoo.likelihoods.Bernoulli) else level / 8


class TestAnsweringModels(Frames, testing.AnsweringConformance):
    chosen = over(ANSWERING_MODELS)
    factorisation = "p(h[t] | h[t-1], x[t])"
    clip = None

    def build(self):
        return ANSWERING_MODELS[self.name]()

    def batch(self):
        obs = counts()
        return Batch(obs / 8, target=answers_of(self.build(), obs))

    def outputs(self, net, batch):
        """Also those of networks with stochastic units, given the units."""
        frames = batch.obs
        bits = (frames[..., : net.num_stochastic] > 1 / 8).float() if net.num_stochastic else None
        with torch.no_grad():
            states = net.path(net.drive(net.prepare(batch).obs), bits)
            given = {"mean": net.output.mean(net.readout(states))}
        if states.shape[-1] > net.num_stochastic:
            given["path"] = states
        return super().outputs(net, batch) | given

    def test_answers_have_the_size_of_the_output(self):
        net, batch = self.build(), self.batch()
        mean = net.predict(batch.obs)
        assert mean.shape == ((B, T, OUT) if net.every_step else (B, OUT))
        net.output.check(net.sample_answers(batch.obs, num_samples=5))

    def test_it_shows_when_it_answers(self):
        net = self.build()
        first = repr(net).splitlines()[1]
        assert self.factorisation in first
        assert ("p(y[t] | x[1:t], h)" in first) == net.every_step
        assert ("p(y | x[1:T], h)" in first) != net.every_step


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["SRN", "SRN, every step, deterministic", "MDRNN"])
@pytest.mark.parametrize("mask", [None, CUT], ids=["whole", "padded"])
def test_gradients_of_local_targets_are_the_same_on_a_gpu(name, mask, obs):
    """Where the folded batch is one block, not many."""
    net = ANSWERING_MODELS[name]()
    data, found = Batch(obs / 8, mask, target=answers_of(net, obs)), []
    for device in ("cpu", "cuda"):
        inference.TargetPropagation(net.to(device)).gradients(data.to(device))
        found.append({name: part.grad.cpu().clone() for name, part in net.named_parameters()})
    for parameter_name, value in found[0].items():
        torch.testing.assert_close(found[1][parameter_name], value, rtol=1e-3, atol=1e-5)


# Parts that they swap ----------------------------------------------------------------------------

PRIORS = {
    "white noise": lambda: priors.WhiteNoise(2, learn=True),
    "Wiener": lambda: priors.WienerProcess(2, scale=0.5),
    "AR1": lambda: priors.AR1(2, 0.8, learn=True),
    "Gaussian process": lambda: priors.GaussianProcess(2, "matern32", lengthscale=2.0, learn=True),
}
GUIDES = {
    "diagonal": lambda: path_guides.Diagonal(4, 2),
    "increments": lambda: path_guides.Increments(4, 2),
    "Markov chain": lambda: path_guides.MarkovChain(4, 2),
    "autoregressive": lambda: path_guides.Autoregressive(4, 2, memory_dim=5, hidden=6),
}
LIKELIHOODS = {
    "Bernoulli": lambda: likelihoods.Bernoulli(3),
    "Poisson": lambda: likelihoods.Poisson(1),
    "Gaussian": lambda: likelihoods.Gaussian(2, scale=0.3),
    "learned Gaussian": lambda: likelihoods.LearnedGaussian(2, [1e3, -5.0], [20.0, 0.1]),
    "NADE": lambda: NADE(3, 4),
    "categorical": lambda: likelihoods.Categorical(3),
    "mixture": lambda: likelihoods.GaussianMixture(2, 3),
}


class TestPriors(testing.PriorConformance):
    chosen = over(PRIORS)

    def build(self):
        return PRIORS[self.name]()


class TestGuides(testing.GuideConformance):
    chosen = over(GUIDES)

    def build(self):
        return GUIDES[self.name]()

    def decoder(self):
        return decoders.CausalDecoder(2, M, 5)


class TestLikelihoods(testing.LikelihoodConformance):
    chosen = over(LIKELIHOODS)

    def build(self):
        return LIKELIHOODS[self.name]()

    def statistic(self, value):
        """Of a class, which one it is."""
        return torch.nn.functional.one_hot(value, 3).float() if value.dtype == torch.long else value


# Rules -------------------------------------------------------------------------------------------

RULES = {
    "local": lambda: inference.LocalELBO(MODELS["RVAE"]()),
    "local, importance": lambda: inference.LocalELBO(MODELS["TVAE"](), num_samples=3, bound="iwae"),
    "local, windows": lambda: inference.LocalELBO(MODELS["RVAE"](), window=3, minibatch=4),
    "through time": lambda: inference.BPTT(MODELS["RVAE"]()),
    "contrastive": lambda: inference.ContrastiveDivergence(MODELS["REFH"](), k=2, random=0.5),
    "contrastive, through time": lambda: inference.ContrastiveDivergence(MODELS["RTRBM"]()),
    "sequence": lambda: inference.SequenceELBO(SEQUENCE_MODELS["VRAE"](), num_samples=2),
    "sequence, importance": lambda: inference.SequenceELBO(
        SEQUENCE_MODELS["VRAE"](), objective="importance", num_samples=2
    ),
    "sequence, frames": lambda: inference.SequenceELBO(
        SEQUENCE_MODELS["VOSP"](), objective="frames", num_samples=2
    ),
    "sequence, particles": lambda: inference.SequenceELBO(
        SEQUENCE_MODELS["VRAE, AR1"](), objective={"particles": 0.5, "elbo": 0.5}, num_samples=2
    ),
}
ANSWERING_RULES = {
    "targets": lambda: inference.TargetPropagation(ANSWERING_MODELS["SRN, hybrid"]()),
    "targets, at every step": lambda: inference.TargetPropagation(
        ANSWERING_MODELS["SRN, every step"](), noise=0.1, difference=False
    ),
    "straight through": lambda: inference.StraightThrough(ANSWERING_MODELS["MDRNN, hybrid"]()),
    "plain": lambda: inference.OutputBPTT(ANSWERING_MODELS["SRN"]()),
}


class TestRules(Counts, testing.RuleConformance):
    chosen = over(RULES)

    def build(self):
        return RULES[self.name]()


class TestAnsweringRules(testing.RuleConformance):
    chosen = over(ANSWERING_RULES)

    def build(self):
        return ANSWERING_RULES[self.name]()

    def batch(self):
        obs = counts()
        return Batch(obs / 8, target=answers_of(self.build().net, obs))

    def frames(self, rule, batch):
        return batch.frames if rule.net.every_step else len(batch)

    @property
    def untrained(self):
        return () if self.name.startswith("targets") else ("back.",)


def test_every_shipped_card_builds_a_model_listed_here():
    makers = MODELS | SEQUENCE_MODELS | ANSWERING_MODELS | LINEAR_MODELS
    listed = tuple({type(make()) for make in makers.values()})
    for name in store.carded():
        net = store.build(zoo.card(name))
        assert isinstance(net, (*listed, baselines.Memoryless)), name  # those have no state
