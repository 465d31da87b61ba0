"""Programs recorded on a CPU: equal to their function, or refused."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from seqzoo.inference import capture
from seqzoo.inference.capture import Captured
from seqzoo.inference.tape import Recording, Unrecordable, holds
from torch import nn

NET = nn.Linear(2, 2)
NUMBER = np.float32(2.0)
OUTSIDE = torch.ones(2)


def by_shortcut(x):
    x = x + torch.rand(2)
    return [x if holds((x < 3).all()) else x * 0, None]


def test_a_replay_draws_the_numbers_of_a_plain_call_and_follows_the_parameters():
    def function(x):
        loss = (NET(x * torch.rand(2)) * torch.tensor(2.0)).square().sum()
        return [loss.detach(), *torch.autograd.grad(loss, list(NET.parameters()))]

    recording = Recording(function, [torch.ones(2)], NET)
    with torch.no_grad():
        NET.weight += 1
    torch.manual_seed(0)
    plain, state = function(torch.full((2,), 3.0)), torch.get_rng_state()
    torch.manual_seed(0)
    torch.testing.assert_close(recording.replay([torch.full((2,), 3.0)]), plain, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shortcut_that_does_not_hold_takes_the_replay_back():
    recording = Recording(by_shortcut, [torch.ones(2)], NET)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    found = recording.replay([torch.zeros(2)])
    assert not torch.equal(torch.get_rng_state(), state)
    assert found[1] is None
    assert (found[0] <= 1).all()
    torch.manual_seed(0)
    assert recording.replay([torch.full((2,), 3.0)]) is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x * float(x.sum())],
        lambda x: [x if x.sum() > 0 else -x],
        lambda x: [x[x > 0].sum()],
        lambda x: [x.nonzero()],
        lambda x: [x + OUTSIDE],
        lambda x: [x + torch.from_numpy(np.ones(2, np.float32) * NUMBER)],
    ],
)
def test_a_function_that_depends_on_more_than_its_inputs_is_refused(function):
    state = torch.get_rng_state()
    with pytest.raises(Unrecordable):
        Recording(lambda x: function(x + torch.rand(2)), [torch.ones(2)], NET)
    assert torch.equal(torch.get_rng_state(), state)  # as if it had not been tried


class Owner:
    factor = 1.0


def test_a_changed_attribute_and_another_shape_are_recorded_anew():
    owner, calls = Owner(), []

    def function(key, x):
        calls.append(len(x))
        return [x * owner.factor + key]

    captured = Captured(function, NET, owner, True)
    for rows, made in ((2, 1), (2, 1), (3, 2)):
        assert captured(torch.ones(rows), key=1)[0].tolist() == [2.0] * rows
        assert len(calls) == made
    owner.factor = 5.0
    captured.refresh()
    assert captured(torch.ones(2), key=1)[0].tolist() == [6.0, 6.0]
    assert captured(torch.ones(2), key=2)[0].tolist() == [7.0, 7.0]
    assert len(calls) == 4


def test_a_recording_is_made_when_it_is_worth_its_time():
    captured = Captured(lambda key, x: [x + 1], NET, Owner(), None)
    for _ in range(100):
        captured(torch.ones(2))
    assert not captured._recordings
    captured(torch.ones(2))
    assert len(captured._recordings) == 1
    never = Captured(lambda key, x: [x + 1], NET, Owner(), False)
    for _ in range(102):
        never(torch.ones(2))
    assert not never._recordings


class FakeGraph:
    """A CUDA graph on the CPU: a replay computes the results anew, in place."""

    def replay(self):
        made = self.recording
        for fixed, new in zip(made.results, made.function(*made.inputs)):
            if fixed is not None:
                fixed.copy_(new)


def test_a_graph_has_inputs_and_results_of_its_own(monkeypatch):
    calls = []
    fakes = {
        "get_rng_state": lambda device: torch.get_rng_state(),
        "set_rng_state": lambda state, device: torch.set_rng_state(state),
        "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
        "current_stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
        "stream": lambda stream: contextlib.nullcontext(),
        "graph": lambda graph: contextlib.nullcontext(),
        "CUDAGraph": FakeGraph,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def function(x, absent):
        calls.append(absent)
        return [x * NET.bias.detach(), None, x + torch.rand(2)]

    monkeypatch.setattr(capture._Graph, "function", staticmethod(function), raising=False)
    monkeypatch.setattr(FakeGraph, "recording", None, raising=False)
    replay = capture._Graph.replay

    def watched(self, inputs):
        FakeGraph.recording = self
        return replay(self, inputs)

    monkeypatch.setattr(capture._Graph, "replay", watched)
    torch.manual_seed(0)
    graph = capture._Graph(function, [torch.ones(2), None], NET)
    torch.manual_seed(0)
    function(torch.ones(2), None)  # drawn while the graph was made, which draws nothing on a GPU
    plain = function(torch.ones(2), None)
    torch.testing.assert_close(graph.first, plain, rtol=0, atol=0)
    assert calls == [None] * (capture.WARM_UP + 4)
    kept = graph.first[0].clone()
    second = graph.replay([torch.full((2,), 3.0), None])
    torch.testing.assert_close(second[0], 3 * kept, rtol=0, atol=0)
    torch.testing.assert_close(graph.first[0], kept, rtol=0, atol=0)  # not overwritten


def test_a_network_with_a_part_of_a_users_own_is_recorded_on_request_only():
    class Own(torch.nn.Linear):
        pass

    for part, captured, records in (
        (torch.nn.Linear(2, 2), None, True),
        (Own(2, 2), None, False),
        (Own(2, 2), True, True),
    ):
        net = torch.nn.Sequential(torch.nn.ReLU(), part)
        found = Captured(lambda key, x: [x + 1], net, Owner(), captured)
        assert found.records("cpu") == records
