"""Limits that leave learning a way back."""

import pytest
import torch
from seqzoo.zoo.parts import limits

X = torch.linspace(-40, 40, 161, dtype=torch.float64)


def test_a_soft_limit_leaves_what_is_within_as_it_is():
    found = limits.soft_limits(X, -7.0, 9.0)
    within = (X >= -7) & (X <= 9)
    assert torch.equal(found[within], X[within])
    torch.testing.assert_close(found[X > 9], 9 + (X[X > 9] - 8).log())
    torch.testing.assert_close(found[X < -7], -7 - (-X[X < -7] - 6).log())
    torch.testing.assert_close(limits.undo_soft_limits(found, -7.0, 9.0), X)
    torch.testing.assert_close(limits.exp_soft_limit(X, 9.0), limits.soft_limit(X, 9.0).exp())


@pytest.mark.parametrize(
    ("values", "none"),
    [([], True), ([3.0, -8.0], True), ([3.0, 3.1], False), ([2.0, float("nan")], False)],
)
def test_a_shortcut_is_taken_where_no_value_is_above(values, none):
    assert limits.none_above(torch.tensor(values), 3.0) == none


@pytest.mark.parametrize("limit", [limits.soft_limit, limits.exp_soft_limit])
def test_its_slope_is_never_zero_nor_jumps(limit):
    assert torch.autograd.gradcheck(lambda x: limit(x, 3.0), X[70:].clone().requires_grad_())
    at = torch.tensor([3 - 1e-9, 3 + 1e-9], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(limit(at, 3.0).sum(), at)
    torch.testing.assert_close(slope[0], slope[1], rtol=1e-6, atol=0)
    assert (slope > 0).all()


@pytest.mark.parametrize(
    ("value", "aim", "kept"),
    [(5.0, 0.0, True), (5.0, 9.0, False), (-5.0, 0.0, True), (-5.0, -9.0, False), (1.0, 0.5, True)],
)
def test_a_held_value_keeps_the_slope_that_leads_back(value, aim, kept):
    at = torch.tensor([value], requires_grad=True)
    found = limits.held(at, -2.0, 2.0)
    assert found.item() == min(max(value, -2.0), 2.0)
    (found - aim).square().backward()
    assert bool(at.grad) == kept


def test_a_held_value_can_be_mapped():
    double = torch.func.vmap(lambda x: limits.held(x, -2.0, 2.0))(X[:, None])
    torch.testing.assert_close(double[:, 0], X.clamp(-2, 2))
