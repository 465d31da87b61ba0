"""What every model of the zoo must do, whatever its kind."""

import pytest
import torch
from seqzoo import inference, zoo
from seqzoo.data import Batch, ppc
from seqzoo.zoo import baselines, decoders, memory, outputs, path_guides, priors, store
from seqzoo.zoo.mdrnn import MDRNN
from seqzoo.zoo.srn import SRN

B, T, M = 3, 8, 15

poisson = zoo.likelihoods.Poisson(M)


def film_guide(rate=None):
    return zoo.guides.FilmGuide(M, 4, hidden=6, seen=2, rate=rate)


MODELS = {
    "RVAE": lambda: zoo.RVAE(M, 2, poisson, hidden=6),
    "RVAE, means": lambda: zoo.RVAE(M, 2, poisson, hidden=6, statistics="mean"),
    "RVAE, film guide": lambda: zoo.RVAE(
        *(M, 4, poisson), hidden=6, seen=2, guide=film_guide(), predictor_hidden=5
    ),
    "TVAE": lambda: zoo.TVAE(M, 2, poisson, hidden=6),
    "TVAE, static": lambda: zoo.TVAE(M, 2, poisson, hidden=6, transition=False),
    "REFH": lambda: zoo.REFH(M, 7, poisson, scale=0.1),
    "TRBM": lambda: zoo.TRBM(M, 7, poisson, scale=0.1),
    "RTRBM": lambda: zoo.RTRBM(M, 7, poisson, scale=0.1),
    "LGDS-1": lambda: zoo.LGDS(1, readout="population"),
    "LGDS-2": lambda: zoo.LGDS(2, readout="population"),
    "SpringFilter": baselines.SpringFilter,
}
TRAINED = {
    "RVAE": inference.LocalELBO,
    "RVAE, means": inference.BPTT,
    "RVAE, film guide": inference.LocalELBO,
    "TVAE": inference.LocalELBO,
    "TVAE, static": inference.BPTT,
    "REFH": inference.ContrastiveDivergence,
    "TRBM": inference.ContrastiveDivergence,
    "RTRBM": inference.ContrastiveDivergence,
}


@pytest.fixture(params=list(MODELS))
def net(request):
    return MODELS[request.param]()


@pytest.fixture
def obs():
    return torch.poisson(8 * ppc.tuning(torch.linspace(-1, 1, B * T).view(B, T)))


def test_reconstruct_and_filter_have_the_shapes_promised(net, obs):
    assert net.reconstruct(obs).shape == (B, T, M)
    assert net.reconstruct(obs).dtype == obs.dtype
    belief = net.filter(obs)
    assert belief.mean.shape[:2] == (B, T)
    assert belief.variance.shape == belief.mean.shape
    assert (belief.variance >= 0).all()


def test_filtering_looks_at_past_and_present_alone(net, obs):
    changed = obs.clone()
    changed[:, 5:] = changed[:, 5:].flip(-1) + 1
    before, after = net.reconstruct(obs), net.reconstruct(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_padding_changes_nothing(net, obs):
    padded = torch.cat((obs, torch.full((B, 3, M), float("nan"))), 1)
    mask = (torch.arange(T + 3) < T).expand(B, -1)
    torch.testing.assert_close(net.reconstruct(padded, mask)[:, :T], net.reconstruct(obs))
    torch.testing.assert_close(net.filter(padded, mask).mean[:, :T], net.filter(obs).mean)


def test_sequences_of_a_batch_do_not_mix(net, obs):
    torch.testing.assert_close(
        net.reconstruct(obs)[1:2], net.reconstruct(obs[1:2]), rtol=1e-4, atol=1e-5
    )


def test_train_and_eval_reconstruct_alike(net, obs):
    torch.testing.assert_close(net.train().reconstruct(obs), net.eval().reconstruct(obs))


def test_saved_and_loaded_it_is_the_same(net, obs, tmp_path):
    from safetensors.torch import load_file, save_file

    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "w")
    torch.manual_seed(99)
    other = type(net)() if isinstance(net, baselines.SpringFilter) else twin(net)
    other.load_state_dict(load_file(tmp_path / "w"))
    assert torch.equal(other.reconstruct(obs), net.reconstruct(obs))


def twin(net):
    return next(
        fresh
        for make in MODELS.values()
        if repr(fresh := make()) == repr(net) and type(fresh) is type(net)
    )


def test_generation_is_reproducible_and_leaves_the_random_state_alone(net):
    state = torch.get_rng_state()
    first = net.sample(sequences=2, steps=6, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (2, 6, M)
    assert torch.isfinite(first).all()
    assert (first >= 0).all()
    assert torch.equal(first, net.sample(sequences=2, steps=6, seed=4))
    assert not torch.equal(first, net.sample(sequences=2, steps=6, seed=5))


def test_the_representation_shows_the_factorisation(net):
    assert "p(x[" in repr(net)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(B, M), "batch, time"),
        (torch.ones(B, T, M, dtype=torch.long), "floating point"),
        (torch.ones(B, T, M - 1), "15"),
        (-torch.ones(B, T, M), "negative"),
        (torch.full((B, T, M), float("nan")), "NaN"),
        (torch.ones(0, T, M), "empty"),
    ],
)
def test_bad_observations_get_a_clear_sentence(net, bad, message):
    with pytest.raises(ValueError, match=message):
        net.filter(bad)
    with pytest.raises(ValueError, match=message):
        net.reconstruct(bad)


def test_a_sequence_without_a_real_frame_is_refused(net, obs):
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match="sequence 1"):
        net.reconstruct(obs, mask)


@pytest.mark.parametrize("name", list(TRAINED))
def test_gradients_reach_every_parameter(name, obs):
    net = MODELS[name]()
    rule = TRAINED[name](net)
    metrics = rule.gradients(Batch(obs))
    assert torch.isfinite(metrics["loss"])
    assert metrics["frames"] == B * T
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", list(TRAINED))
def test_training_moves_the_loss_down(name, obs):
    net = MODELS[name]()
    before = inference.fit(TRAINED[name](net), Batch(obs), epochs=1, lr=0.0, progress=False)
    after = inference.fit(TRAINED[name](net), Batch(obs), epochs=60, lr=0.02, progress=False)
    if "RBM" in name or name == "REFH":  # a free-energy difference is no measure of fit
        error = (net.reconstruct(obs) - obs).square().mean()
        assert error < (MODELS[name]().reconstruct(obs) - obs).square().mean()
    else:
        assert after.history[-1]["loss"] < before.history[-1]["loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_works_where_it_is_put(net, obs):
    cpu = net.reconstruct(obs)
    moved = net.to("cuda").reconstruct(obs.to("cuda"))
    assert moved.device.type == "cuda"
    torch.testing.assert_close(moved.cpu(), cpu, rtol=1e-3, atol=1e-4)


def test_a_users_own_guide_goes_where_the_zoos_does(obs):
    """The least that a recognition model must offer, written out as a user would."""
    import pyro.distributions as dist

    class Leaky(torch.nn.Module):
        """The mean is a leaky average of a linear code of the frames; the spread is constant."""

        latent_dim, statistics_dim = 2, 2

        def __init__(self):
            super().__init__()
            self.code = torch.nn.Linear(M, 2)
            self.log_spread = torch.nn.Parameter(torch.zeros(2))

        def initial(self, rows):
            return self.code.weight.new_zeros(rows, 2)

        def encode(self, obs):
            return self.code(obs)

        def step(self, features, past):
            return 0.9 * past + 0.1 * features

        def forward(self, features, past):
            return dist.Normal(self.step(features, past), self.log_spread.exp()).to_event(1)

    net = zoo.RVAE(M, 2, poisson, hidden=6, guide=Leaky())
    for kind in (inference.LocalELBO, inference.BPTT):
        fitted = inference.fit(kind(net), Batch(obs), epochs=40, lr=0.01, progress=False)
        assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert net.reconstruct(obs).shape == obs.shape


def test_a_film_guide_begins_with_what_the_frame_says_alone(obs):
    """And, if asked, with how fast that changes."""
    guide = film_guide(rate=3.0)
    with torch.no_grad():
        guide.heads.weight.zero_()
    features, past = guide.encode(obs[:, 0]), torch.randn(B, guide.statistics_dim)
    alone, _ = guide.moments(features, guide.initial(B))  # a blank past: the frame alone
    mean, spread = guide.moments(features, past)
    torch.testing.assert_close(mean[:, :2], alone[:, :2])
    torch.testing.assert_close(mean[:, 2:], 3 * (alone[:, :2] - past[:, :2]))
    assert (spread > 0).all()
    mixed = film_guide()
    with torch.no_grad():
        mixed.heads.weight.zero_()
    features = mixed.encode(obs[:, 0])
    first, second = (mixed.moments(features, u)[0][:, 2:] for u in (past, past + 1))
    assert not torch.allclose(first, second)  # there is something of the past to keep


def test_only_the_predictor_learns_from_prediction(obs):
    """Its site gives gradients to its own parameters, and changes no other's."""
    torch.manual_seed(0)
    net = MODELS["RVAE, film guide"]()
    found = []
    for weight in (1.0, 0.0):
        torch.manual_seed(1)
        inference.LocalELBO(net, weights={"foreseen": weight}).gradients(Batch(obs))
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, gradient in found[0].items():
        same = torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-6)
        assert same != name.startswith("predictor."), name


def test_a_guide_of_another_size_is_refused():
    guide = zoo.guides.GaussianGuide(M, latent_dim=3, hidden=4)
    with pytest.raises(ValueError, match="3 latents"):
        zoo.RVAE(M, 2, poisson, guide=guide)


# Models of whole sequences ----------------------------------------------------------------------

SEQUENCE_MODELS = {
    "VRAE": lambda: zoo.VRAE(M, 2, poisson, hidden=6),
    "VRAE, as published": lambda: zoo.VRAE(
        *(M, 2, poisson),
        encoder=memory.Reader(M, 6, "both"),
        guide=path_guides.Diagonal(12, 2),
        decoder=decoders.BidirectionalDecoder(2, M, 6),
        sees="path",
    ),
    "VRAE, AR1": lambda: zoo.VRAE(
        M, 2, poisson, hidden=6, prior=priors.AR1(2), guide=path_guides.MarkovChain(6, 2)
    ),
    "VOSP": lambda: zoo.VOSP(M, 2, poisson, hidden=6, width=5),
    "VOSP, path": lambda: zoo.VOSP(
        M, 2, poisson, memory=memory.DeepTransition(M, 6, 4), width=5, sees="path"
    ),
    "RNN": lambda: zoo.RNN(M, poisson, hidden=6),
    "RNN, deep": lambda: zoo.RNN(M, poisson, memory=memory.Memory(M, 6, "lstm", layers=2)),
}
every_sequence_model = pytest.mark.parametrize("name", list(SEQUENCE_MODELS))


def findings(net, obs, mask=None):
    """What the verbs that draw nothing say of each sequence, ``[B, ...]`` each."""
    if isinstance(net, zoo.RNN):
        return {"log_prob": net.log_prob(obs, mask)}
    with torch.no_grad():  # an autoregressive belief runs the decoder to find its mode
        found = {"posterior": net.posterior(obs, mask).mode}
    found["reconstruct"] = net.reconstruct(obs, mask)
    if hasattr(net, "filter"):
        found |= net.filter(obs, mask)._asdict()
    return found


@every_sequence_model
def test_sequences_verbs_have_the_shapes_promised(name, obs):
    net = SEQUENCE_MODELS[name]()
    shapes = {"log_prob": (B,), "reconstruct": (B, T, M)}
    for verb, value in findings(net, obs).items():
        assert value.shape == shapes.get(verb, (B, T, 2)), verb
        assert value.isfinite().all()
        assert not value.requires_grad
    assert hasattr(net, "filter") == isinstance(net, zoo.VOSP)
    assert hasattr(net, "reconstruct") != isinstance(net, zoo.RNN)
    assert inference.elbo(net, Batch(obs), 2).shape == (B,)


@every_sequence_model
def test_a_sequence_models_padding_changes_nothing(name, obs):
    net = SEQUENCE_MODELS[name]()
    padded = torch.cat((obs, torch.full((B, 3, M), float("nan"))), 1)
    mask = (torch.arange(T + 3) < T).expand(B, -1)
    alone = findings(net, obs)
    for verb, value in findings(net, padded, mask).items():
        found = value if verb == "log_prob" else value[:, :T]
        torch.testing.assert_close(found, alone[verb], rtol=1e-4, atol=1e-5)
    mask = mask.clone()
    mask[1] = False
    with pytest.raises(ValueError, match="sequence 1"):
        findings(net, padded, mask)


@every_sequence_model
def test_a_sequence_models_sequences_do_not_mix(name, obs):
    net = SEQUENCE_MODELS[name]()
    alone = findings(net, obs[1:2])
    for verb, value in findings(net, obs).items():
        torch.testing.assert_close(value[1:2], alone[verb], rtol=1e-4, atol=1e-5)


@every_sequence_model
def test_a_sequence_model_in_training_says_what_it_does_in_use(name, obs):
    net = SEQUENCE_MODELS[name]()
    used = findings(net.eval(), obs)
    for verb, value in findings(net.train(), obs).items():
        torch.testing.assert_close(value, used[verb])


@every_sequence_model
def test_a_sequence_model_saved_and_loaded_is_the_same(name, obs, tmp_path):
    from safetensors.torch import load_file, save_file

    net, other = SEQUENCE_MODELS[name](), SEQUENCE_MODELS[name]()
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "w")
    before = findings(other, obs)
    other.load_state_dict(load_file(tmp_path / "w"))
    after = findings(other, obs)
    for verb, value in findings(net, obs).items():
        assert torch.equal(after[verb], value)
        assert not torch.equal(before[verb], value)


@every_sequence_model
def test_a_sequence_model_generates(name):
    net = SEQUENCE_MODELS[name]()
    state = torch.get_rng_state()
    first = net.sample(sequences=2, steps=6, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (2, 6, M)
    assert torch.equal(first, first.round())
    assert (first >= 0).all()
    assert torch.equal(first, net.sample(sequences=2, steps=6, seed=4))
    assert not torch.equal(first, net.sample(sequences=2, steps=6, seed=5))


@every_sequence_model
def test_a_sequence_models_gradients_reach_every_parameter(name, obs):
    net = SEQUENCE_MODELS[name]()
    metrics = inference.SequenceELBO(net).gradients(Batch(obs))
    assert torch.isfinite(metrics["loss"])
    assert metrics["frames"] == B * T
    for parameter_name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            assert parameter.grad.any(), parameter_name
        else:
            assert parameter_name == "prior.log_scale"  # learned where one asks for it


@every_sequence_model
def test_training_moves_a_sequence_models_loss_down(name, obs):
    net = SEQUENCE_MODELS[name]()
    rule, how = inference.SequenceELBO(net), {"lr": 0.02, "clip": 5.0, "progress": False}
    fitted = inference.fit(rule, Batch(obs), epochs=40, **how)
    losses = [record["loss"] for record in fitted.history]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@every_sequence_model
def test_a_sequence_model_shows_its_factorisation(name):
    first = repr(SEQUENCE_MODELS[name]()).splitlines()[1]
    assert "p(x[t] | " in first
    assert ("q(z[" in first) != name.startswith("RNN")


@every_sequence_model
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(B, M), "batch, time"),
        (torch.ones(B, T, M, dtype=torch.long), "floating point"),
        (torch.ones(B, T, M - 1), "15"),
        (-torch.ones(B, T, M), "negative"),
        (torch.full((B, T, M), float("nan")), "NaN"),
        (torch.ones(0, T, M), "empty"),
    ],
)
def test_a_sequence_model_says_what_is_wrong_with_observations(name, bad, message):
    net = SEQUENCE_MODELS[name]()
    for verb in ("log_prob", "reconstruct", "posterior", "filter"):
        if hasattr(net, verb):
            with pytest.raises(ValueError, match=message):
                getattr(net, verb)(bad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_sequence_model
def test_a_sequence_model_works_where_it_is_put(name, obs):
    net = SEQUENCE_MODELS[name]()
    cpu = findings(net, obs)
    for verb, value in findings(net.to("cuda"), obs.to("cuda")).items():
        assert value.device.type == "cuda"
        torch.testing.assert_close(value.cpu(), cpu[verb], rtol=1e-3, atol=1e-4)
    assert inference.SequenceELBO(net).gradients(Batch(obs).to("cuda"))["loss"].isfinite()
    assert net.sample(2, 3).device.type == "cuda"


# Networks that answer a sequence -----------------------------------------------------------------

OUT = 4  # classes, keys or values of an answer
CUT = torch.arange(T) < torch.tensor([[5], [8], [1]])  # lengths of sequences, where they differ
ANSWERING_MODELS = {
    "SRN": lambda: SRN(M, outputs.Categorical(OUT), hidden=6),
    "SRN, hybrid": lambda: SRN(
        M, outputs.Categorical(OUT), hidden=6, stochastic=0.5, nonlinearity="tanh"
    ),
    "SRN, stochastic": lambda: SRN(M, outputs.Categorical(OUT), hidden=6, stochastic=1.0),
    "SRN, every step": lambda: SRN(
        *(M, zoo.likelihoods.Bernoulli(OUT)), hidden=6, stochastic=0.5, every_step=True
    ),
    "SRN, every step, deterministic": lambda: SRN(
        *(M, zoo.likelihoods.Bernoulli(OUT)), hidden=6, nonlinearity="tanh", every_step=True
    ),
    "MDRNN": lambda: MDRNN(M, OUT, components=3, hidden=6),
    "MDRNN, hybrid": lambda: MDRNN(M, OUT, components=3, hidden=6, stochastic=0.5),
}
every_answering_model = pytest.mark.parametrize("name", list(ANSWERING_MODELS))
deterministic = pytest.mark.parametrize("name", ["SRN", "SRN, every step, deterministic", "MDRNN"])
sampled = pytest.mark.parametrize(
    "name", ["SRN, hybrid", "SRN, stochastic", "SRN, every step", "MDRNN, hybrid"]
)
every_answering_rule = pytest.mark.parametrize(
    "rule_of", [inference.TargetPropagation, inference.StraightThrough]
)


def answers_of(net, obs):
    """A target that depends on the frames: of the last step, or of every one."""
    level = obs[..., :OUT] if net.every_step else obs[:, -1, :OUT]
    if isinstance(net.output, outputs.Categorical):
        return level.argmax(-1)
    return (level > 1).float() if isinstance(net.output, zoo.likelihoods.Bernoulli) else level / 8


def opinions(net, obs, target, mask=None):
    """What a network says of each sequence that does not depend on random numbers.

    Those with stochastic units are asked on given bits.
    """
    batch = Batch(obs, mask)
    bits = (obs[..., : net.bits] > 1).float() if net.bits else None
    with torch.no_grad():
        states = net.path(net.drive(batch.obs), bits)
        found = {"path": states, "mean": net.output.mean(net.readout(states))}
    if not net.bits:
        found["log_prob"] = net.log_prob(obs, target, mask)
        found["predict"] = net.predict(obs, mask)
    return found


@every_answering_model
def test_answering_verbs_have_the_shapes_promised(name, obs):
    net = ANSWERING_MODELS[name]()
    target = answers_of(net, obs)
    score = net.log_prob(obs, target, samples=3)
    assert score.shape == (B,)
    mean = net.predict(obs, samples=3)
    assert mean.shape == ((B, T, OUT) if net.every_step else (B, OUT))
    drawn = net.answer(obs, draws=5)
    assert drawn.shape == (5, *target.shape)
    assert drawn.dtype == target.dtype
    for value in (score, mean, drawn.float()):
        assert value.isfinite().all()
        assert not value.requires_grad
    net.output.check(drawn)
    assert inference.importance_bound(net, Batch(obs, target=target), 2).shape == (B,)


@every_answering_model
def test_an_answering_models_padding_changes_nothing(name, obs):
    net = ANSWERING_MODELS[name]()
    target = answers_of(net, obs)
    padded = torch.cat((obs, torch.full((B, 3, M), float("nan"))), 1)
    mask = (torch.arange(T + 3) < T).expand(B, -1)
    alone = opinions(net, obs, target)
    more = torch.cat((target, target[:, :3]), 1) if net.every_step else target
    for verb, value in opinions(net, padded, more, mask).items():
        found = value if verb == "log_prob" or value.dim() == 2 else value[:, :T]
        torch.testing.assert_close(found, alone[verb])
    mask = mask.clone()
    mask[1] = False
    for verb in (net.predict, net.answer, lambda *x: net.log_prob(x[0], more, x[1])):
        with pytest.raises(ValueError, match="sequence 1"):
            verb(padded, mask)


@sampled
def test_padding_changes_no_distribution(name, obs):
    """Averages of many paths, with and without it, within 4.5 standard errors."""
    net, draws = ANSWERING_MODELS[name](), 400
    mask = (torch.arange(T + 3) < T).expand(B, -1)
    padded = torch.cat((obs, torch.full((B, 3, M), float("nan"))), 1)
    found = []
    for frames, real in ((obs, torch.ones(B, T, dtype=torch.bool)), (padded, mask)):
        batch = Batch(frames, real).rows(torch.arange(B).repeat(draws))
        means = net.predict(batch.obs, batch.mask, samples=1)
        found.append((means[:, :T] if net.every_step else means).unflatten(0, (draws, B)))
    error = (found[0].var(0) + found[1].var(0)).div(draws).sqrt()
    assert ((found[0].mean(0) - found[1].mean(0)).abs() < 4.5 * error + 1e-6).all()
    assert error.max() > 0


@every_answering_model
def test_an_answering_models_sequences_do_not_mix(name, obs):
    net = ANSWERING_MODELS[name]()
    target = answers_of(net, obs)
    whole = opinions(net, obs, target, CUT)
    changed = obs.clone()
    changed[[0, 2]] = changed[[0, 2]].flip(-1) + 1
    other = opinions(net, changed, target, CUT)
    for verb, value in opinions(net, obs[1:2], target[1:2], CUT[1:2]).items():
        torch.testing.assert_close(whole[verb][1:2], value, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other[verb][1:2], value, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(other[verb], whole[verb])


@every_answering_model
def test_an_answer_looks_at_past_and_present_alone(name, obs):
    net = ANSWERING_MODELS[name]()
    changed = obs.clone()
    changed[:, 5:] = changed[:, 5:].flip(-1) + 1
    before, after = (opinions(net, each, answers_of(net, obs))["path"] for each in (obs, changed))
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@every_answering_model
def test_an_answering_model_in_training_says_what_it_does_in_use(name, obs):
    net = ANSWERING_MODELS[name]()
    assert torch.equal(net.train().predict(obs, seed=1), net.eval().predict(obs, seed=1))


@every_answering_model
def test_an_answering_model_saved_and_loaded_is_the_same(name, obs, tmp_path):
    from safetensors.torch import load_file, save_file

    net, other = ANSWERING_MODELS[name](), ANSWERING_MODELS[name]()
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "w")
    before = other.predict(obs)
    other.load_state_dict(load_file(tmp_path / "w"))
    assert torch.equal(other.predict(obs), net.predict(obs))
    assert torch.equal(other.answer(obs), net.answer(obs))
    assert not torch.equal(before, net.predict(obs))


@every_answering_model
def test_answers_are_reproducible_and_leave_the_random_state_alone(name, obs):
    net = ANSWERING_MODELS[name]()
    state = torch.get_rng_state()
    first, mean = net.answer(obs, draws=9, seed=4), net.predict(obs, samples=2, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)  # the caller's own numbers do not matter
    assert torch.equal(first, net.answer(obs, draws=9, seed=4))
    assert torch.equal(mean, net.predict(obs, samples=2, seed=4))
    assert not torch.equal(first, net.answer(obs, draws=9, seed=5))
    assert torch.equal(mean, net.predict(obs, samples=2, seed=5)) == (net.bits == 0)


@every_answering_model
@every_answering_rule
@pytest.mark.parametrize("mask", [None, CUT], ids=["whole", "padded"])
def test_an_answering_models_gradients_reach_every_parameter(name, rule_of, mask, obs):
    """Straight-through estimation has no use for the inverse."""
    net = ANSWERING_MODELS[name]()
    metrics = rule_of(net).gradients(Batch(obs / 8, mask, target=answers_of(net, obs)))
    assert torch.isfinite(metrics["loss"])
    real = B * T if mask is None else mask.sum()
    assert metrics["frames"] == (real if net.every_step else B)
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.startswith("back.") and rule_of is inference.StraightThrough:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@every_answering_model
@every_answering_rule
def test_training_moves_an_answering_models_loss_down(name, rule_of, obs):
    net = ANSWERING_MODELS[name]()
    data = Batch(obs / 8, target=answers_of(net, obs))
    fitted = inference.fit(rule_of(net), data, epochs=40, lr=0.02, progress=False)
    losses = [record["loss"] for record in fitted.history]
    drop = sum(losses[:5]) / 5 - sum(losses[-5:]) / 5
    assert drop > 0.1 * abs(sum(losses[:5]) / 5)


@every_answering_model
def test_an_answering_model_shows_its_factorisation(name):
    net = ANSWERING_MODELS[name]()
    first = repr(net).splitlines()[1]
    assert "p(h[t] | h[t-1], x[t])" in first
    assert ("p(y[t] | x[1:t], h)" in first) == net.every_step
    assert ("p(y | x[1:T], h)" in first) != net.every_step


@every_answering_model
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(B, M), "batch, time"),
        (torch.ones(B, T, M, dtype=torch.long), "floating point"),
        (torch.ones(B, T, M - 1), "15"),
        (torch.full((B, T, M), float("nan")), "NaN"),
        (torch.ones(0, T, M), "empty"),
    ],
)
def test_an_answering_model_says_what_is_wrong_with_observations(name, bad, message):
    net = ANSWERING_MODELS[name]()
    target = answers_of(net, torch.ones(B, T, M))
    for verb in (net.predict, net.answer, lambda x: net.log_prob(x, target)):
        with pytest.raises(ValueError, match=message):
            verb(bad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_answering_model
def test_an_answering_model_works_where_it_is_put(name, obs):
    net = ANSWERING_MODELS[name]()
    target = answers_of(net, obs)
    cpu = opinions(net, obs, target)
    net.to("cuda")
    for verb, value in opinions(net, obs.to("cuda"), target.to("cuda")).items():
        assert value.device.type == "cuda"
        torch.testing.assert_close(value.cpu(), cpu[verb], rtol=1e-3, atol=1e-4)
    for mask in (None, CUT):
        batch = Batch(obs / 8, mask, target=target).to("cuda")
        for rule_of in (inference.TargetPropagation, inference.StraightThrough):
            assert rule_of(net).gradients(batch)["loss"].isfinite()
        assert net.log_prob(batch.obs, batch.target, batch.mask).device.type == "cuda"
    assert net.answer(obs.to("cuda"), draws=2).device.type == "cuda"
    assert net.predict(obs.to("cuda")).device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@deterministic
@pytest.mark.parametrize("mask", [None, CUT], ids=["whole", "padded"])
def test_gradients_of_local_targets_are_the_same_on_a_gpu(name, mask, obs):
    """Where the folded batch is one block, not many."""
    net = ANSWERING_MODELS[name]()
    data, found = Batch(obs / 8, mask, target=answers_of(net, obs)), []
    for device in ("cpu", "cuda"):
        inference.TargetPropagation(net.to(device)).gradients(data.to(device))
        found.append({name: part.grad.cpu() for name, part in net.named_parameters()})
    for parameter_name, value in found[0].items():
        torch.testing.assert_close(found[1][parameter_name], value, rtol=1e-3, atol=1e-5)


def test_every_shipped_card_builds_a_model_listed_here():
    makers = MODELS | SEQUENCE_MODELS | ANSWERING_MODELS
    listed = tuple({type(make()) for make in makers.values()})
    for name in store.carded():
        net = store.build(zoo.card(name))
        assert isinstance(net, (*listed, baselines.Memoryless)), name  # those have no state
