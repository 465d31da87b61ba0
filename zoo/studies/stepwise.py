"""A VRAE with one Pyro site a time step, as in many example scripts: the baseline of a benchmark.

It has the networks and the distribution of a ``VRAE`` with a Gaussian guide. Its sites are
z_0 .. z_{T-1} and x_0 .. x_{T-1}, sampled in turn, in place of one path and all of its frames. Its
recurrent layers are torch's own.
"""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch
from ...inference import LearningRule
from ...inference.contracts import Encoding, SequenceModel
from ...inference.rules.rule import Metrics
from ..models.vrae import VRAE
from ..parts import recurrent
from ..parts.decoders import CausalDecoder
from ..parts.likelihoods.likelihood import seen_part
from ..parts.path_guides import Autoregressive


class StepwiseVRAE(SequenceModel, PyroModule):
    """The Pyro pair of a VRAE, site by site.

    Arguments:
        net: a VRAE with a ``CausalDecoder`` of innovations, whose prior and guide are
            ``LinearChain`` distributions. It is copied.

    Raises:
        ValueError: for any other.
    """

    takes_missing = True
    net: VRAE

    def __init__(self, net: VRAE) -> None:
        super().__init__()
        causal = isinstance(net.decoder, CausalDecoder) and net.stepped
        if not causal or isinstance(net.recognition, Autoregressive):
            raise ValueError("a VRAE of single steps needs a CausalDecoder and a Gaussian guide")
        if net.input_dim:
            raise ValueError("a VRAE of single steps takes no inputs: give one with input_dim=0")
        self.net = with_torch_layers(net)

    def model(self, encoding: Encoding) -> None:
        """The generative model."""
        net, mask, decoder = self.net, encoding.mask, self.net.decoder
        assert isinstance(decoder, CausalDecoder)  # checked above
        prior, memory = net.prior(mask), decoder.memory.initial(encoding.rows)
        before = self._start(mask)
        with pyro.plate("sequences", encoding.rows):
            for t in range(mask.shape[1]):
                mean, scale = prior.propose(t, before, memory)
                now = self._step(t, mean, scale, mask)
                taken = decoder.take((now - mean) / scale, decoder.memory.output(memory))
                memory = decoder.memory.step(taken, memory)
                natural = decoder.emit(decoder.memory.output(memory), taken)
                seen = None if encoding.observed is None else encoding.observed[:, t]
                frame = seen_part(net.likelihood.distribution(natural), seen).mask(mask[:, t])
                pyro.sample(f"x_{t}", frame, obs=encoding.obs[:, t])
                before = now

    def guide(self, encoding: Encoding) -> None:
        """The recognition model."""
        with pyro.plate("sequences", encoding.rows):
            before = self._start(encoding.mask)
            for t in range(encoding.mask.shape[1]):
                mean, scale = encoding.belief.propose(t, before)
                before = self._step(t, mean, scale, encoding.mask)

    def _start(self, mask: Tensor) -> Tensor:
        return mask.new_zeros(len(mask), self.net.latent_dim, dtype=torch.float32)

    def _step(self, t: int, mean: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
        step = dist.Normal(mean, scale, validate_args=False).to_event(1)
        return pyro.sample(f"z_{t}", step.mask(mask[:, t]))


def with_torch_layers(net: VRAE) -> VRAE:
    """A copy of a network whose recurrent layers run in torch alone, without kernels."""
    net = copy.deepcopy(net)
    for part in net.modules():
        if isinstance(part, recurrent.GRU | recurrent.RNN):
            plain = nn.GRU if isinstance(part, recurrent.GRU) else nn.RNN
            part.__class__ = plain  # pyright: ignore[reportAttributeAccessIssue]
    return net


class StepwiseELBO(LearningRule):
    """Pyro's own mean-field ELBO of a ``StepwiseVRAE``."""

    net: StepwiseVRAE

    def __init__(self, net: StepwiseVRAE) -> None:
        super().__init__(net)
        self.elbo = TraceMeanField_ELBO()

    def gradients(self, batch: Batch) -> Metrics:
        self.net.zero_grad(set_to_none=True)
        encoding = self.net.net.prepare(batch)
        loss = self.elbo.differentiable_loss(self.net.model, self.net.guide, encoding)
        loss = loss / batch.frames
        loss.backward()
        return {"loss": loss.detach(), "frames": batch.observed_frames.sum().to(loss.dtype)}
