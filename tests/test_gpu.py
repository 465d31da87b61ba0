"""The script of ``make gpu``: its own logic, on the CPU, and its jobs on tiny sizes."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from seqzoo.zoo import recipes
from seqzoo.zoo.recipes import find
from seqzoo.zoo.runs import processes
from seqzoo.zoo.runs.processes import JobFailed
from seqzoo.zoo.studies import bench

from seqzoo import inference

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "gpu"


def script(name):
    """A file of the folder, as it imports itself."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run():
    yield script("run")
    del sys.modules["run"]


@pytest.fixture
def measure(run):
    yield script("measure")
    del sys.modules["measure"]


def row(**values):
    return f"print('ROW {json.dumps(values)}', flush=True)"


def results(folder):
    return json.loads((folder / "results.json").read_text())["jobs"]


def test_a_run_keeps_what_was_measured_however_a_job_ends(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "GRACE", 1.0)

    def job(name, limit, *lines, **more):
        return run.Job(name, [sys.executable, "-S", "-c", ";".join(lines)], limit, **more)

    slow = "import time; time.sleep(60)"
    stages = [
        [job("good", 20, row(T=3, ms=0.123456), row(T=4, ms=2.0)), job("beside", 20, row(a=1))],
        [job("failing", 20, row(a=2), "print('a | reason'); raise SystemExit(3)")],
        [job("slow", 0.5, row(a=3), slow), job("part", 0.5, row(a=4), slow, partial=True)],
    ]
    assert run.run(stages, tmp_path, 60, {"gpu": "a card"}) == 1
    found = results(tmp_path)
    assert {name: each["status"] for name, each in found.items()} == {
        "good": "done",
        "beside": "done",
        "failing": "failed with exit status 3",
        "slow": "stopped after 0.5 s",
        "part": "stopped after 0.5 s",
    }
    assert [len(each["rows"]) for each in found.values()] == [2, 1, 1, 1, 1]
    assert "a | reason" in (tmp_path / "logs" / "failing.log").read_text()
    page = (tmp_path / "results.md").read_text()
    assert "gpu: a card" in page
    assert "| T | ms |\n| --- | --- |\n| 3 | 0.1235 |\n| 4 | 2 |\n" in page

    again = [[job("failing", 20, row(a=5))], [job("late", 20, row(a=6))]]
    assert run.run(again[:1], tmp_path, 60, {"gpu": "a card"}) == 0
    assert results(tmp_path)["failing"]["rows"] == [{"a": 5}]
    assert results(tmp_path)["good"] == found["good"]  # results of other jobs stay
    run.run(again[1:], tmp_path, 0, {"gpu": "a card"})
    assert results(tmp_path)["late"]["status"] == "not begun: no time was left"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_leaves_its_results_and_no_process(number, tmp_path):
    """Of two jobs one ignores a polite end; both watch their parent."""
    path = f"import sys; sys.path.insert(0, {str(FOLDER)!r})"
    child = f"{path}; import measure, os, time; measure.POLL = 0.1; measure.obey_parent(); "
    child += "print('ROW ' + measure.json.dumps({'pid': os.getpid()}), flush=True); time.sleep(60)"
    jobs = [[sys.executable, "-c", child], [sys.executable, "-c", child]]
    code = (
        f"{path}; import pathlib, run; run.GRACE = 1.0; "
        f"stage = [run.Job(str(n), c, 60) for n, c in enumerate({jobs!r})]; "
        f"sys.exit(run.run([stage], pathlib.Path({str(tmp_path)!r}), 60, {{}}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        deadline, pids = time.monotonic() + 60, []
        while len(pids) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            if (tmp_path / "results.json").is_file():
                rows = [row for job in results(tmp_path).values() for row in job["rows"]]
                pids = [row["pid"] for row in rows]
        process.send_signal(number)
    assert process.returncode == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    left = {"running"} if number == signal.SIGKILL else {"stopped by hand"}
    assert {job["status"] for job in results(tmp_path).values()} == left
    while any(Path(f"/proc/{pid}").exists() and not _zombie(pid) for pid in pids):
        assert time.monotonic() < deadline, "a job outlived its run"
        time.sleep(0.1)


def _zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_without_a_gpu_the_script_says_so(tmp_path):
    (tmp_path / "torch.py").write_text(
        "__version__ = '3.0'\nclass cuda:\n    def is_available(): return False\n"
    )
    command = [sys.executable, "-B", str(FOLDER / "run.py"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"This machine has no GPU .*\.\n", done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_bare_machine_gets_the_packages_of_the_tree(run, tmp_path):
    places = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    before = sorted((ROOT / "seqzoo").iterdir())
    run._link(tmp_path, places["package-dir"])
    for name, place in places["package-dir"].items():
        module = tmp_path.joinpath(*name.split("."), "__init__.py")
        assert module.resolve() == ROOT / place / "__init__.py"
    assert sorted((ROOT / "seqzoo").iterdir()) == before


# The jobs ----------------------------------------------------------------------------------------


def test_every_rule_has_a_training_and_films_exist(run, measure):
    jobs = script("jobs")
    trained = {find(name).rule.name for name in jobs.TRAININGS}
    exported = [getattr(inference, name) for name in inference.__all__]
    rules = {
        each.__name__
        for each in exported
        if isinstance(each, type) and issubclass(each, inference.LearningRule)
    }
    simple = {"LearningRule", "FoldedRule", "ClosedForm", "Average"}  # bases, and a mean
    assert trained == rules - simple
    assert all(find(name).rule is not None for name in jobs.FILMS)
    stages = jobs.stages("cuda", Path("out"))
    alone = [stage[0].limit for stage in stages if len(stage) == 1]
    assert sum(alone) < 480 - 60  # something is left for trainings and films
    for job in (job for stage in stages for job in stage):
        assert job.command[2] in measure.WORK
        assert job.command[3] == "cuda"


@pytest.fixture
def rows(measure, monkeypatch):
    """Runs a job and gives its results."""

    def of(name, *arguments):
        found = []
        monkeypatch.setattr(measure, "emit", lambda **row: found.append(row))
        measure.WORK[name]("cpu", *arguments)
        return found

    return of


def test_a_result_has_a_line_of_its_own(measure, capsys):
    measure.emit(a=0.1234567)
    assert capsys.readouterr().out == '\nROW {"a": 0.12346}\n'


@pytest.mark.slow
def test_a_job_measures_the_local_rule(rows, in_process, monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 0.0)
    base, local = rows("local", "20", "2")
    assert (base["rule"], local["rule"]) == ("BPTT", "LocalELBO")
    assert base["times_BPTT"] == 1
    assert local["over_fold"] > 0
    base, online = rows("online", "20", "2")
    assert online["ms"] == pytest.approx(20 * online["ms_an_update"])


@pytest.mark.filterwarnings("ignore:fit made")
def test_a_job_trains_a_recipe(rows, monkeypatch):
    small = find("onetomany-class-t20/stptt").override({"data.sequences": 6, "model.hidden": 4})
    monkeypatch.setattr(recipes, "find", lambda name: small)
    found = rows("train", "onetomany-class-t20/stptt", "1")
    assert [each["turn"] for each in found] == ["first", "warm"]
    assert found[0]["loss"] == found[1]["loss"]  # the same seed


def test_a_job_evaluates_models(rows, monkeypatch):
    def here(jobs, at_a_time, done):
        for name, (function, arguments) in jobs.items():
            done(name, function(*arguments) if name == "ppc/kf2" else JobFailed("a reason"))

    monkeypatch.setattr(processes, "in_processes", here)
    good, bad = rows("evaluate", "ppc/kf2", "ppc/rvae")
    assert good["found"] == pytest.approx(good["card"], rel=0.1)
    assert bad == {"model": "ppc/rvae", "failed": "a reason"}


def test_a_job_names_tests_that_fail(rows, tmp_path):
    page = tmp_path / "test_some.py"
    page.write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2\n")
    found = rows("tests", str(page))
    assert found[0]["failed"].endswith("test_bad")
    assert found[1] == {"passed": 1, "failed": 1, "skipped": 0}


@pytest.mark.gpu
def test_synchronisations_are_counted(measure):
    torch.zeros(1, device="cuda")
    assert measure.waits("ppc/refh", "cuda") >= 0
    assert measure.waits("ppc/kf2", "cuda") is None


def test_wheels_are_of_the_versions_that_are_tested():
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    versions = {line.partition(" ;")[0] for line in pinned}
    wanted = [x for x in (FOLDER / "packages.txt").read_text().splitlines() if x[:1] != "#"]
    assert wanted
    assert set(wanted) <= versions
