"""Linear dynamical systems: Kalman filter and smoother, expectation-maximisation, counts.

``system``
    parameters, readings and beliefs; ``checks`` of them
``kalman``
    filter and smoother, in PyTorch; ``fast`` and ``kernel``: the same by numba
``chain``, ``distribution``
    paths of states, and frames with the states summed out, as distributions
``m_step``, ``starts``, ``subspace``
    the M step, and systems to start from
``sites``, ``poisson``
    frames that are not Gaussian: counts, with exp(C x_t + d) as their mean
"""
