"""The loss on validation data: which epoch of a run is kept."""

from __future__ import annotations

from torch import nn

from ...data import Batch
from ...inference import SequenceModel, elbo, score
from ...inference.contracts import Network

DRAWS = 8  # samples of a prediction while validating


def validation_loss(net: nn.Module, batch: Batch) -> float:
    """What training lowers on validation data: nats a frame, or minus the score of the next bin.

    Sequence models have a bound. Of models of single frames the loss is no measure, since it
    depends on statistics that they choose themselves, so that predictions are scored.
    """
    assert isinstance(net, Network)
    batch = batch.to(next(net.parameters()).device)
    if isinstance(net, SequenceModel):
        return -float(elbo(net, batch).sum()) / batch.frames
    return -score(net, batch, "next", num_samples=DRAWS)
