"""Conformance tests: what a model, a part or a learning rule must do, the zoo's and yours alike.

Inherit the class for its kind, say how it is built and on what, and pytest finds the tests:

    import torch
    from seqzoo.data import Batch
    from seqzoo.inference import testing

    class TestMine(testing.FilteringConformance):
        def build(self):
            return Mine(15)

        def batch(self):
            return Batch(torch.poisson(4 * torch.rand(3, 8, 15)))

Without pytest, ``failures(TestMine())`` runs the same tests and says which fail, and why.

| yours is | inherit | ``build()`` gives |
|---|---|---|
| a network that carries u_t along | ``FilteringConformance`` | the network |
| a Pyro pair over whole sequences | ``SequenceConformance`` | the network |
| a network that answers a sequence | ``AnsweringConformance`` | the network |
| a law of latent paths, as a prior | ``PriorConformance`` | the module called with a mask |
| a law of latent paths, as a guide | ``GuideConformance`` | the module called with features |
| the law of a frame or an output | ``LikelihoodConformance`` | the module |
| a learning rule | ``RuleConformance`` | the rule, holding its network |

What is built should be small, and without dropout: in training it must say what it says in use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import unittest
from collections.abc import Callable

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from ..data import Batch
from .evaluate import elbo, importance_bound, log_weights, read
from .local import LocalELBO
from .outputs import unroll
from .paths import LinearChain, Path, kl_steps
from .rule import LearningRule
from .sequence import SequenceELBO
from .streams import RandomStream
from .target import TargetPropagation
from .through_time import StraightThrough
from .training import fit

ERRORS = 4.5  # standard errors that an average over draws may be off by


def failures(suite: Conformance) -> dict[str, str]:
    """Runs the tests of a suite; the names of those that fail, and what was wrong.

    The caller's random state is left alone. A test that cannot run here (no GPU) does not fail.
    """
    found, device = {}, "cuda" if torch.cuda.is_available() else "cpu"
    for name in dir(suite):
        if not name.startswith("test_") or not callable(getattr(suite, name)):
            continue
        with RandomStream(device, name):
            suite.setup_method()
            try:
                getattr(suite, name)()
            except unittest.SkipTest:
                pass
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


class Conformance:
    """The root of all suites. Every test starts from the same random state."""

    rtol, atol = 1e-5, 1e-5  #: how close numbers are that should be the same

    def build(self):
        """A new one of what is tested."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")

    def setup_method(self) -> None:
        torch.manual_seed(0)

    def close(self, found: Tensor, expected: Tensor, what: str = "") -> None:
        """Fails where two tensors differ."""
        torch.testing.assert_close(
            found, expected, rtol=self.rtol, atol=self.atol, msg=lambda text: f"{what}: {text}"
        )


# Models -----------------------------------------------------------------------------------------


class ModelConformance(Conformance):
    """What every model must do. Inherit one of the three kinds below."""

    rules: tuple[Callable[[nn.Module], LearningRule], ...] = ()  #: rules that train it
    factorisation = "p("  #: what its ``repr`` must show
    constant: tuple[str, ...] = ("filter.variance",)  #: what may be the same whatever the data
    epochs, lr, clip = 25, 0.03, 5.0  #: how ``fit`` is to train it
    gain = 0.05  #: share of the loss that this training must take off

    # To be overridden ---------------------------------------------------------------------------

    def batch(self) -> Batch:
        """At least 3 sequences, not alike, of at least 6 steps; no padding; a target if needed."""
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def verbs(self, net: nn.Module, target: Tensor | None) -> dict[str, Callable]:
        """What can be asked of data, each called with ``(obs, mask)``."""
        raise NotImplementedError

    def findings(self, net, obs, mask=None, target=None) -> dict[str, Tensor]:
        """What it says of data without drawing a random number, ``[B, ...]`` each."""
        found = {}
        for name, verb in self.verbs(net, target).items():
            found |= tensors(name, verb(obs, mask))
        return found

    def draws(self, net: nn.Module, seed: int) -> dict[str, Tensor]:
        """What it draws with a seed."""
        raise NotImplementedError

    def spared(self, rule: LearningRule) -> tuple[str, ...]:
        """How the names of parameters begin that a rule has no use for."""
        return ()

    def frames(self, net: nn.Module, batch: Batch) -> int:
        """What a rule counts in a batch."""
        return batch.frames

    def misfit(self, rule: LearningRule, batch: Batch) -> float:
        """What training must lower: the rule's loss, averaged over some draws."""
        torch.manual_seed(0)
        return sum(float(rule.gradients(batch)["loss"]) for _ in range(3)) / 3

    def bad_observations(self, obs: Tensor) -> dict[str, tuple[Tensor, str]]:
        """Observations that it must refuse, each with a pattern that the message must hold."""
        hole = obs.clone()
        hole[1, 2] = torch.nan
        width = obs.shape[-1]
        return {
            "no axis of time": (obs[:, 0], "time|shape"),
            "whole numbers": (obs.long(), "float"),
            "a value too many": (torch.cat((obs, obs[..., :1]), -1), str(width)),
            "a value too few": (obs[..., 1:], f"{width}|empty"),
            "a frame that is NaN": (hole, "NaN|finite"),
            "no sequence": (obs[:0], "empty"),
        }

    # The tests ----------------------------------------------------------------------------------

    def test_what_it_says_is_finite_and_has_no_graph(self):
        net, batch = self.build(), self._data()
        for verb, value in self.findings(net, batch.obs, None, batch.target).items():
            assert len(value) == len(batch), f"{verb} has {len(value)} rows for {len(batch)}"
            assert value.isfinite().all(), f"{verb} is not finite"
            assert not value.requires_grad, f"{verb} carries a graph: use torch.no_grad"

    def test_padding_changes_nothing(self):
        net, batch = self.build(), self._data()
        alone = self.findings(net, batch.obs, None, batch.target)
        for verb, value in self.findings(net, *self._padded(net, batch)).items():
            expected = alone[verb]
            found = value if value.shape == expected.shape else value[:, : batch.obs.shape[1]]
            self.close(found, expected, verb)

    def test_sequences_do_not_mix(self):
        net, batch = self.build(), self._data()
        for mask in (None, ragged(batch).mask):
            whole = self.findings(net, batch.obs, mask, batch.target)
            others = batch.obs.roll(1, 0)
            others[1] = batch.obs[1]
            changed = self.findings(net, others, mask, batch.target)
            row = (None if part is None else part[1:2] for part in (batch.obs, mask, batch.target))
            for verb, value in self.findings(net, *row).items():
                self.close(whole[verb][1:2], value, f"{verb} of a sequence on its own")
                self.close(changed[verb][1:2], value, f"{verb} in other company")
                same = torch.allclose(changed[verb], whole[verb]) and verb not in self.constant
                assert not same, f"{verb} does not depend on the data: are the sequences alike?"

    def test_in_training_it_says_what_it_says_in_use(self):
        net, batch = self.build(), self._data()
        found = []
        for mode in (False, True):
            net.train(mode)
            said = self.findings(net, batch.obs, None, batch.target)
            found.append(said | self.draws(net, seed=1))
        for verb, value in found[1].items():
            self.close(value, found[0][verb], verb)

    def test_saved_and_loaded_it_is_the_same(self):
        from safetensors.torch import load, save

        net, other, batch = self.build(), self.build(), self._data()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

        def asked(each):
            return self.findings(each, batch.obs, None, batch.target)

        before, expected = asked(other), asked(net)
        other.load_state_dict(load(save({k: v.contiguous() for k, v in net.state_dict().items()})))
        for verb, value in asked(other).items():
            assert torch.equal(value, expected[verb]), f"{verb} is not what it was"
            learns = list(net.parameters()) and verb not in self.constant
            same = learns and torch.equal(before[verb], value)
            assert not same, f"{verb} does not depend on the parameters"
        drawn = self.draws(net, seed=1)
        for verb, value in self.draws(other, seed=1).items():
            assert torch.equal(value, drawn[verb]), f"{verb} does not draw what it drew"

    def test_seeds_reproduce_draws(self):
        net = self.build()
        first = self.draws(net, seed=4)
        torch.manual_seed(1)  # the caller's own numbers do not matter
        again, other = self.draws(net, seed=4), self.draws(net, seed=5)
        for verb, value in first.items():
            assert value.isfinite().all(), f"{verb} is not finite"
            assert torch.equal(value, again[verb]), f"{verb} with the same seed is not the same"
        same = all(torch.equal(value, other[verb]) for verb, value in first.items())
        assert not same, "another seed draws the same"

    def test_the_callers_random_state_is_left_alone(self):
        net, batch = self.build(), self._data()
        state = torch.get_rng_state()
        self.findings(net, batch.obs, None, batch.target)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a verb that draws nothing took the caller's random numbers"
        self.draws(net, seed=4)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a verb with a seed took the caller's random numbers: see RandomStream"

    def test_gradients_reach_every_parameter(self):
        net, batch = self.build(), self._data()
        trainable = any(parameter.requires_grad for parameter in net.parameters())
        assert trainable == bool(self.rules), "say in `rules` what trains its parameters"
        before = list(pyro.get_param_store().keys())
        for rule_of, data in itertools.product(self.rules, (batch, ragged(batch))):
            rule = rule_of(self.build())
            check_gradients(rule, data, self.frames(rule.net, data), self.spared(rule))
        stored = list(pyro.get_param_store().keys())
        assert stored == before, "pyro.param is not trained by rules: use nn.Parameter or PyroParam"

    def test_training_lowers_the_loss(self):
        for rule_of in self.rules:
            rule, batch = rule_of(self.build()), self._data()
            before = self.misfit(rule, batch)
            how = {"epochs": self.epochs, "lr": self.lr, "clip": self.clip}
            fit(rule, batch, device="cpu", progress=False, **how)
            after = self.misfit(rule, batch)
            less = before - after > self.gain * abs(before)
            assert less, f"{rule}: from {before:.4g} to {after:.4g} in {how}"

    def test_the_representation_shows_the_factorisation(self):
        shown = repr(self.build())
        assert self.factorisation in shown, f"no {self.factorisation!r} in {shown}: see extra_repr"

    def test_bad_observations_get_a_clear_sentence(self):
        net, batch = self.build(), self._data()
        for what, (bad, pattern) in self.bad_observations(batch.obs).items():
            for name, verb in self.verbs(net, batch.target).items():
                refuses(lambda: verb(bad, None), pattern, f"{name}, {what}")  # noqa: B023

    def test_a_sequence_without_a_real_frame_is_refused(self):
        net, batch = self.build(), self._data()
        obs, mask, target = self._padded(net, batch)
        mask[1] = False
        for name, verb in self.verbs(net, target).items():
            refuses(lambda: verb(obs, mask), "sequence 1", f"{name}, all masked")  # noqa: B023

    def test_it_works_where_it_is_put(self):
        if not torch.cuda.is_available():
            raise unittest.SkipTest("needs a GPU")
        net, batch, masks = self.build(), self._data(), (None, ragged(self._data()).mask)
        before = [self.findings(net, batch.obs, mask, batch.target) for mask in masks]
        net, moved = net.to("cuda"), batch.to("cuda")
        for mask, expected in zip(masks, before):
            data = moved.obs, None if mask is None else mask.to("cuda")
            for verb, value in self.findings(net, *data, moved.target).items():
                torch.testing.assert_close(value.cpu(), expected[verb], rtol=1e-3, atol=1e-4)
            found = self.draws(net, seed=4)
            for name, verb in self.verbs(net, moved.target).items():
                found |= tensors(name, verb(*data))
            for verb, value in found.items():
                assert value.device.type == "cuda", f"{verb} is not where the data are"
        for rule_of, data in itertools.product(self.rules, (moved, ragged(moved))):
            assert rule_of(net).gradients(data)["loss"].isfinite(), "the loss is not finite"

    def _data(self) -> Batch:
        with RandomStream("cpu", "batch"):  # the same whenever asked
            batch = self.batch()
        enough = len(batch) >= 3 and batch.obs.shape[1] >= 6 and bool(batch.mask.all())
        assert enough, "batch() must give at least 3 sequences of at least 6 steps, unpadded"
        return batch

    @torch.no_grad()
    def _same_bounds(self, net: nn.Module, batch: Batch, many: int) -> None:
        """Fails where the Pyro pair counts padding, on average over draws from the guide."""
        obs, mask, target = self._padded(net, batch)
        padded = Batch(obs, mask, target=target)
        found = (log_weights(net.model, net.guide, read(net, x), many) for x in (batch, padded))
        same_average(*found, "padding changes the bound: see the `mask` of Pyro's distributions")

    def _other_ends(self) -> tuple[Tensor, Tensor, int]:
        """Observations, the same with all ends like that of the first, and where they begin."""
        obs = self._data().obs
        changed, cut = obs.clone(), obs.shape[1] - 3
        changed[:, cut:] = obs[:1, cut:]
        return obs, changed, cut

    def _padded(self, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Observations with three frames of NaN behind them, their mask, and the target."""
        rows, steps, *frame = batch.obs.shape
        obs = torch.cat((batch.obs, batch.obs.new_full((rows, 3, *frame), torch.nan)), 1)
        return obs, (torch.arange(steps + 3) < steps).repeat(rows, 1), batch.target


class GeneratingConformance(ModelConformance):
    """What a model must do that draws sequences with ``sample(sequences, steps, seed)``."""

    def draws(self, net, seed):
        return {"sample": net.sample(sequences=2, steps=6, seed=seed)}

    def test_what_it_generates_are_sequences_that_it_can_read(self):
        net, batch = self.build(), self._data()
        drawn = self.draws(net, seed=4)["sample"]
        shaped(drawn, (2, 6, *batch.obs.shape[2:]), "sample")
        assert drawn.dtype == batch.obs.dtype, f"sample is {drawn.dtype}"
        for verb, value in self.findings(net, drawn).items():
            assert value.isfinite().all(), f"{verb} of a sample is not finite"

    def _looks_back(self, net: nn.Module, verb: str) -> None:
        """Fails where what a verb says of a step depends on frames after it, or on none."""
        obs, changed, cut = self._other_ends()
        before, after = (tensors(verb, getattr(net, verb)(each)) for each in (obs, changed))
        for name, value in before.items():
            self.close(after[name][:, :cut], value[:, :cut], f"{name} before a change of frames")
            same = torch.allclose(after[name][:, cut:], value[:, cut:])
            assert not same or name in self.constant, f"{name} does not see the frames"


class FilteringConformance(GeneratingConformance):
    """A network that carries u_t along: ``reconstruct``, ``filter`` and ``sample``."""

    rules = (LocalELBO,)

    def verbs(self, net, target=None):
        return {"reconstruct": net.reconstruct, "filter": net.filter}

    def test_reconstruct_and_filter_have_the_shapes_promised(self):
        net, obs = self.build(), self._data().obs
        found = net.reconstruct(obs)
        shaped(found, obs.shape, "reconstruct")
        assert found.dtype == obs.dtype, f"reconstruct is {found.dtype}"
        belief = net.filter(obs)
        shaped(belief.mean, (*obs.shape[:2], belief.mean.shape[-1]), "filter.mean")
        shaped(belief.variance, belief.mean.shape, "filter.variance")
        assert (belief.variance >= 0).all(), "a variance is negative"

    def test_filtering_looks_at_past_and_present_alone(self):
        net = self.build()
        for verb in self.verbs(net):
            self._looks_back(net, verb)


class SequenceConformance(GeneratingConformance):
    """A Pyro pair over whole sequences; of its verbs those that it has.

    They are ``log_prob`` (exact), ``posterior``, ``reconstruct``, ``filter`` and ``sample``.
    """

    rules = (SequenceELBO,)

    def verbs(self, net, target=None):
        names = ("log_prob", "posterior", "reconstruct", "filter")
        found = {name: getattr(net, name) for name in names if hasattr(net, name)}
        assert {"log_prob", "posterior"} & set(found), "it has neither log_prob nor posterior"
        return found

    def test_verbs_have_the_shapes_promised(self):
        net, batch = self.build(), self._data()
        shapes = {"log_prob": batch.obs.shape[:1], "reconstruct": batch.obs.shape}
        for verb, value in self.findings(net, batch.obs).items():
            path = (*batch.obs.shape[:2], value.shape[-1])
            shaped(value, shapes.get(verb, path), verb)
        for bound in (elbo, importance_bound):
            shaped(bound(net, batch, 2), (len(batch),), bound.__name__)

    def test_padding_changes_no_bound(self):
        """log p(x, z) - log q(z | x), averaged over draws: what is trained must not count it."""
        net, batch = self.build(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_a_filter_looks_at_past_and_present_alone(self):
        net = self.build()
        if not hasattr(net, "filter"):
            raise unittest.SkipTest("it has no filter")
        self._looks_back(net, "filter")


class AnsweringConformance(ModelConformance):
    """A network of units that answers a sequence: ``log_prob``, ``predict`` and ``answer``.

    See ``outputs.Answers`` for what rules ask of it. ``batch()`` needs a target.
    """

    rules = (TargetPropagation, StraightThrough)
    inverse = ("back.",)  #: how the names of the inverse's parameters begin

    def spared(self, rule):
        return () if isinstance(rule, TargetPropagation) else self.inverse

    def frames(self, net, batch):
        return batch.frames if net.at_every_step(batch) else len(batch)

    def verbs(self, net, target):
        return {
            "predict": net.predict,
            "answer": net.answer,
            "log_prob": lambda obs, mask: net.log_prob(obs, target, mask),
        }

    def findings(self, net, obs, mask=None, target=None):
        """Its states where units are their means; all that it says, where none is stochastic."""
        batch = Batch(obs, mask)
        with torch.no_grad():
            states = unroll(net, net.drive(batch.obs.transpose(0, 1)), lambda mean: mean)
        found = {"states": states[1:].transpose(0, 1)}
        if net.bits:
            return found
        score = {} if target is None else {"log_prob": net.log_prob(obs, target, mask)}
        return found | {"predict": net.predict(obs, mask)} | score

    def draws(self, net, seed):
        obs = self._data().obs.to(next(net.parameters()).device)
        drawn = net.answer(obs, draws=9, seed=seed).to(obs.dtype)
        return {"answer": drawn, "predict": net.predict(obs, samples=2, seed=seed)}

    def _padded(self, net, batch):
        obs, mask, target = super()._padded(net, batch)
        if net.at_every_step(batch):
            target = torch.cat((target, target[:, :3]), 1)
        return obs, mask, target

    def test_verbs_have_the_shapes_promised(self):
        net, batch = self.build(), self._data()
        score = net.log_prob(batch.obs, batch.target, samples=3)
        shaped(score, (len(batch),), "log_prob")
        mean = net.predict(batch.obs, samples=3)
        asked = batch.obs.shape[: 2 if net.at_every_step(batch) else 1]
        shaped(mean, (*asked, mean.shape[-1]), "predict")
        drawn = net.answer(batch.obs, draws=5)
        shaped(drawn, (5, *batch.target.shape), "answer")
        assert drawn.dtype == batch.target.dtype, f"answer is {drawn.dtype}"
        for verb, value in {"log_prob": score, "predict": mean, "answer": drawn}.items():
            assert value.isfinite().all(), f"{verb} is not finite"
            assert not value.requires_grad, f"{verb} carries a graph: use torch.no_grad"
        shaped(importance_bound(net, batch, 2), (len(batch),), "importance_bound")

    def test_what_it_answers_it_can_score(self):
        net, batch = self.build(), self._data()
        for target in net.answer(batch.obs, draws=2):
            assert net.log_prob(batch.obs, target).isfinite().all(), "an answer is impossible"

    def test_an_answer_looks_at_past_and_present_alone(self):
        net, (obs, changed, cut) = self.build(), self._other_ends()
        before, after = (self.findings(net, each)["states"] for each in (obs, changed))
        self.close(before[:, :cut], after[:, :cut], "states before a change of frames")
        assert not torch.allclose(before[:, cut:], after[:, cut:]), "states do not see the frames"

    def test_the_mean_depends_on_the_seed_where_units_are_stochastic(self):
        net = self.build()
        first, other = (self.draws(net, seed)["predict"] for seed in (4, 5))
        same = torch.equal(first, other)
        assert same == (net.bits == 0), f"of {net.bits} stochastic units, two seeds: same = {same}"

    def test_padding_changes_no_bound(self):
        net, batch = self.build(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_padding_changes_no_distribution(self):
        """Averages of many paths, with and without it."""
        net, batch, many = self.build(), self._data(), 400
        if not net.bits:
            raise unittest.SkipTest("nothing is drawn")
        found, steps = [], batch.obs.shape[1]
        index = torch.arange(len(batch)).repeat(many)
        for obs, mask in ((batch.obs, batch.mask), self._padded(net, batch)[:2]):
            means = net.predict(obs[index], mask[index], samples=1)
            means = means[:, :steps] if net.at_every_step(batch) else means
            found.append(means.unflatten(0, (many, -1)))
        same_average(*found, "padding changes what is drawn")
        assert found[0].var(0).max() > 0, "nothing is drawn, though units are stochastic"


# Parts ------------------------------------------------------------------------------------------


class PathConformance(Conformance):
    """What a law of paths must do, see ``paths.Path``. Inherit one of the two kinds below."""

    rows, steps = 3, 5

    def law(self, part: nn.Module, mask: Tensor) -> Path:
        """The law that a part gives for paths as long as ``mask [B, T]``."""
        raise NotImplementedError

    def pair(self, law: Path, mask: Tensor) -> tuple[Path, Path]:
        """The law and another one, in the order (q, p) of their divergence."""
        raise NotImplementedError

    def _laws(self) -> tuple[nn.Module, Path, Tensor]:
        """The part, its law of paths of unequal lengths, and their mask."""
        part, mask = self.build(), _lengths(self.rows, self.steps)
        return part, self.law(part, mask), mask

    def test_the_law_has_the_shapes_promised(self):
        part, law, mask = self._laws()
        assert isinstance(law, Path), f"a law of paths is a Path, got {type(law).__name__}"
        assert law.batch_shape == mask.shape[:1], f"batch shape {law.batch_shape}"
        assert law.event_shape == (self.steps, part.dim), f"event shape {law.event_shape}"
        path = law.rsample((4,))
        shaped(path, (4, *mask.shape, part.dim), "rsample")
        shaped(law.mode, (*mask.shape, part.dim), "mode")
        shaped(law.log_prob(path), (4, self.rows), "log_prob")
        found = {"rsample": path, "mode": law.mode, "log_prob": law.log_prob(path)}
        for name, value in found.items():
            assert value.isfinite().all(), f"{name} is not finite"

    def test_the_density_is_the_sum_of_its_steps(self):
        _, law, mask = self._laws()
        path = law.rsample((4,)).detach()
        steps = law.step_log_probs(path)
        shaped(steps, (4, *mask.shape), "step_log_probs")
        assert (steps[:, ~mask] == 0).all(), "padding has a density"
        self.close(law.log_prob(path), steps.sum(-1), "log_prob")

    def test_the_density_is_that_of_what_is_drawn(self):
        """By the change of variables, and innovations of draws must be white."""
        law = self.law(self.build(), torch.ones(1, self.steps, dtype=torch.bool))
        noise = torch.randn(1, *law.event_shape)
        size = noise.numel()
        slope = torch.autograd.functional.jacobian(law.colour, noise).reshape(size, size)
        expected = Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(slope).logabsdet
        with torch.no_grad():
            path = law.colour(noise)
            found, (again, _) = law.log_prob(path)[0], law.standardise(path)
            white, _ = law.standardise(law.rsample((4000,)))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(again, noise, rtol=1e-3, atol=1e-3)
        assert (white.mean(0).abs() < ERRORS * 4000**-0.5).all(), "draws are off centre"
        assert ((white.var(0) - 1).abs() < ERRORS * (2 / 4000) ** 0.5).all(), "draws' spread is off"

    def test_padding_counts_for_nothing(self):
        part, law, mask = self._laws()
        path = law.rsample().detach()
        changed = torch.where(mask[..., None], path, path + 7)
        self.close(law.log_prob(changed), law.log_prob(path), "with other values in padding")
        short = self.steps - 1
        alone = self.law(part, mask[:, :short]).step_log_probs(path[:, :short])
        self.close(alone, law.step_log_probs(path)[:, :short], "of shorter paths")

    def test_an_expanded_law_is_the_same(self):
        _, law, _ = self._laws()
        path = law.rsample((2,)).detach()
        wide = law.expand((2, self.rows))
        shaped(wide.rsample(), path.shape, "rsample, expanded")
        self.close(wide.log_prob(path), law.log_prob(path), "expanded")

    @torch.no_grad()
    def test_the_divergence_agrees_with_sampling(self):
        _, law, mask = self._laws()
        q, p = self.pair(law, mask)
        path = q.rsample((2000,))
        sampled = q.log_prob(path) - p.log_prob(path)
        found = {"kl_steps": kl_steps(q, p, path).sum(-1).expand_as(sampled)}
        with contextlib.suppress(NotImplementedError):  # where there is none in closed form
            found["kl_divergence"] = kl_divergence(q, p).expand_as(sampled)
        for name, value in found.items():
            difference = value - sampled
            error = ERRORS * difference.std(0) * 2000**-0.5 + 1e-3
            assert (difference.mean(0).abs() < error).all(), f"{name} is not the divergence"

    def test_gradients_reach_every_parameter(self):
        part, law, mask = self._laws()
        if not any(parameter.requires_grad for parameter in part.parameters()):
            raise unittest.SkipTest("it learns nothing")
        q, p = self.pair(law, mask)
        path = q.rsample()
        (q.log_prob(path) - p.log_prob(path)).sum().backward()
        _check_reached(part)


class PriorConformance(PathConformance):
    """A prior over paths: a module with ``dim``, called with a mask."""

    def law(self, part, mask):
        return part(mask)

    def pair(self, law, mask):
        offset = torch.linspace(-1, 1, law.event_shape[1])[None]
        return LinearChain(mask, 0.5, offset, torch.full_like(offset, 0.7)), law


class GuideConformance(PathConformance):
    """A guide over paths: a module with ``features_dim`` and ``dim``.

    It is called as ``guide(features [B, T, F], mask [B, T], prior, decoder)``.
    """

    def prior(self, mask: Tensor, dim: int) -> Path:
        """The prior that the guide is shown; a Wiener process unless overridden."""
        return LinearChain(mask, 1.0, torch.zeros(1, dim), torch.ones(1, dim))

    def decoder(self) -> nn.Module | None:
        """A new decoder that the guide is shown; None unless overridden."""

    def features(self, part: nn.Module, mask: Tensor) -> Tensor:
        """What is read in the data, ``[B, T, F]``: the same whenever asked."""
        with RandomStream(mask.device, "features"):
            return torch.randn(self.rows, self.steps, part.features_dim)[: len(mask), : len(mask.T)]

    def law(self, part, mask):
        return self._read(part, self.features(part, mask), mask)

    def _read(self, part: nn.Module, features: Tensor, mask: Tensor) -> Path:
        with RandomStream(mask.device, "decoder"):  # the same whenever asked
            decoder = self.decoder()
        return part(features, mask, self.prior(mask, part.dim), decoder)

    def pair(self, law, mask):
        return law, self.prior(mask, law.event_shape[1])

    def test_beliefs_do_not_mix_and_padding_says_nothing(self):
        part, law, mask = self._laws()
        path = law.rsample().detach()
        features = self.features(part, mask) + torch.where(mask[..., None], 0.0, 3.0)
        features[0] += 1
        found = self._read(part, features, mask).step_log_probs(path)
        expected = law.step_log_probs(path)
        self.close(found[1:], expected[1:], "features of padding or of other sequences matter")
        assert not torch.allclose(found[0], expected[0]), "the guide does not see the features"


class LikelihoodConformance(Conformance):
    """The law of a frame or an output: a module that turns natural parameters into it.

    It has ``natural_dim``, ``event_dim``, ``distribution``, ``mean``, ``mode``, ``sample`` and
    ``check``. Build one of few values (1 to 3), so that its normalisation can be tested.
    """

    rows, many = 4, 10_000

    def natural(self, part: nn.Module) -> Tensor:
        """Natural parameters, ``[B, N]``."""
        return torch.randn(self.rows, part.natural_dim)

    def statistic(self, value: Tensor) -> Tensor:
        """What ``mean`` is the mean of: the value itself, unless overridden."""
        return value

    def bad_values(self, value: Tensor, part: nn.Module) -> dict[str, Tensor]:
        """Values that ``check`` must refuse, made of some that it takes."""
        found = {"another kind of number": value.long()}
        if not value.is_floating_point():
            found = {"another kind of number": value.float()}
        elif part.event_dim:
            found["a value too many"] = torch.cat((value, value[..., :1]), -1)
        if value.is_floating_point():
            found["NaN"] = torch.full_like(value, torch.nan)
        return found

    def _parts(self) -> tuple[nn.Module, Tensor]:
        part = self.build()
        return part, self.natural(part)

    def test_the_law_has_the_shapes_promised(self):
        part, natural = self._parts()
        for eta in (natural, natural.expand(5, *natural.shape), natural[0]):
            law, value = part.distribution(eta), part.sample(eta)
            assert law.batch_shape == eta.shape[:-1], f"batch shape {law.batch_shape}"
            assert len(law.event_shape) == part.event_dim, f"event shape {law.event_shape}"
            shaped(value, law.batch_shape + law.event_shape, "sample")
            shaped(law.log_prob(value), law.batch_shape, "log_prob")
            shaped(part.mode(eta), value.shape, "mode")
            mean = part.mean(eta)
            shaped(mean, (*eta.shape[:-1], mean.shape[-1]), "mean")
            hidden = torch.zeros(law.batch_shape, dtype=torch.bool)
            assert (law.mask(hidden).log_prob(value) == 0).all(), "it cannot be masked"

    def test_what_is_drawn_is_possible(self):
        part, natural = self._parts()
        for value in (part.sample(natural.expand(50, *natural.shape)), part.mode(natural)):
            part.check(value)
            scores = part.distribution(natural).log_prob(value)
            assert scores.isfinite().all(), "what is drawn has no density"

    def test_check_says_what_is_wrong(self):
        part, natural = self._parts()
        for what, bad in self.bad_values(part.sample(natural), part).items():
            refuses(lambda: part.check(bad), ".", f"check, {what}")  # noqa: B023

    @torch.no_grad()
    def test_the_mean_is_that_of_what_is_drawn(self):
        part, natural = self._parts()
        drawn = self.statistic(part.sample(natural.expand(self.many, *natural.shape)))
        error = ERRORS * drawn.std(0) * self.many**-0.5 + 1e-4
        off = (drawn.mean(0) - part.mean(natural)).abs()
        assert (off < error).all(), f"mean is off by {off.max():.4g}: see also statistic()"

    @torch.no_grad()
    def test_probabilities_sum_to_one(self):
        """Over all values that are drawn; of a density, by its integral around its peak."""
        part, natural = self._parts()
        for eta in natural:
            law, drawn = part.distribution(eta), part.sample(eta.expand(self.many, -1))
            values, counts = drawn.unique(dim=0, return_counts=True)
            if len(values) < self.many / 2:
                unseen = float((counts == 1).sum()) / self.many  # the mass of those never drawn
                assert unseen < 0.1, "too many values to enumerate: build one of fewer"
                off, slack = law.log_prob(values).exp().sum() - 1, 0.005 + 2 * unseen
            else:
                share = _share_of_a_box(law, drawn)
                off, slack = share.mean() - 1, ERRORS * share.std() * len(share) ** -0.5
            assert off.abs() < slack, f"the law of {eta.tolist()} sums to {1 + off:.4g}"

    def test_the_density_has_a_slope(self):
        part, natural = self._parts()
        natural.requires_grad_()
        part.distribution(natural).log_prob(part.sample(natural).detach()).sum().backward()
        assert natural.grad.isfinite().all(), "a slope is not finite"
        assert natural.grad.any(), "the density does not depend on the natural parameters"


def _share_of_a_box(law: Distribution, drawn: Tensor) -> Tensor:
    """Weights of draws whose mean is 1 where the density of a law is that of its draws.

    They are 1 / (volume * density) in a box around the peak, and 0 outside of it.
    """
    first, second = drawn.chunk(2)
    scaled = first / first.std(0)
    near = (scaled - scaled[law.log_prob(first).argmax()]).abs().amax(-1).argsort()
    box = first[near[: len(first) // 5]]
    low, high = box.amin(0), box.amax(0)
    inside = ((second >= low) & (second <= high)).all(-1)
    weights = (-law.log_prob(second)).exp() / (high - low).prod()
    return torch.where(inside, weights, 0.0)


# Learning rules ---------------------------------------------------------------------------------


class RuleConformance(Conformance):
    """A learning rule: ``build()`` gives one that holds its network, ``batch()`` its data."""

    unused: tuple[str, ...] = ()  #: how the names of parameters begin that it has no use for

    def batch(self) -> Batch:
        """Some sequences, unpadded."""
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def frames(self, rule: LearningRule, batch: Batch) -> int:
        """What the rule counts in a batch: its real frames, unless overridden."""
        return batch.frames

    def test_it_fills_gradients_and_tells_its_loss(self):
        batch = self.batch()
        for data in (batch, ragged(batch)):
            rule = self.build()
            check_gradients(rule, data, self.frames(rule, data), self.unused)

    def test_the_same_seed_gives_the_same_gradients(self):
        """And gradients are set, not added to those of the call before."""
        rule, batch, found = self.build(), self.batch(), []
        for _ in range(2):
            torch.manual_seed(3)
            metrics = rule.gradients(batch)
            gradients = {
                name: part.grad.clone()
                for name, part in rule.net.named_parameters()
                if part.grad is not None
            }
            found.append(metrics | gradients)
        assert set(found[0]) == set(found[1]), "not the same metrics and gradients"
        for name, value in found[0].items():
            self.close(found[1][name], value, name)

    def test_the_network_and_the_data_are_left_as_they_were(self):
        rule, batch = self.build(), self.batch()
        before = {name: value.clone() for name, value in rule.net.state_dict().items()}
        data, modes = _copy(batch), [part.training for part in rule.net.modules()]
        rule.gradients(batch)
        for name, value in rule.net.state_dict().items():
            assert torch.equal(value, before[name]), f"the rule has changed {name}"
        assert modes == [part.training for part in rule.net.modules()], "training mode has changed"
        for name, value in _copy(batch).items():
            assert torch.equal(value, data[name]), f"the rule has changed {name} of the batch"

    def test_updates_are_as_many_as_it_counts(self):
        rule, batch = self.build(), self.batch()
        made, said = sum(1 for _ in rule.updates(batch)), rule.count(batch)
        assert made == said, f"{made} updates, where count says {said}"

    def test_fit_runs_it(self):
        rule = self.build()
        before = {name: part.clone() for name, part in rule.net.named_parameters()}
        fitted = fit(rule, self.batch(), epochs=2, lr=1e-2, device="cpu", progress=False)
        assert len(fitted.history) == 2, "an epoch is missing"
        for name, part in rule.net.named_parameters():
            moves = part.requires_grad and not name.startswith(self.unused)
            moved = not torch.equal(part, before[name])
            assert moved == moves, f"{name} has {'' if moved else 'not '}changed"


# What suites share ------------------------------------------------------------------------------


def tensors(name: str, value) -> dict[str, Tensor]:
    """What a verb has returned, as tensors: a law by its mode, a belief by mean and variance."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, Distribution):
        with torch.no_grad():
            return {name: value.mode}
    return {f"{name}.{part}": getattr(value, part) for part in ("mean", "variance")}


def shaped(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Fails where a tensor has another shape."""
    found = tuple(value.shape)
    assert found == tuple(shape), f"{what} has the shape {found}, not {tuple(shape)}"


def ragged(batch: Batch) -> Batch:
    """The same sequences cut to unequal lengths, one of them to a single step."""
    mask = _lengths(*batch.obs.shape[:2])
    return dataclasses.replace(batch, mask=mask.to(batch.obs.device))


def _lengths(rows: int, steps: int) -> Tensor:
    """A mask ``[B, T]`` of lengths from 1 to T."""
    lengths = torch.linspace(steps, 1, rows).round()
    return torch.arange(steps) < lengths[:, None]


def same_average(first: Tensor, second: Tensor, what: str) -> None:
    """Fails where draws ``[k, ...]`` of two kinds differ on average."""
    error = (first.var(0) / len(first) + second.var(0) / len(second)).sqrt()
    off, slack = (first.mean(0) - second.mean(0)).abs(), 1e-5 * (1 + first.mean(0).abs())
    assert (off < ERRORS * error + slack).all(), f"{what}: by {off.max():.4g}"


def refuses(call: Callable, pattern: str, what: str) -> None:
    """Fails unless a call raises a ValueError whose message is a sentence and holds a pattern."""
    try:
        call()
    except ValueError as error:
        said = str(error)
        assert re.search(pattern, said), f"{what}: the message has no {pattern!r}: {said}"
        assert len(said.split()) > 3, f"{what}: the message is no sentence: {said}"
    else:
        raise AssertionError(f"{what}: taken without a complaint")


def check_gradients(
    rule: LearningRule, batch: Batch, frames: int, spared: tuple[str, ...] = ()
) -> None:
    """Fails unless a rule fills the gradients of its network and tells its loss and frames."""
    metrics = rule.gradients(batch)
    for name, value in metrics.items():
        assert value.numel() == 1, f"{name} is no scalar"
        assert not value.requires_grad, f"{name} carries a graph: detach it"
    assert metrics["loss"].isfinite(), "the loss is not finite"
    assert metrics["frames"] == frames, f"{rule}: {metrics['frames']:g} frames, not {frames}"
    _check_reached(rule.net, spared)


def _check_reached(net: nn.Module, spared: tuple[str, ...] = ()) -> None:
    for name, parameter in net.named_parameters():
        if name.startswith(spared) or not parameter.requires_grad:
            assert parameter.grad is None, f"{name} should have no gradient"
            continue
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert parameter.grad.any(), f"the gradient of {name} is zero: is it used? are units dead?"


def _copy(batch: Batch) -> dict[str, Tensor]:
    parts = {part.name: getattr(batch, part.name) for part in dataclasses.fields(batch)}
    return {name: value.clone() for name, value in parts.items() if value is not None}
