"""What a new process does: help and mistakes wait for no torch, and every class comes back."""

import json
import subprocess
import sys

import torch
from safetensors.torch import load_file

from seqzoo import zoo
from tests.zoo import fresh_process
from tests.zoo import test_saving as saving

#: Modules that only some uses of the package need.
HEAVY = ["accelerate", "arviz", "matplotlib", "numba", "optuna", "pandas", "pynwb", "scipy.stats"]
HEAVY += ["xarray"]
ANSWERED = {
    "list": (0, "0.000562 ± 2e-05 (n=3)"),
    "--help": (0, "seqzoo train"),
    "--version": (0, "seqzoo "),
    "reproduce --help": (0, "--seeds"),
    "study kl --help": (0, "KL"),
    "trian ppc/rvae": (2, "train"),
    "train ppc/rvae --sed 1": (2, "--seed"),
    "train ppc/rvae --seed x": (2, "--seed"),
    "train ppc/rvea": (2, "did you mean ppc/rvae"),
    "evaluate rvae": (2, "balls/rvae"),
    "sample ppc/rvea --out x.png": (2, "ppc/rvae"),
    "diagnose jsb/vrea": (2, "jsb/vrae"),
    "reproduce bals": (2, "did you mean balls?"),
    "search ppc/rvea": (2, "ppc/rvae"),
    "study chains ppc/refh balls/rehf": (2, "balls/refh"),
    "study motion bals": (2, "balls"),
}


def test_a_new_process_answers_without_torch_and_loads_every_class(tmp_path):
    """In one process: to import torch takes seconds."""
    values = {}
    for number, name in enumerate(saving.EXAMPLES):
        net = saving.built(name)
        values[name] = saving.value_of(name, net)
        zoo.save(tmp_path / str(number), net)
    given = json.dumps([*ANSWERED]), json.dumps(HEAVY), str(tmp_path)
    done = subprocess.run(
        [sys.executable, fresh_process.__file__, *given],
        check=True,
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": "", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
    )
    answers, heavy = json.loads(done.stdout)
    for (words, (code, said)), found in zip(ANSWERED.items(), answers):
        assert (words, code, []) == (words, found[0], found[2])
        assert said in found[1]
    assert heavy == []  # once the package itself is imported, torch with it
    found = load_file(tmp_path / "found.safetensors")
    for name, value in values.items():
        assert torch.equal(found[name], value), name
