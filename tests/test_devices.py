"""Every tensor that the package makes is made on a device that someone chose.

The test reads the calls of ``torch.zeros`` and the like in ``data/``, ``inference/`` and ``zoo/``.
A call passes where

- it names a ``device``, or hands on keywords (``**like``) that name one;
- it draws from a generator: data and splits are the same on every device, and are moved later;
- its result is moved in the same expression, by ``.to``;
- it makes a number, of shape ``()``, which torch mixes with tensors anywhere;
- it is in a constructor: ``net.to(device)`` moves what is made there.

Any other call is listed in ``ON_THE_CPU``, with the reason. Not covered: ``inference/testing``,
whose data are the CPU's; tensors that libraries make; constructors that are called by another name.
Whether a tensor on the CPU meets one elsewhere is the matter of ``tests/test_second_device.py``.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKERS = {
    *("zeros", "ones", "empty", "full", "tensor", "as_tensor", "from_numpy", "eye"),
    *("arange", "linspace", "logspace", "tril_indices", "triu_indices"),
    *("rand", "randn", "randint", "randperm"),
}

DRAWN = "a synthetic data set draws on the CPU and moves what it has drawn"
INDEX = "rows of a data set, whose tables are on the CPU or take an index from there"
NUMPY = "the values come from numpy or Python, and the result is the CPU's"
RESULT = "scores are the CPU's"
BUILT = "a part of a network that is being built"
ON_THE_CPU = {
    "data/balls.py: _trajectories": DRAWN,
    "data/balls.py: _starts": DRAWN,
    "data/batch.py: collate": "lengths; the mask is moved to the frames",
    "data/loader.py: Loader._serve": INDEX,
    "data/midi.py: _read": "a file is read on the CPU, and a data set moves it",
    "data/moving_mnist.py: _trajectories": DRAWN,
    "data/one_to_many.py: conditional_entropy": "a number from numerical integration",
    "data/one_to_many.py: _curves": DRAWN,
    "data/polyphonic.py: check_roll": "a data set moves the rolls of the user",
    "data/polyphonic.py: _cut": "a table of pieces, which is moved as a whole",
    "data/ppc.py: ": "constants of the process, which `.to` brings to the data",
    "data/recordings/recording.py: Recording.lengths": "a recording is on the CPU",
    "data/recordings/recording.py: Recording.rows": "a recording is on the CPU",
    "data/recordings/recording.py: _trials": "a recording is on the CPU",
    "inference/conditional_smc.py: evidence_of_noise": "a logarithm, taken as a number of Python",
    "inference/diagnostics/alignment.py: target_alignment": NUMPY,
    "inference/diagnostics/calibration.py: calibration_error": NUMPY,
    "inference/diagnostics/chains.py: convergence": NUMPY,
    "inference/diagnostics/psis.py: smooth_weights": NUMPY,
    "inference/diagnostics/sbc.py: SBC._tests": NUMPY,
    "inference/diagnostics/values.py: as_tensor": NUMPY,
    "inference/linear/fast.py: run": "the compiled filter runs on the CPU",
    "inference/linear/subspace.py: identify": "decompositions of small matrices, on the CPU",
    "inference/path_filter.py: thinned": "indices, made on the CPU alike for all devices and moved",
    "inference/training/fingerprint.py: digest": "indices, made alike for all devices and moved",
    "inference/training/fingerprint.py: _values": NUMPY,
    "zoo/models/baselines.py: Memoryless.initial": "it has no values",
    "zoo/models/rvae.py: _near_identity": BUILT,
    "zoo/part.py: tensor": "an argument, read from a card",
    "zoo/parts/likelihoods/mixture.py: GaussianMixture.initialise": BUILT,
    "zoo/parts/likelihoods/traces.py: _each": BUILT,
    "zoo/parts/nets.py: set_output_mean": BUILT,
    "zoo/pictures/neurons.py: plot_neurons": NUMPY,
    "zoo/recipes/neurons.py: score": RESULT,
    "zoo/recipes/neurons.py: _tensor": NUMPY,
    "zoo/recipes/one_to_many.py: score": f"{INDEX}; {RESULT}",
    "zoo/recipes/task.py: Task.measure": RESULT,
    "zoo/recipes/task.py: device_of": "asks for the default device",
    "zoo/recipes/windows.py: score": f"{INDEX}; {RESULT}",
    "zoo/recipes/windows.py: write_samples": "which columns a picture shades",
    "zoo/runs/recording_recipes.py: _score": RESULT,
    "zoo/studies/kl.py: measure_kl": "it measures on the CPU",
    "zoo/studies/roofline.py: roofline": "it measures on the CPU",
    "zoo/studies/roofline.py: updates": "it measures on the CPU",
    "zoo/studies/tracking/motion.py: check_film": "tracking runs on the CPU",
    "zoo/studies/tracking/motion.py: check_paths": "tracking runs on the CPU",
}


def unplaced(source):
    """The calls of a source that name no device: ``(qualified name of the function, line)``."""
    found = []

    def walk(node, where):
        for child in ast.iter_child_nodes(node):
            if _makes(child) and not _placed(child, node, where):
                found.append((".".join(where), child.lineno))
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            walk(child, [*where, child.name] if named else where)

    walk(ast.parse(source), [])
    return found


def _makes(node):
    """Whether a node is a call such as ``torch.zeros(..)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return ast.unparse(node.func.value) == "torch" and node.func.attr in MAKERS


def _placed(call, parent, where):
    keywords = {keyword.arg for keyword in call.keywords}  # that of `**like` is None
    number = bool(call.args) and ast.unparse(call.args[0]) == "()"
    moved = isinstance(parent, ast.Attribute) and parent.attr == "to"
    return bool(keywords & {"device", "generator", None}) or number or moved or "__init__" in where


def test_the_package_makes_no_tensor_without_a_device():
    files = [path for name in ("data", "inference", "zoo") for path in (ROOT / name).rglob("*.py")]
    found = {}
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("inference/testing/"):
            for function, line in unplaced(path.read_text()):
                found.setdefault(f"{name}: {function}", []).append(line)
    new = {where: lines for where, lines in found.items() if where not in ON_THE_CPU}
    assert not new, "give the tensor a device, or list it here with the reason"
    assert not set(ON_THE_CPU) - set(found), "these are listed, and make no such tensor any more"


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("def f(x): return torch.zeros(3)", False),
        ("def f(x): return torch.zeros(3, device=x.device)", True),
        ("def f(x): return torch.zeros(3, **like(x))", True),
        ("def f(x): return torch.zeros(3).to(x)", True),
        ("def f(x): return torch.zeros(3).sum()", False),
        ("def f(x): return torch.zeros(())", True),
        ("def f(x): return torch.randn(3, generator=g)", True),
        ("def f(x): return torch.randn(3)", False),
        ("class A:\n    def __init__(self): self.w = torch.ones(3)", True),
        ("class A:\n    def step(self): return torch.ones(3)", False),
    ],
)
def test_a_call_without_a_device_is_found(source, passes):
    assert (unplaced(source) == []) == passes
