"""Job scripts for each scheduler and for Kubernetes: everything that the user asked for is in them."""

import json
import os
import re
import shutil
import socket
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from dbp.batch.example_scripts import EXAMPLE, example_scripts
from dbp.batch.queue_systems import DETECTED, SCHEDULERS
from dbp.batch.scripts import Site, quoted, render
from dbp.errors import UserError
from tests.batch.queues import directives, run_script
from tests.batch.submitting import RANKS, kills_rank_0, queue_of, submit
from tests.jobs import ROOT, digest, launcher, run
from tests.processes import output_of

# --- scripts --------------------------------------------------------------------------------------------


def test_the_scripts_in_launch_are_those_of_the_example():
    for name, text in example_scripts().items():
        assert (ROOT / "launch" / name).read_text() == text, "made by python -m dbp.batch launch"
    readme = (ROOT / "launch" / "README.md").read_text()
    for scheduler in SCHEDULERS.values():
        command = scheduler.submit_line(f"launch/{scheduler.template}")
        assert f"[{scheduler.template}]({scheduler.template}) | `{command}` |" in readme
    assert {path.name for path in (ROOT / "launch").iterdir()} == {"README.md", *example_scripts()}


def test_shellcheck_finds_nothing(tmp_path):
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck")
    for name, text in example_scripts().items():
        script = yaml.safe_load(text) if name.endswith(".yaml") else text
        (tmp_path / name).write_text(script if isinstance(script, str) else f"#!/bin/bash\n{body_of(script)}")
    outcome = run("shellcheck", *sorted(tmp_path.iterdir()))
    assert outcome.code == 0, outcome.text


def test_what_is_asked_for_is_in_the_script(folder):
    options = ("--nodes", "2", "--ranks-per-node", "2", "--threads", "3", "--time", "90:00", "--name", "abc")
    more = ("--account", "me", "--queue", "fast", "--most-jobs", "7", "--set", "seed=4", "--dry-run")
    scripts = {name: submit(folder, *options, *more, "--scheduler", name).out for name in DETECTED}
    assert all(
        "most=7\n" in script and "--set seed=4 --set threads=3" in re.sub(r" \\\n +", " ", script)
        for script in scripts.values()
    )
    slurm = directives(scripts["slurm"], "#SBATCH")
    assert slurm == slurm | {"--nodes": "2", "--ntasks-per-node": "2", "--cpus-per-task": "3", "--time": "1:30:00"}
    assert slurm == slurm | {"--job-name": "abc", "--account": "me", "--partition": "fast", "--signal": "B:USR1@120"}
    pbs = directives(scripts["pbs"], "#PBS")
    assert (
        "#PBS -l select=2:ncpus=6:mpiprocs=2:ompthreads=3\n#PBS -l place=scatter\n#PBS -l walltime=1:30:00\n"
        in scripts["pbs"]
    )
    assert (pbs["-N"], pbs["-A"], pbs["-q"]) == ("abc", "me", "fast")
    lsf = directives(scripts["lsf"], "#BSUB")
    assert lsf == lsf | {"-n": "4", "-R": '"span[ptile=2] affinity[core(3)]"', "-W": "1:30", "-wt": "2", "-P": "me"}
    flux = directives(scripts["flux"], "#flux:")
    assert flux == flux | {
        "--nodes": "2",
        "--nslots": "4",
        "--cores-per-slot": "3",
        "--time-limit": "5400s",
        "--bank": "me",
    }
    assert list(folder.iterdir()) == [folder / "c.toml"]


LONG = ("--qos", "long", "--mem=8G", "--comment", "two words", "-x", "n[1-3]")
SHORT = ("-l", "mem=8gb", "-M", "two words")


@pytest.mark.parametrize(
    ("name", "prefix", "options", "expected"),
    [
        ("slurm", "#SBATCH", LONG, ["--qos long", "--mem=8G", '--comment "two words"', "-x n[1-3]"]),
        ("flux", "#flux:", LONG, ["--qos long", "--mem=8G", '--comment "two words"', "-x n[1-3]"]),
        ("pbs", "#PBS", SHORT, ["-l mem=8gb", '-M "two words"']),
        ("lsf", "#BSUB", SHORT, ["-l mem=8gb", '-M "two words"']),
    ],
)
def test_options_of_the_scheduler_are_lines_of_the_script(name, prefix, options, expected):
    lines = SCHEDULERS[name].directives(options)
    assert lines == [f"{prefix} {words}" for words in expected]
    text = render(replace(EXAMPLE, options=options), SCHEDULERS[name], Site("s", "r", "l", ""))
    first = text.index("#SBATCH" if name == "slurm" else prefix)
    assert first < text.index("\n".join(lines)) < text.index("\nexport OMP_NUM_THREADS")
    assert text.replace("\n".join(lines) + "\n", "") == render(EXAMPLE, SCHEDULERS[name], Site("s", "r", "l", ""))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scripts_ask_for_huge_pages_unless_the_user_has_set_the_variable(name):
    text = render(EXAMPLE, SCHEDULERS[name], Site("s", "r", "l", "Open MPI"))
    (export,) = [line for line in text.splitlines() if "export GLIBC_TUNABLES" in line]
    for value, expected in (("", "glibc.malloc.hugetlb=1"), ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0")):
        shell = ("bash", "-c", f"{export}\nprintenv GLIBC_TUNABLES")
        assert output_of(*shell, env={"GLIBC_TUNABLES": value}).strip() == expected
    words = text.replace("\\\n", " ").split()
    assert ("-x", "GLIBC_TUNABLES") in pairwise(words) if name not in ("flux", "kubernetes") else "-x" not in words


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("slurm", ["long"], "what follows -- must be options of slurm, such as --qos long, but is 'long'"),
        ("slurm", ["--nodes=4"], "option --nodes after -- is set by dbp submit itself; see dbp submit --help"),
        ("slurm", ["-t", "5"], "option -t after -- is set by dbp submit itself"),
        ("pbs", ["-N", "x"], "option -N after -- is set by dbp submit itself"),
        ("pbs", ["--qos", "long"], "options of pbs have one dash, but after -- there is '--qos'"),
        ("slurm", ["--comment", "a\nb"], r"a line of slurm cannot hold 'a\\nb' after --; change the script instead"),
        ("lsf", ["-R", '"x"'], "a line of lsf cannot hold '\"x\"' after --"),
        ("flux", ["--x="], None),
        ("flux", [""], "must be options of flux"),
        ("mpirun", ["--qos"], "options after -- have no meaning for --scheduler mpirun; leave them out"),
        ("kubernetes", ["--qos"], "options after -- have no meaning for --scheduler kubernetes; leave them out"),
    ],
)
def test_options_that_no_line_can_hold_are_refused(name, words, message):
    with pytest.raises(UserError, match=message) if message else nullcontext():
        SCHEDULERS[name].directives(words)


def test_options_after_two_dashes_are_those_of_the_scheduler(folder):
    outcome = submit(
        folder, "--time", "1:00:00", "--scheduler", "slurm", "--dry-run", "--", "--qos", "long", "--mem", "8G"
    )
    assert outcome.code == 0, outcome.text
    assert "#SBATCH --qos long\n#SBATCH --mem 8G\n" in outcome.out


@pytest.mark.parametrize(
    "word", ["plain", "two words", "it's", "a\nb", "ü\n\x1b[31m'\\", "$(x) `y` ${z}", "-x", "@python@"]
)
def test_bash_reads_a_word_in_one_line_as_it_was(word):
    assert "\n" not in quoted(word)
    assert run("bash", "-c", f"printf %s, {quoted(word)}").out == f"{word},"


def test_modules_that_are_loaded_are_loaded_by_the_job(folder):
    words = (*RANKS, "--scheduler", "pbs", "--dry-run")
    script = submit(folder, *words, env={"LOADEDMODULES": "gcc/13:openmpi/5"}).out
    assert f'\nmodule load gcc/13 openmpi/5\nexport PATH={Path(sys.executable).parent}:"$PATH"\n' in script


# --- Kubernetes -----------------------------------------------------------------------------------------


def body_of(manifest):
    """Return the script of the launcher."""
    (container,) = manifest["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/bash", "-c"]
    (body,) = container["args"]
    return body


def test_the_script_for_kubernetes_is_an_mpijob(folder):
    schema = json.loads((ROOT / "tests" / "batch" / "mpijob.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    words = (
        "--nodes",
        "2",
        "--ranks-per-node",
        "2",
        "--scheduler",
        "kubernetes",
        "--image",
        "i",
        "--claim",
        "c",
        "--dry-run",
    )
    for text in (example_scripts()["mpijob.yaml"], submit(folder, *words, "--queue", "q").out):
        manifest = yaml.safe_load(text)
        assert [error.message for error in validator.iter_errors(manifest)] == []
    assert manifest["spec"]["runPolicy"]["schedulingPolicy"] == {"queue": "q"}
    manifest["spec"]["mpiReplicaSpecs"]["Launcher"]["restartPolicy"] = "Always"
    manifest["spec"]["slots"] = 2
    assert len(list(validator.iter_errors(manifest))) == 2


@pytest.mark.slow
def test_the_launcher_of_kubernetes_trains_until_the_run_is_finished(folder, unbroken):
    words = ("--ranks-per-node", "2", "--scheduler", "kubernetes", "--image", "i", "--claim", "c", "--dry-run")
    body = body_of(yaml.safe_load(submit(folder, *words).out))
    (folder / "hostfile").write_text(f"{socket.gethostname()} slots=2\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(sys.executable)
    (folder / "bin" / "mpirun").symlink_to(launcher())
    body = body.replace("/etc/mpi/hostfile", str(folder / "hostfile"))
    body = body.replace("python=python3", f"python={sys.executable}").replace(" mpirun ", f" {launcher()} ")
    environment = {**os.environ, **queue_of("slurm", folder).environment}
    job = run_script(["bash", "-c", body], environment, folder, kills_rank_0(folder / "run"))
    assert (job.code, job.lines[-1]) == (0, "run run: finished"), job.lines
    assert "run run: continued, start 2 of at most 20" in job.lines
    assert digest(folder / "run") == unbroken


def test_lines_fit_an_editor():
    lines = [line for text in example_scripts().values() for line in text.splitlines()]
    assert [line for line in lines if len(line) > (100 if line.lstrip().startswith("#") else 120)] == []
