"""Laws of latent paths against dense Gaussians written down in numpy, and the KL trap."""

import itertools
import math

import numpy as np
import pyro
import pytest
import torch
from pyro.contrib.gp import kernels
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from scipy import optimize, stats
from seqzoo.inference import GaussianPath, LinearChain
from seqzoo.inference.paths import kl_steps, marginal_increments, previous
from seqzoo.zoo import decoders, path_guides, priors
from torch.distributions import kl_divergence

B, T, K, F, N, H = 3, 5, 2, 4, 7, 6
LENGTHS = (5, 2, 4)
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
FULL = torch.ones_like(MASK)
every_mask = pytest.mark.parametrize("mask", [FULL, MASK], ids=["full", "padded"])

r, t = np.meshgrid(np.arange(1.0, T + 1), np.arange(1.0, T + 1))
gap = np.abs(r - t)
PRIORS = {  # the module, and the covariance between steps written down independently
    "Wiener": (lambda: priors.WienerProcess(K, 0.8), 0.64 * np.minimum(r, t)),
    "AR1": (lambda: priors.AR1(K, 0.7, 1.5), 2.25 * 0.7**gap),
    "AR1, alternating": (lambda: priors.AR1(K, -0.6), (-0.6) ** gap),
    "WhiteNoise": (lambda: priors.WhiteNoise(K, 1.7), 2.89 * np.eye(T)),
    "brownian": (
        lambda: priors.GaussianProcess(K, "brownian", variance=0.64),
        0.64 * np.minimum(r, t),
    ),
    "exponential": (
        lambda: priors.GaussianProcess(K, "exponential", 2.0, 0.9),
        0.9 * np.exp(-gap / 2),
    ),
    "matern32": (
        lambda: priors.GaussianProcess(K, "matern32", 1.3, 0.5),
        0.5 * (1 + math.sqrt(3) * gap / 1.3) * np.exp(-math.sqrt(3) * gap / 1.3),
    ),
    "matern52": (
        lambda: priors.GaussianProcess(K, "matern52", 1.3, 0.5),
        0.5
        * (1 + math.sqrt(5) * gap / 1.3 + 5 / 3 * (gap / 1.3) ** 2)
        * np.exp(-math.sqrt(5) * gap / 1.3),
    ),
    "rbf": (
        lambda: priors.GaussianProcess(K, "rbf", 0.9, 1.2),
        1.2 * np.exp(-((gap / 0.9) ** 2) / 2),
    ),
    "a kernel of Pyro": (
        lambda: priors.GaussianProcess(
            K,
            kernels.RationalQuadratic(
                1, torch.tensor(0.8), torch.tensor(1.5), scale_mixture=torch.tensor(2.0)
            ),
        ),
        0.8 * (1 + (gap / 1.5) ** 2 / 4) ** -2.0,
    ),
}
every_prior = pytest.mark.parametrize("name", PRIORS)
COEFFICIENTS = ("tensor", 0.0, 1.0, 0.7)
every_coefficient = pytest.mark.parametrize("coefficient", COEFFICIENTS, ids=str)


def numbers(*shape, seed=0, low=-1.0, high=1.0):
    """Float64 tensors that differ from place to place."""
    return torch.tensor(np.random.default_rng(seed).uniform(low, high, shape))


def chain(coefficient="tensor", mask=MASK, seed=0):
    """A chain whose every number depends on row, step and dimension."""
    if coefficient == "tensor":
        coefficient = numbers(B, T, K, seed=seed + 1, low=-0.9, high=1.4)
    offset, scale = numbers(B, T, K, seed=seed + 2), numbers(B, T, K, seed=seed + 3, low=0.3)
    return LinearChain(mask, coefficient, offset, scale.abs() + 0.2)


def dense(law, row, dim, length=T):
    """Mean and covariance of one dimension's first steps: (I - A) z = b + s e solved at once."""
    if isinstance(law, GaussianPath):
        factor = law.factor.detach().double().numpy()
        return np.zeros(length), (factor @ factor.T)[:length, :length]
    a, b, s = (
        torch.as_tensor(part, dtype=torch.float64).detach().expand(B, T, K)[row, :, dim].numpy()
        for part in (law.coefficient, law.offset, law.scale)
    )
    impulse = np.linalg.inv(np.eye(T) - np.diag(a[1:], -1))
    mean, cov = impulse @ b, impulse @ np.diag(s**2) @ impulse.T
    return mean[:length], cov[:length, :length]


def dense_kl(q, p):
    """KL between two multivariate normals."""
    (m0, S0), (m1, S1) = q, p
    inverse = np.linalg.inv(S1)
    quadratic = (m1 - m0) @ inverse @ (m1 - m0)
    logdets = np.linalg.slogdet(S1)[1] - np.linalg.slogdet(S0)[1]
    return (np.trace(inverse @ S0) + quadratic - len(m0) + logdets) / 2


def lengths(mask):
    return mask.sum(1).tolist()


# Priors ---------------------------------------------------------------------------------------


@every_mask
@every_prior
def test_prior_density_against_the_covariance_written_down(name, mask):
    build, cov = PRIORS[name]
    law, path = build().double()(mask), numbers(B, T, K, low=-2, high=2)
    assert law.batch_shape == (B,)
    assert law.event_shape == (T, K)
    for row, steps in enumerate(lengths(mask)):
        normal = stats.multivariate_normal(np.zeros(steps), cov[:steps, :steps])
        expected = sum(normal.logpdf(path[row, :steps, dim].numpy()) for dim in range(K))
        assert law.log_prob(path)[row].item() == pytest.approx(expected, rel=1e-4)  # jitter


@every_prior
def test_draws_have_the_covariance_written_down(name):
    build, cov = PRIORS[name]
    number = 20_000
    with torch.no_grad():
        draws = build()(torch.ones(1, T, dtype=torch.bool)).sample((number,))
    assert draws.shape == (number, 1, T, K)
    assert not draws.requires_grad
    found = np.cov(draws.reshape(number, -1).T.double().numpy())
    expected = np.kron(cov, np.eye(K))
    spread = np.sqrt((expected**2 + np.outer(expected.diagonal(), expected.diagonal())) / number)
    assert (np.abs(found - expected) < 5 * spread).all()
    assert (draws.mean(0).flatten().abs().numpy() < 5 * np.sqrt(expected.diagonal() / number)).all()


@every_prior
def test_padding_and_what_it_holds_count_for_nothing(name):
    law = PRIORS[name][0]()
    path = torch.randn(B, T, K)
    other = torch.where(MASK[..., None], path, 100.0)
    torch.testing.assert_close(law(MASK).log_prob(path), law(MASK).log_prob(other))
    short = law(FULL[:, :2]).log_prob(path[:, :2])
    torch.testing.assert_close(law(MASK).log_prob(path)[1], short[1], rtol=1e-4, atol=1e-4)
    assert law(FULL).log_prob(path)[1] != short[1]


@pytest.mark.parametrize("learn", [False, True])
@every_prior
def test_gradients_reach_learned_settings_and_no_others(name, learn):
    kind = type(PRIORS[name][0]())
    if kind is priors.GaussianProcess:
        named = name if name in priors.KERNELS else kernels.RationalQuadratic(1)
        prior = kind(K, named, learn=learn)
    else:
        prior = kind(K, scale=0.8, learn=learn)
    assert all(p.requires_grad == learn for p in prior.parameters())
    value = prior(MASK).log_prob(torch.randn(B, T, K)).sum()
    assert value.requires_grad == learn
    if learn:
        value.backward()
        assert all(p.grad.isfinite().all() and p.grad.all() for p in prior.parameters())


def test_learned_scales_belong_to_their_dimension():
    """The gradient of the density with respect to ln s is sum_t (e_t² - 1), dimension by dimension.

    Of an AR1 too, whose innovations all have scales in proportion to s.
    """
    path = numbers(B, T, K, low=-2, high=2)
    for prior in (priors.WienerProcess(K, 0.8, True), priors.AR1(K, 0.7, 1.5, True)):
        law = prior.double()(MASK)
        (found,) = torch.autograd.grad(law.log_prob(path).sum(), prior.log_scale)
        noise = law.to_innovations(path)[0]
        expected = torch.where(MASK[..., None], noise.square() - 1, 0.0).sum((0, 1))
        torch.testing.assert_close(found, expected)


def test_a_brownian_gaussian_process_is_the_wiener_process():
    path = numbers(4, B, T, K, low=-3, high=3)
    wiener = priors.WienerProcess(K, 0.7).double()(MASK)
    process = priors.GaussianProcess(K, "brownian", variance=0.49).double()(MASK)
    torch.testing.assert_close(process.log_prob(path), wiener.log_prob(path), rtol=1e-4, atol=0)
    (noise, scale), (expected, spread) = process.to_innovations(path), wiener.to_innovations(path)
    torch.testing.assert_close(noise, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(scale.expand(T, K), spread.expand(T, K), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        process.from_innovations(path), wiener.from_innovations(path), atol=1e-4, rtol=0
    )
    for q in (chain("tensor"), chain(1.0), chain(0.0)):
        torch.testing.assert_close(
            kl_divergence(q, process), kl_divergence(q, wiener), atol=1e-3, rtol=1e-5
        )


@every_prior
def test_priors_write_nothing_to_the_param_store(name):
    prior = PRIORS[name][0]()
    prior(MASK).sample()
    pyro.param("mine", torch.tensor(1.0))
    prior(MASK).sample()
    assert list(pyro.get_param_store().keys()) == ["mine"]
    pyro.clear_param_store()


@every_prior
def test_a_prior_is_of_any_length_and_batch_shape(name):
    prior = PRIORS[name][0]()
    for shape in ((1,), (9,), (4, 3), (2, 4, 3)):
        law = prior(torch.ones(shape, dtype=torch.bool))
        assert law.sample().shape == (*shape, K)
        assert law.sample((6,)).shape == (6, *shape, K)
        assert law.log_prob(law.sample()).shape == shape[:-1]


@pytest.mark.parametrize("kind", [priors.WienerProcess, priors.GaussianProcess, priors.AR1])
def test_priors_in_double_precision_draw_paths(kind):
    assert kind(K).double()(MASK).sample().isfinite().all()


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: priors.WienerProcess(0), "dim"),
        (lambda: priors.WhiteNoise(2, scale=0.0), "scale"),
        (lambda: priors.AR1(2, 1.0), "coefficient"),
        (lambda: priors.AR1(2, -1.2), "coefficient"),
        (lambda: priors.GaussianProcess(0), "dim"),
        (lambda: priors.GaussianProcess(2, "wave"), "kernel must be one of .*'wave'"),
    ],
)
def test_bad_priors(build, complaint):
    with pytest.raises(ValueError, match=complaint):
        build()


# Chains ---------------------------------------------------------------------------------------


@every_coefficient
def test_chain_moments_response_mode_and_density(coefficient):
    law, path = chain(coefficient), numbers(B, T, K, low=-2, high=2, seed=9)
    mean, variance = law.moments()
    response = law.response()
    assert response.shape == (B, K, T, T)
    total = np.zeros(B)
    for row, dim in itertools.product(range(B), range(K)):
        centre, cov = dense(law, row, dim)
        np.testing.assert_allclose(mean[row, :, dim], centre, atol=1e-12)
        np.testing.assert_allclose(law.mode[row, :, dim], centre, atol=1e-12)
        np.testing.assert_allclose(variance[row, :, dim], cov.diagonal(), atol=1e-12)
        np.testing.assert_allclose(response[row, dim], np.linalg.cholesky(cov), atol=1e-12)
        part = slice(LENGTHS[row])
        normal = stats.multivariate_normal(centre[part], cov[part, part])
        total[row] += normal.logpdf(path[row, part, dim].numpy())
    np.testing.assert_allclose(law.log_prob(path), total, atol=1e-10)
    torch.testing.assert_close(law.mean, mean)
    torch.testing.assert_close(law.variance, variance)


@every_coefficient
def test_step_densities_are_conditionals(coefficient):
    """log p(z_t | z_<t) is the difference of two marginals; zero in padding."""
    law, path = chain(coefficient), numbers(B, T, K, seed=9)
    found = law.step_log_probs(path)
    assert not found[~MASK].any()
    for row in range(B):
        marginals = [0.0]
        for steps in range(1, LENGTHS[row] + 1):
            parts = (
                stats.multivariate_normal(*dense(law, row, dim, steps)).logpdf(
                    path[row, :steps, dim].numpy()
                )
                for dim in range(K)
            )
            marginals.append(sum(parts))
        np.testing.assert_allclose(found[row, : LENGTHS[row]], np.diff(marginals), atol=1e-10)


@every_coefficient
def test_colour_and_standardise_are_inverses(coefficient):
    noise = numbers(4, B, T, K, low=-2, high=2)
    for law in (chain(coefficient), priors.GaussianProcess(K, "matern52").double()(MASK)):
        path = law.from_innovations(noise)
        assert path.shape == noise.shape
        torch.testing.assert_close(law.to_innovations(path)[0].expand_as(noise), noise)
        torch.testing.assert_close(law.from_innovations(law.to_innovations(noise)[0]), noise)


@every_coefficient
def test_chain_draws(coefficient):
    law, number = chain(coefficient), 20_000
    draws = law.sample((number,)).double()
    for row, dim in itertools.product(range(B), range(K)):
        mean, cov = dense(law, row, dim)
        found = draws[:, row, :, dim].numpy()
        assert (np.abs(found.mean(0) - mean) < 5 * np.sqrt(cov.diagonal() / number)).all()
        spread = np.sqrt((cov**2 + np.outer(cov.diagonal(), cov.diagonal())) / number)
        assert (np.abs(np.cov(found.T) - cov) < 5 * spread).all()


@every_coefficient
def test_propose_is_the_conditional_of_a_step_and_takes_the_first_rows(coefficient):
    law, path = chain(coefficient), numbers(4, B, T, K, seed=9)
    noise, scale = law.to_innovations(path)
    before = previous(path)
    for step, rows in itertools.product(range(T), (B, 2)):
        mean, spread = law.propose(step, before[:, :rows, step], None)
        assert mean.shape == spread.shape == (4, rows, K)
        rebuilt = mean + spread * noise[:, :rows, step]
        torch.testing.assert_close(rebuilt, path[:, :rows, step])
        torch.testing.assert_close(spread, scale[:rows, step].expand_as(spread))


@pytest.mark.parametrize("name", ["Wiener", "AR1", "WhiteNoise"])
def test_propose_of_priors_whose_numbers_are_shared(name):
    law, path = PRIORS[name][0]().double()(FULL), numbers(4, B, T, K, seed=9)
    noise = law.to_innovations(path)[0]
    for step in range(T):
        mean, spread = law.propose(step, previous(path)[:, :2, step], None)
        torch.testing.assert_close(mean + spread * noise[:, :2, step], path[:, :2, step])


def test_a_gaussian_process_cannot_be_stepped():
    with pytest.raises(ValueError, match="GaussianPath is no Markov chain"):
        priors.GaussianProcess(K)(MASK).propose(0, torch.zeros(B, K), None)


@every_coefficient
def test_expanding_changes_no_number(coefficient):
    path = numbers(4, B, T, K)
    for law in (chain(coefficient), priors.GaussianProcess(K, "exponential").double()(MASK)):
        wide = law.expand((4, B))
        assert wide.batch_shape == (4, B)
        assert wide.event_shape == (T, K)
        torch.testing.assert_close(wide.log_prob(path), law.log_prob(path))
        noise = torch.randn(4, B, T, K, dtype=torch.float64)
        torch.testing.assert_close(wide.from_innovations(noise), law.from_innovations(noise))
        if isinstance(law, LinearChain):
            assert wide.rsample((2,)).shape == (2, 4, B, T, K)
            torch.testing.assert_close(wide.mean, law.mean.expand(4, B, T, K))
            torch.testing.assert_close(wide.variance, law.variance.expand(4, B, T, K))


def test_draws_carry_gradients():
    for coefficient in COEFFICIENTS:
        law = chain(coefficient)
        parts = [law.offset, law.scale]
        parts += [law.coefficient] if coefficient == "tensor" else []
        for part in parts:
            part.requires_grad_()
        law.rsample((3,)).sum().backward()
        for part in parts:
            assert part.grad.any()
        assert not law.sample().requires_grad


# Divergences ----------------------------------------------------------------------------------

GUIDES = {
    "Diagonal": lambda: path_guides.Diagonal(F, K),
    "Increments": lambda: path_guides.Increments(F, K),
    "MarkovChain": lambda: path_guides.MarkovChain(F, K),
}


def assert_dense_kl(q, p, mask):
    found = kl_divergence(q, p)
    steps = kl_steps(q, p)
    assert found.shape == (B,)
    assert steps.shape == (B, T)
    assert not steps[~mask].any()
    torch.testing.assert_close(steps.sum(-1), found)
    for row, length in enumerate(lengths(mask)):
        expected = sum(
            dense_kl(dense(q, row, dim, length), dense(p, row, dim, length)) for dim in range(K)
        )
        assert found[row].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@every_mask
@pytest.mark.parametrize(
    ("mine", "other"), list(itertools.product(COEFFICIENTS, COEFFICIENTS)), ids=str
)
def test_divergence_of_two_chains(mine, other, mask):
    assert_dense_kl(chain(mine, mask), chain(other, mask, seed=20), mask)


@every_mask
@pytest.mark.parametrize("guide", GUIDES)
@every_prior
def test_divergence_of_every_guide_from_every_prior(name, guide, mask):
    q = GUIDES[guide]().double()(numbers(B, T, F, low=-3, high=3), mask, None)
    assert_dense_kl(q, PRIORS[name][0]().double()(mask), mask)


@every_coefficient
def test_a_law_has_no_divergence_from_itself(coefficient):
    law = chain(coefficient)
    torch.testing.assert_close(kl_steps(law, law), torch.zeros(B, T).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", ["Wiener", "AR1", "matern32"])
def test_pyros_mean_field_elbo_finds_the_exact_divergence(name, guide):
    q, p = GUIDES[guide]()(torch.randn(B, T, F), MASK, None), PRIORS[name][0]()(MASK)

    def model():
        with pyro.plate("sequences", B):
            pyro.sample("z", p)

    def belief():
        with pyro.plate("sequences", B):
            pyro.sample("z", q)

    exact = kl_divergence(q, p).sum().item()
    losses = [TraceMeanField_ELBO().loss(model, belief) for _ in range(2)]
    assert losses == pytest.approx([exact, exact], rel=1e-5)
    sampled = Trace_ELBO(num_particles=4000, vectorize_particles=True, max_plate_nesting=1)
    assert sampled.loss(model, belief) == pytest.approx(exact, rel=0.1)


def test_there_is_no_exact_divergence_from_a_gaussian_process():
    process = priors.GaussianProcess(K)(MASK)
    with pytest.raises(NotImplementedError, match="GaussianPath and LinearChain"):
        kl_steps(process, chain())
    with pytest.raises(NotImplementedError):
        kl_divergence(process, chain())


@pytest.mark.parametrize("name", ["Wiener", "matern32"])
def test_the_stepwise_estimate_of_a_divergence_that_is_known(name):
    """A Gaussian process as q, a chain as p, and the other way round: the mean is the KL."""
    process, number = PRIORS["matern52"][0]().double()(MASK), 4000
    p = chain("tensor")
    draws = process.from_innovations(torch.randn(number, B, T, K, dtype=torch.float64))
    found = kl_steps(process, p, draws)
    assert found.shape == (number, B, T)
    assert not found[:, ~MASK].any()
    found = found.sum(-1)
    for row, length in enumerate(LENGTHS):
        expected = sum(
            dense_kl(dense(process, row, dim, length), dense(p, row, dim, length))
            for dim in range(K)
        )
        spread = found[:, row].std().item() / math.sqrt(number)
        assert found[:, row].mean().item() == pytest.approx(expected, abs=5 * spread)


# The autoregressive guide ---------------------------------------------------------------------


def autoregressive(name="Wiener", rows=B, mask=MASK, drift=True):
    """An autoregressive law with weights that matter, in double precision."""
    decoder = decoders.CausalDecoder(K, N, hidden=H, width=5, drift=drift)
    guide = path_guides.Autoregressive(F, K, H, hidden=8)
    for part in (*decoder.parameters(), *guide.parameters()):
        torch.nn.init.normal_(part, std=0.5)
    decoder, guide, prior = decoder.double(), guide.double(), PRIORS[name][0]().double()(mask)
    law = guide(numbers(rows, mask.shape[1], F, low=-2, high=2), mask, prior, decoder)
    return law, prior, decoder


some_priors = pytest.mark.parametrize("name", ["Wiener", "AR1", "WhiteNoise", "matern32"])


@pytest.mark.parametrize("drift", [True, False])
@some_priors
def test_density_of_a_drawn_path_is_that_of_its_copy(name, drift):
    law, _, _ = autoregressive(name, drift=drift)
    wide = law.expand((4, B))
    for owner, path in ((law, law.rsample()), (law, law.rsample((4,))), (wide, wide.rsample())):
        remembered, computed = owner.log_prob(path), law.log_prob(path.clone())
        torch.testing.assert_close(remembered, computed)
        torch.testing.assert_close(law.step_log_probs(path), law.step_log_probs(path.clone()))
        assert remembered.std() > 0
    first = law.rsample()
    density = law.log_prob(first)
    second = law.rsample()  # what was kept of the first draw is gone
    torch.testing.assert_close(law.log_prob(first), density)
    assert not torch.allclose(law.log_prob(second), density)


@pytest.mark.parametrize("drift", [True, False])
@some_priors
def test_density_by_the_change_of_variables(name, drift):
    """log q(z) = log N(e) - log |dz / de| for the white noise e that made z."""
    steps = 3
    law, _, _ = autoregressive(name, rows=1, mask=torch.ones(1, steps).bool(), drift=drift)
    noise = torch.randn(1, steps, K, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(law.from_innovations, noise).reshape(
        steps * K, steps * K
    )
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum()
    expected = normal - torch.linalg.slogdet(jacobian)[1]
    path = law.from_innovations(noise)
    for value in (path, path.clone()):
        torch.testing.assert_close(law.log_prob(value)[0], expected)
        torch.testing.assert_close(law.to_innovations(value)[0], noise)


@some_priors
def test_the_step_by_step_divergence_has_the_right_mean(name):
    law, prior, _ = autoregressive(name)
    number = 3000
    with torch.no_grad():
        path = law.rsample((number,))
        steps = kl_steps(law, prior, path)
        rough = law.log_prob(path) - prior.log_prob(path)
    assert steps.shape == (number, B, T)
    assert not steps[:, ~MASK].any()
    fine = steps.sum(-1)
    assert (steps[:, MASK] >= -1e-9).all()  # each is a divergence between Gaussians
    error = (fine - rough).std(0) / math.sqrt(number)
    assert ((fine - rough).mean(0).abs() < 5 * error).all()
    assert (steps[:, :, 0].std(0) < 1e-9).all()  # nothing comes before the first
    assert (fine.mean(0) > 10 * error).all()  # there was something to find


@pytest.mark.parametrize("name", ["Wiener", "AR1", "WhiteNoise"])
def test_propose_agrees_with_standardise(name):
    law, prior, decoder = autoregressive(name)
    path = numbers(4, B, T, K, low=-2, high=2)
    noise, scale = law.to_innovations(path)
    innovations = prior.to_innovations(path)[0]
    state = decoder.memory.initial(4, B)
    for step in range(T):
        rows = 2 if step > 2 else B
        mean, spread = law.propose(step, previous(path)[:, :rows, step], state[:, :rows])
        torch.testing.assert_close(spread, scale[:, :rows, step])
        torch.testing.assert_close(mean + spread * noise[:, :rows, step], path[:, :rows, step])
        taken = decoder.take(innovations[:, :, step], decoder.memory.output(state))
        state = decoder.memory.step(taken, state)


def test_an_autoregressive_law_of_a_gaussian_process_cannot_be_stepped():
    law, _, decoder = autoregressive("matern32")
    with pytest.raises(ValueError, match="Markov"):
        law.propose(0, torch.zeros(B, K), decoder.memory.initial(B))


@some_priors
def test_autoregressive_padding_counts_for_nothing(name):
    law, prior, _ = autoregressive(name)
    path = law.mode
    assert path.shape == (B, T, K)
    other = torch.where(MASK[..., None], path, 9.0)
    torch.testing.assert_close(law.log_prob(other), law.log_prob(path))
    torch.testing.assert_close(kl_steps(law, prior, other), kl_steps(law, prior, path))


def test_an_autoregressive_guide_needs_a_decoder_with_a_memory():
    guide = path_guides.Autoregressive(F, K, H)
    with pytest.raises(ValueError, match="causal decoder"):
        guide(torch.zeros(B, T, F), MASK, priors.WienerProcess(K)(MASK), None)


# The trap -------------------------------------------------------------------------------------


def diagonal(log_scale, mean=None):
    scale = log_scale.exp()
    mean = torch.zeros_like(scale) if mean is None else mean
    return LinearChain(torch.ones(scale.shape[:-1]).bool(), 0.0, mean, scale)


def test_the_floor_of_a_diagonal_guide_under_a_wiener_prior():
    """Half of ln 2 nats for every dimension and step, whatever is said; the first costs less."""
    steps = 6
    p = priors.WienerProcess(1)(torch.ones(1, steps).bool())

    def cost(log_scale, step):
        q = diagonal(torch.full((1, steps, 1), float(log_scale), dtype=torch.float64))
        return kl_steps(q, p)[0, step].item()

    for step in range(1, steps):
        best = optimize.minimize_scalar(cost, args=(step,), bracket=(-1, 0))
        assert best.fun == pytest.approx(math.log(2) / 2, abs=1e-6)
        assert math.exp(2 * best.x) == pytest.approx(0.5, abs=1e-4)
    first = optimize.minimize_scalar(cost, args=(0,), bracket=(-1, 0.5))
    assert first.fun == pytest.approx(0.0, abs=1e-6)


def test_no_diagonal_guide_of_free_scales_gets_below_the_floor_in_the_long_run():
    """Every scale free: the middle steps of the cheapest guide cost ln(2) / 2 each."""
    steps = 30
    p = priors.WienerProcess(1)(torch.ones(1, steps).bool())

    def cost(values):
        log_scale = torch.tensor(values).view(1, steps, 1).requires_grad_()
        total = kl_divergence(diagonal(log_scale), p).sum()
        total.backward()
        return total.item(), log_scale.grad.flatten().numpy()

    best = optimize.minimize(cost, np.zeros(steps), jac=True, method="L-BFGS-B")
    q = diagonal(torch.tensor(best.x).view(1, steps, 1))
    middle = kl_steps(q, p)[0, 10:20]
    np.testing.assert_allclose(middle, math.log(2) / 2, atol=1e-3)
    assert marginal_increments(q, p)[0, 10:20].max() < 1e-3  # the surrogate charges nothing


@every_mask
def test_the_surrogate_leaves_out_what_neighbours_tell_of_one_another(mask):
    log_scale, mean = numbers(B, T, K, seed=1), numbers(B, T, K, seed=2)
    q = LinearChain(mask, 0.0, mean, log_scale.exp())
    p = priors.WienerProcess(K, 0.8).double()(mask)
    s2 = (2 * log_scale).exp().numpy()
    before = np.concatenate((np.zeros((B, 1, K)), s2[:, :-1]), 1)
    missing = (np.log((s2 + before) / s2) / 2).sum(-1) * mask.numpy()
    np.testing.assert_allclose(kl_steps(q, p) - marginal_increments(q, p), missing, atol=1e-12)
    assert (missing[:, 1:][mask[:, 1:].numpy()] > 0).all()


def test_the_surrogate_by_hand():
    """Each increment's marginal against N(0, s²), from the dense covariance; any coefficient."""
    for coefficient in COEFFICIENTS:
        q, p = chain(coefficient), priors.WienerProcess(K, 0.8).double()(MASK)
        expected = np.zeros((B, T))
        for row, dim in itertools.product(range(B), range(K)):
            difference = np.eye(T) - np.eye(T, k=-1)
            mean, cov = dense(q, row, dim)
            mean, variance = difference @ mean, (difference @ cov @ difference.T).diagonal()
            for step in range(LENGTHS[row]):
                expected[row, step] += dense_kl(
                    (mean[step : step + 1], variance[step, None, None]),
                    (np.zeros(1), np.full((1, 1), 0.64)),
                )
        np.testing.assert_allclose(marginal_increments(q, p), expected, atol=1e-12)


@every_mask
def test_the_surrogate_is_exact_for_independent_increments(mask):
    q, p = chain(1.0, mask), priors.WienerProcess(K, 0.8).double()(mask)
    torch.testing.assert_close(marginal_increments(q, p), kl_steps(q, p))


@pytest.mark.parametrize("name", ["AR1", "WhiteNoise", "matern32"])
def test_the_surrogate_needs_a_wiener_prior_and_a_chain(name):
    with pytest.raises(ValueError, match="marginal-increments"):
        marginal_increments(chain(), PRIORS[name][0]()(MASK))
    with pytest.raises(ValueError, match="marginal-increments"):
        marginal_increments(autoregressive()[0], PRIORS["Wiener"][0]()(MASK))
