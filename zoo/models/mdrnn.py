"""The mixture-density recurrent network: an ``SRN`` whose output is a mixture of k Gaussians.

    p(y | x_{1:T}) = sum_i pi_i N(y; mu_i, sigma_i^2),
    pi = softmax(W_pi h_T + b_pi),  mu = W_mu h_T + b_mu,  sigma = exp(W_sigma h_T + b_sigma)

Sources: Bishop, "Mixture density networks" (1994); Manchev & Spratling, "Learning multi-modal
recurrent neural networks with target propagation" (2024), section 4, equations 8 to 13.
"""

from __future__ import annotations

from ..parts.initialisers import Initialiser
from ..parts.likelihoods import GaussianMixture
from .srn import SRN


class MDRNN(SRN):
    """p(y | x_{1:T}), a mixture; by default with the deterministic tanh units of the paper.

    Arguments:
        inputs: values of an input frame, ``I``.
        outputs: values of an output, ``D``.
        components: ``k``.
        hidden, stochastic, nonlinearity, inverse, every_step, initialiser: see ``SRN``.
        spread: the components begin side by side between these two numbers; where they begin as
            one, two of them may never part.

    Raises:
        ValueError: for a number out of range, or an unknown activation.

    Example:
        >>> MDRNN(1, components=3).log_prob(torch.zeros(2, 5, 1), torch.zeros(2, 1)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        components: int = 3,
        hidden: int = 50,
        stochastic: float = 0.0,
        nonlinearity: str = "tanh",
        inverse: str | None = None,
        every_step: bool = False,
        initialiser: Initialiser | None = None,
        spread: tuple[float, float] = (0.0, 1.0),
    ):
        output = GaussianMixture(outputs, components)
        how = stochastic, nonlinearity, inverse, every_step, initialiser
        super().__init__(inputs, output, hidden, *how)
        output.initialise(self.readout, *spread)
