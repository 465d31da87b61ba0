"""Target propagation against a transcription of the paper in loops, and against exact inverses."""

import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import TargetPropagation
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical, GaussianMixture
from torch import nn

from seqzoo import inference
from tests.inference.rules.helpers import scattered

I, H, C, B, T, M = 2, 4, 5, 3, 6, 7  # noqa: E741
LENGTHS = (4, 6, 1)
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
OUTPUTS = {
    "classes": lambda: Categorical(C),
    "bits": lambda: Bernoulli(C),
    "mixture": lambda: GaussianMixture(2, components=3),
}
NETS = {
    "sigmoid": {},
    "tanh": {"nonlinearity": "tanh", "inverse": "sigmoid"},
    "hybrid": {"stochastic": 0.5, "nonlinearity": "tanh"},
    "stochastic": {"stochastic": 1.0},
}
every_net = pytest.mark.parametrize("kind", NETS)
both_masks = pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])


def srn(kind="sigmoid", output="classes", **how):
    return scattered(SRN(I, OUTPUTS[output](), hidden=H, **NETS[kind], **how))


def batch(output="classes", mask=None, every_step=False, rows=B, steps=T):
    obs = torch.randn(rows, steps, I, dtype=torch.float64)
    shape = (rows, steps) if every_step else (rows,)
    targets = {
        "classes": torch.randint(C, shape),
        "bits": (torch.rand(*shape, C) < 0.4).double(),
        "mixture": torch.randn(*shape, 2, dtype=torch.float64),
    }
    return Batch(obs, mask, target=targets[output])


def gradient(rule, data):
    """Every parameter's gradient; zeros where it has none."""
    rule.gradients(data)
    return {
        name: torch.zeros_like(part) if part.grad is None else part.grad.clone()
        for name, part in rule.net.named_parameters()
    }


def listen(net, verb):
    """A list, filled as it happens, of what a verb of the network gives."""
    heard, plain = [], getattr(net, verb)

    def listening(*args):
        heard.append(plain(*args))
        return heard[-1]

    setattr(net, verb, listening)
    return heard


def assert_equal(found, expected, **how):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **how, msg=lambda m, n=name: f"{n}: {m}")


# The paper in loops -----------------------------------------------------------------------------

SLOPES = {  # derivatives of activations, from what they put out
    "Sigmoid": lambda y: y * (1 - y),
    "Tanh": lambda y: 1 - y**2,
    "Identity": torch.ones_like,
}
CURVES = {"Sigmoid": lambda a: 1 / (1 + (-a).exp()), "Tanh": torch.tanh, "Identity": lambda a: a}
REST = {"Sigmoid": 0.5, "Tanh": 0.0, "Identity": 0.0}  # what they put out without any drive


def at_rest(net, *shape):
    """h_0: bits fire half the time, and other units have their curve's value at 0."""
    h = torch.full((*shape, H), REST[type(net.units.function).__name__], dtype=torch.float64)
    h[..., : net.num_stochastic] = 0.5
    return h


def answer_by_the_book(output, natural, y):
    """p(y | natural parameters), and the derivative of -log p by them; one answer."""
    if isinstance(output, Categorical):
        chance = natural.exp() / natural.exp().sum()
        hot = torch.zeros_like(chance)
        hot[int(y)] = 1
        return chance[int(y)], chance - hot
    if isinstance(output, Bernoulli):
        chance = 1 / (1 + (-natural).exp())
        return torch.where(y == 1, chance, 1 - chance).prod(), chance - y
    k, dim = output.components, output.dim
    logits, rest = natural[:k], natural[k:]
    mu, log_sigma = rest[: k * dim].view(k, dim), rest[k * dim :].view(k, dim)
    weight, sigma = logits.exp() / logits.exp().sum(), log_sigma.exp()
    z = (y - mu) / sigma
    density = weight * (torch.exp(-(z**2) / 2) / (sigma * math.sqrt(2 * math.pi))).prod(1)
    share = (density / density.sum())[:, None]  # of each component; Bishop (1994)
    slopes = (weight - share[:, 0], -share * z / sigma, share * (1 - z**2))
    return density.sum(), torch.cat([slope.flatten() for slope in slopes])


def by_the_book(net, data, drawn, alpha_i, difference):
    """Gradients, metrics, and targets minus states ``[M, B, T, H]``.

    ``drawn`` holds the units' states at each step, ``[T, M, B, H]``: of them only the bits are
    read. Nothing here looks at padding.
    """
    values = {name: part.detach() for name, part in net.named_parameters()}
    w_xh, w_hh, b_h, v_hh, c_h, w_hy, b_y = values.values()
    curve, inverse = (type(f).__name__ for f in (net.units.function, net.back_function))
    bits, paths = net.num_stochastic, drawn.shape[1]
    lengths = data.mask.sum(1).tolist()
    answers = sum(lengths) if net.every_step else len(lengths)
    backs = paths * sum(length - 1 for length in lengths)
    out = {name: torch.zeros_like(value) for name, value in values.items()}
    loss = missed = moved = 0.0
    steps = torch.zeros_like(drawn).movedim(0, -2)

    def forward(x, h):
        a = w_xh @ x + w_hh @ h + b_h
        y = CURVES[curve](a)
        slope = SLOPES[curve](y)
        y[:bits] = CURVES["Sigmoid"](a[:bits])
        slope[:bits] = SLOPES["Sigmoid"](y[:bits])
        return y, slope

    def back(x, h):
        return CURVES[inverse](w_xh @ x + v_hh @ h + c_h)

    for b, length in enumerate(lengths):
        x = {t: data.obs[b, t - 1] for t in range(1, length + 1)}
        h = [{0: at_rest(net)} for _ in range(paths)]
        f, slope = [{} for _ in h], [{} for _ in h]
        for m in range(paths):
            for t, frame in x.items():
                f[m][t], slope[m][t] = forward(frame, h[m][t - 1])
                fired = drawn[t - 1, m, b, :bits]
                assert ((fired == 0) | (fired == 1)).all()
                h[m][t] = torch.cat((fired, f[m][t][bits:]))
        push = [{} for _ in h]
        for t in x if net.every_step else [length]:
            y = data.target[b, t - 1] if net.every_step else data.target[b]
            found = [answer_by_the_book(net.output, w_hy @ h[m][t] + b_y, y) for m in range(paths)]
            total = sum(chance for chance, _ in found)
            loss -= math.log(total / paths) / answers
            for m, (chance, alone) in enumerate(found):
                by_natural = alone * chance / total
                out["readout.weight"] += torch.outer(by_natural, h[m][t]) / answers
                out["readout.bias"] += by_natural / answers
                push[m][t] = -alpha_i * (w_hy.T @ by_natural)
        for m in range(paths):
            target = {length: h[m][length] + push[m][length]}  # (3)
            for t in range(length - 1, 0, -1):  # (4), and its correction
                target[t] = back(x[t + 1], target[t + 1])
                if difference:
                    target[t] = target[t] + h[m][t] - back(x[t + 1], h[m][t + 1])
                target[t] = target[t] + push[m].get(t, 0)
            for t in range(2, length + 1):
                guess = back(x[t], h[m][t])
                miss = guess - h[m][t - 1]
                missed += float(miss @ miss) / (backs * H)
                miss = miss * SLOPES[inverse](guess) / backs
                out["back.weight"] += torch.outer(miss, h[m][t])
                out["back.bias"] += miss
            for t, frame in x.items():
                far = h[m][t] - target[t] if difference else f[m][t] - target[t]
                steps[m, b, t - 1] = target[t] - h[m][t]
                moved += float(steps[m, b, t - 1].square().sum()) / (paths * sum(lengths) * H)
                far = far * slope[m][t] / answers
                out["from_input.weight"] += torch.outer(far, frame)
                out["from_state.weight"] += torch.outer(far, h[m][t - 1])
                out["from_state.bias"] += far
    return out, {"loss": loss, "inverse": missed, "distance": moved, "frames": answers}, steps


def both(net, data, difference=True, samples=M):
    """Gradients and metrics of the rule, and those of the book."""
    drawn = listen(net, "sample_units")
    rule = TargetPropagation(net, alpha_i=0.7, difference=difference, num_samples=samples)
    metrics = rule.gradients(data)
    found = {name: part.grad for name, part in net.named_parameters()}
    drawn = torch.stack(drawn)
    paths = samples if net.num_stochastic else 1
    assert drawn.shape == (data.obs.shape[1], paths, len(data), H)
    return (found, metrics), by_the_book(net, data, drawn, 0.7, difference)


def compare(*args, **how):
    (found, _), (expected, _, _) = both(*args, **how)
    assert_equal(found, expected)
    assert all(value.any() for value in expected.values())


@every_net
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("difference", [True, False], ids=["difference", "plain"])
@both_masks
def test_gradients_are_those_of_the_paper(kind, mask, difference, every_step):
    output = "bits" if every_step else "classes"
    net = srn(kind, output, every_step=every_step)
    compare(net, batch(output, mask, every_step), difference)


@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_gradients_are_those_of_the_paper_with_mixtures(every_step):
    """Equations 8 to 13, with several paths."""
    net = srn("hybrid", "mixture", every_step=every_step)
    compare(net, batch("mixture", MASK, every_step))


def test_gradients_are_those_of_the_paper_with_one_sample():
    compare(srn("hybrid"), batch(mask=MASK), samples=1)


@every_net
@both_masks
@pytest.mark.parametrize("difference", [True, False], ids=["difference", "plain"])
def test_metrics_are_those_of_the_book(kind, mask, difference):
    """The loss per answer; squared errors and distances per unit, path and real step."""
    (_, metrics), (_, numbers, _) = both(srn(kind), batch(mask=mask), difference, samples=3)
    assert metrics.keys() == numbers.keys()
    for name, value in numbers.items():
        assert float(metrics[name]) == pytest.approx(value), name
        assert not metrics[name].requires_grad


@every_net
@both_masks
@pytest.mark.parametrize("difference", [True, False], ids=["difference", "plain"])
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_targets_are_those_of_the_book(kind, mask, difference, every_step):
    """Equations 3 and 4 themselves; zero in padding. No gradient is touched."""
    net, data = srn(kind, every_step=every_step), batch("classes", mask, every_step)
    rule = TargetPropagation(net, alpha_i=0.4, num_samples=3, difference=difference)
    rule.gradients(data)
    before = {name: part.grad.clone() for name, part in net.named_parameters()}
    drawn = listen(net, "sample_units")
    steps = rule.targets(data)
    expected = by_the_book(net, data, torch.stack(drawn), 0.4, difference)[2]
    torch.testing.assert_close(steps, expected)
    assert not steps.requires_grad
    assert_equal({name: part.grad for name, part in net.named_parameters()}, before)


@every_net
@both_masks
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_the_control_sends_no_target_back(kind, mask, every_step):
    """Steps have their own answer's target, -alpha_i dE/dh_t, or none; all else is the same."""
    net, data = srn(kind, every_step=every_step), batch("classes", mask, every_step)
    drawn = listen(net, "sample_units")
    steps = TargetPropagation(net, alpha_i=0.4, num_samples=3, propagate=False).targets(data)
    with torch.enable_grad():
        states = torch.stack(drawn).requires_grad_()
        chance = net.readout(states).softmax(-1).mean(1)  # [T, B, C]
        loss = 0.0
        for b, length in enumerate(data.mask.sum(1).tolist()):
            for t in range(length) if every_step else [length - 1]:
                y = data.target[b, t] if every_step else data.target[b]
                loss = loss - chance[t, b, y].log()
    expected = -0.4 * torch.autograd.grad(loss, states)[0].movedim(0, -2)
    torch.testing.assert_close(steps, expected)
    answered = data.mask.sum() if every_step else B
    assert (steps.abs().sum(-1) > 0).sum() == answered * len(steps)
    found = []
    for propagate in (True, False):
        with inference.RandomStream("cpu", 5):
            found.append(gradient(TargetPropagation(net, propagate=propagate), data))
    for name in found[0]:
        same = torch.allclose(found[0][name], found[1][name])
        assert same == name.startswith(("readout.", "back.")), name


@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("difference", [True, False], ids=["difference", "plain"])
@pytest.mark.parametrize("shortest", [40, 7], ids=["whole", "padded"])
def test_a_large_batchs_gradient_is_the_mean_of_its_parts(shortest, difference, every_step):
    """However the folded batch is cut to fit a cache: 40 x 300 x 16 numbers here."""
    net = SRN(I, Categorical(C), hidden=16, every_step=every_step).double()
    mask = torch.arange(40) < torch.linspace(40, shortest, 100).long().repeat(3)[:, None]
    data = batch("classes", mask, every_step, rows=300, steps=40)
    rule = TargetPropagation(net, difference=difference)
    parts = [gradient(rule, data.rows(slice(start, start + 100))) for start in (0, 100, 200)]
    mean = {name: sum(part[name] for part in parts) / 3 for name in parts[0]}
    assert_equal(gradient(rule, data), mean)
    torch.testing.assert_close(rule.targets(data)[:, :100], rule.targets(data.rows(slice(0, 100))))


def test_noise_teaches_the_inverse_around_the_states(monkeypatch):
    """G is shown f(x_t, h_{t-1} + noise), asked for h_{t-1} + noise; nothing else changes."""
    net, data, shift = srn("tanh"), batch(mask=MASK), 0.3
    plain = gradient(TargetPropagation(net), data)
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    found = gradient(TargetPropagation(net, noise=shift), data)
    states = torch.zeros(B, T + 1, H, dtype=torch.float64)
    loss = 0.0
    for b, length in enumerate(LENGTHS):
        for t in range(1, length + 1):
            drive = net.from_input(data.obs[b, t - 1])
            states[b, t] = torch.tanh(drive + net.from_state(states[b, t - 1])).detach()
            if t > 1:
                asked = states[b, t - 1] + shift
                shown = torch.tanh(drive + net.from_state(asked)).detach()
                guess = torch.sigmoid(drive.detach() + net.back(shown))
                loss = loss + (guess - asked).square().sum() / 2
    back = torch.autograd.grad(loss / sum(n - 1 for n in LENGTHS), list(net.back.parameters()))
    assert_equal(found, plain | {"back.weight": back[0], "back.bias": back[1]})


def test_noise_is_as_wide_as_asked():
    """Where units and inverse are linear and exact but for a shift, the error is known."""
    net = srn("tanh")
    with torch.no_grad():
        for part in net.back.parameters():
            part.zero_()
        net.from_input.weight.zero_()
        net.from_state.weight.zero_()
        net.from_state.bias.zero_()  # all states are 0 and G says 1/2
    data = batch(rows=40, steps=60)
    for noise in (0.0, 0.2, 1.5):
        error = float(TargetPropagation(net, noise=noise).gradients(data)["inverse"])
        assert error == pytest.approx(0.25 + noise**2, rel=0.06), noise


def test_the_step_to_a_target_is_each_sequences_own():
    """Twice the sequences: the same targets, hence the same average."""
    net, data = srn(), batch(mask=MASK)
    twice = data.rows(torch.arange(B).repeat(2))
    once = gradient(TargetPropagation(net, alpha_i=0.3), data)
    assert_equal(gradient(TargetPropagation(net, alpha_i=0.3), twice), once)


def test_the_size_of_the_step_leaves_outputs_and_inverse_alone():
    net, data = srn(), batch()
    small, large = (gradient(TargetPropagation(net, alpha_i=a), data) for a in (0.01, 2.0))
    for name in small:
        same = torch.allclose(small[name], large[name])
        assert same == name.startswith(("readout.", "back.")), name


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_short_sequences_are_as_if_alone(kind):
    """Sequences of one frame, padded, and of one frame, not padded: no inverse is taught."""
    data = batch(steps=1)
    mask = (torch.arange(3) < 1).expand(B, -1)
    padded = Batch(torch.cat((data.obs, torch.full((B, 2, I), math.nan)), 1), mask, data.target)
    rule = TargetPropagation(srn(kind))
    found = [gradient(rule, each) for each in (data, padded)]
    assert_equal(*found)
    for name, value in found[0].items():
        assert value.isfinite().all(), name
        unheard = name == "from_state.weight" and kind == "tanh"  # all it sees is h_0 = 0
        assert value.any() != (unheard or name.startswith("back.")), name
    for net in (rule.net, srn("hybrid")):
        metrics = TargetPropagation(net).gradients(data)
        assert all(value.isfinite() for value in metrics.values())
        assert float(metrics["inverse"]) == 0


@pytest.mark.parametrize("difference", [True, False])
def test_one_step_is_plain_backpropagation(difference):
    """T = 1, alpha_i = 1, deterministic: no target is sent back, and -d is the gradient."""
    for kind, output in (("sigmoid", "classes"), ("tanh", "mixture")):
        net, data = srn(kind, output), batch(output, steps=1)
        found = gradient(TargetPropagation(net, alpha_i=1.0, difference=difference), data)
        state = net.units.function(net.from_input(data.obs[:, 0]) + net.from_state(at_rest(net)))
        law = net.output.distribution(net.readout(state))
        net.zero_grad()
        (-law.log_prob(data.target).mean()).backward()
        for name, part in net.named_parameters():
            if not name.startswith("back."):
                torch.testing.assert_close(found[name], part.grad)
                assert part.grad.any() != (name == "from_state.weight" and kind == "tanh")


# Locality ---------------------------------------------------------------------------------------


def nonlinearities(tensor):
    """The most of sigmoids and tanhs on a way from a tensor back to a leaf of its graph."""
    depth = {}
    stack = [tensor.grad_fn]
    while stack:
        node = stack[-1]
        below = [n for n, _ in node.next_functions if n is not None]
        waiting = [n for n in below if n not in depth]
        if waiting:
            stack += waiting
            continue
        own = "Sigmoid" in type(node).__name__ or "Tanh" in type(node).__name__
        depth[node] = own + max((depth[n] for n in below), default=0)
        stack.pop()
    return depth[tensor.grad_fn]


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["sigmoid", "hybrid"])
@pytest.mark.parametrize("written", [False, True], ids=["autograd", "written out"])
def test_no_graph_that_is_differentiated_spans_two_steps(kind, noise, written, monkeypatch):
    """One unit's curve at most lies between a loss and its parameters; with BPTT, T do."""
    net, data, depths = srn(kind), batch(), []
    if not written:
        net.mean, net.invert = net.mean, net.invert  # nobody knows what these do
    plain = torch.autograd.backward

    def watched(tensors, *args, **how):
        tensors = (tensors,) if isinstance(tensors, torch.Tensor) else tensors
        depths.extend(map(nonlinearities, tensors))
        return plain(tensors, *args, **how)

    monkeypatch.setattr(torch.autograd, "backward", watched)
    TargetPropagation(net, noise=noise, num_samples=2).gradients(data)
    assert max(depths) == (0 if written else 1)
    depths.clear()
    inference.StraightThrough(net, num_samples=2).gradients(data)
    assert max(depths) == (0 if written else T)


@every_net
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_what_a_step_is_given_by_others_has_no_graph(kind, noise):
    """f and G see other steps' states without a graph; the sweeps run without any."""
    net, calls = srn(kind), {"mean": [], "invert": []}

    def watch(verb):
        plain = getattr(net, verb)

        def watched(drive, other):
            assert other.grad_fn is None
            assert not other.requires_grad
            calls[verb].append(torch.is_grad_enabled())
            return plain(drive, other)

        setattr(net, verb, watched)

    watch("mean")
    watch("invert")
    TargetPropagation(net, noise=noise, num_samples=2).gradients(batch())
    assert calls["mean"].count(False) >= T  # the sweep forward
    assert calls["invert"].count(False) >= T - 1  # the sweep back
    for seen in calls.values():
        assert seen.count(True) < T  # the local losses are a fold


@pytest.mark.parametrize("output", ["classes", "mixture"])
def test_the_inverse_is_the_only_way_back(output):
    """With one that sees nothing, a step before the last gets nothing, whatever f is."""
    net, data = srn("tanh", output), batch(output)
    net.invert = lambda drive, after: net.back.bias.expand_as(after) * 1
    found = gradient(TargetPropagation(net, alpha_i=1.0), data)
    with torch.no_grad():
        past = at_rest(net, B)
        for t in range(T - 1):
            past = torch.tanh(net.from_input(data.obs[:, t]) + net.from_state(past))
    last = torch.tanh(net.from_input(data.obs[:, -1]) + net.from_state(past))
    net.zero_grad()
    loss = -net.output.distribution(net.readout(last)).log_prob(data.target).mean()
    loss.backward()
    for name, part in net.named_parameters():
        if not name.startswith("back."):
            torch.testing.assert_close(found[name], part.grad, msg=name)


def test_an_earlier_step_is_moved_by_its_target_alone():
    """Its gradient, found one step at a time, is unaware of parameters at other steps."""
    net, data = srn(), batch()
    whole = gradient(TargetPropagation(net, alpha_i=1.0), data)
    with torch.no_grad():
        states = [at_rest(net, B)]
        for t in range(T):
            states.append(net.mean(net.drive(data.obs[:, t]), states[-1]))
    top = states[-1].requires_grad_()
    error = -net.output.distribution(net.readout(top)).log_prob(data.target).sum()
    steps = [-torch.autograd.grad(error, top)[0]]
    with torch.no_grad():
        for t in range(T - 1, 0, -1):
            drive = net.drive(data.obs[:, t])
            there = net.invert(drive, states[t + 1] + steps[0])
            steps.insert(0, there - net.invert(drive, states[t + 1]))
    total = {name: torch.zeros_like(v) for name, v in whole.items() if name.startswith("from")}
    for t, step in enumerate(steps):
        net.zero_grad()
        mean = net.mean(net.drive(data.obs[:, t]), states[t].detach())
        ((mean - (mean + step).detach()).square().sum() / 2 / B).backward()
        for name in total:
            total[name] += net.get_parameter(name).grad
    assert_equal({name: whole[name] for name in total}, total)


def test_a_rule_leaves_the_network_as_it_was():
    net, data = srn("hybrid"), batch()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    TargetPropagation(net, noise=0.1).gradients(data)
    assert_equal(dict(net.state_dict()), before)
    assert all(part.requires_grad for part in net.parameters())


# Exact inverses ---------------------------------------------------------------------------------


def linear(output, every_step, exact=False):
    """A linear network whose G has the transpose of f's Jacobian; ``exact``: G inverts f too."""
    net = SRN(
        I, OUTPUTS[output](), hidden=H, nonlinearity="linear", inverse="linear",
        every_step=every_step,
    ).double()  # fmt: skip
    with torch.no_grad():
        for part in net.parameters():
            part.normal_(std=0.6)
        if exact:  # W_hh turns what W_xh x says around, so that W_xh x + W_hh' W_xh x = 0
            basis = torch.linalg.qr(torch.randn(H, H, dtype=torch.float64))[0]
            signs = torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)
            spin = torch.eye(H, dtype=torch.float64)
            sin, cos = math.sin(0.7), math.cos(0.7)
            spin[2:, 2:] = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
            net.from_state.weight.copy_(basis @ torch.diag(signs) @ spin @ basis.T)
            net.from_input.weight.copy_(basis[:, :2] @ torch.randn(2, I, dtype=torch.float64))
            net.back.bias.copy_(-net.from_state.weight.T @ net.from_state.bias)
        net.back.weight.copy_(net.from_state.weight.T)
    return net


@both_masks
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("output", ["classes", "mixture"])
def test_where_the_inverse_is_the_transpose_it_is_backpropagation(mask, every_step, output):
    """Whatever G's constants: the difference drops them."""
    net, data = linear(output, every_step), batch(output, mask, every_step)
    local = gradient(TargetPropagation(net, alpha_i=1.0), data)
    through = gradient(inference.OutputBPTT(net), data)
    for name, value in through.items():
        if not name.startswith("back."):
            torch.testing.assert_close(local[name], value, msg=name)
            assert value.any()
    rules = TargetPropagation(net, alpha_i=1.0), inference.OutputBPTT(net)
    assert inference.alignment(*rules, data)["all"] == pytest.approx(1)
    steps = inference.target_alignment(TargetPropagation(net), data)
    torch.testing.assert_close(steps, torch.ones(T))
    smaller = gradient(TargetPropagation(net, alpha_i=0.2), data)
    for name in ("from_input.weight", "from_state.weight", "from_state.bias"):
        torch.testing.assert_close(smaller[name], 0.2 * through[name], msg=name)


@both_masks
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("difference", [True, False], ids=["difference", "plain"])
def test_an_exact_inverse_has_nothing_to_learn_and_needs_no_correction(
    mask, every_step, difference
):
    net, data = linear("classes", every_step, exact=True), batch("classes", mask, every_step)
    rule = TargetPropagation(net, alpha_i=1.0, difference=difference)
    assert float(rule.gradients(data)["inverse"]) < 1e-20
    found = inference.alignment(rule, inference.OutputBPTT(net), data)
    for name in ("all", "from_input.weight", "from_state.weight", "readout.weight"):
        assert found[name] == pytest.approx(1), name
    local, through = gradient(rule, data), gradient(inference.OutputBPTT(net), data)
    assert_equal(local, through)


@every_net
@both_masks
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_targets_are_compared_with_gradients_on_the_same_paths(kind, mask, every_step):
    """Cosines over paths, sequences and units; gradients go straight through bits."""
    net, data = srn(kind, every_step=every_step), batch("classes", mask, every_step)
    rule, drawn = TargetPropagation(net, num_samples=3), listen(net, "sample_units")
    state = torch.get_rng_state()
    found = inference.target_alignment(rule, data, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(found, inference.target_alignment(rule, data, seed=2))
    drawn = torch.stack(drawn[:T])
    steps = by_the_book(net, data, drawn, rule.alpha_i, True)[2]
    loss, visited = 0.0, []
    h = at_rest(net, 3, B) if net.num_stochastic else at_rest(net, 1, B)
    for t in range(T):
        mean = net.units.mean(net.from_input(data.obs[:, t]) + net.from_state(h))
        h = mean + (drawn[t] - mean).detach()
        h.retain_grad()
        visited.append(h)
        chance = net.readout(h).softmax(-1).mean(0)  # [B, C]
        for b, length in enumerate(data.mask.sum(1).tolist()):
            if t + 1 == length or (every_step and t < length):
                y = data.target[b, t] if every_step else data.target[b]
                loss = loss - chance[b, y].log()
    loss.backward()
    for t, state in enumerate(visited):
        one, other = steps[:, :, t].flatten(), -state.grad.flatten()
        expected = float(one @ other / one.norm() / other.norm())
        assert float(found[t]) == pytest.approx(expected), t


def test_alignment_is_less_than_one_elsewhere():
    net, data = srn(), batch()
    found = inference.alignment(TargetPropagation(net), inference.OutputBPTT(net), data)
    assert found["readout.weight"] == pytest.approx(1)
    assert found["from_state.weight"] < 0.99
    assert math.isnan(found["back.weight"])  # plain backpropagation has no inverse to teach
    steps = inference.target_alignment(TargetPropagation(net), data)
    assert steps.shape == (T,)
    assert steps[-1] == pytest.approx(1)  # equation 3
    assert (steps[:-1].abs() < 0.999).all()
    assert not any(part.grad is not None for part in net.parameters())


# Learning ---------------------------------------------------------------------------------------


def test_it_learns_what_the_first_frame_says():
    """Two steps later, when nothing but the state still knows."""
    obs = torch.zeros(40, 3, I)
    obs[:, 0, 0] = torch.arange(40) % 2 * 2.0 - 1
    data = Batch(obs, target=torch.arange(40) % 2)
    net = SRN(I, Categorical(2), hidden=8)
    rule = TargetPropagation(net, alpha_i=0.5)
    rates = {"": 0.05, "back.": 0.01}
    fitted = inference.fit(rule, data, epochs=150, lr=rates, progress=False)
    assert fitted.history[0]["loss"] > 0.6
    assert fitted.history[-1]["loss"] < 0.2


def test_the_inverse_learns_to_find_the_step_before():
    torch.manual_seed(1)
    net, data = SRN(I, Categorical(C), hidden=H, nonlinearity="tanh"), batch(rows=30)
    data = Batch(data.obs.float(), target=data.target)
    rates = {"": 0.0, "back.": 0.03}
    fitted = inference.fit(TargetPropagation(net), data, epochs=80, lr=rates, progress=False)
    errors = [record["inverse"] for record in fitted.history]
    assert errors[-1] < 0.5 * errors[0]
    assert fitted.history[-1]["loss"] == pytest.approx(fitted.history[0]["loss"])


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"alpha_i": 0.0}, "alpha_i must be above 0"),
        ({"alpha_i": -0.1}, "alpha_i must be above 0"),
        ({"noise": -1e-3}, "noise must be at least 0"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
    ],
)
def test_bad_arguments(how, message):
    with pytest.raises(ValueError, match=message):
        TargetPropagation(srn(), **how)


def test_a_network_without_an_inverse_is_refused():
    class Forward(inference.AnswerModel):
        at_every_step = rest = drive = mean = sample_units = log_score = lambda self: None

    with pytest.raises(ValueError, match=r"an inverse .*, and Forward has no invert: Straight"):
        TargetPropagation(Forward())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": None}, "target"),
        ({"target": torch.tensor([0, C, 1])}, f"from 0 to {C - 1}, got {C}"),
        ({"target": torch.zeros(B)}, "whole numbers"),
        ({"obs": torch.zeros(B, T, I + 1)}, rf"\[B, T, {I}\]"),
        ({"mask": MASK.flip(1)}, "padding before real frames"),
    ],
)
def test_bad_batches_are_refused_before_anything_is_touched(change, message):
    net = SRN(I, Categorical(C), hidden=H)
    good = {"obs": torch.zeros(B, T, I), "mask": None, "target": torch.zeros(B, dtype=torch.long)}
    for rule in (TargetPropagation(net), inference.OutputBPTT(net)):
        rule.gradients(Batch(**good))
        before = net.readout.weight.grad.clone()
        with pytest.raises(ValueError, match=message):
            rule.gradients(Batch(**good | change))
        assert torch.equal(net.readout.weight.grad, before)


def test_a_mixture_network_is_trained_alike():
    """MDRNN is an SRN: the same parameters, the same gradients."""
    mixture = MDRNN(I, 2, components=3, hidden=H).double()
    net = srn("tanh", "mixture")
    net.back_function = nn.Tanh()
    mixture.load_state_dict(net.state_dict())
    data = batch("mixture", MASK)
    found = [gradient(TargetPropagation(each), data) for each in (net, mixture)]
    assert_equal(*found)
