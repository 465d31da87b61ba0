"""The command line: every verb on a tiny recipe, and what it says when something is wrong."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from seqzoo.data import PPC
from seqzoo.inference.training.errors import REMEDIES
from seqzoo.zoo import catalogue, cli, folders, model_files, store
from seqzoo.zoo.recipes import RECIPES, find, ppc
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs.run import COMMANDS
from typer.testing import CliRunner

from seqzoo import __version__, inference, zoo

DATA = ["data.sequences=2", "data.steps=20"]
TINY = {
    "ppc/refh": [*DATA, "fit.epochs=1", "model.hidden_dim=4"],
    "ppc/rvae": [*DATA, "fit.epochs=1", "model.hidden=8"],
    "ppc/kf1": [*DATA, "rule.iterations=3"],
    "ppc/order0": [],
}
PNG = b"\x89PNG\r\n\x1a\n"


def changes(name):
    return [word for pair in TINY[name] for word in ("--set", pair)]


@pytest.fixture(scope="module", autouse=True)
def short():
    """Scores trajectories of 200 steps in place of 1000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppc, "STEPS", 200)
        yield


@pytest.fixture(scope="module")
def trained(short, tmp_path_factory):
    """Folders of tiny trained models, not to be changed, and what ``train`` said."""
    folders = {}
    for name in TINY:
        folder = tmp_path_factory.mktemp("runs") / "model"
        words = ["train", name, "--seed", "3", "--out", str(folder), *changes(name)]
        result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
        assert result.exit_code == 0
        folders[name] = (folder, result.stdout)
    return folders


STUDIES = ["chains", "motion", "kl", "refit", "particles", "denoise", "impute", "horizon"]
STUDIES += ["settings", "vary", "curves", "alignment"]


# Help -----------------------------------------------------------------------------------------


def verbs():
    command = typer.main.get_command(cli.app)
    found = dict(command.commands)
    groups = {name: found.pop(name).commands for name in ("bench", "study")}
    within = {f"{group} {name}": v for group, verbs in groups.items() for name, v in verbs.items()}
    return {**found, **within}


def test_the_verbs_are_all_there():
    expected = {"list", "train", "reproduce", "search", "demo", "evaluate", "sample", "diagnose"}
    expected |= {"fit"}
    expected |= {f"study {name}" for name in STUDIES}
    expected |= {
        f"bench {what}" for what in ("local", "frames", "music", "target", "peers", "roofline")
    }
    assert verbs().keys() == expected


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_and_every_option_is_explained(verb):
    command = verbs()[verb]
    assert len(command.help) > 20
    assert all(parameter.help for parameter in command.params if parameter.name != "help")
    result = CliRunner().invoke(cli.app, [*verb.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert command.help.splitlines()[0][:60] in result.output


def test_help_alone_shows_where_to_start():
    result = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for words in ("seqzoo demo", "seqzoo train ppc/refh", "seqzoo reproduce ppc"):
        assert words in result.output


# Verbs ----------------------------------------------------------------------------------------


def test_list_shows_every_recipe_with_status_and_published_figure(seqzoo):
    code, out, _ = seqzoo("list")
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading.split() == ["recipe", "status", "obtained", "published", "unit"]
    rows = {line.split()[0]: line for line in lines}
    assert rows.keys() == RECIPES.keys()
    for name, recipe in RECIPES.items():
        published = "-" if recipe.published is None else f"{recipe.published:.3g}"
        assert rows[name].endswith(f" {published}  {recipe.task.unit or recipe.task.metric}")
        assert ("shipped" in rows[name]) == (name in zoo.shipped())


def test_list_shows_what_a_shipped_model_obtained(seqzoo, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path)
    model_files.save_card(tmp_path / "ppc" / "refh.json", {"value": 2.5e-4, "sd": 1.2e-5, "n": 3})
    model_files.save_card(tmp_path / "ppc" / "kf1.json", {"value": 5.6e-4, "sd": None, "n": 1})
    (tmp_path / "ppc" / "refh.safetensors").touch()  # of kf1 the card alone comes along
    _, out, _ = seqzoo("list")
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert rows["ppc/refh"][1:6] == ["shipped", "0.00025", "±", "1e-05", "(n=3)"]
    assert rows["ppc/kf1"][1:4] == ["recipe", "0.00056", "(n=1)"]
    assert rows["ppc/rvae"][1:3] == ["recipe", "-"]


@pytest.mark.parametrize("name", TINY)
def test_train_leaves_a_model_and_says_its_validation_score_alone(name, trained):
    folder, said = trained[name]
    net = zoo.load(folder)
    assert sorted(os.listdir(folder)) == [store.CARD, store.WEIGHTS]
    assert net.card["seed"] == 3
    changed = {path: int(value) for path, value in (pair.split("=") for pair in TINY[name])}
    assert net.card["configuration"] == find(name).override(changed).configuration()
    assert net.card["value"] == pytest.approx(float(ppc.score(net, 3, "test").mean()), rel=1e-6)
    validation = float(ppc.score(net, 3, "validation").mean())
    assert f"{name}: position MSE {validation:.4g} rad² on validation data (seed 3)" in said
    assert f"{net.card['value']:.4g}" not in said  # settings are chosen without the test figure
    assert f"zoo.load({str(folder)!r})" in said


def test_train_chooses_a_folder_by_name_and_seed(seqzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _ = seqzoo("train", "ppc/order0", "--seed", 7)
    assert code == 0
    assert store.load_card(tmp_path / "runs/ppc/order0/seed7/card.json")["seed"] == 7


def test_train_goes_on_from_a_checkpoint_unless_told_not_to(seqzoo, tmp_path, monkeypatch):
    fresh, seen = PPC.fresh, []

    def stopped(self, epoch):
        seen.append(epoch)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        return fresh(self, epoch)

    monkeypatch.setattr(PPC, "fresh", stopped)
    words = ["train", "ppc/tvae", *changes("ppc/rvae"), "--set", "fit.epochs=2", "--out"]
    assert seqzoo(*words, tmp_path / "a")[0] == 130
    assert sorted(os.listdir(tmp_path / "a")) == [folders.MARK, "checkpoint.pt"]
    assert seqzoo(*words, tmp_path / "a")[0] == 0
    assert seen == [0, 1, 1]
    seen.clear()
    assert seqzoo(*words, tmp_path / "b")[0] == 130
    assert seqzoo(*words, tmp_path / "b", "--fresh")[0] == 0
    assert seen == [0, 1, 0, 1]
    a, b = ((tmp_path / x / store.WEIGHTS).read_bytes() for x in "ab")
    assert a == b


def test_a_run_stopped_by_hand_says_how_to_go_on(seqzoo, tmp_path, monkeypatch):
    def stopped(self, epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(PPC, "fresh", stopped)
    code, _, error = seqzoo("train", "ppc/rvae", "--out", tmp_path, *changes("ppc/rvae"))
    assert code == 130
    assert "seqzoo: stopped; give the same command again to go on" in error


@pytest.mark.parametrize("name", TINY)
def test_evaluate_prints_one_json_object(name, trained, seqzoo):
    folder, _ = trained[name]
    code, out, error = seqzoo("evaluate", folder, "--seed", 5, "--json")
    assert (code, error) == (0, "")
    result = json.loads(out)
    assert {"name", "metric", "unit", "value", "sd", "n_sequences", "seed"} <= result.keys()
    scores = ppc.score(zoo.load(folder), 5, "test")
    assert result["value"] == pytest.approx(float(scores.mean()), rel=1e-6)
    assert result["sd"] == pytest.approx(float(scores.std()), rel=1e-6)
    assert math.isfinite(result["value"])
    told = [result[key] for key in ("name", "metric", "unit", "n_sequences", "seed")]
    assert told == [name, "position MSE", "rad²", 40, 5]


def test_evaluate_scores_a_row_that_needs_no_training(seqzoo):
    code, out, _ = seqzoo("evaluate", "ppc/kf-true", "--json")
    assert code == 0
    assert json.loads(out)["value"] == pytest.approx(1.41e-4, rel=0.1)


def test_evaluate_speaks_in_a_sentence(trained, seqzoo):
    folder, _ = trained["ppc/kf1"]
    card = zoo.load(folder).card
    _, out, _ = seqzoo("evaluate", folder, "--seed", 3)
    assert out.startswith(f"ppc/kf1: position MSE {card['value']:.4g} rad² (sd ")
    assert out.endswith("over 40 test sequences, seed 3)\n")


def test_reproduce_keeps_finished_runs(seqzoo, in_process, tmp_path):
    words = ["reproduce", "ppc", "--only", "ppc/kf1", "--jobs", 1, "--out", tmp_path]
    words += changes("ppc/kf1")
    code, out, _ = seqzoo(*words, "--seeds", 1)
    assert code == 0
    runs = tmp_path / ",".join(sorted(TINY["ppc/kf1"])) / "ppc/kf1"
    weights = runs / "seed0" / store.WEIGHTS
    before = weights.stat().st_mtime_ns
    assert "kept" not in out

    code, out, _ = seqzoo(*words, "--seeds", 2)
    assert code == 0
    assert out.count("kept from") == 1
    assert weights.stat().st_mtime_ns == before
    values = [store.load_card(runs / f"seed{s}/card.json")["value"] for s in (0, 1)]
    row = next(line for line in out.splitlines() if line.startswith("KF-1")).split()
    mean, spread = np.mean(values), np.std(values, ddof=1)
    assert row[1:6] == [f"{mean:.3g}", "±", f"{spread:.2g}", "2", "0.00058"]

    code, out, _ = seqzoo(*words, "--seeds", 1, "--set", "rule.restarts=2")
    assert "kept" not in out
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("file", "content"),
    [(store.CARD, b"{"), (store.CARD, b"[]"), (store.WEIGHTS, None)],
    ids=["cut card", "foreign card", "no weights"],
)
def test_reproduce_runs_damaged_rows_again(file, content, seqzoo, in_process, tmp_path):
    words = ["reproduce", "ppc", "--only", "ppc/kf1", "--seeds", 1, "--out", tmp_path]
    words += changes("ppc/kf1")
    seqzoo(*words)
    path = next(tmp_path.glob("*/ppc/kf1/seed0")) / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, out, _ = seqzoo(*words)
    assert code == 0
    assert "kept" not in out
    assert zoo.load(path.parent).card["seed"] == 0


def test_reproduce_prints_rows_side_by_side(seqzoo, in_process, tmp_path):
    only = ["--only", "ppc/order0", "--only", "kf1"]  # the table says the rest of a name
    words = ["reproduce", "ppc", *only, "--seeds", 1, "--jobs", 1, "--out", tmp_path]
    code, out, _ = seqzoo(*words, *changes("ppc/kf1"))
    assert code == 0
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert rows["order 0"][-4] == "1"
    assert float(rows["order 0"][2]) == pytest.approx(11.8e-4, rel=0.05)
    assert math.isfinite(float(rows["KF-1"][1]))
    assert "Abdulsalam & Makin (2023), Table 1" in out
    code, out, _ = seqzoo(*words, *changes("ppc/kf1"))
    assert out.count("kept from") == 2


def test_reproduce_leaves_a_gap_where_a_run_failed(seqzoo, in_process, tmp_path, monkeypatch):
    run = reproduce.run

    def fail(recipe, seed, *rest, **options):
        if recipe.name == "ppc/kf1" or (recipe.name, seed) == ("ppc/order0", 0):
            raise ValueError("the loss is nan")
        return run(recipe, seed, *rest, **options)

    monkeypatch.setattr(reproduce, "run", fail)
    only = ["--only", "kf1", "--only", "order0", "--ship", tmp_path / "shipped"]
    code, out, error = seqzoo("reproduce", "ppc", *only, "--seeds", 2, "--out", tmp_path)
    assert code == 1
    assert error.startswith("seqzoo: 3 of 4 runs failed")
    assert out.count(": failed: the loss is nan") == 3
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert rows["KF-1"][1:3] == ["-", "0"]
    assert rows["order 0"][3] == "1"
    assert not (tmp_path / "shipped").exists()


@pytest.mark.parametrize("name", ["ppc/rvae", "ppc/kf1"])
def test_sample_writes_arrays(name, trained, seqzoo, tmp_path):
    arrays = []
    for number, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{number}.npz"
        code, out, _ = seqzoo("sample", trained[name][0], "--out", path, "--seed", seed)
        assert (code, out) == (0, f"wrote {path}\n")
        with np.load(path) as file:
            arrays.append(file["obs"])
            assert file["position"].shape == (4, 400)
    first, again, other = arrays
    assert first.shape == (4, 400, 15)
    assert np.array_equal(first, np.abs(first.round()))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sample_draws_a_picture(trained, seqzoo, tmp_path):
    path = tmp_path / "new" / "counts.png"
    code, _, _ = seqzoo("sample", trained["ppc/rvae"][0], "--out", path)
    assert code == 0
    assert path.read_bytes().startswith(PNG)
    assert path.stat().st_size > 10_000


def test_demo_leaves_a_picture_and_prints_the_table(seqzoo, in_process, tmp_path):
    code, out, _ = seqzoo("demo", "--smoke", "--out", tmp_path)
    assert code == 0
    picture = tmp_path / "trajectory.png"
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size > 50_000
    for title in ("order 0", "KF-1", "rVAE", "rEFH", "KF-2", "KF, true parameters"):
        assert f"\n{title} " in out
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("checkpoint.pt"))


# What it says when something is wrong ---------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train ppc/nope", "no recipe called 'ppc/nope': "),
        (
            "train ppc/refh --set rule.kk=5",
            "ContrastiveDivergence has no argument 'kk': did you mean k?",
        ),
        ("train ppc/refh --set fit.rate=5", "fit has no argument 'rate': "),
        ("train ppc/refh --set title=5", "cannot set 'title': start with model, rule"),
        ("train ppc/refh --set rule.k", "give FIELD=VALUE, such as rule.k=5: got 'rule.k'"),
        ("train ppc/order0 --set rule.k=5", "cannot set 'rule.k' of ppc/order0"),
        ("train ppc/refh --set data.steps=0", "at least 1"),
        ("train ppc/refh --set data.steps=many", "steps"),
        ("train ppc/refh --set fit.epochs=0", "epochs must be at least 1"),
        ("train ppc/refh --set fit.epochs=many", "fit.epochs takes a whole number, not 'many'"),
        (
            "train ppc/refh --set fit.batch_size=2.5",
            "fit.batch_size takes a whole number or",
        ),
        ("train ppc/refh --set fit.clip=tight", "fit.clip takes a number or None, not 'tight'"),
        ("train ppc/refh --set fit.lr=fast", "lr"),
        ("train ppc/refh --set fit.seed=1", "seed"),
        ("train ppc/refh --set rule.k=0", "k must be at least 1"),
        ("train ppc/refh --set rule.k=many", "k"),
        ("train ppc/refh --set model.hidden_dim=many", "hidden_dim"),
        ("train ppc/refh --set model.likelihood.dim=3", "3 units, obs_dim is 15"),
        ("train ppc/refh --device warp", "no device 'warp' here"),
        ("evaluate ppc/nope", "no model called 'ppc/nope': "),
        ("sample kf1 --out x.png", "no model called 'kf1': did you mean ppc/kf1?"),
        ("evaluate .", "the folder . has no card.json"),
        ("reproduce nope", "no table called 'nope': "),
        ("reproduce ppc --only ppc/nope", "no row called 'ppc/nope'"),
        ("reproduce ppc --only kftrue", "no row called 'kftrue': did you mean ppc/kf-true?"),
        ("reproduce balls --only ppc/refh", "ppc/refh is no row of balls"),
        ("reproduce music --only ppc/refh", "ppc/refh is no row of music"),
        ("reproduce bals", "no table called 'bals': did you mean balls?"),
        ("study kl ppc/refh", "ppc/refh has no latent path"),
        ("reproduce ppc --only ppc/kf1 --set rule.k=5", "EM has no argument 'k'"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(words, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        RECIPES, "ppc/refh", find("ppc/refh").override({"data.sequences": 2, "data.steps": 20})
    )
    assert sentence in refused(*words.split())
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_machine_without_the_device_says_so(refused, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    words = ["train", "ppc/rvae", "--device", "cuda", "--out", tmp_path, *changes("ppc/rvae")]
    assert "cuda" in refused(*words).lower()


@pytest.mark.parametrize("verb", [["evaluate"], ["sample", "--out", "x.png"]])
def test_damaged_models_are_named(verb, trained, refused, tmp_path):
    folder = trained["ppc/rvae"][0]
    (tmp_path / store.CARD).write_bytes((folder / store.CARD).read_bytes())
    assert f"{store.WEIGHTS} are missing" in refused(verb[0], tmp_path, *verb[1:])
    content = (folder / store.WEIGHTS).read_bytes()
    (tmp_path / store.WEIGHTS).write_bytes(content[:-20])
    assert f"{store.WEIGHTS} are damaged" in refused(verb[0], tmp_path, *verb[1:])


def test_a_card_without_a_name_is_damaged(trained, refused, tmp_path):
    folder = trained["ppc/rvae"][0]
    content = json.loads((folder / store.CARD).read_text())
    del content["name"]
    (tmp_path / store.CARD).write_text(json.dumps(content))
    (tmp_path / store.WEIGHTS).write_bytes((folder / store.WEIGHTS).read_bytes())
    assert "card" in refused("evaluate", tmp_path)


@pytest.mark.parametrize(
    ("name", "out", "wanted"),
    [
        ("ppc/refh", "x.wav", ".png, .pdf, .svg, .npz"),
        ("balls/rtrbm", "x.mid", ".gif, .png, .npz"),
        ("jsb/vrae", "x.wav", ".mid, .midi, .png, .pdf, .svg, .npz"),
        ("pianomidi-t50/stptt", "x.wav", ".mid, .midi, .png, .pdf, .svg, .npz"),
        ("onetomany-class-t2/stptt", "x.gif", ".png, .pdf, .svg, .npz"),
        ("jsb/vrae", "folder.mid", "is a folder"),
        ("jsb/vrae", "file/x.mid", "is a file, not a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    name, out, wanted, refused, tmp_path, monkeypatch
):
    recipe = find(name)

    def generated(*_, **__):
        raise AssertionError("something was generated")

    for verb in ("sample", "sample_answers"):
        if hasattr(recipe.model.cls, verb):
            monkeypatch.setattr(recipe.model.cls, verb, generated)
    (tmp_path / "folder.mid").mkdir()
    (tmp_path / "file").touch()
    assert wanted in refused("sample", name, "--out", tmp_path / out)


@pytest.mark.parametrize(
    ("words", "module", "work"),
    [
        ("study kl jsb/vrae-published", "kl", "measure_kl"),
        ("study motion balls", "motion", "motion"),
        ("search ppc/refh", "search", "search"),
    ],
)
def test_studies_look_at_their_file_first(words, module, work, refused, tmp_path, monkeypatch):
    home = "runs" if module == "search" else "studies"

    def worked(*_, **__):
        raise AssertionError("the work was done")

    monkeypatch.setattr(f"seqzoo.zoo.{home}.{module}.{work}", worked)
    assert "cannot write 'x.wav'" in refused(*words.split(), "--out", tmp_path / "x.wav")


@pytest.mark.parametrize("name", ["counts.gif", "counts"])
def test_sample_refuses_a_format_it_cannot_write(name, trained, refused, tmp_path):
    error = refused("sample", trained["ppc/rvae"][0], "--out", tmp_path / name)
    assert f"cannot write '{name}': end it with one of .png" in error
    assert not list(tmp_path.iterdir())


def test_sample_refuses_a_row_that_generates_nothing(trained, refused, tmp_path):
    error = refused("sample", trained["ppc/order0"][0], "--out", tmp_path / "x.npz")
    assert "Order0 generates nothing" in error


def test_a_checkpoint_of_other_settings_says_what_to_do(refused, tmp_path):
    words = ["train", "ppc/rvae", *changes("ppc/rvae"), "--out", tmp_path]
    for name, content in (("checkpoint.pt", b"damaged"), (folders.MARK, b"")):
        (tmp_path / name).write_bytes(content)
    error = refused(*words)
    assert "checkpoint.pt does not begin as a checkpoint of fit" in error
    assert "--fresh" in error
    assert "resume" not in error


def test_every_advice_of_fit_has_words_on_the_command_line():
    assert COMMANDS.keys() == REMEDIES.keys()
    assert not any(word in text for text in COMMANDS.values() for word in ("resume", "=["))


def test_a_run_that_diverged_goes_on_with_a_lower_rate(seqzoo, refused, tmp_path, monkeypatch):
    loss, infinite = inference.LocalELBO.loss, [True]

    def diverging(self, fold):
        return loss(self, fold) * (math.inf if self.done > 0.5 and any(infinite) else 1)

    monkeypatch.setattr(inference.LocalELBO, "loss", diverging)
    words = ["train", "ppc/tvae", *changes("ppc/rvae"), "--set", "validate=true", "--out", tmp_path]
    words += ["--set", "fit.epochs=3", "--set"]
    code, _, error = seqzoo(*words, "fit.lr=0.002")
    assert code == 2
    assert f"--out {tmp_path} --from-best --changed lr" in error
    assert "resume" not in error
    infinite.clear()
    error = refused(*words, "fit.lr=0.001")
    assert "lr was 0.002 and is 0.001" in error
    assert "allow it by --changed lr" in error
    more = ["fit.lr=0.001", "--changed", "lr"]
    assert "--fresh ignores a checkpoint" in refused(*words, *more, "--fresh")
    assert "no checkpoint at" in refused(*words, *more, "--out", tmp_path / "other")
    assert seqzoo(*words, *more, "--from-best")[0] == 0
    card = json.loads((tmp_path / store.CARD).read_text())
    assert {change["setting"] for change in card["changes"]} == {"lr", "weights"}


@pytest.mark.parametrize(
    "words",
    [
        "train",
        "evaluate",
        "polish ppc/refh",
        "reproduce ppc --seeds 0",
        "demo --jobs 0",
        "list --all",
        "study none",
    ],
)
def test_usage_errors_exit_with_2(words, seqzoo):
    code, _, error = seqzoo(*words.split())
    assert code == 2
    assert "Usage" in error
    assert "Traceback" not in error


def test_the_package_is_a_program_whose_errors_are_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "seqzoo", "evaluate", "nope"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("seqzoo: no model called 'nope'")
    assert done.stderr.count("\n") == 1


def test_version_is_that_of_the_package(seqzoo):
    assert seqzoo("--version") == (0, f"seqzoo {__version__}\n", "")


def test_study_alone_lists_the_studies(seqzoo):
    code, out, _ = seqzoo("study")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == STUDIES


def test_the_demo_can_draw_with_the_models_that_ship(seqzoo, tmp_path):
    code, out, _ = seqzoo("demo", "--shipped", "--out", tmp_path)
    assert (code, out) == (0, f"wrote {tmp_path / 'trajectory.png'}\n")
    assert sorted(os.listdir(tmp_path)) == [folders.MARK, "trajectory.png"]
