"""Tests of models of any kind."""

from __future__ import annotations

import dataclasses
import itertools
import unittest
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ..contracts import Recurrent
from ..evaluate import log_weights, prepare_whole
from ..inputs import at, inputs_of, keyword
from ..rng import RandomStream
from ..rules.rule import LearningRule
from ..sweep import sweep
from ..training.loop import fit
from .checks import check_gradients, lacking, ragged, refuses, same_average, shaped, tensors
from .suite import Conformance


class ModelConformance(Conformance):
    """Tests of every model. Inherit the class of its kind instead of this one."""

    rules: tuple[Callable[[Any], LearningRule], ...] = ()  #: rules that train the model
    factorisation = "p("  #: text that the model's ``repr`` must contain
    constant: tuple[str, ...] = ("filter.variance",)  #: outputs that may not depend on the data
    epochs, lr, clip = 25, 0.03, 5.0  #: arguments of ``fit`` in the test of training
    improvement = 0.05  #: fraction of the loss that this training must remove

    # To override --------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """At least 3 different sequences of at least 6 steps, unpadded.

        They have a target, or inputs, where the model needs them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define batch()")

    def methods(self, net: Any) -> dict[str, Callable[[BatchLike], Any]]:
        """The model's methods that take a ``Batch``, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define methods(net)")

    def outputs(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        """All outputs for a batch that need no random number, ``[B, ...]`` each."""
        found = {}
        for name, method in self.methods(net).items():
            found |= tensors(name, method(batch))
        return found

    def samples(self, net: Any, seed: int) -> dict[str, Tensor]:
        """All random outputs for a seed."""
        raise NotImplementedError(f"{type(self).__name__} must define samples(net, seed)")

    def untrained(self, rule: LearningRule) -> tuple[str, ...]:
        """Prefixes of the names of parameters that a rule does not train."""
        return ()

    def frames(self, net: Any, batch: Batch) -> int:
        """The number that a rule reports as ``frames``."""
        return batch.frames

    def loss(self, rule: LearningRule, batch: Batch) -> float:
        """The value that training must lower: the rule's loss, averaged over three samples."""
        torch.manual_seed(0)
        return sum(float(rule.gradients(batch)["loss"]) for _ in range(3)) / 3

    def bad_observations(self, obs: Tensor) -> dict[str, tuple[Tensor, str]]:
        """Observations that the model must refuse, each with a pattern for the error message."""
        width = obs.shape[-1]
        return {
            "a value too many": (torch.cat((obs, obs[..., :1]), -1), str(width)),
            "a value too few": (obs[..., 1:], f"{width}|empty"),
        }

    def problems(self) -> list[str]:
        """Sentences about what is missing, and about rules that refuse the model."""
        found = super().problems()
        for rule_of in self.rules:
            try:
                rule_of(self.build())
            except ValueError as error:
                found.append(str(error))
        return found

    # The tests ----------------------------------------------------------------------------------

    def test_outputs_are_finite_and_have_no_graph(self) -> None:
        net, batch = self._built(), self._data()
        for name, value in self.outputs(net, batch).items():
            assert len(value) == len(batch), f"{name} has {len(value)} rows for {len(batch)}"
            assert value.isfinite().all(), f"{name} is not finite"
            assert not value.requires_grad, f"{name} carries a graph: use torch.no_grad"

    def test_padding_changes_nothing(self) -> None:
        net, batch = self._built(), self._data()
        expected = self.outputs(net, batch)
        for name, value in self.outputs(net, self._padded(net, batch)).items():
            same_shape = value.shape == expected[name].shape
            found = value if same_shape else value[:, : batch.obs.shape[1]]
            self.close(found, expected[name], name)

    def test_sequences_do_not_mix(self) -> None:
        net, batch = self._built(), self._data()
        for data in (batch, ragged(batch)):
            whole = self.outputs(net, data)
            others = data.obs.roll(1, 0)
            others[1] = data.obs[1]
            changed = self.outputs(net, dataclasses.replace(data, obs=others))
            for name, value in self.outputs(net, data.rows(slice(1, 2))).items():
                self.close(whole[name][1:2], value, f"{name} of a sequence on its own")
                self.close(changed[name][1:2], value, f"{name} beside other sequences")
                same = torch.allclose(changed[name], whole[name]) and name not in self.constant
                assert not same, f"{name} does not depend on the data: are the sequences alike?"

    def test_training_mode_changes_no_output(self) -> None:
        net, batch, found = self._built(), self._data(), []
        for mode in (False, True):
            net.train(mode)
            found.append(self.outputs(net, batch) | self.samples(net, seed=1))
        for name, value in found[1].items():
            self.close(value, found[0][name], name)

    def test_saved_and_loaded_it_is_the_same(self) -> None:
        from safetensors.torch import load, save

        net, other, batch = self._built(), self._built(), self._data()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        before, expected = self.outputs(other, batch), self.outputs(net, batch)
        other.load_state_dict(load(save({k: v.contiguous() for k, v in net.state_dict().items()})))
        for name, value in self.outputs(other, batch).items():
            assert torch.equal(value, expected[name]), f"{name} differs after loading"
            learns = list(net.parameters()) and name not in self.constant
            same = learns and torch.equal(before[name], value)
            assert not same, f"{name} does not depend on the parameters"
        samples = self.samples(net, seed=1)
        for name, value in self.samples(other, seed=1).items():
            assert torch.equal(value, samples[name]), f"{name} differs after loading"

    def test_seeds_reproduce_samples(self) -> None:
        net = self._built()
        first = self.samples(net, seed=4)
        torch.manual_seed(1)  # the caller's random state has no influence
        again, other = self.samples(net, seed=4), self.samples(net, seed=5)
        for name, value in first.items():
            assert value.isfinite().all(), f"{name} is not finite"
            assert torch.equal(value, again[name]), f"{name} differs for the same seed"
        same = all(torch.equal(value, other[name]) for name, value in first.items())
        assert not same, "another seed gives the same samples"

    def test_the_callers_random_state_is_left_alone(self) -> None:
        net, batch = self._built(), self._data()
        state = torch.get_rng_state()
        self.outputs(net, batch)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a method without random output used the caller's random state"
        self.samples(net, seed=4)
        untouched = torch.equal(state, torch.get_rng_state())
        assert untouched, "a method with a seed used the caller's random state: see RandomStream"

    def test_gradients_reach_every_parameter(self) -> None:
        net, batch = self._built(), self._data()
        trainable = any(parameter.requires_grad for parameter in net.parameters())
        assert trainable == bool(self.rules), "`rules` must name what trains the parameters"
        before = list(pyro.get_param_store().keys())
        for rule_of, data in itertools.product(self.rules, (batch, ragged(batch))):
            rule = self._rule(rule_of)
            check_gradients(rule, data, self.frames(rule.net, data), self.untrained(rule))
        stored = list(pyro.get_param_store().keys())
        assert stored == before, "rules do not train pyro.param: use nn.Parameter or PyroParam"

    def test_training_lowers_the_loss(self) -> None:
        for rule_of in self.rules:
            rule, batch = self._rule(rule_of), self._data()
            before = self.loss(rule, batch)
            options: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr, "clip": self.clip}
            fit(rule, batch, device="cpu", progress=False, **options)
            after = self.loss(rule, batch)
            less = before - after > self.improvement * abs(before)
            assert less, f"{rule}: the loss went from {before:.4g} to {after:.4g} in {options}"

    def test_the_representation_shows_the_factorisation(self) -> None:
        shown = repr(self._built())
        assert self.factorisation in shown, f"no {self.factorisation!r} in {shown}: see extra_repr"

    def test_bad_observations_get_a_clear_sentence(self) -> None:
        net, batch = self._built(), self._data()
        for what, (obs, pattern) in self.bad_observations(batch.obs).items():
            inputs = None if batch.inputs is None else batch.inputs.to(obs.dtype)
            bad = dataclasses.replace(batch, obs=obs, inputs=inputs)
            for name, method in self.methods(net).items():
                refuses(lambda: method(bad), pattern, f"{name}, {what}")  # noqa: B023

    def test_a_scan_equals_the_loop_over_steps(self) -> None:
        """Of a network with a kernel: a graph is for the loop alone, so that both can run."""
        net, batch = self._built().requires_grad_(True), self._data()
        batches = [batch, ragged(batch), lacking(batch)]
        for dtype, error in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            net.to(dtype)
            for data in batches if net.takes_missing else batches[:2]:
                found = []
                for graph in (False, True):
                    with torch.set_grad_enabled(graph):
                        found.append(self._swept(net, data.to(dtype)))
                most = found[1].abs().max().item()
                torch.testing.assert_close(*found, rtol=error, atol=error * most)

    def test_it_works_on_a_gpu(self) -> None:
        if not torch.cuda.is_available():
            raise unittest.SkipTest("needs a GPU")
        net, batch = self._built(), self._data()
        batches = batch, ragged(batch)
        before = [self.outputs(net, data) for data in batches]
        net.to("cuda")
        for data, expected in zip(batches, before):
            moved = data.to("cuda")
            for name, value in self.outputs(net, moved).items():
                # cuDNN's recurrent nets multiply with ten bits of mantissa
                torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-2, atol=1e-3)
            found = self.samples(net, seed=4)
            for name, method in self.methods(net).items():
                found |= tensors(name, method(moved))
            for name, value in found.items():
                assert value.device.type == "cuda", f"{name} is on another device than the data"
            for rule_of in self.rules:
                loss = self._rule(rule_of, net).gradients(moved)["loss"]
                assert loss.isfinite(), "the loss is not finite"

    # Helpers ------------------------------------------------------------------------------------

    def _swept(self, net: Any, data: Batch) -> Tensor:
        """Statistics of two windows; skips the test of a network without a kernel."""
        if not isinstance(net, Recurrent):
            raise unittest.SkipTest("it carries no statistics")
        first = sweep(net, data.window(0, 3), net.initial(len(data))).statistics
        last = first[:, -1].detach()
        if not torch.is_grad_enabled():
            frames = net.encode(data.obs, **keyword(inputs_of(net, data)))
            if net.scan(frames, last, data.mask) is None:
                raise unittest.SkipTest("it has no kernel")
        second = sweep(net, data.window(3, data.obs.shape[1]), last).statistics
        return torch.cat((first, second), 1).detach()

    def _rule(self, rule_of: Callable[[Any], LearningRule], net: Any = None) -> LearningRule:
        """A rule of a network, by default of a new one; skips the test where it is refused."""
        net = self._built() if net is None else net
        try:
            return rule_of(net)
        except ValueError as error:  # the first test reports it
            raise unittest.SkipTest(str(error)) from error

    def _data(self) -> Batch:
        with RandomStream("cpu", "batch"):  # the same data in every test
            batch = self.batch()
        enough = len(batch) >= 3 and batch.obs.shape[1] >= 6 and bool(batch.mask.all())
        assert enough, "batch() must give at least 3 sequences of at least 6 steps, unpadded"
        return batch

    @torch.no_grad()
    def _same_bounds(self, net: Any, batch: Batch, many: int) -> None:
        """Fails where the Pyro pair scores padding, on average over samples from the guide."""
        found = [
            log_weights(net.model, net.guide, prepare_whole(net, data), many)
            for data in (batch, self._padded(net, batch))
        ]
        message = "padding changes the bound: see the `mask` of Pyro's distributions"
        same_average(found[0], found[1], message)

    def _other_ends(self) -> tuple[Batch, Batch, int]:
        """The data, the data with all ends like that of the first, and where the ends begin."""
        batch = self._data()
        changed, cut = batch.obs.clone(), batch.obs.shape[1] - 3
        changed[:, cut:] = batch.obs[:1, cut:]
        return batch, dataclasses.replace(batch, obs=changed), cut

    def _padded(self, net: Any, batch: Batch) -> Batch:
        """The data with three padded frames at the end."""
        rows, steps = batch.obs.shape[:2]

        def longer(values: Tensor) -> Tensor:
            return torch.cat((values, values.new_full((rows, 3, *values.shape[2:]), torch.nan)), 1)

        mask = (torch.arange(steps + 3) < steps).repeat(rows, 1)
        inputs = None if batch.inputs is None else longer(batch.inputs)
        return Batch(longer(batch.obs), mask, target=batch.target, inputs=inputs)


class GeneratingConformance(ModelConformance):
    """Tests of models that generate sequences, by ``sample(sequences, steps, seed)``."""

    needs = (("sample", "sequences, steps, seed -> random frames"),)

    def samples(self, net: Any, seed: int) -> dict[str, Tensor]:
        given = keyword(self._inputs(net), (slice(2), slice(6)))
        return {"sample": net.sample(sequences=2, steps=6, seed=seed, **given)}

    def _inputs(self, net: Any) -> Tensor | None:
        """The inputs of the data, for a model that reads them."""
        inputs = inputs_of(net, self._data())
        return None if inputs is None else inputs.to(next(net.parameters()).device)

    def test_samples_are_sequences_that_the_model_takes(self) -> None:
        net, batch = self._built(), self._data()
        sample = self.samples(net, seed=4)["sample"]
        shaped(sample, (2, 6, *batch.obs.shape[2:]), "sample")
        assert sample.dtype == batch.obs.dtype, f"sample is {sample.dtype}"
        inputs = at(self._inputs(net), (slice(2), slice(6)))
        for name, value in self.outputs(net, Batch(sample, inputs=inputs)).items():
            assert value.isfinite().all(), f"{name} of a sample is not finite"

    def test_methods_take_tensors_and_lists(self) -> None:
        net, batch = self._built(), self._data()
        if inputs_of(net, batch) is not None:
            raise unittest.SkipTest("it reads inputs, which a tensor of frames lacks")
        for name, method in self.methods(net).items():
            expected = tensors(name, method(batch))
            for data in (batch.obs, list(batch.obs)):
                for part, value in tensors(name, method(data)).items():
                    self.close(value, expected[part], f"{part} of a {type(data).__name__}")

    def _only_past_matters(self, net: Any, name: str) -> None:
        """Fails where an output of a step depends on later frames, or on none."""
        batch, changed, cut = self._other_ends()
        method = self.methods(net)[name]
        before, after = tensors(name, method(batch)), tensors(name, method(changed))
        for part, value in before.items():
            self.close(after[part][:, :cut], value[:, :cut], f"{part} before a change of frames")
            same = torch.allclose(after[part][:, cut:], value[:, cut:])
            assert not same or part in self.constant, f"{part} does not depend on the frames"
