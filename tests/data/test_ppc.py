"""Probabilistic population codes."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from seqzoo.data import PPC, Dataset, ppc


@pytest.fixture(scope="module")
def population():
    return PPC(40, 1000, seed=3, split="test")


def reference_rates(position):
    """Mean rates at unit gain, one neuron and one copy at a time."""
    sd, half = 0.148235, math.pi / 3
    period = 15 / 14 * 2 * half
    while position >= period / 2:
        position -= period
    while position < -period / 2:
        position += period
    rates = []
    for neuron in range(15):
        centre = -half + neuron * 2 * half / 14
        copies = [position - period, position, position + period]
        rates.append(sum(math.exp(-((x - centre) ** 2) / (2 * sd**2)) for x in copies))
    return np.array(rates)


# Probabilistic population codes ---------------------------------------------------------------


def test_shapes_and_types():
    data = PPC(3, 7, seed=1)
    assert data.obs.shape == (3, 7, 15)
    assert data.state.shape == (3, 7, 2)
    assert data.obs.dtype == data.state.dtype == torch.float32
    assert data.mask.shape == (3, 7)
    assert data.mask.all()
    assert len(data) == len(data.batch()) == 3
    assert isinstance(data, Dataset)


def test_spikes_per_step(population):
    assert population.obs.sum(-1).mean().item() == pytest.approx(19.9, abs=0.1)
    assert torch.equal(population.obs, population.obs.round())
    assert population.obs.min() == 0


def test_mean_counts_follow_the_tuning_curves(population):
    """Counts summed over all steps against eight times the summed rates, in standard errors."""
    counts, position = population.obs.reshape(-1, 15), population.state[..., 0].flatten()
    expected = 8 * ppc.tuning(position).double().sum(0)
    deviation = (counts.double().sum(0) - expected) / (1.3 * expected).sqrt()
    assert deviation.abs().max() < 4.5


def test_gain_is_shared_by_the_population_and_fresh_every_step(population):
    """Var(total) = E(g) s + Var(g) s^2, and totals of one trajectory are independent."""
    total = population.obs.sum(-1).double()
    sums = reference_rates(0.3).sum()
    expected = 8 * sums + 3.2**2 / 12 * sums**2
    assert total.var().item() == pytest.approx(expected, rel=0.03)
    following = ((total[:, 1:] - total.mean()) * (total[:, :-1] - total.mean())).mean()
    assert abs(following) < 4.5 * expected / math.sqrt(total.numel())


def test_raw_decoding_error(population):
    error = ppc.position_mse(ppc.decode(population.obs), population.state[..., 0])
    assert error.item() == pytest.approx(1.18e-3, rel=0.03)


def test_observation_variance_is_the_variance_of_the_decoder(population):
    error = ppc.wrap(ppc.decode(population.obs) - population.state[..., 0])
    ratio = (error.square() / ppc.observation_variance(population.obs)).mean().item()
    assert ratio == pytest.approx(1.0, rel=0.03)


def test_regression_recovers_dynamics_and_process_noise(population):
    state = population.state.double().numpy()
    before, after = state[:, :-1].reshape(-1, 2), state[:, 1:].reshape(-1, 2)
    dynamics = np.linalg.lstsq(before, after, rcond=None)[0].T
    noise = after - before @ dynamics.T
    np.testing.assert_allclose(dynamics, [[1.0, 0.05], [-0.03, 0.9975]], atol=5e-4)
    covariance = np.cov(noise.T)
    np.testing.assert_allclose(covariance.diagonal(), [5e-7, 5e-5], rtol=0.04)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 4.5 / math.sqrt(len(noise))


def test_start_distribution():
    start = PPC(20_000, 1, seed=5).state[:, 0].double().numpy()
    limit = math.pi / 3 - 0.05
    assert stats.kstest(start[:, 0], stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    assert stats.kstest(start[:, 1], stats.norm(0, math.sqrt(5e-10)).cdf).pvalue > 1e-3
    assert limit - 1e-3 < np.abs(start[:, 0]).max() < limit


def test_same_arguments_same_data():
    first, second = PPC(3, 9, seed=4, split="validation"), PPC(3, 9, seed=4, split="validation")
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.state, second.state)


@pytest.mark.parametrize("other", [{"seed": 5}, {"split": "validation"}, {"epoch": 1}])
def test_seed_split_and_epoch_each_change_the_data(other):
    first, second = PPC(3, 9, seed=4), PPC(3, 9, **{"seed": 4, **other})
    assert not torch.equal(first.obs, second.obs)
    assert (first.state[:, 0, 0] != second.state[:, 0, 0]).all()


def test_data_are_untouched_by_the_global_seed_and_leave_it_alone():
    torch.manual_seed(1)
    first = PPC(2, 4, seed=0).obs
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, PPC(2, 4, seed=0).obs)


def test_fresh_is_reproducible_and_fresh_zero_is_itself():
    data = PPC(3, 9, seed=4, split="test")
    assert data.fresh(0) is data
    again = data.fresh(7)
    assert torch.equal(again.obs, data.fresh(7).obs)
    assert torch.equal(again.obs, PPC(3, 9, seed=4, split="test", epoch=7).obs)
    assert not torch.equal(again.obs, data.obs)
    assert torch.equal(again.fresh(0).obs, data.obs)


def test_rows_keep_observations_and_states_together():
    data = PPC(5, 4, seed=2)
    part = data.rows(torch.tensor([3, 1]))
    assert torch.equal(part.obs, data.obs[[3, 1]])
    assert torch.equal(part.state, data.state[[3, 1]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequences": 0, "steps": 5},
        {"sequences": 5, "steps": 0},
        {"sequences": 2, "steps": 2, "split": "dev"},
    ],
)
def test_ppc_rejects_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be"):
        PPC(**arguments)


# Tuning curves and the decoder ----------------------------------------------------------------

POSITIONS = np.linspace(-3.3, 3.3, 41)


def test_tuning_against_a_literal_reference():
    expected = np.stack([reference_rates(x) for x in POSITIONS])
    actual = ppc.tuning(torch.tensor(POSITIONS)).numpy()
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_tuning_is_periodic_and_its_sum_nearly_flat():
    position = torch.tensor(POSITIONS)
    rates = ppc.tuning(position)
    torch.testing.assert_close(ppc.tuning(position + ppc.PERIOD), rates)
    assert not torch.allclose(ppc.tuning(position + ppc.PERIOD / 2), rates)
    total = rates.sum(-1)
    assert (total.max() - total.min()) / total.mean() < 1e-3


def test_decoding_noiseless_rates_is_exact_all_round_the_torus():
    half = ppc.PERIOD / 2
    edges = torch.tensor([-half, half, math.nextafter(half, 0.0), -half + 1e-6, half - 1e-6])
    position = torch.cat((torch.linspace(-half, half, 301), edges)).double()
    decoded = ppc.decode(ppc.tuning(position))
    away = (decoded - position).remainder(ppc.PERIOD)
    assert torch.minimum(away, ppc.PERIOD - away).max() < 1e-3
    assert decoded.min() >= -half
    assert decoded.max() < half


def test_decoding_follows_a_shift_of_the_neurons():
    counts = PPC(4, 30, seed=9).obs.double()
    counts[..., 0] += 1e-3  # no ties for the loudest neuron
    counts = counts + torch.linspace(0, 1e-2, 15, dtype=torch.float64)
    spacing = 2 * math.pi / 3 / 14
    for shift in (1, 6, 14):
        turned = ppc.decode(counts.roll(shift, -1)) - ppc.decode(counts) - shift * spacing
        laps = turned / (15 * spacing)
        torch.testing.assert_close(laps, laps.round(), atol=1e-9, rtol=0)


def test_decoding_ignores_the_gain():
    counts = PPC(2, 20, seed=9).obs
    torch.testing.assert_close(ppc.decode(counts), ppc.decode(2.5 * counts))


def test_decoding_against_a_circular_window():
    """Centre of mass of the fifteen neurons around the loudest, written out for one frame."""
    counts = torch.tensor([5.0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4])
    centre = (5 * 0 + 3 * 1 + 2 * -2 + 4 * -1) / 14
    spacing = 2 * math.pi / 3 / 14
    expected = -math.pi / 3 + centre * spacing
    assert ppc.decode(counts).item() == pytest.approx(expected, abs=1e-6)


def test_a_silent_population():
    silent = torch.zeros(2, 3, 15)
    torch.testing.assert_close(ppc.decode(silent), torch.full((2, 3), -math.pi / 3))
    uniform = (15 / 14 * 2 * math.pi / 3) ** 2 / 12
    torch.testing.assert_close(ppc.observation_variance(silent), torch.full((2, 3), uniform))


def test_observation_variance_falls_with_spikes():
    counts = torch.zeros(3, 15)
    counts[0, 2], counts[1, 5], counts[2, 5:7] = 1, 4, 10
    expected = 0.148235**2 / torch.tensor([1.0, 4.0, 20.0])
    torch.testing.assert_close(ppc.observation_variance(counts), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("function", [ppc.decode, ppc.observation_variance])
def test_whole_numbers_decode_like_floats(function):
    counts = PPC(2, 5, seed=9).obs
    torch.testing.assert_close(function(counts.long()), function(counts))


@pytest.mark.parametrize("function", [ppc.decode, ppc.observation_variance])
@pytest.mark.parametrize(
    "bad",
    [
        torch.ones(2, 14),
        torch.full((2, 15), math.nan),
        torch.full((2, 15), math.inf),
        torch.full((2, 15), -1.0),
    ],
)
def test_a_population_must_be_one(function, bad):
    with pytest.raises(ValueError, match=r"population|spike counts"):
        function(bad)


def test_position_error_goes_the_short_way_round():
    half = 15 / 14 * math.pi / 3
    true = torch.tensor([[half - 0.1, 0.0, 5.0]])
    decoded = torch.tensor([[-half + 0.2, 0.4, 5.0 - 4 * half]])
    expected = (0.3**2 + 0.4**2 + 0.0) / 3
    assert ppc.position_mse(decoded, true).item() == pytest.approx(expected, abs=1e-6)


def test_position_error_leaves_padding_out():
    true = torch.zeros(2, 3)
    decoded = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.9, 0.9]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = (0.1**2 + 0.2**2 + 0.3**2) / 3
    assert ppc.position_mse(decoded, true, mask).item() == pytest.approx(expected, abs=1e-6)


def test_position_error_needs_one_shape():
    with pytest.raises(ValueError, match="differ in shape"):
        ppc.position_mse(torch.zeros(2, 3), torch.zeros(2, 1))
