"""Kernels of recursions against the loop over steps."""

import pytest
import torch
from seqzoo.inference import kernels
from seqzoo.zoo.parts import memory, nets
from seqzoo.zoo.parts.guides import FilmGuide, GaussianGuide

from seqzoo import inference, zoo

B, T, M, K, H = 5, 7, 4, 3, 6

PARTS = {
    name: lambda name=name: GaussianGuide(M, K, H, nonlinearity=name) for name in nets.ACTIVATIONS
}
PARTS |= {
    "harmonium": lambda: zoo.REFH(M, H, zoo.likelihoods.Poisson(M), scale=0.5),
    "means": lambda: GaussianGuide(M, K, H, statistics="mean"),
    "film": lambda: FilmGuide(M, K, H, emission_dim=2, rate=2.0),
}


def loop(part, features, past, passes):
    """The statistics, ``[B, T + 1, U]``, one step after the other."""
    found = [past]
    for t in range(features.shape[1]):
        found.append(
            torch.where(passes[:, t, None], part.step(features[:, t], found[-1]), found[-1])
        )
    return torch.stack(found, 1)


def case(part, scale=1.0, rows=B, steps=T):
    """Features, a past that is blank in the first row, and a mask with gaps."""
    features = part.encode(scale * torch.randn(rows, steps, M))
    past = torch.rand_like(part.initial(rows))
    past[:1] = 0.0
    return features, past, torch.rand(rows, steps) < 0.7


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_a_kernel_equals_the_loop(name, dtype, error):
    for scale in (1.0, 30.0):  # within the bounds of the moments, and at them
        features, past, passes = case(part := PARTS[name](), scale)
        part.to(dtype)
        given = features.to(dtype), past.to(dtype), passes
        found, expected = part.scan(*given), loop(part, *given)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=error, atol=error)


@torch.no_grad()
def test_a_kernel_takes_no_rows_and_no_steps():
    guide = GaussianGuide(M, K, H)
    for rows, steps in ((0, T), (B, 0), (1, 1)):
        features, past, passes = case(guide, rows=rows, steps=steps)
        assert guide.scan(features, past, passes).shape == (rows, steps + 1, 2 * K)


@torch.no_grad()
def test_a_nan_stays_one_and_goes_to_no_other_row():
    features, past, passes = case(guide := GaussianGuide(M, K, H))
    passes[:] = True
    features[2, 3] = torch.nan
    passes[4, 3], features[4, 3] = False, torch.nan  # in padding it is not read
    found = guide.scan(features, past, passes)
    assert found[2, 4:].isnan().all()
    found[2, 4:] = 0.0
    assert found.isfinite().all()


class Slower(GaussianGuide):
    def step(self, features, past):
        return 0.5 * past + 0.5 * super().step(features, past)

    def advance(self, features, past):
        return self.step(features, past)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@torch.no_grad()
def test_a_memory_scans_with_torchs_own_loop(cell):
    net = memory.Memory(M, H, cell, layers=2, dropout=0.5, skip=True)
    inputs, state = torch.randn(B, T, M), torch.randn(B, net.state_dim)
    passes = torch.arange(T) < torch.tensor([7, 0, 1, 3, 7])[:, None]
    found = net.scan(inputs, state, passes)
    if cell == "lstm":
        assert found is None
        return
    torch.testing.assert_close(found, loop(net, inputs, state, passes), rtol=1e-6, atol=1e-6)
    assert net.scan(inputs, state, passes.flip(1)) is None


def changed(change):
    guide = GaussianGuide(M, K, H)
    change(guide)
    return guide


@pytest.mark.parametrize(
    "make",
    [
        lambda: Slower(M, K, H),
        lambda: changed(lambda guide: setattr(guide, "moments", guide.moments)),
        lambda: changed(lambda guide: setattr(guide, "nonlinearity", torch.nn.ELU(alpha=0.5))),
        lambda: changed(lambda guide: setattr(guide, "nonlinearity", torch.nn.Hardtanh())),
    ],
    ids=["a subclass", "a method of its own", "another slope", "another activation"],
)
@torch.no_grad()
def test_no_kernel_stands_in_for_another_recursion(make):
    guide = make()
    assert guide.scan(*case(guide)) is None
    net = zoo.RVAE(M, K, zoo.likelihoods.Poisson(M), hidden=H, guide=guide)
    obs = torch.poisson(3 * torch.rand(B, T, M))
    swept = loop(net, net.encode(obs), net.initial(B), torch.ones(B, T, dtype=torch.bool))
    assert torch.equal(inference.run_filter(net, obs), swept[:, 1:])


@torch.no_grad()
def test_a_kernel_is_for_tensors_without_a_graph_and_needs_numba(monkeypatch):
    guide = GaussianGuide(M, K, H)
    given = case(guide)
    assert guide.scan(*given) is not None
    with torch.enable_grad():
        assert guide.scan(*given) is None
    assert guide.scan(given[0].double(), *given[1:]) is None
    assert guide.scan(given[0].half(), *given[1:]) is None
    monkeypatch.setattr(kernels, "load", lambda name: None)
    assert guide.scan(*given) is None
