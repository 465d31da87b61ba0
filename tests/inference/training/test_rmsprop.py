"""Rmsprop with Nesterov's gradient against the textbook's recursion and PyTorch's rmsprop."""

import copy

import pytest
import torch
from seqzoo.inference.training.rmsprop import RMSpropNesterov

CURVATURE = torch.tensor([[3.0, 0.5], [0.5, 0.2]], dtype=torch.float64)


def slope(point):
    """Gradient of the quadratic point . CURVATURE . point / 2."""
    return CURVATURE @ point


def trained(point, optimizer, steps, rates=None):
    """Steps down the quadratic; returns the points at which gradients were taken."""
    path = []
    for number in range(steps):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[number]
        path.append(point.detach().clone())
        optimizer.zero_grad()
        (point @ CURVATURE @ point / 2).backward()
        optimizer.step()
    return torch.stack([*path, point.detach()])


@pytest.fixture
def point():
    return torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("momentum", "start"), [(0.9, 0.0), (0.5, 1.0), (0.995, 0.0), (0.0, 0.0)])
def test_the_two_points_of_the_textbook(point, momentum, start):
    """Theta and the look-ahead point kept apart, under a learning rate that changes."""
    decay, epsilon, steps = 0.8, 1e-4, 30
    rates = torch.linspace(0.03, 0.001, steps, dtype=torch.float64).tolist()
    theta, velocity, square = point.detach().clone(), torch.zeros(2).double(), start
    ahead = []
    for rate in rates:
        ahead.append(theta + momentum * velocity)
        gradient = slope(ahead[-1])
        square = decay * square + (1 - decay) * gradient**2
        velocity = momentum * velocity - rate * gradient / (square + epsilon) ** 0.5
        theta = theta + velocity
    ahead.append(theta + momentum * velocity)
    optimizer = RMSpropNesterov([point], 1.0, decay, momentum, epsilon, start)
    torch.testing.assert_close(trained(point, optimizer, steps, rates), torch.stack(ahead))


def test_without_momentum_it_is_plain_rmsprop(point):
    other = point.detach().clone().requires_grad_()
    ours = trained(point, RMSpropNesterov([point], 0.01, momentum=0, epsilon=1e-30), 40)
    theirs = trained(other, torch.optim.RMSprop([other], 0.01, alpha=0.9, eps=0), 40)
    torch.testing.assert_close(ours, theirs)


def test_it_finds_the_minimum(point):
    rates = torch.linspace(0.05, 0, 400).tolist()
    assert trained(point, RMSpropNesterov([point]), 400, rates)[-1].abs().max() < 1e-2


def test_a_run_resumed_is_the_run(point, tmp_path):
    whole = point.detach().clone().requires_grad_()
    path = trained(whole, RMSpropNesterov([whole], 0.01), 20)
    first = RMSpropNesterov([point], 0.01)
    trained(point, first, 8)
    torch.save(first.state_dict(), tmp_path / "state")
    again = point.detach().clone().requires_grad_()
    second = RMSpropNesterov([again], 0.5, decay=0.1, momentum=0.1)
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(trained(again, second, 12), path[8:])


def test_groups_gaps_and_closures(point):
    """Groups keep their own settings, and a parameter without a gradient stays where it is."""
    still = torch.ones(2, requires_grad=True)
    alone = copy.deepcopy(point)
    groups = [{"params": [point], "momentum": 0.3}, {"params": [still]}]
    optimizer, single = RMSpropNesterov(groups), RMSpropNesterov([alone], momentum=0.3)

    def loss(at, steps):
        def closure():
            steps.zero_grad()
            value = at @ CURVATURE @ at / 2
            value.backward()
            return value

        return closure

    for _ in range(3):
        assert optimizer.step(loss(point, optimizer)) == single.step(loss(alone, single))
    assert torch.equal(point, alone)
    assert torch.equal(still, torch.ones(2))
    assert still not in optimizer.state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1e-3}, "lr cannot be negative"),
        ({"decay": 1.0}, "decay must be in"),
        ({"decay": -0.1}, "decay must be in"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"start": -1.0}, "start is a mean square"),
    ],
)
def test_bad_arguments(point, arguments, message):
    with pytest.raises(ValueError, match=message):
        RMSpropNesterov([point], **arguments)
