"""Fast dropout in the places of other nets: a step is a frame, padding is absent, rates learn."""

import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.zoo import RNN, VOSP, VRAE, path_guides
from seqzoo.zoo.parts.fast_frames import FastDropoutEmission, FastDropoutEncoder
from seqzoo.zoo.parts.fast_memory import (
    FastDropoutDecoder,
    FastDropoutMemory,
    FastDropoutReader,
    FastDropoutReadout,
)
from seqzoo.zoo.parts.likelihoods import Bernoulli
from seqzoo.zoo.parts.moments import Moments, bernoulli_logits, tanh

from seqzoo import inference

B, T, M, K, H = 3, 6, 5, 2, 4
MASK = torch.arange(T) < torch.tensor([4, 6, 2])[:, None]


def bits(*shape):
    return (torch.rand(*shape, M) < 0.5).float()


def rnn():
    memory, readout = FastDropoutMemory(M, H), FastDropoutReadout(H, M)
    return RNN(M, Bernoulli(M), memory=memory, readout=readout)


def vosp():
    return VOSP(M, K, Bernoulli(M), memory=FastDropoutMemory(M, H), width=7)


def published_vosp():
    return VOSP(
        *(M, K, Bernoulli(M)),
        memory=FastDropoutMemory(M, H, learn_rates=True),
        guide=path_guides.Diagonal(14, K),
        encoder=FastDropoutEncoder(H, M, 7),
        emission=FastDropoutEmission(H, K, M, 7),
        width=14,
        decoder_input="path",
    )


def vrae():
    encoder, decoder = FastDropoutReader(M, H), FastDropoutDecoder(K, M, H)
    guide = path_guides.Diagonal(encoder.features_dim, K)
    return VRAE(
        M, K, Bernoulli(M), encoder=encoder, decoder=decoder, guide=guide, decoder_input="path"
    )


MODELS = {"RNN": rnn, "VOSP": vosp, "VOSP as published": published_vosp, "VRAE": vrae}
every_model = pytest.mark.parametrize("name", MODELS)


# Memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [False, True])
def test_stepping_equals_running(skip):
    net, inputs = FastDropoutMemory(M, H, 0.8, 0.6, skip=skip), torch.randn(B, T, M)
    whole = net(inputs)
    assert whole.shape == (B, T, net.outputs)
    state = net.initial(B)
    assert state.shape == (B, net.state_dim)
    assert not state.any()
    for t in range(T):
        state = net.step(inputs[:, t], state)
        torch.testing.assert_close(net.output(state), whole[:, t])


def test_the_units_are_means_and_variances():
    net, inputs = FastDropoutMemory(M, H, 0.8, 0.6), torch.randn(B, T, M)
    mean, variance = net(inputs).chunk(2, -1)
    expected = net.net(inputs)
    assert torch.equal(mean, expected.mean)
    assert torch.equal(variance, expected.variance)
    assert (variance > 0).all()


def test_the_last_input_follows_the_moments():
    net, inputs = FastDropoutMemory(M, H, skip=True), torch.randn(B, T, M)
    whole = net(inputs)
    assert torch.equal(whole[..., : 2 * H], torch.cat(net.net(inputs), -1))
    assert torch.equal(whole[..., 2 * H :], inputs)


def test_a_memory_is_causal_and_does_not_mix_rows():
    net, inputs = FastDropoutMemory(M, H), torch.randn(B, T, M)
    other = inputs.clone()
    other[1, 3] += 1
    before, after = net(inputs), net(other)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(after[1, :3], before[1, :3])
    assert ((after - before)[1, 3:].abs().amax(-1) > 1e-4).all()


def test_a_memory_starts_as_it_is_told():
    net = FastDropoutMemory(M, 30, spectral_radius=1.1, incoming=5, input_scale=1e-3)
    weight = net.net.hidden_weight[0]
    assert torch.linalg.eigvals(weight).abs().max().item() == pytest.approx(1.1, rel=1e-4)
    assert (weight != 0).sum(1).eq(5).all()
    assert net.net.input_weight.abs().max() < 0.01


# Reader and decoder -----------------------------------------------------------------------------


@pytest.mark.parametrize("build", [FastDropoutReader, lambda m, h: FastDropoutDecoder(m, 3, h)])
def test_padding_is_as_if_absent(build):
    net, inputs = build(M, H), torch.randn(B, T, M)
    dirty = inputs.masked_fill(~MASK[..., None], math.nan)
    together = net(dirty, MASK)
    for row, length in enumerate(MASK.sum(1)):
        alone = net(inputs[row : row + 1, :length], MASK[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone)
    together[MASK].square().sum().backward()
    assert all(part.grad.isfinite().all() for part in net.parameters())


def test_a_reader_reads_both_ways():
    net, inputs = FastDropoutReader(M, H), torch.randn(B, T, M)
    features = net(inputs, MASK)
    assert features.shape == (B, T, net.features_dim) == (B, T, 4 * H)
    other = inputs.clone()
    other[1, 3] += 1
    moved = (net(other, MASK) - features).abs() > 1e-5
    assert moved[1].any(-1).all()  # frames before the change and after it
    assert not moved[[0, 2]].any()
    ahead = moved[1, :3].any(0)  # what moves before the change are units that run backwards
    assert ahead.sum() == 2 * H


def test_learned_rates_get_gradients_and_fixed_ones_are_no_parameters():
    rates = {"net.keep_input.logit", "net.keep_hidden.logit"}
    net = FastDropoutReader(M, H, keep=0.7)
    torch.testing.assert_close(net.net.keep_input().item(), 0.7)
    net(torch.randn(B, T, M), MASK)[MASK].sum().backward()
    found = {name: part.grad for name, part in net.named_parameters()}
    assert all(found[name].abs() > 0 for name in rates)
    for fixed in (
        FastDropoutReader(M, H, learn_rates=False),
        FastDropoutMemory(M, H),
        FastDropoutDecoder(K, M, H),
    ):
        assert not any("keep" in name for name, _ in fixed.named_parameters())


def test_a_decoder_takes_many_paths_at_once():
    net, paths = FastDropoutDecoder(K, M, H), torch.randn(2, 4, B, T, K)
    whole = net(paths, MASK)
    assert whole.shape == (2, 4, B, T, M)
    for index in ((0, 0), (1, 3)):
        one = net(paths[index], MASK)
        torch.testing.assert_close(whole[index][MASK], one[MASK])
    torch.testing.assert_close(net(paths[0, 0], MASK), net(paths[0, :1], MASK)[0])
    assert not net.causal


def test_a_readout_gives_the_log_odds_of_the_mean_probability():
    net, moments = FastDropoutReadout(H, M, keep=0.7), Moments(torch.randn(B, H), torch.rand(B, H))
    found = net(torch.cat(moments, -1))
    torch.testing.assert_close(found, bernoulli_logits(net.linear(moments)))
    known = net(torch.cat((moments.mean, torch.zeros(B, H)), -1))
    assert (found.abs() <= known.abs()).all()  # what is uncertain is nearer to 1/2
    blank = FastDropoutReadout(H, M, bias=-3.0)(torch.zeros(B, 2 * H))
    torch.testing.assert_close(blank, torch.full((B, M), -3.0))


def test_the_parts_within_a_frame_are_layers_over_moments_and_values():
    torch.manual_seed(0)
    moments, values = Moments(torch.randn(B, H), torch.rand(B, H)), torch.randn(B, K)
    both = Moments(
        torch.cat((moments.mean, values), -1), torch.cat((moments.variance, 0 * values), -1)
    )
    read = torch.cat((*moments, values), -1)
    encoder = FastDropoutEncoder(H, K, 7, keep=0.8)
    torch.testing.assert_close(encoder(read), torch.cat(tanh(*encoder.linear(both)), -1))
    net = FastDropoutEmission(H, K, M, 7, keep=0.8)
    hidden = tanh(*net.hidden.linear(both))
    expected = bernoulli_logits(net.readout.linear(hidden))
    torch.testing.assert_close(net(read), expected)


# Models of such parts ---------------------------------------------------------------------------


@every_model
def test_models_learn_with_every_parameter(name):
    net = MODELS[name]()
    how = {"lr": 0.05, "clip": 5.0, "progress": False}
    batch = Batch(bits(B, T), MASK)
    rule = inference.SequenceELBO(net)
    assert torch.isfinite(rule.gradients(batch)["loss"])
    for parameter_name, part in net.named_parameters():
        if part.requires_grad:
            assert part.grad.isfinite().all(), parameter_name
            assert part.grad.any(), parameter_name
    fitted = inference.fit(rule, batch, epochs=20, **how)
    losses = [record["loss"] for record in fitted.history]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@every_model
def test_models_generate_and_do_not_see_padding(name):
    net = MODELS[name]().eval()
    assert torch.equal(net.sample(2, 4, seed=1), net.sample(2, 4, seed=1))
    obs = bits(B, T)
    found = []
    for filler in (0.0, math.nan):
        torch.manual_seed(3)
        padded = torch.where(MASK[..., None], obs, filler)
        found.append(inference.elbo(net, Batch(padded, MASK), 2))
    torch.testing.assert_close(*found)


def test_an_rnn_predicts_frame_by_frame_what_it_does_at_once():
    net, obs = rnn(), bits(B, T)
    natural, past = net.natural(obs), net.initial(B)
    for t in range(T):
        torch.testing.assert_close(net.readout(net.memory.output(past)), natural[:, t])
        past = net.step(obs[:, t], past)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FastDropoutMemory(0, H), "at least 1"),
        (lambda: FastDropoutMemory(M, H, incoming=2), "needs spectral_radius"),
        (lambda: FastDropoutMemory(M, H, keep_hidden=0.0), r"above 0 and at most 1"),
        (lambda: FastDropoutReader(M, H, keep=1.0), "begin below 1"),
        (lambda: FastDropoutReadout(H, M, keep=1.5), r"above 0 and at most 1"),
        (lambda: FastDropoutMemory(M, H)(torch.zeros(B, T, M + 1)), "inputs must be"),
        (lambda: FastDropoutReader(M, H)(torch.zeros(B, T, M), MASK[:, 1:]), "mask must be"),
        (lambda: FastDropoutDecoder(K, M, H)(torch.zeros(B, T, M), MASK), "inputs must be"),
        (
            lambda: VRAE(
                *(M, K, Bernoulli(M)),
                encoder=FastDropoutReader(M, H),
                guide=path_guides.Diagonal(2 * H, K),
                decoder=FastDropoutDecoder(K, M, H),
            ),
            "the guide has 8 features, the model 16",
        ),
    ],
)
def test_sizes_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
