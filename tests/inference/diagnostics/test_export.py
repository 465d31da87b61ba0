"""What ArviZ is told of a model."""

import arviz as az
import numpy as np
import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import elbo
from seqzoo.inference.diagnostics.export import save_arviz, to_arviz
from seqzoo.inference.evaluate import log_weights
from seqzoo.zoo import likelihoods
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.recipes.population import PopulationReadout

from seqzoo import zoo

B, T, M, K, DRAWS = 3, 6, 5, 2, 12
MASK = torch.arange(T) < torch.tensor([6, 4, 5])[:, None]
PADDED = ~MASK.numpy()
OBS = torch.poisson(torch.full((B, T, M), 2.0), generator=torch.Generator().manual_seed(1))
family = likelihoods.Poisson(M)

MODELS = {
    "VRAE": lambda: zoo.VRAE(M, K, family, hidden=6),
    "VOSP": lambda: zoo.VOSP(M, K, family, hidden=6, width=4),
    "RNN": lambda: zoo.RNN(M, family, hidden=6),
    "RVAE": lambda: zoo.RVAE(M, K, family, hidden=6, predictor_hidden=3),
    "TVAE": lambda: zoo.TVAE(M, K, family, hidden=6),
}
every_model = pytest.mark.parametrize("name", list(MODELS))
ALL = {
    *("posterior", "posterior_predictive", "prior", "prior_predictive", "log_likelihood"),
    *("sample_stats", "observed_data", "constant_data"),
}


def tree(found):
    """The same on both lines of ArviZ."""
    return found.to_datatree() if hasattr(found, "to_datatree") else found


def export(net, batch=None, num_samples=DRAWS, **how):
    batch = Batch(OBS, MASK) if batch is None else batch
    return tree(to_arviz(net, batch, num_samples, **{"at_once": 5, **how}))


@every_model
def test_all_groups_have_named_axes_and_nan_in_padding(name):
    found = export(MODELS[name](), obs_axis="neuron", coords={"neuron": list("abcde")})
    assert set(found.children) == ALL - ({"posterior", "prior"} if name == "RNN" else set())
    data, latent = ("y", "x") if name in ("RVAE", "TVAE") else ("x", "z")
    lead = {"chain": 1, "draw": DRAWS}
    frames = {"sequence": B, "time": T, "neuron": M}
    assert dict(found["observed_data"][data].sizes) == frames
    assert found["observed_data"]["neuron"].values.tolist() == list("abcde")
    for group in ("posterior_predictive", "prior_predictive"):
        assert dict(found[group][data].sizes) == lead | frames
    if name != "RNN":
        for group in ("posterior", "prior"):
            sizes = {"sequence": B, "time": T, "latent": K}
            assert dict(found[group][latent].sizes) == lead | sizes
    assert dict(found["log_likelihood"][data].sizes) == lead | {"sequence": B, "time": T}
    for group, dataset in found.children.items():
        for site, array in dataset.data_vars.items():
            if "time" in array.dims:
                values = array.transpose("sequence", "time", ...).values
                assert np.isnan(values[PADDED]).all(), (group, site)
                assert np.isfinite(values[~PADDED]).all(), (group, site)
    np.testing.assert_array_equal(found["observed_data"][data].values[~PADDED], OBS[MASK])
    assert found["constant_data"]["length"].values.tolist() == MASK.sum(1).tolist()


def test_what_a_model_teaches_itself_is_not_told():
    assert set(export(MODELS["RVAE"]())["observed_data"].data_vars) == {"y", "u"}


@pytest.mark.parametrize("name", ["VRAE", "VOSP", "RNN"])
def test_densities_are_those_of_the_draws(name):
    net, batch = MODELS[name](), Batch(OBS, MASK)
    found = export(net, num_samples=300)
    stats, seen = found["sample_stats"], found["log_likelihood"]["x"].sum("time")
    assert dict(stats["lp"].sizes) == {"chain": 1, "draw": 300, "sequence": B}
    np.testing.assert_allclose(stats["lp"] - stats["log_q"], stats["log_weight"], atol=1e-4)
    if name == "RNN":
        np.testing.assert_allclose(seen.mean("draw").values[0], elbo(net, batch), rtol=1e-5)
        return
    path = torch.from_numpy(found["posterior"]["z"].values[0]).nan_to_num()
    encoding = net.prepare(batch)
    with torch.no_grad():
        prior = net.prior(MASK).log_prob(path)
        torch.testing.assert_close(
            torch.from_numpy(stats["log_q"].values[0]), encoding.belief.log_prob(path)
        )
        frames = net.emit(path, encoding).log_prob(OBS * MASK[..., None])
        expected = log_weights(net.model, net.guide, encoding, 300).mean(0)
    np.testing.assert_allclose(seen.values[0], frames, rtol=1e-4)
    np.testing.assert_allclose(stats["lp"].values[0], frames + prior, rtol=1e-4)
    np.testing.assert_allclose(stats["log_weight"].mean("draw").values[0], expected, atol=1.5)


def test_prior_draws_are_from_the_prior_and_make_the_frames():
    found = export(MODELS["VRAE"](), num_samples=2000, at_once=500)
    path = found["prior"]["z"].values[0]
    spread = np.nanstd(path, axis=(0, 1, 3))
    np.testing.assert_allclose(spread, np.sqrt(np.arange(1, T + 1)), rtol=0.1)  # a Wiener process
    assert abs(np.nanmean(path)) < 0.1
    film = float(MODELS["VRAE"]().sample(2000, T).mean())
    assert np.nanmean(found["prior_predictive"]["x"]) == pytest.approx(film, rel=0.3)


@pytest.mark.parametrize("every_step", [False, True])
def test_bits_and_answers(every_step):
    net = SRN(M, likelihoods.Categorical(4), hidden=6, stochastic=0.5, every_step=every_step)
    target = torch.randint(4, (B, T)) if every_step else torch.tensor([0, 3, 1])
    how = {"obs_axis": "pixel", "dims": {"units": ["unit"]}}
    found = export(net, Batch(OBS, MASK, target=target), **how)
    assert found["posterior"]["units"].dims == ("chain", "draw", "sequence", "time", "unit")
    bits = found["posterior"]["units"].values
    assert set(np.unique(bits[~np.isnan(bits)])) == {0.0, 1.0}
    axes = ("sequence", "time") if every_step else ("sequence",)
    assert found["observed_data"]["y"].dims == axes
    for group in ("posterior_predictive", "prior_predictive", "log_likelihood"):
        assert found[group]["y"].dims == ("chain", "draw", *axes)
    assert found["constant_data"]["inputs"].dims == ("sequence", "time", "pixel")
    if not every_step:
        assert found["observed_data"]["y"].values.tolist() == [0, 3, 1]


def test_answers_of_several_values_without_latents():
    net = MDRNN(M, outputs=2)
    found = export(net, Batch(OBS, MASK, target=torch.rand(B, 2)), dims={"y": ["axis"]})
    assert found["posterior_predictive"]["y"].dims == ("chain", "draw", "sequence", "axis")
    assert "posterior" not in found.children


def test_a_linear_system_has_an_exact_likelihood():
    net, frames = (
        zoo.LGDS(2, readout=PopulationReadout()),
        torch.poisson(torch.full((B, T, 15), 2.0)),
    )
    found = export(net, Batch(frames), obs_axis="neuron")
    exact = net.filter(frames).log_likelihood
    np.testing.assert_allclose(found["log_likelihood"]["y"].values[0, 0], exact, rtol=1e-6)
    assert found["constant_data"]["inputs"].dims == ("sequence", "time", "neuron")
    assert found["prior_predictive"]["y"].shape == (1, DRAWS, B, T, 1)


def test_a_latent_vector_as_long_as_a_sequence_is_no_path(one_vector):
    found = export(one_vector, Batch(torch.randn(B, T, T), MASK))
    for group in ("posterior", "prior"):
        assert found[group]["z"].dims == ("chain", "draw", "sequence", "latent")
        assert np.isfinite(found[group]["z"].values).all()
    assert found["observed_data"]["x"].dims == ("sequence", "time", "unit")


def test_a_path_of_as_many_dimensions_as_steps_is_one():
    found = export(zoo.VRAE(M, T, family, hidden=6))
    assert found["posterior"]["z"].dims == ("chain", "draw", "sequence", "time", "latent")
    assert np.isnan(found["posterior"]["z"].values[:, :, PADDED]).all()


# Reproducible, kept, and of use -------------------------------------------------------------------


def test_the_same_seed_gives_the_same_draws_and_leaves_the_random_state_alone():
    net = MODELS["VOSP"]()
    state = torch.get_rng_state()
    first, again, other = (export(net, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert first.identical(again)
    assert not np.array_equal(first["posterior"]["z"], other["posterior"]["z"], equal_nan=True)
    draws = first["posterior"]["z"].values[0, :, 0, 0, 0]
    assert len(np.unique(draws)) == DRAWS  # also from one part to the next


@pytest.mark.parametrize("name", ["RVAE", "RNN"])
def test_it_comes_back_from_a_file(name, tmp_path):
    net = MODELS[name]()
    found = to_arviz(net, Batch(OBS, MASK), DRAWS, coords={"sequence": ["a", "b", "c"]})
    path = tmp_path / "new" / "draws.nc"
    save_arviz(found, path)
    assert [file.name for file in path.parent.iterdir()] == ["draws.nc"]
    back = az.from_netcdf(str(path))
    assert type(back) is type(found)
    before, after = tree(found), tree(back)
    assert set(before.children) == set(after.children)
    assert after.attrs["model"] == name
    for group, dataset in before.children.items():
        for site, array in dataset.data_vars.items():
            np.testing.assert_array_equal(array.values, after[group][site].values)
            assert array.dims == after[group][site].dims
        assert after[group]["sequence"].values.tolist() == ["a", "b", "c"]


def test_arviz_sums_it_up_and_leaves_frames_out():
    batch = Batch(OBS)
    found = to_arviz(MODELS["VRAE"](), batch, 60)
    summary = az.summary(found, var_names=["z"], kind="stats")
    assert len(summary) == B * T * K
    np.testing.assert_allclose(
        summary["mean"].astype(float),
        tree(found)["posterior"]["z"].mean(("chain", "draw")).values.ravel(),
        atol=0.06,
    )
    with pytest.warns(UserWarning, match="Pareto"):  # the guide is untrained
        left = az.loo(found, pointwise=True)
    assert left.n_data_points == B * T


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"at_once": 0}, "at_once must be at least 1, got 0"),
        ({"dims": {"z": "factor"}}, r"a list of names for 'z': write \['factor'\]"),
        ({"dims": {"q": ["a"]}}, "dims names .'q'., but the sites are .*'x', 'z'"),
        ({"dims": {"z": ["a", "b"]}}, "2 names for 'z', which has 1 axes after sequence and time"),
        ({"dims": {"z": ["time"]}}, "axes of 6 and 2 the same name, 'time'"),
        ({"coords": {"latent": [1, 2, 3]}}, "3 labels for 'latent', which has 2 values"),
        ({"coords": {"key": [1]}}, "coords names .'key'., but the dimensions are"),
    ],
)
def test_names_that_do_not_fit_get_a_clear_sentence(how, message):
    with pytest.raises(ValueError, match=message):
        export(MODELS["VRAE"](), **how)


def test_models_without_a_pyro_pair_are_told_where_to_go():
    with pytest.raises(ValueError, match=r"REFH has no Pyro pair.*clamped_gibbs"):
        export(zoo.REFH(M, 3, family))
