"""The temporally local rule: locality, the fold, and the free energy of paper equation (3)."""

import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference.contracts import Fold
from seqzoo.inference.rules.rule import anneal
from seqzoo.inference.sweep import sweep

from seqzoo import inference, zoo

B, T, M, K = 3, 7, 5, 2


def rvae(likelihood="Poisson", **how):
    family = getattr(zoo.likelihoods, likelihood)(M)
    return zoo.RVAE(M, K, family, hidden=6, **how)


def batch(**how):
    return Batch(torch.poisson(torch.full((B, T, M), 2.0)), **how)


def gradient(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_no_gradient_reaches_a_step_from_the_one_after():
    """Hooks on every step's output: the local rule never fires one, BPTT fires all but the last."""
    for rule_of, expected in ((inference.LocalELBO, set()), (inference.BPTT, set(range(T)))):
        net = rvae()
        fired = watch_steps(net)
        rule_of(net).gradients(batch())
        assert fired == expected


def watch_steps(net):
    """The set, filled as it happens, of the steps whose output a gradient reaches."""
    fired, plain, times = set(), net.step, iter(range(T))

    def watched(features, past):
        new, t = plain(features, past), next(times)
        if new.requires_grad:
            new.register_hook(lambda grad: fired.add(t) if grad.any() else None)
        return new

    net.step = net.advance = watched
    return fired


def test_gradient_of_a_later_frame_does_not_depend_on_earlier_parameters():
    """The local gradient is the gradient at frozen statistics, frame by frame."""
    net, data = rvae(), batch()
    with torch.no_grad():
        past = sweep(net, data, net.initial(B)).statistics[:, :-1]
    with inference.RandomStream("cpu", 5):
        inference.LocalELBO(net).gradients(data)
    swept = gradient(net)
    fold = Fold(data.obs.flatten(0, 1), past.flatten(0, 1))
    with inference.RandomStream("cpu", 5):
        inference.LocalELBO(net)._backward(fold)
    for name, value in gradient(net).items():
        torch.testing.assert_close(value, swept[name])


def test_fold_equals_the_sum_of_single_steps():
    """One gradient over the fold is the mean of the gradients of its frames, one at a time."""
    net, data = rvae(), batch()
    net.guide = mean_guide(net)
    rule = inference.LocalELBO(net)
    rule.gradients(data)
    whole = gradient(net)
    total = {name: torch.zeros_like(value) for name, value in whole.items()}
    past = net.initial(B)
    for t in range(T):
        fold, past = rule._fold(data.window(t, t + 1), past)
        rule._backward(fold)
        for name, value in gradient(net).items():
            total[name] += value / T
    for name, value in whole.items():
        torch.testing.assert_close(value, total[name], rtol=1e-4, atol=1e-5)


def mean_guide(net):
    """A guide without noise, so that splitting a batch cannot change the draws."""
    import pyro
    import pyro.distributions as dist

    def guide(fold):
        mean, _ = net.recognition.moments(net.encode(fold.obs), fold.past)
        with pyro.plate("frames", fold.rows):
            pyro.sample("x", dist.Delta(mean, event_dim=1))

    return guide


def test_online_equals_fold_with_a_window_of_one():
    """Without an optimizer between the windows, T online gradients average to the fold's."""
    net, data = rvae(), batch()
    net.guide = mean_guide(net)
    inference.LocalELBO(net).gradients(data)
    whole = gradient(net)
    total = {name: torch.zeros_like(value) for name, value in whole.items()}
    count = 0
    for metrics in inference.LocalELBO(net, window=1).updates(data):
        assert metrics["frames"] == B
        count += 1
        for name, value in gradient(net).items():
            total[name] += value / T
    assert count == T
    for name, value in whole.items():
        torch.testing.assert_close(value, total[name], rtol=1e-4, atol=1e-5)


def test_chunks_of_the_fold_change_nothing_but_memory():
    net, data = rvae(), batch()
    net.guide = mean_guide(net)
    losses, gradients = [], []
    for chunk in (1000, 4):
        losses.append(inference.LocalELBO(net, chunk=chunk).gradients(data)["loss"])
        gradients.append(gradient(net))
    torch.testing.assert_close(*losses)
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_window_of_one_makes_local_and_bptt_the_same():
    net, data = rvae(), batch()
    gradients = []
    for kind in (inference.LocalELBO, inference.BPTT):
        with inference.RandomStream("cpu", 1):
            updates = kind(net, window=1).updates(data)
            gradients.append([next(updates) and gradient(net) for _ in range(3)])
    for local, through in zip(*gradients):
        for name, value in local.items():
            torch.testing.assert_close(value, through[name], rtol=1e-4, atol=1e-6)


def test_bptt_is_the_gradient_of_the_unrolled_loss():
    """A literal unrolling, autograd and equal draws, against the folded rule."""
    net, data = rvae(), batch()
    with inference.RandomStream("cpu", 3):
        inference.BPTT(net).gradients(data)
    folded = gradient(net)
    with inference.RandomStream("cpu", 3):
        noise = torch.randn(B * T, K).unflatten(0, (B, T))
    net.zero_grad()
    past, loss = net.initial(B), 0.0
    for t in range(T):
        y = data.obs[:, t]
        mean, spread = net.recognition.moments(net.encode(y), past)
        loss = loss + free_energy(net, y, past, mean, spread, noise[:, t]).sum()
        past = torch.cat((mean, spread), -1)
    (loss / (B * T)).backward()
    for name, value in gradient(net).items():
        torch.testing.assert_close(value, folded[name], rtol=1e-3, atol=1e-4)


def free_energy(net, y, past, mean, spread, noise):
    """Paper 000's rearranged equation (3), Poisson emissions, at given noise, with constants."""
    x = mean + spread * noise
    kl = 0.5 * (mean.square() + spread.square() - 1).sum(-1) - spread.log().sum(-1)
    sigma, explained = net.past_scale, net.past_decoder(x)
    u = 0.5 * ((past - explained) / sigma).square() + sigma.log() + 0.5 * math.log(2 * math.pi)
    u = u * (past != net.initial(1)).any(-1, keepdim=True)  # a first frame has no past to explain
    log_rate = net.decoder(x)
    poisson = log_rate.exp() - y * log_rate + torch.lgamma(y + 1)
    return kl + u.expand_as(past).sum(-1) + poisson.sum(-1)


def test_pyro_elbo_is_the_papers_free_energy():
    net, data = rvae(past_scale=0.3), batch()
    rule = inference.LocalELBO(net)
    fold, _ = rule._fold(data, net.initial(B))
    with inference.RandomStream("cpu", 2):
        loss = rule.loss(fold)
    with inference.RandomStream("cpu", 2):
        noise = torch.randn(B * T, K)
    mean, spread = net.recognition.moments(net.encode(fold.obs), fold.past)
    by_hand = free_energy(net, fold.obs, fold.past, mean, spread, noise).sum()
    torch.testing.assert_close(loss, by_hand, rtol=1e-5, atol=1e-3)


def test_importance_weighted_bound_is_tighter_and_rises_with_k():
    net, data = rvae(), batch()
    fold, _ = inference.LocalELBO(net)._fold(data, net.initial(B))
    bounds = []
    for k in (1, 8, 64):
        rule = inference.LocalELBO(net, bound="iwae", num_samples=k)
        with torch.no_grad():
            bounds.append(sum(float(rule.loss(fold)) for _ in range(40)) / 40)
    assert bounds[0] > bounds[1] > bounds[2]


def test_importance_weights_against_a_loop_over_particles():
    net, data = rvae(), batch()
    fold, _ = inference.LocalELBO(net)._fold(data, net.initial(B))
    with inference.RandomStream("cpu", 4):
        weights = inference.evaluate.log_weights(net.model, net.guide, fold, 3)
    with inference.RandomStream("cpu", 4):
        noise = torch.randn(3, B * T, K)
    mean, spread = net.recognition.moments(net.encode(fold.obs), fold.past)
    for k in range(3):
        energy = free_energy(net, fold.obs, fold.past, mean, spread, noise[k])
        kl = 0.5 * (mean.square() + spread.square() - 1).sum(-1) - spread.log().sum(-1)
        x = mean + spread * noise[k]
        sampled = (0.5 * x.square() - 0.5 * noise[k].square() - spread.log()).sum(-1)
        torch.testing.assert_close(weights[k], -(energy - kl + sampled), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rule", [inference.LocalELBO, inference.BPTT])
def test_padding_and_mask_change_nothing(rule):
    net, data = rvae(), batch()
    padded_obs = torch.cat((data.obs, torch.full((B, 4, M), float("nan"))), 1)
    mask = torch.arange(T + 4)[None] < torch.full((B, 1), T)
    results = []
    for each in (data, Batch(padded_obs, mask)):
        with inference.RandomStream("cpu", 6):
            metrics = rule(net).gradients(each)
        results.append((metrics, gradient(net)))
    torch.testing.assert_close(results[0][0]["loss"], results[1][0]["loss"])
    assert results[0][0]["frames"] == results[1][0]["frames"] == B * T
    for name, value in results[0][1].items():
        torch.testing.assert_close(value, results[1][1][name])


def test_minibatches_cover_every_frame_once():
    net, data = rvae(), batch()
    seen = []
    rule = inference.LocalELBO(net, minibatch=4)
    rule._backward = lambda fold: seen.append(fold.obs) or {"loss": 0, "frames": fold.rows}
    assert sum(metrics["frames"] for metrics in rule.updates(data)) == B * T
    assert sorted(map(tuple, torch.cat(seen).tolist())) == sorted(
        map(tuple, data.obs.flatten(0, 1).tolist())
    )


@pytest.mark.parametrize(
    "how", [{}, {"window": 3}, {"minibatch": 4}, {"window": 2, "minibatch": 5}]
)
def test_a_rule_knows_how_many_updates_it_makes(how):
    rule, data = inference.LocalELBO(rvae(), **how), batch()
    assert rule.count(data) == len(list(rule.updates(data)))


def test_annealed_numbers_go_from_first_to_last_over_their_share():
    assert [anneal([0.25, 4.0, 0.5], done) for done in (0.0, 0.25, 0.5, 0.9)] == [
        0.25,
        1.0,
        4.0,
        4.0,
    ]
    assert anneal(0.3, 0.7) == 0.3


def test_weights_scale_sites_of_the_loss():
    """With the KL weighed w, the loss is (1 - w) KL less than the free energy."""
    net, data = rvae(), batch()
    fold, _ = inference.LocalELBO(net)._fold(data, net.initial(B))
    losses = []
    for weights in (None, {"x": 0.25}):
        with inference.RandomStream("cpu", 7):
            losses.append(inference.LocalELBO(net, weights=weights).loss(fold))
    mean, spread = net.recognition.moments(net.encode(fold.obs), fold.past)
    kl = (0.5 * (mean.square() + spread.square() - 1) - spread.log()).sum()
    torch.testing.assert_close(losses[0] - losses[1], 0.75 * kl, rtol=1e-4, atol=1e-3)


def test_forgotten_frames_see_no_past():
    """Where every past is forgotten, the recognition net's recurrent weights get no gradient."""
    net = rvae()
    inference.LocalELBO(net, drop_past=1.0).gradients(batch())
    assert not net.recognition.from_past.weight.grad.any()
    assert not net.past_decoder[0].weight.grad.any()
    assert net.recognition.alone.weight.grad.any()


def test_an_ended_sequence_leaves_empty_windows_without_gradient():
    net = rvae()
    mask = torch.zeros(1, 4, dtype=torch.bool)
    mask[:, :2] = True
    data = Batch(torch.ones(1, 4, M), mask)
    frames = [int(m["frames"]) for m in inference.LocalELBO(net, window=1).updates(data)]
    assert frames == [1, 1, 0, 0]


def test_drawn_statistics_are_carried():
    net = zoo.REFH(M, 4, zoo.likelihoods.Poisson(M))
    rule = inference.ContrastiveDivergence(net, sample_past=True)
    fold, _ = rule._fold(batch(), net.initial(B))
    assert set(fold.past.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"window": 0}, "window"),
        ({"minibatch": 0}, "minibatch"),
        ({"num_samples": 0}, "num_samples"),
        ({"bound": "tight"}, "bound"),
        ({"drop_past": 1.5}, "drop_past"),
        ({"weights": {"x": [1.0, 0.5]}}, "fraction"),
    ],
)
def test_bad_arguments(how, message):
    with pytest.raises(ValueError, match=message):
        inference.LocalELBO(rvae(), **how)
