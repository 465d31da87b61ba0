"""VRAE, VOSP, RNN and their memories: causality, padding, sampling, prediction, bad input."""

import itertools
import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import elbo, importance_bound
from seqzoo.zoo import RNN, VOSP, VRAE, decoders, likelihoods, path_guides, priors
from seqzoo.zoo.parts.memory import DeepTransition, Memory, Reader, reverse
from torch import nn
from torch.nn import functional

from seqzoo import inference

B, T, M, K, H, W = 3, 6, 5, 2, 7, 9
LENGTHS = (4, 6, 2)
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
FULL = torch.ones_like(MASK)


def memory(kind, inputs=M):
    if kind.startswith("deep"):
        return DeepTransition(inputs, H, width=4, skip=kind == "deep-skip")
    cell, _, layers = kind.partition("-")
    return Memory(inputs, H, cell, layers=int(layers or 1))


MEMORIES = ("tanh", "gru", "lstm", "tanh-2", "gru-2", "lstm-2", "deep", "deep-skip")
every_memory = pytest.mark.parametrize("kind", MEMORIES)


def loud(net):
    """The network with weights that matter."""
    for name, part in net.named_parameters():
        if part.dim() > 1 and not name.startswith("prior"):
            nn.init.normal_(part, std=0.5)
    return net


def bernoulli():
    return likelihoods.Bernoulli(M)


def rnn(kind="gru", **how):
    return loud(RNN(M, bernoulli(), memory=memory(kind), **how))


def vosp(kind="gru", **how):
    return loud(VOSP(M, K, bernoulli(), memory=memory(kind), width=W, **how))


def vrae(guide="Autoregressive", decoder_input="innovations", decoder="causal", prior=None, **how):
    features = how["encoder"].features_dim if "encoder" in how else H
    sizes = (features, K, H, H) if guide == "Autoregressive" else (features, K)
    belief = getattr(path_guides, guide)(*sizes)
    writer = {
        "causal": None,
        "plain": decoders.CausalDecoder(K, M, H, drift=False),
        "lstm": decoders.CausalDecoder(K, M, H, cell="lstm"),
        "both": decoders.BidirectionalDecoder(K, M, H),
    }[decoder]
    net = VRAE(
        *(M, K, bernoulli()),
        hidden=H,
        prior=prior,
        guide=belief,
        decoder=writer,
        decoder_input=decoder_input,
        **how,
    )
    return loud(net)


def bits(*shape, seed=1):
    return (torch.rand(*shape, M, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def changed(obs, t):
    """The same sequences with every bit of frame t turned over."""
    other = obs.clone()
    other[:, t] = 1 - other[:, t]
    return other


def assert_unchanged_before(one, other, t):
    """Equal up to t - 1, different at t, in every row."""
    torch.testing.assert_close(one[:, :t], other[:, :t], rtol=0, atol=1e-6)
    assert ((one[:, t] - other[:, t]).abs().flatten(1).max(1).values > 1e-4).all()


VRAES = {
    "default": vrae,
    "plain": lambda: vrae(decoder="plain"),
    "lstm": lambda: vrae("Increments", decoder="lstm"),
    "path": lambda: vrae("MarkovChain", decoder_input="path"),
    "both": lambda: vrae("Diagonal", decoder="both"),
    "both, path": lambda: vrae("Increments", decoder_input="path", decoder="both"),
    "AR1": lambda: vrae(prior=priors.AR1(K)),
    "GP": lambda: vrae("MarkovChain", prior=priors.GaussianProcess(K, "matern32")),
    "reader": lambda: vrae("Diagonal", encoder=Reader(M, H, "both", skip=True)),
}
VOSPS = {
    "vosp": vosp,
    "vosp, path": lambda: vosp("lstm", decoder_input="path"),
    "vosp, AR1": lambda: vosp("deep", prior=priors.AR1(K), guide=path_guides.MarkovChain(W, K)),
}
PATH_MODELS = VRAES | VOSPS
RNNS = {
    "rnn": rnn,
    "rnn, lstm-2": lambda: rnn("lstm-2"),
    "rnn, deep": lambda: rnn("deep"),
}
every_path_model = pytest.mark.parametrize("name", PATH_MODELS)
every_model = pytest.mark.parametrize("name", PATH_MODELS | RNNS)


def build(name):
    return (PATH_MODELS | RNNS)[name]()


# Memories -------------------------------------------------------------------------------------


@every_memory
def test_stepping_equals_running(kind):
    net, inputs = loud(memory(kind)), torch.randn(2, B, T, M)
    whole = net(inputs)
    assert whole.shape == (2, B, T, net.outputs)
    state = net.initial(2, B)
    assert not state.any()
    assert state.shape == (2, B, net.state_dim)
    for t in range(T):
        state = net.step(inputs[:, :, t], state)
        assert state.shape == (2, B, net.state_dim)
        torch.testing.assert_close(net.output(state), whole[:, :, t])


@pytest.mark.parametrize(
    ("cell", "build", "output"),
    [
        ("tanh", nn.RNNCell, lambda state: state),
        ("gru", nn.GRUCell, lambda state: state),
        ("lstm", nn.LSTMCell, lambda state: state[0]),
    ],
)
def test_memories_are_torchs_cells_on_top_of_one_another(cell, build, output):
    net, inputs = Memory(M, H, cell, layers=2), torch.randn(B, T, M)
    values = inputs
    for layer in range(2):
        one = build(M if layer == 0 else H, H)
        one.load_state_dict(
            {key: net.net.state_dict()[f"{key}_l{layer}"] for key in one.state_dict()}
        )
        state, out = None, []
        for frame in values.unbind(1):
            state = one(frame, state)
            out.append(output(state))
        values = torch.stack(out, 1)
    torch.testing.assert_close(net(inputs), values)


def test_deep_transition_by_its_formula():
    net, inputs = loud(DeepTransition(M, H, width=4)), torch.randn(B, T, M)
    (deep_in, short_in), (deep_state, short_state) = (
        part.weight.split((4, H)) for part in (net.from_input, net.from_state)
    )
    deep_bias, short_bias = net.from_input.bias.split((4, H))
    state = torch.zeros(B, H)
    for t in range(T):
        x = inputs[:, t]
        hidden = torch.relu(x @ deep_in.T + state @ deep_state.T + deep_bias)
        shortcut = x @ short_in.T + state @ short_state.T + short_bias
        state = torch.tanh(hidden @ net.deep.weight.T + shortcut)
        torch.testing.assert_close(net(inputs)[:, t], state)
    beside = DeepTransition(M, H, width=4, skip=True)
    beside.load_state_dict(net.state_dict())
    assert torch.equal(beside(inputs), torch.cat((net(inputs), inputs), -1))


def test_weight_noise_gives_the_gradient_at_noisy_weights():
    net, batch = rnn("tanh"), Batch(torch.rand(B, T, M).round())
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    torch.manual_seed(4)
    noisy = inference.SequenceELBO(net, weight_noise=0.3).gradients(batch)["loss"]
    found = {name: weight.grad for name, weight in net.named_parameters()}
    assert all(torch.equal(weight, before[name]) for name, weight in net.named_parameters())
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.dim() > 1:
                weight.add_(0.3 * torch.randn_like(weight))
    plain = inference.SequenceELBO(net).gradients(batch)["loss"]
    torch.testing.assert_close(noisy, plain)
    for name, weight in net.named_parameters():
        torch.testing.assert_close(found[name], weight.grad)


@every_memory
def test_memories_are_causal_and_do_not_mix_rows(kind):
    net, inputs = loud(memory(kind)), torch.randn(B, T, M)
    for t in range(T):
        assert_unchanged_before(net(inputs), net(changed(inputs, t)), t)
    other = inputs.clone()
    other[1] += 1.0
    after, before = net(other), net(inputs)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


def test_directions_of_a_reader():
    obs = torch.randn(B, T, M)
    for direction, early, late in (
        ("forwards", False, True),
        ("backwards", True, False),
        ("both", True, True),
    ):
        net = loud(Reader(M, H, direction))
        assert net.features_dim == H * (1 + (direction == "both"))
        features = net(obs, FULL)
        assert features.shape == (B, T, net.features_dim)
        for t in (1, 4):
            moved = (net(changed(obs, t), FULL) - features).abs().amax((0, 2)) > 1e-5
            assert moved[t]
            assert moved[:t].all() == moved[:t].any() == early
            assert moved[t + 1 :].all() == moved[t + 1 :].any() == late


def test_a_backwards_reader_is_a_memory_over_the_reversed_sequence():
    net, obs = loud(Reader(M, H, cell="lstm")), torch.randn(B, T, M)
    features = net(obs, MASK)
    for row, length in enumerate(LENGTHS):
        alone = net.back(obs[row : row + 1, :length].flip(1)).flip(1)
        torch.testing.assert_close(features[row : row + 1, :length], alone)
    both = Reader(M, H, "both", cell="gru", layers=2, skip=True)
    features = both(obs, MASK)
    assert features.shape == (B, T, both.features_dim)
    assert both.features_dim == 2 * H + M
    parts = (obs, both.ahead(obs), reverse(both.back(reverse(obs, MASK)), MASK))
    found = sorted(features.sum((0, 1)).tolist())
    assert found == pytest.approx(sorted(torch.cat(parts, -1).sum((0, 1)).tolist()), abs=1e-4)


def test_reverse():
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    values = torch.arange(12.0).view(3, 4, 1)
    expected = torch.tensor([[2, 1, 0, 3], [7, 6, 5, 4], [8, 9, 10, 11.0]])
    torch.testing.assert_close(reverse(values, mask)[..., 0], expected)
    torch.testing.assert_close(reverse(reverse(values, mask), mask), values)
    with pytest.raises(ValueError, match="sequence 1 has padding before real frames"):
        reverse(values, torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 1]]).bool())


# Causality ------------------------------------------------------------------------------------


@every_memory
def test_an_rnn_predicts_from_the_past_alone(kind):
    net, obs = rnn(kind), bits(B, T)
    before = net.natural(obs)
    assert before.shape == (B, T, M)
    for t in range(T - 1):
        assert_unchanged_before(before, net.natural(changed(obs, t)), t + 1)
    torch.testing.assert_close(before, net.natural(changed(obs, T - 1)))


@every_memory
def test_a_vosp_predicts_from_the_past_and_guesses_from_the_present(kind):
    net, obs = vosp(kind), bits(B, T)
    path = torch.randn(B, T, K)
    before, belief = net.natural(path, net.prepare(Batch(obs))), net.posterior(obs)
    for t in range(T):
        other = changed(obs, t)
        after = net.natural(path, net.prepare(Batch(other)))
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        if t + 1 < T:
            assert_unchanged_before(before, after, t + 1)
        assert_unchanged_before(belief.offset, net.posterior(other).offset, t)
        assert_unchanged_before(belief.scale, net.posterior(other).scale, t)


def test_a_vosp_that_sees_innovations_forgets_a_step_after_it():
    net, obs = vosp(), bits(B, T)
    encoding, path = net.prepare(Batch(obs)), torch.randn(B, T, K)
    for t in range(T):
        jump = path.clone()
        jump[:, t:] += 1.0  # one innovation of a Wiener process
        moved = (net.natural(jump, encoding) - net.natural(path, encoding)).abs().amax(
            (0, 2)
        ) > 1e-4
        assert moved.tolist() == [step == t for step in range(T)]


@pytest.mark.parametrize("name", ["default", "plain", "lstm", "path", "AR1", "GP", "reader"])
def test_a_causal_vrae_writes_from_the_path_so_far(name):
    net = build(name)
    encoding, path = net.prepare(Batch(bits(B, T))), torch.randn(B, T, K)
    before = net.natural(path, encoding)
    assert before.shape == (B, T, M)
    for t in range(T):
        other = path.clone()
        other[:, t] += 1.0
        assert_unchanged_before(before, net.natural(other, encoding), t)
    blind = net.natural(path, net.prepare(Batch(bits(B, T, seed=2))))
    torch.testing.assert_close(blind, before)  # of the data it knows nothing but the path


@pytest.mark.parametrize("name", ["both", "both, path"])
def test_a_bidirectional_vrae_writes_from_the_whole_path(name):
    net = build(name)
    encoding, path = net.prepare(Batch(bits(B, T))), torch.randn(B, T, K)
    other = path.clone()
    other[:, -1] += 1.0
    moved = (net.natural(other, encoding) - net.natural(path, encoding)).abs().amax((0, 2))
    assert (moved > 1e-5).all()


@every_path_model
def test_natural_parameters_of_many_paths_at_once(name):
    net = build(name)
    encoding = net.prepare(Batch(bits(B, T), MASK))
    paths = torch.randn(4, B, T, K)
    together = net.natural(paths, encoding)
    assert together.shape == (4, B, T, M)
    for path, found in zip(paths, together):
        alone = net.natural(path, encoding)
        torch.testing.assert_close(found[MASK], alone[MASK], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["default", "plain", "AR1"])
def test_what_is_remembered_of_a_draw_is_what_would_be_computed(name):
    net = build(name)
    encoding = net.prepare(Batch(bits(B, T)))
    path = encoding.belief.rsample((4,))
    found, expected = net.natural(path, encoding), net.natural(path.clone(), encoding)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# Padding and rows -----------------------------------------------------------------------------


def quantities(net, obs, mask=None):
    """What a model says without chance, a value for every row and step or for every row."""
    if isinstance(net, RNN):
        return {"log_prob": net.log_prob(Batch(obs, mask))}
    belief = net.posterior(Batch(obs, mask))
    path = torch.linspace(-1, 1, len(obs) * obs.shape[1] * K).view(len(obs), obs.shape[1], K)
    path = torch.linspace(-1, 1, T * K).view(T, K)[: obs.shape[1]].expand(path.shape)
    encoding = net.prepare(Batch(obs, mask))
    return {
        "reconstruct": net.reconstruct(Batch(obs, mask)),
        "mode": net.reconstruct(Batch(obs, mask), method="mode"),
        "belief": belief.log_prob(path),
        "prior": net.prior(encoding.mask).log_prob(path),
        "likelihood": net.emit(path, encoding).log_prob(encoding.obs),
    }


@every_model
def test_padding_changes_nothing(name):
    net, obs = build(name), bits(B, T)
    padded = torch.where(MASK[..., None], obs, math.nan)
    together = quantities(net, padded, MASK)
    for row, length in enumerate(LENGTHS):
        alone = quantities(net, obs[row : row + 1, :length])
        for key, value in alone.items():
            found = together[key][row : row + 1]
            found = found[:, :length] if value.dim() > 1 else found
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)


@every_model
def test_gradients_of_padding_are_zero(name):
    """What padding holds is zeroed, so hand a model a tensor with a graph and no zeros."""
    net = build(name)
    obs = bits(B, T).requires_grad_()
    whole = Batch(obs, MASK)
    object.__setattr__(whole, "obs", obs)
    torch.manual_seed(0)
    inference.evaluate.elbo_terms(net, net.prepare(whole), 2).bound.sum().backward()
    assert not obs.grad[~MASK].any()
    assert obs.grad[MASK].any(1).all()


@every_model
def test_bounds_of_padded_sequences_do_not_see_the_padding(name):
    net, obs = build(name), bits(B, T)
    found = []
    for filler in (0.0, math.nan, 7.0):
        padded = torch.where(MASK[..., None], obs, filler)
        torch.manual_seed(3)
        batch = Batch(padded, MASK)
        found.append(torch.stack((elbo(net, batch, 2), importance_bound(net, batch, 3))))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    assert found[0].isfinite().all()


@every_model
def test_padding_before_a_sequence_is_refused(name):
    net = build(name)
    late = FULL.clone()
    late[1, :2] = False
    with pytest.raises(ValueError, match="sequence 1 has padding before real frames"):
        elbo(net, Batch(bits(B, T), late))


@every_model
def test_sequences_do_not_mix(name):
    net, obs = build(name), bits(B, T)
    other = obs.clone()
    other[1] = 1 - other[1]
    before, after = quantities(net, obs, MASK), quantities(net, other, MASK)
    for key, value in before.items():
        torch.testing.assert_close(after[key][[0, 2]], value[[0, 2]])
        if key not in ("prior", "mode"):
            assert not torch.allclose(after[key][1], value[1])
    order = [2, 0, 1]
    shuffled = quantities(net, obs[order], MASK[order])
    for key, value in before.items():
        torch.testing.assert_close(shuffled[key], value[order], rtol=1e-4, atol=1e-4)


@every_model
def test_a_single_sequence_of_a_single_frame(name):
    net, obs = build(name), bits(B, T)[:1]
    alone = quantities(net, obs[:, :1])
    within = quantities(net, obs, torch.arange(T)[None] < 1)
    for key, value in alone.items():
        found = within[key][:, :1] if value.dim() > 1 else within[key]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)
    assert importance_bound(net, Batch(obs[:, :1]), 3).shape == (1,)
    inference.SequenceELBO(net).gradients(Batch(obs[:, :1]))
    assert net.sample(1, 1).shape == (1, 1, M)


# Sampling -------------------------------------------------------------------------------------


@every_model
def test_samples(name):
    net = build(name)
    before = torch.get_rng_state()
    first = net.sample(4, 8, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (4, 8, M)
    assert ((first == 0) | (first == 1)).all()
    assert torch.equal(net.sample(4, 8, seed=3), first)
    assert not torch.equal(net.sample(4, 8, seed=4), first)
    means = net.sample(4, 8, seed=3, noise=False)
    assert means.shape == (4, 8, M)
    assert ((means >= 0) & (means <= 1)).all()
    assert ((means > 0.01) & (means < 0.99)).any()
    assert not first.requires_grad
    with pytest.raises(ValueError, match="forwards in time, not 'backwards'"):
        net.sample(1, 2, direction="backwards")


def all_films(keys, steps):
    every = itertools.product([0.0, 1.0], repeat=keys * steps)
    return torch.tensor(list(every)).view(-1, steps, keys)


@every_memory
def test_an_rnns_probabilities_add_up_and_its_samples_have_them(kind):
    keys, steps, number = 2, 2, 20_000
    net = loud(RNN(keys, likelihoods.Bernoulli(keys), memory=memory(kind, keys)))
    films = all_films(keys, steps)
    probability = net.log_prob(films).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)
    drawn = net.sample(number, steps)
    code = 2.0 ** torch.arange(keys * steps)
    where = (films.flatten(1) @ code).long()
    counts = torch.bincount((drawn.flatten(1) @ code).long(), minlength=len(films))[where] / number
    error = (probability * (1 - probability) / number).sqrt()
    assert ((counts - probability).abs() < 5 * error).all()


@pytest.mark.parametrize("decoder_input", ["innovations", "path"])
@pytest.mark.parametrize("kind", ["VRAE", "VOSP"])
def test_samples_have_the_frequencies_that_the_bounds_promise(kind, decoder_input):
    keys, steps, number = 2, 2, 5000
    family = likelihoods.Bernoulli(keys)
    guide = path_guides.Increments(H, 1)  # the prior itself: no weight is above 1
    guide.heads.weight.data.zero_()
    guide.heads.bias.data.copy_(torch.tensor([0.0, math.log(math.e - 1)]))
    if kind == "VRAE":
        net = VRAE(keys, 1, family, hidden=H, guide=guide, decoder_input=decoder_input)
    else:
        net = VOSP(keys, 1, family, hidden=W, width=H, guide=guide, decoder_input=decoder_input)
        loud(net.memory)
    loud(net.decoder)
    films = all_films(keys, steps)
    probability = importance_bound(net, Batch(films), number, at_once=5000).exp()
    assert probability.sum().item() == pytest.approx(1, abs=0.05)
    code = 2.0 ** torch.arange(keys * steps)
    where = (films.flatten(1) @ code).long()
    drawn = net.sample(number, steps).flatten(1) @ code
    counts = torch.bincount(drawn.long(), minlength=len(films))[where] / number
    torch.testing.assert_close(counts, probability, atol=0.025, rtol=0)
    assert probability.max() > probability.min() + 0.03


def test_a_linear_vrae_draws_from_its_joint_gaussian():
    """Frames W z_t + noise: their covariance over time and keys."""

    class Projection(nn.Module):
        weight = torch.tensor([[1.0, -0.5], [0.3, 2.0], [0.0, 1.0], [0.7, 0.7], [-1.0, 0.2]])

        def forward(self, inputs, mask):
            return inputs @ self.weight.T

    family, number = likelihoods.Gaussian(M, 1.0), 20_000
    guide, prior = path_guides.Diagonal(H, K), priors.AR1(K, 0.7, 1.3)
    parts = {"prior": prior, "guide": guide, "decoder": Projection(), "decoder_input": "path"}
    net = VRAE(M, K, family, H, **parts)
    found = torch.cov(net.sample(number, 3).flatten(1).T)
    gap = (torch.arange(3)[:, None] - torch.arange(3)).abs()
    emission = Projection.weight @ Projection.weight.T
    expected = torch.kron(1.69 * 0.7**gap, emission) + torch.eye(3 * M)
    variance = expected.diagonal()
    error = ((expected.square() + torch.outer(variance, variance)) / number).sqrt()
    assert ((found - expected).abs() < 5 * error).all()


# Reconstruction, filtering, prediction --------------------------------------------------------


@every_path_model
def test_reconstruction(name):
    net, obs = build(name), bits(B, T)
    before = torch.get_rng_state()
    data, how = Batch(obs, MASK), {"sample_path": True}
    mean = net.reconstruct(data)
    assert mean.shape == (B, T, M)
    assert ((mean >= 0) & (mean <= 1)).all()
    torch.testing.assert_close(net.reconstruct(data, method="mode"), (mean > 0.5).float())
    drawn = net.reconstruct(data, **how, seed=1)
    torch.testing.assert_close(net.reconstruct(data, **how, seed=1), drawn)
    assert not torch.allclose(net.reconstruct(data, **how, seed=2), drawn)
    assert not torch.allclose(net.reconstruct(data, **how, seed=0), mean)
    frames = net.reconstruct(data, method="sample", **how, seed=1)
    assert ((frames == 0) | (frames == 1)).all()
    assert torch.equal(torch.get_rng_state(), before)
    encoding = net.prepare(Batch(obs, MASK))
    path = net.posterior(Batch(obs, MASK)).mode
    expected = torch.sigmoid(net.natural(path, encoding))
    torch.testing.assert_close(mean, expected.detach())


@pytest.mark.parametrize("name", VOSPS)
def test_a_vosp_filters(name):
    net, obs = build(name), bits(B, T)
    belief, moments = net.filter(Batch(obs, MASK)), net.posterior(Batch(obs, MASK)).moments()
    assert belief.mean.shape == belief.variance.shape == (B, T, K)
    torch.testing.assert_close(belief.mean, moments[0])
    torch.testing.assert_close(belief.variance, moments[1])
    for t in range(T):
        assert_unchanged_before(net.filter(obs).mean, net.filter(changed(obs, t)).mean, t)


@every_memory
def test_models_run_through_the_tools_for_recurrent_networks(kind):
    obs = bits(B, T)
    for net in (rnn(kind), vosp(kind)):
        assert isinstance(net, inference.Recurrent)
        states = inference.run_filter(net, Batch(obs, MASK))
        assert states.shape == (B, T, net.memory.state_dim)
        outputs = net.memory.output(states)
        torch.testing.assert_close(outputs[MASK], net.memory(obs)[MASK].detach())
        predicted = inference.predict_next(net, Batch(obs, MASK), num_samples=4)
        assert predicted.samples.shape == (4, B, T, M)
        assert not predicted.mean[~MASK].any()
        film = inference.rollout(net, Batch(obs, MASK), 3, num_samples=2)
        assert film.samples.shape == (2, B, 3, M)
        assert ((film.samples > 0) & (film.samples < 1)).all()


@every_memory
def test_predictions_of_an_rnn(kind):
    net, obs = rnn(kind), bits(B, T)
    expected = torch.sigmoid(net.natural(obs)).detach()
    found = inference.predict_next(net, Batch(obs, MASK), num_samples=2)
    torch.testing.assert_close(found.mean[MASK], expected[MASK])
    film = inference.rollout(net, Batch(obs, MASK), 3).samples[0]
    for row, length in enumerate(LENGTHS):
        seen = obs[row : row + 1, :length]
        for step in range(3):
            padded = torch.cat((seen, torch.zeros(1, 1, M)), 1)
            frame = torch.sigmoid(net.natural(padded))[:, -1:].detach()
            torch.testing.assert_close(film[row, step], frame[0, 0])
            seen = torch.cat((seen, frame), 1)


def test_predictions_of_a_vosp_average_over_its_noise():
    net, obs = loud(VOSP(M, 1, bernoulli(), hidden=H, width=W)), bits(B, T)
    encoding, prior = net.prepare(Batch(obs)), net.prior(FULL)
    grid = torch.linspace(-6, 6, 241)
    weight = torch.softmax(-grid.square() / 2, 0)
    with torch.no_grad():
        path = prior.from_innovations(grid[:, None, None, None].expand(-1, B, T, 1))
        means = torch.sigmoid(net.natural(path, encoding))
        expected = (weight[:, None, None, None] * means).sum(0)
    found = inference.predict_next(net, obs, num_samples=4000, seed=2)
    error = found.samples.std(0) / math.sqrt(4000)
    assert ((found.mean - expected).abs() < 5 * error + 1e-5).all()
    assert found.samples.std(0).max() > 0.05
    again = inference.predict_next(net, obs, num_samples=4000, seed=2)
    assert torch.equal(again.samples, found.samples)


def test_a_vosp_that_sees_the_path_predicts_nothing():
    net = vosp(decoder_input="path")
    with pytest.raises(ValueError, match="depend on the path"):
        inference.predict_next(net, bits(B, T))


def test_a_vrae_predicts_nothing():
    with pytest.raises(ValueError, match="predicts no next frame"):
        inference.rollout(vrae(), bits(B, T), 2)


def test_an_rnns_log_prob_by_hand():
    net, obs = rnn(), bits(B, T)
    terms = functional.binary_cross_entropy_with_logits(net.natural(obs), obs, reduction="none")
    expected = -(terms.sum(-1) * MASK).sum(1).detach()
    torch.testing.assert_close(net.log_prob(Batch(obs, MASK)), expected)


def test_dropout_is_of_training_alone():
    for net in (
        rnn(input_dropout=0.5, dropout=0.5),
        vosp(input_dropout=0.5, dropout=0.5),
        vrae(input_dropout=0.5),
    ):
        batch = Batch(bits(B, T), MASK)

        def loss(net=net, batch=batch):
            torch.manual_seed(0)
            first = elbo(net, batch)
            torch.rand(1)
            return first

        net.eval()
        still = loss()
        torch.testing.assert_close(loss(), still)
        net.train()
        assert not torch.allclose(loss(), still)


def test_a_model_shows_its_factorisation():
    assert "p(x[t] | z[1:t])" in repr(vrae())
    assert "p(x[t] | z[1:T])" in repr(vrae("Diagonal", decoder="both"))
    assert "p(x[t] | x[1:t-1], z[t])" in repr(vosp())
    assert "p(x[t] | x[1:t-1])" in repr(rnn())


# Bad input ------------------------------------------------------------------------------------


@every_model
def test_bad_data(name):
    net = build(name)
    bad = bits(B, T)
    bad[1, 0, 2] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        elbo(net, Batch(bad))
    for obs, complaint in (
        (bits(B, T) * 0.5, "0 or 1"),
        (bits(B, T)[..., :-1], "5 values a frame"),
    ):
        with pytest.raises(ValueError, match=complaint):
            elbo(net, Batch(obs))
        with pytest.raises(ValueError, match=complaint):
            inference.SequenceELBO(net).gradients(Batch(obs))


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: VRAE(M, K, likelihoods.Bernoulli(M + 1)), "likelihood has 6 units, obs_dim is 5"),
        (lambda: VOSP(M, K, likelihoods.Bernoulli(M + 1)), "likelihood has 6 units, obs_dim is 5"),
        (lambda: RNN(M, likelihoods.Bernoulli(M + 1)), "likelihood has 6 units, obs_dim is 5"),
        (lambda: vrae(prior=priors.WienerProcess(K + 1)), "prior has 3 latents, the model 2"),
        (lambda: vosp(prior=priors.WienerProcess(K + 1)), "prior has 3 latents, the model 2"),
        (
            lambda: VRAE(M, K, bernoulli(), H, guide=path_guides.Diagonal(H, K + 1)),
            "guide has 3 latents, the model 2",
        ),
        (
            lambda: VRAE(M, K, bernoulli(), H, guide=path_guides.Diagonal(H + 1, K)),
            "guide has 8 features, the model 7",
        ),
        (lambda: vosp(guide=path_guides.Increments(W, K + 1)), "guide has 3 latents, the model 2"),
        (
            lambda: vosp(guide=path_guides.Increments(W + 1, K)),
            "guide has 10 features, the model 9",
        ),
        (lambda: vrae("Diagonal", decoder_input="noise"), "decoder_input must be one of .*'noise'"),
        (lambda: vosp(decoder_input="noise"), "decoder_input must be one of .*'noise'"),
        (lambda: Memory(M, H, "rnn"), "cell must be one of .*'rnn'"),
        (lambda: decoders.CausalDecoder(K, M, H, cell="rnn"), "cell must be one of .*'rnn'"),
        (lambda: decoders.BidirectionalDecoder(K, M, H, cell="rnn"), "cell must be one of"),
        (lambda: Reader(M, H, "sideways"), "direction must be one of .*'sideways'"),
        (lambda: DeepTransition(M, H, 4, "step"), "activation must be one of .*'step'"),
    ],
)
def test_parts_that_do_not_fit(build, complaint):
    with pytest.raises(ValueError, match=complaint):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: RNN(M, bernoulli(), memory=Memory(M + 1, H)),
        lambda: VOSP(M, K, bernoulli(), memory=Memory(M + 1, H)),
    ],
)
def test_a_memory_of_other_frames_does_not_fit(build):
    with pytest.raises(ValueError, match="memory"):
        build()


def test_a_guide_that_needs_a_causal_decoder_says_so():
    batch = Batch(bits(B, T))
    for how in ({"decoder_input": "path"}, {"decoder": "both"}):
        with pytest.raises(ValueError, match="needs a causal decoder of innovations"):
            elbo(vrae("Autoregressive", **how), batch)
    with pytest.raises(ValueError, match="needs a causal decoder of innovations"):
        elbo(vosp(guide=path_guides.Autoregressive(W, K, H)), batch)


def test_the_guide_that_is_left_out_suits_the_decoder():
    assert isinstance(VRAE(M, K, bernoulli()).recognition, path_guides.Autoregressive)
    for how in ({"decoder_input": "path"}, {"decoder": decoders.BidirectionalDecoder(K, M, H)}):
        net = VRAE(M, K, bernoulli(), hidden=H, **how)
        assert isinstance(net.recognition, path_guides.MarkovChain)
        assert torch.isfinite(elbo(net, Batch(torch.ones(B, T, M)))).all()
    other = VRAE(M, K, bernoulli(), hidden=H, decoder=decoders.CausalDecoder(K, M, hidden=4))
    assert torch.isfinite(elbo(other, Batch(torch.ones(B, T, M)))).all()
