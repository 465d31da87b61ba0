"""Properties of distributions: the right value, or a sentence that says what to do."""

import inspect

import pytest
import torch
from pyro.distributions import TorchDistribution
from seqzoo.inference import GaussianPath, LinearChain, Path, RandomStream
from seqzoo.inference.distributions import SampledDistribution
from seqzoo.inference.linear.chain import GaussianChain
from seqzoo.zoo import likelihoods, path_guides, priors
from seqzoo.zoo.models.stochastic_units import StochasticUnits
from seqzoo.zoo.parts.likelihoods.nade import NADEDistribution
from seqzoo.zoo.parts.path_guides import AutoregressivePath

from seqzoo import zoo

B, T, K, M, MANY = 2, 4, 2, 3, 40_000
MASK = torch.arange(T) < torch.tensor([[T], [2]])
FRAMES = (torch.arange(B * T * M) % 3 < 1).float().reshape(B, T, M)


def own(number):
    return 0.3 + torch.rand(number, K)


def vrae(**parts):
    with RandomStream("cpu", "net"):
        return zoo.VRAE(M, K, likelihoods.Bernoulli(M), hidden=4, **parts).eval()


def units():
    net = zoo.SRN(M, likelihoods.Categorical(3), hidden=4, stochastic=0.5)
    return StochasticUnits(net, net.drive(FRAMES), MASK)


LAWS = {
    "white noise": lambda: LinearChain(MASK, 0.0, own(T), own(T)),
    "Wiener": lambda: LinearChain(MASK, 1.0, own(1), own(1)),
    "AR": lambda: LinearChain(MASK, -0.6, own(T), own(1)),
    "chain": lambda: LinearChain(MASK, own(T), own(T).expand(B, T, K), own(T)),
    "one for all": lambda: LinearChain(MASK[0], own(T)[:, :1], own(T), own(T)).expand((B,)),
    "Gaussian process": lambda: priors.GaussianProcess(K, "matern32", lengthscale=2.0)(MASK),
    "linear system": lambda: GaussianChain(
        MASK, 0.4 * torch.randn(T, K, K), own(T), torch.diag_embed(own(T))
    ),
    "posterior, Markov": lambda: vrae(guide=path_guides.MarkovChain(4, K)).posterior(FRAMES),
    "posterior, increments": lambda: vrae(guide=path_guides.Increments(4, K)).posterior(FRAMES),
    "posterior, autoregressive": lambda: vrae().posterior(FRAMES),
    "NADE": lambda: likelihoods.NADE(M, 2).distribution(torch.randn(B, M + 2)),
    "units": units,
}
PROPERTIES = ("mean", "variance", "stddev", "mode", "entropy", "perplexity", "cdf", "icdf")
PROPERTIES += ("enumerate_support", "rsample")


def found(law, name):
    """A property, or the sentence in its place."""
    try:
        value = getattr(law, name)
        with torch.no_grad():
            given = (0.5 * torch.ones(law.event_shape),) if name in ("cdf", "icdf") else ()
            return value(*given) if callable(value) else value
    except NotImplementedError as error:
        return str(error)


@pytest.mark.parametrize("name", LAWS)
def test_every_property_has_a_value_or_a_sentence(name):
    with RandomStream("cpu", name):
        law = LAWS[name]()
        values = {each: found(law, each) for each in PROPERTIES}
        draws = law.sample((MANY,))
    for each, value in values.items():
        if isinstance(value, str):
            assert type(law).__name__ in value, each
            assert ".sample(" in value or ".rsample(" in value or "log_prob" in value, each
    exact = {each: value for each, value in values.items() if not isinstance(value, str)}
    assert exact.keys() >= ({"mode"} if isinstance(law, (Path, NADEDistribution)) else set())
    if isinstance(law, (LinearChain, GaussianPath)):
        assert exact.keys() >= {"mean", "variance", "stddev", "entropy", "perplexity"}
    close = {"rtol": 0.05, "atol": 0.05}
    if "mean" in exact:
        torch.testing.assert_close(exact["mean"], draws.mean(0), **close)
    if "variance" in exact:
        torch.testing.assert_close(exact["variance"], draws.var(0), **close)
        torch.testing.assert_close(exact["stddev"], draws.std(0), **close)
    if "entropy" in exact:
        assert exact["entropy"].shape == law.batch_shape
        torch.testing.assert_close(exact["entropy"], -law.log_prob(draws).mean(0), **close)
        torch.testing.assert_close(exact["perplexity"].log(), exact["entropy"])


@pytest.mark.parametrize("name", LAWS)
def test_advice_on_the_mean_can_be_followed(name):
    law = LAWS[name]()
    if isinstance(text := found(law, "mean"), str):
        draw = ".rsample((1000,))" if ".rsample(" in text else ".sample((1000,))"
        assert draw in text
        assert eval(f"law{draw}.mean(0)", {"law": law}).shape == law.batch_shape + law.event_shape


def test_every_distribution_of_ours_is_examined():
    """All subclasses in the package are among the examples above, or are bases."""
    kinds, left = set(), [SampledDistribution]
    while left:
        kinds |= set(left[-1].__subclasses__())
        left = [*left[:-1], *left.pop().__subclasses__()]
    ours = {kind for kind in kinds if kind.__module__.startswith("seqzoo.")}
    assert ours == {
        *(Path, LinearChain, GaussianChain, GaussianPath, AutoregressivePath),
        *(NADEDistribution, StochasticUnits),
    }
    assert all(issubclass(kind, TorchDistribution) for kind in ours)
    assert not inspect.isabstract(Path)


def test_a_poisson_says_that_it_has_no_entropy():
    with pytest.raises(NotImplementedError, match="average -log_prob"):
        likelihoods.Poisson(M).distribution(torch.zeros(B, M)).entropy()


def test_a_path_of_ones_own_says_what_to_write():
    class Mine(Path):
        def __init__(self):
            super().__init__(MASK, K, torch.zeros(()))

    with pytest.raises(NotImplementedError, match="Mine must define from_innovations"):
        Mine().rsample()
    with pytest.raises(NotImplementedError, match="Mine must define to_innovations"):
        Mine().log_prob(torch.zeros(B, T, K))
