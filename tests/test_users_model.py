"""Models, parts and a rule of one's own, through the suites of ``inference.testing``; broken ones.

First what a user writes, from what ``inference`` gives alone; then what happens if it is wrong.
"""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from seqzoo.data import Batch, as_batch
from seqzoo.inference import testing
from seqzoo.inference.paths import previous
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import Categorical
from torch import nn
from torch.distributions import register_kl
from torch.nn.functional import softplus

from seqzoo import inference, zoo

B, T, M, K = 3, 8, 4, 2


def noise():
    """Frames of real values, ``[B, T, M]``."""
    return torch.randn(B, T, M) + 1


# A network that carries u along ------------------------------------------------------------------


class Tracker(inference.FrameModel, PyroModule):
    """x_t ~ N(0, I), y_t ~ N(D x_t, I); u_t, the belief's mean, is a leaky average of codes."""

    def __init__(self):
        super().__init__()
        self.code, self.decoder = nn.Linear(M, K), nn.Linear(K, M)
        self.log_spread = nn.Parameter(torch.zeros(K))

    def extra_repr(self):
        return "p(x[t]) p(y[t] | x[t]);  q(x[t] | u[t-1], y[t])"

    def check(self, obs):
        if obs.shape[-1] != M:
            raise ValueError(f"a frame has {M} values, got shape {tuple(obs.shape)}")

    def initial(self, rows):
        return self.log_spread.new_zeros(rows, K)

    def encode(self, obs):
        return self.code(obs)

    def step(self, features, past):
        return (past + features) / 2

    def model(self, fold):
        with pyro.plate("frames", fold.rows):
            x = pyro.sample("x", dist.Normal(self.initial(fold.rows), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(self.decoder(x), 1.0).to_event(1), obs=fold.obs)

    def guide(self, fold):
        mean = self.step(self.encode(fold.obs), fold.past)
        with pyro.plate("frames", fold.rows):
            pyro.sample("x", dist.Normal(mean, self.log_spread.exp()).to_event(1))

    @torch.no_grad()
    def filter(self, batch):
        mean = inference.run_filter(self, batch)
        return inference.Filtered(mean, (2 * self.log_spread).exp().expand_as(mean))

    @torch.no_grad()
    def reconstruct(self, batch):
        return self.decoder(self.filter(batch).mean)

    @torch.no_grad()
    def sample(self, sequences, steps, seed=0):
        like = self.log_spread
        with inference.RandomStream(like.device, seed):
            mean = self.decoder(torch.randn(sequences, steps, K, device=like.device))
            return mean + torch.randn_like(mean)


class TestTracker(testing.FilteringConformance):
    rules = (inference.LocalELBO, inference.BPTT)

    def build(self):
        return Tracker()

    def batch(self):
        return Batch(noise())


# A Pyro pair over whole sequences ----------------------------------------------------------------


class Echo(inference.SequenceModel, PyroModule):
    """x_t ~ N(A x_{t-1} + b, s²): nothing latent, so its log-likelihood is exact."""

    def __init__(self):
        super().__init__()
        self.echo, self.log_scale = nn.Linear(M, M), nn.Parameter(torch.zeros(M))

    def extra_repr(self):
        return "p(x[t] | x[t-1])"

    def prepare(self, batch):
        if batch.obs.shape[-1] != M:
            raise ValueError(f"a frame has {M} values, got shape {tuple(batch.obs.shape)}")
        return batch

    def frame(self, before):
        return dist.Normal(self.echo(before), self.log_scale.exp()).to_event(1)

    def model(self, batch):
        with pyro.plate("sequences", len(batch)):
            frames = self.frame(previous(batch.obs)).mask(batch.mask)
            pyro.sample("x", frames.to_event(1), obs=batch.obs)

    def guide(self, batch):
        pass

    def log_prob(self, batch):
        return inference.elbo(self, batch)

    @torch.no_grad()
    def sample(self, sequences, steps, seed=0):
        with inference.RandomStream(self.log_scale.device, seed):
            frames = [self.log_scale.new_zeros(sequences, M)]
            for _ in range(steps):
                frames.append(self.frame(frames[-1]).sample())
            return torch.stack(frames[1:], 1)


class TestEcho(testing.SequenceConformance):
    def build(self):
        return Echo()

    def batch(self):
        return Batch(noise())


# A prior, a guide and a likelihood, apart and together in a model of the zoo ---------------------


class SmoothPath(inference.Path):
    """z_t = 2 z_{t-1} - z_{t-2} + s e_t: a Wiener process of velocities."""

    def __init__(self, mask, scale):
        self.scale = scale
        super().__init__(mask, scale.shape[-1], scale)

    def from_innovations(self, noise):
        return (self.scale * noise).cumsum(-2).cumsum(-2)

    def to_innovations(self, path):
        step = path - previous(path)
        return (step - previous(step)) / self.scale, self.scale

    def expand(self, batch_shape, _instance=None):
        return type(self)(self.real.expand(*batch_shape, -1), self.scale)


class Smooth(nn.Module):
    """The prior that gives it."""

    def __init__(self, dim):
        super().__init__()
        self.dim, self.log_scale = dim, nn.Parameter(torch.zeros(dim))

    def forward(self, mask):
        return SmoothPath(mask, self.log_scale.exp())


class Gated(nn.Module):
    """q(z_t | z_{t-1}, x) = N(a z_{t-1} + m_t, s_t²), the gate a learned but not of the data."""

    def __init__(self, features_dim, dim):
        super().__init__()
        self.features_dim, self.dim = features_dim, dim
        self.heads, self.gate = nn.Linear(features_dim, 2 * dim), nn.Parameter(torch.zeros(1, dim))

    def forward(self, features, mask, prior, decoder=None):
        mean, spread = self.heads(features).chunk(2, -1)
        return inference.LinearChain(mask, self.gate.sigmoid(), mean, softplus(spread) + 1e-3)


class Laplace(nn.Module):
    """Real values with heavy tails: a net puts out their centres and the logs of their scales."""

    event_dim = 1

    def __init__(self, dim):
        super().__init__()
        self.dim, self.natural_dim = dim, 2 * dim

    def distribution(self, natural):
        centre, log_scale = natural.chunk(2, -1)
        return dist.Laplace(centre, log_scale.exp()).to_event(1)

    def mean(self, natural):
        return natural[..., : self.dim]

    mode = mean

    def sample(self, natural):
        return self.distribution(natural).sample()

    def check(self, value):
        if not value.is_floating_point() or value.shape[-1:] != (self.dim,):
            raise ValueError(f"a frame is {self.dim} floating-point values, got {value.shape}")
        if not value.isfinite().all():
            raise ValueError("a value is NaN or infinite: clean the data")


class TestSmooth(testing.PriorConformance):
    def build(self):
        return Smooth(K)


class TestGated(testing.GuideConformance):
    def build(self):
        return Gated(5, K)


class TestGatedUnderSmooth(TestGated):
    """The divergence has no closed form here."""

    def prior(self, mask, dim):
        return SmoothPath(mask, torch.full((dim,), 0.7))


class TestLaplace(testing.LikelihoodConformance):
    def build(self):
        return Laplace(2)


class TestTogether(testing.SequenceConformance):
    def build(self):
        return zoo.VRAE(M, K, Laplace(M), hidden=6, prior=Smooth(K), guide=Gated(6, K))

    def batch(self):
        return Batch(noise())


# A network that answers --------------------------------------------------------------------------


class Leaky(SRN):
    """Units that keep half of what they were."""

    def mean(self, drive, past):
        return (past + super().mean(drive, past)) / 2


class TestLeaky(testing.AnsweringConformance):
    def build(self):
        return Leaky(M, Categorical(3), hidden=5)

    def batch(self):
        obs = noise()
        return Batch(obs, target=obs[:, -1, :3].argmax(-1))


# A learning rule ---------------------------------------------------------------------------------


class Perturbation(inference.LearningRule):
    """Tries a random step both ways, and takes the difference for the slope: no graph at all."""

    size = 1e-2

    def loss(self, batch):
        return -inference.elbo(self.net, batch).sum() / batch.frames

    @torch.no_grad()
    def gradients(self, batch):
        start = {name: part.clone() for name, part in self.net.named_parameters()}
        steps = {name: self.size * torch.randn_like(part) for name, part in start.items()}
        losses = []
        for sign in (1, -1):
            for name, part in self.net.named_parameters():
                part.copy_(start[name] + sign * steps[name])
            losses.append(self.loss(batch))
        slope = (losses[0] - losses[1]) / (2 * self.size**2)
        for name, part in self.net.named_parameters():
            part.copy_(start[name])
            part.grad = slope * steps[name]
        return {"loss": sum(losses) / 2, "frames": batch.mask.sum().float()}


class TestPerturbation(testing.RuleConformance):
    def build(self):
        return Perturbation(Echo())

    def batch(self):
        return Batch(noise())


class TestEchoByPerturbation(TestEcho):
    rules = (Perturbation,)
    epochs = 100


# What the suites say of broken ones --------------------------------------------------------------


class Mixing(Tracker):
    """Looks at its neighbours."""

    def encode(self, obs):
        return self.code(obs - obs.mean(0))


class Foreseeing(Tracker):
    """Filters with the future."""

    def filter(self, batch):
        mean, variance = super().filter(batch)
        return inference.Filtered(mean.flip(1).cumsum(1).flip(1), variance)


class Unseeded(Tracker):
    """Draws the caller's random numbers, whatever the seed."""

    @torch.no_grad()
    def sample(self, sequences, steps, seed=0):
        return torch.randn(sequences, steps, M)


class Reseeding(Tracker):
    """Draws the same again, but sets everybody's seed."""

    @torch.no_grad()
    def sample(self, sequences, steps, seed=0):
        torch.manual_seed(seed)
        return torch.randn(sequences, steps, M)


class Jittery(Tracker):
    """Takes random numbers for what needs none, though it gives the same."""

    def filter(self, batch):
        torch.rand(1)
        return super().filter(batch)


class Sideways(Tracker):
    """Forgets an axis of the variance, and swaps two of what it generates."""

    def filter(self, batch):
        mean, variance = super().filter(batch)
        return inference.Filtered(mean, variance[..., 0])

    def sample(self, sequences, steps, seed=0):
        return super().sample(sequences, steps, seed).transpose(0, 1)


class Graphic(Tracker):
    """Gives out tensors with a graph."""

    def reconstruct(self, batch):
        return self.decoder(self.filter(batch).mean)


class Normalised(Tracker):
    """Has statistics of the batch in it while it trains."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(M, affine=False)

    def encode(self, obs):
        return self.code(self.norm(obs.reshape(-1, M)).reshape(obs.shape))


class Idle(Tracker):
    """Has a parameter that is of no use."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1))


class Elsewhere(Tracker):
    """Keeps a parameter where no rule finds it."""

    def model(self, fold):
        pyro.param("offset", torch.zeros(1))
        return super().model(fold)


class Unsaved(Tracker):
    """Depends on numbers that are not saved."""

    def __init__(self):
        super().__init__()
        self.gain = torch.rand(1)

    def step(self, features, past):
        return super().step(features * self.gain, past)


class Speechless(Tracker):
    """Leaves it to torch to complain, and shows no formula."""

    def check(self, obs):
        pass

    def extra_repr(self):
        return ""


class Unmasked(Echo):
    """Scores padding, too."""

    def log_prob(self, batch):
        return super().log_prob(as_batch(batch).obs)


class Careless(zoo.VRAE):
    """Is trained to explain padding and missing values, too."""

    def emit(self, path, encoding):
        return self.frames(path, encoding).to_event(1)


class Unscaled(SmoothPath):
    """Forgets in its density by how much it stretches noise."""

    def to_innovations(self, path):
        return super().to_innovations(path)[0], torch.ones_like(self.scale)


class Foresighted(SmoothPath):
    """Builds paths from their end, so that shorter ones have another law."""

    def from_innovations(self, noise):
        return super().from_innovations(noise).flip(-2)

    def to_innovations(self, path):
        return super().to_innovations(path.flip(-2))


class Stuck(SmoothPath):
    """Is always as wide as its batch."""

    def expand(self, batch_shape, _instance=None):
        return self


class Narrow(SmoothPath):
    """Draws with less noise than it says."""

    def rsample(self, sample_shape=()):
        return 0.7 * super().rsample(sample_shape)


class Deaf(Gated):
    """Hears nothing of the data."""

    def forward(self, features, mask, prior, decoder=None):
        return super().forward(torch.ones_like(features), mask, prior)


class Gossip(Gated):
    """Hears what other sequences say, and padding."""

    def forward(self, features, mask, prior, decoder=None):
        return super().forward(features + features.mean((0, 1)), mask, prior)


class Pointed(SmoothPath):
    """Says how far it is from a Wiener process, wrongly."""


@register_kl(inference.LinearChain, Pointed)
def _wrong(q, p):
    return torch.ones(q.batch_shape)


class Doubled(Laplace):
    """Has a density that is twice too large, its mean off centre, and takes anything."""

    def distribution(self, natural):
        centre, log_scale = natural.chunk(2, -1)
        return Tall(centre, log_scale.exp()).to_event(1)

    def check(self, value):
        pass


class Tall(dist.Laplace):
    def log_prob(self, value):
        return super().log_prob(value) + 0.5

    def expand(self, batch_shape, _instance=None):
        return Tall(self.loc.expand(batch_shape), self.scale.expand(batch_shape))


class Lopsided(Laplace):
    """Has its mean off centre."""

    def mean(self, natural):
        return natural[..., : self.dim] + natural[..., self.dim :].exp() / 5


class Backwards(Perturbation):
    """Climbs where it should descend."""

    def gradients(self, batch):
        metrics = super().gradients(batch)
        for part in self.net.parameters():
            part.grad.neg_()
        return metrics


class Adding(Perturbation):
    """Adds its gradients to those of the call before."""

    def gradients(self, batch):
        before = [0 if part.grad is None else part.grad.clone() for part in self.net.parameters()]
        metrics = super().gradients(batch)
        for part, old in zip(self.net.parameters(), before):
            part.grad += old
        return metrics


class Drifting(Perturbation):
    """Leaves the parameters a little off."""

    def gradients(self, batch):
        metrics = super().gradients(batch)
        with torch.no_grad():
            self.net.log_scale += 1e-3
        return metrics


class Overcounting(Perturbation):
    """Counts padding, and announces more updates than it makes."""

    def gradients(self, batch):
        metrics = super().gradients(batch)
        frames = torch.tensor(float(batch.mask.numel()))
        return {"loss": metrics["loss"], "frames": frames}

    def count(self, batch):
        return 2


BROKEN_MODELS = {
    Mixing: {"sequences_do_not_mix"},
    Foreseeing: {"outputs_depend_on_past_and_present_only", "padding_changes_nothing"},
    Unseeded: {
        "seeds_reproduce_samples",
        "the_callers_random_state_is_left_alone",
        "training_mode_changes_no_output",
        "saved_and_loaded_it_is_the_same",
    },
    Reseeding: {"the_callers_random_state_is_left_alone"},
    Jittery: {"the_callers_random_state_is_left_alone"},
    Sideways: {
        "outputs_have_the_documented_shapes",
        "samples_are_sequences_that_the_model_takes",
    },
    Graphic: {"outputs_are_finite_and_have_no_graph"},
    Normalised: {
        "sequences_do_not_mix",
        "padding_changes_nothing",
        "training_mode_changes_no_output",
        "outputs_depend_on_past_and_present_only",
    },
    Idle: {"gradients_reach_every_parameter"},
    Elsewhere: {"gradients_reach_every_parameter"},
    Unsaved: {"saved_and_loaded_it_is_the_same"},
    Speechless: {
        "bad_observations_get_a_clear_sentence",
        "the_representation_shows_the_factorisation",
    },
}


DENSITY = "the_density_is_that_of_the_samples"
BROKEN_PARTS = {
    Unscaled: (TestSmooth, {DENSITY, "the_divergence_agrees_with_sampling"}),
    Foresighted: (
        TestSmooth,
        {"padding_has_no_density", "the_divergence_agrees_with_sampling"},
    ),
    Stuck: (TestSmooth, {"an_expanded_distribution_is_the_same"}),
    Narrow: (TestSmooth, {DENSITY}),
    Pointed: (TestSmooth, {"the_divergence_agrees_with_sampling"}),
    Deaf: (TestGated, {"sequences_do_not_mix_and_padding_has_no_influence"}),
    Gossip: (
        TestGated,
        {"sequences_do_not_mix_and_padding_has_no_influence", "padding_has_no_density"},
    ),
    Doubled: (TestLaplace, {"probabilities_sum_to_one", "check_refuses_bad_values"}),
    Lopsided: (TestLaplace, {"the_mean_is_that_of_the_samples"}),
    Adding: (TestPerturbation, {"the_same_seed_gives_the_same_gradients"}),
    Drifting: (
        TestPerturbation,
        {
            "the_network_and_the_data_are_left_as_they_were",
            "the_same_seed_gives_the_same_gradients",
        },
    ),
    Overcounting: (
        TestPerturbation,
        {"it_sets_gradients_and_reports_its_loss", "count_is_the_number_of_updates"},
    ),
}


def built(part):
    """A prior, guide, likelihood or rule of this class."""
    if issubclass(part, inference.Path):
        prior = Smooth(K)
        prior.forward = lambda mask: part(mask, prior.log_scale.exp() / 2)
        return prior
    if issubclass(part, Perturbation):
        return part(Echo())
    return part(5, K) if issubclass(part, Gated) else part(2)


def failing(suite, **how):
    """The names of the tests that fail, without ``test_``, when a suite is changed like this."""
    broken = type(suite.__name__, (suite,), {name: _method(value) for name, value in how.items()})
    broken.test_it_works_on_a_gpu = None  # the broken ones draw on the CPU alone
    return {name.removeprefix("test_") for name in testing.failures(broken())}


def _method(value):
    return (lambda self: value()) if callable(value) else value


@pytest.mark.parametrize("net", BROKEN_MODELS, ids=lambda net: net.__name__)
def test_a_broken_model_fails_the_right_tests(net):
    with pyro.get_param_store().scope():
        how = {"rules": (inference.LocalELBO,), "epochs": 10, "lr": 0.1}
        assert failing(TestTracker, build=net, **how) == BROKEN_MODELS[net]


@pytest.mark.parametrize("part", BROKEN_PARTS, ids=lambda part: part.__name__)
def test_a_broken_part_or_rule_fails_the_right_tests(part):
    suite, expected = BROKEN_PARTS[part]
    assert failing(suite, build=lambda: built(part)) == expected


def test_a_model_that_scores_padding_fails_the_right_tests():
    assert failing(TestEcho, build=Unmasked) == {"padding_changes_nothing"}


def test_a_model_that_learns_from_padding_fails_the_right_tests():
    def careless():
        return Careless(M, K, Laplace(M), hidden=6, prior=Smooth(K), guide=Gated(6, K))

    expected = {"padding_changes_no_bound", "missing_values_count_for_nothing"}
    assert failing(TestTogether, build=careless) == expected


def test_a_rule_that_climbs_does_not_lower_the_loss():
    assert failing(TestEcho, rules=(Backwards,)) == {"training_lowers_the_loss"}


def test_a_suite_says_what_it_lacks():
    found = testing.failures(testing.FilteringConformance())
    assert set(found.values()) == {"NotImplementedError: FilteringConformance must define build()"}
    short = type("Short", (TestEcho,), {"batch": lambda self: Batch(noise()[:2])})
    assert "at least 3 sequences" in testing.failures(short())["test_padding_changes_nothing"]


MISSING = "it_has_what_the_tests_need"


class Filter(inference.Recurrent):
    """What ``inference.Recurrent`` lists, and nothing else."""

    check, encode, step, initial = Tracker.check, Tracker.encode, Tracker.step, Tracker.initial


class Half(inference.FrameModel):
    """A model of frames without its Pyro pair."""

    check, encode, step, initial = Tracker.check, Tracker.encode, Tracker.step, Tracker.initial


class Unit(inference.AnswerModel):
    """What ``inference.AnswerModel`` must have, and nothing else."""

    at_every_step = rest = drive = mean = sample_units = log_score = Tracker.check


LACKING = {
    "filtering": (
        *(testing.FilteringConformance, Filter),
        r"^AssertionError: Filter lacks reconstruct \(batch ->.*, filter \(.*, sample \(.*; "
        r"LocalELBO trains .*, and Filter is a Recurrent network$",
    ),
    "frames": (
        *(testing.FilteringConformance, Half),
        r"LocalELBO trains a FrameModel \(RVAE, TVAE\), and Half must define guide, model$",
    ),
    "sequences": (
        *(testing.SequenceConformance, Filter),
        r"lacks the base class SequenceModel, sample \(.*, log_prob or post.*; SequenceELBO",
    ),
    "answering": (
        *(testing.AnsweringConformance, Unit),
        r"Unit lacks the base class SequenceModel, log_prob \(.*, predict \(.*, "
        r"sample_answers \([^;]*; TargetPropagation trains .*, and Unit has no invert: "
        r"StraightThrough trains it$",
    ),
    "prior": (testing.PriorConformance, nn.Identity, r"Identity lacks dim \(size K .*\)$"),
    "guide": (testing.GuideConformance, nn.Identity, r"lacks dim \(.*, features_dim \("),
    "likelihood": (
        *(testing.LikelihoodConformance, nn.Identity),
        r"Identity lacks natural_dim \(.*, distribution \(natural parameters -> .*, check \(",
    ),
    "rule": (testing.RuleConformance, nn.Identity, r"lacks net \(.*, gradients \(batch"),
}


@pytest.mark.parametrize("kind", LACKING)
def test_what_is_missing_is_said_once(kind):
    """In one test; the others are skipped."""
    suite, build, sentence = LACKING[kind]
    obs = noise()
    data = Batch(obs, target=obs[:, -1, :3].argmax(-1))
    how = {"build": lambda self: build(), "batch": lambda self: data}
    found = testing.failures(type("Short", (suite,), how)())
    assert list(found) == [f"test_{MISSING}"]
    assert re.search(sentence, found[f"test_{MISSING}"])


def test_a_rule_that_refuses_a_network_is_said_once():
    """What it can do without the rule is tested all the same."""
    assert failing(TestTracker, rules=(inference.SequenceELBO,)) == {MISSING}
    how = {"rules": (inference.SequenceELBO,), "build": Graphic}
    assert failing(TestTracker, **how) == {MISSING, "outputs_are_finite_and_have_no_graph"}


class Level(inference.SequenceModel, PyroModule):
    """x_t ~ N(z, s²): one latent vector a sequence, which does not move."""

    def __init__(self):
        super().__init__()
        self.code, self.log_scale = nn.Linear(M, M), nn.Parameter(torch.zeros(M))

    def extra_repr(self):
        return "p(z) p(x[t] | z);  q(z | x[1:T])"

    def prepare(self, batch):
        if batch.obs.shape[-1] != M:
            raise ValueError(f"a frame has {M} values, got shape {tuple(batch.obs.shape)}")
        return Batch(batch.obs.where(batch.mask[..., None], 0.0), batch.mask)

    def law(self, batch):
        mean = batch.obs.sum(1) / batch.mask.sum(1, keepdim=True)
        return dist.Normal(self.code(mean), 0.5).to_event(1)

    def model(self, batch):
        with pyro.plate("sequences", len(batch)):
            start = self.log_scale.new_zeros(len(batch), M)
            z = pyro.sample("z", dist.Normal(start, 1.0).to_event(1))
            mean = z[..., None, :].expand(*z.shape[:-1], *batch.obs.shape[1:])
            frames = dist.Normal(mean, self.log_scale.exp()).to_event(1).mask(batch.mask)
            pyro.sample("x", frames.to_event(1), obs=batch.obs)

    def guide(self, batch):
        with pyro.plate("sequences", len(batch)):
            pyro.sample("z", self.law(batch))

    @torch.no_grad()
    def posterior(self, batch):
        return self.law(self.prepare(as_batch(batch)))

    @torch.no_grad()
    def sample(self, sequences, steps, seed=0):
        like = self.log_scale
        with inference.RandomStream(like.device, seed):
            level = torch.randn(sequences, 1, M, device=like.device)
            return level + like.exp() * torch.randn(sequences, steps, M, device=like.device)


class TestLevel(TestEcho):
    """A posterior may be a vector a sequence, ``[B, K]``."""

    def build(self):
        return Level()


class Overdispersed(Laplace):
    """Counts with heavy tails."""

    def __init__(self, dim):
        super().__init__(dim)
        self.natural_dim = dim

    def distribution(self, natural):
        return dist.NegativeBinomial(5.0, logits=natural, validate_args=False).to_event(1)

    def mean(self, natural):
        return 5 * natural.exp()

    def mode(self, natural):
        return (4 * natural.exp()).floor()

    def check(self, value):
        super().check(value)


class TestOverdispersed(testing.LikelihoodConformance):
    """Of one value: the sums over more have too many terms."""

    def build(self):
        return Overdispersed(1)


def test_counts_with_heavy_tails_are_built_of_a_single_value():
    suite = type("Wide", (TestOverdispersed,), {"build": lambda self: Overdispersed(3)})
    said = testing.failures(suite())
    assert list(said) == ["test_probabilities_sum_to_one"]
    assert "of a single value for counts with heavy tails" in said.popitem()[1]


def test_running_a_suite_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    assert not testing.failures(TestSmooth())
    assert torch.equal(state, torch.get_rng_state())
