"""Events from outside of a job: another run in its folder, links, data that is cut off, streams and launchers gone."""

from __future__ import annotations

import os
import shutil
import signal
import sys

from dbp.checkpoint import checkpoints_of, opened, table_of
from dbp.data import data_path
from tests.fault_injection.reference_run import wrong_in
from tests.fault_injection.train_jobs import ALONE, LONGER, Bench, wait_for_end
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import run
from tests.shared_memory import shared_memory

OTHER_SEED = 77
LINKS = ("status.json", "history.csv", "logs/rank-0.log", "checkpoints/best.h5")  # to a file of somebody else
GONE = {"closed": ">&- 2>&-", "full": ">/dev/full 2>/dev/full", "a reader that left": "2>&1 | head -1"}


def by_two_runs(bench: Bench, ranks: int, again: int) -> str:
    """Start two different runs at once in a new folder: one of them gets it, and the other is refused."""
    shared = shared_memory()
    with bench.job(ranks) as first, bench.job(again, "--set", f"seed={OTHER_SEED}", fresh=False) as second:
        results = [wait_for_end(job, shared) for job in (first, second)]
    codes = [result.code for result in results]
    if None in codes:
        return f"hang: {results[codes.index(None)].end}"
    if sorted(map(str, codes)) != ["0", "2"]:
        return f"loss: they ended with {codes}: {results[0].end} {results[1].end}"
    if codes[0] == 0:
        return wrong_in(bench.run, bench.reference, finished=True, clean=True)
    for path in checkpoints_of(bench.run).files():
        with opened(path) as found:
            if table_of(found.config)["seed"] != OTHER_SEED:
                return f"loss: {path.name} is of the run that was refused"
    return ""


def by_links(bench: Bench, ranks: int, again: int) -> str:
    """Put links into the folder of a run before it starts: they are not followed, and the run is as any other."""
    victim = bench.folder / "victim"
    victim.write_text("precious")
    shutil.rmtree(bench.folder / "job", ignore_errors=True)
    for name in LINKS:
        (bench.run / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.run / name).symlink_to(victim)
    with bench.job(ranks, happens=("0", "step", "100", "SIGKILL"), fresh=False) as job:
        result = wait_for_end(job, shared_memory())
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}"
    wrong = bench.resume(again)
    return wrong or ("" if victim.read_text() == "precious" else "loss: a file that a link led to has changed")


def by_cut_data(bench: Bench, ranks: int, again: int) -> str:
    """Cut the data off while it is read: the file is named, and once it is whole the run resumes."""
    shutil.rmtree(bench.folder / "data", ignore_errors=True)
    (bench.folder / "data").mkdir()
    whole, file = data_path("dbp:digits-train"), bench.folder / "data" / "train.h5"
    shutil.copy(whole, file)
    words = ("--set", f"data.train={file}")
    with bench.job(ranks, *words, happens=bench.waits) as job:
        job.at("steps", 0)
        os.truncate(file, 10_000)
        job.go_on()
        result = wait_for_end(job, shared_memory())
    shutil.copy(whole, file)
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}"
    if result.code != 0 and (result.code != 65 or str(file) not in result.text or "Traceback" in result.text):
        return f"crash: {result.end}"
    return wrong_in(bench.run, bench.reference, finished=result.code == 0) or bench.resume(again, *words)


def by_gone_streams(bench: Bench, how: str, again: int) -> str:
    """Train on one rank whose output goes nowhere from its start on; see GONE."""
    folder = bench.folder / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.toml").write_text(LONGER)
    words = f"{sys.executable} -m dbp train {folder / 'config.toml'} --out {bench.run} {GONE[how]}"
    run("bash", "-c", words, env=os.environ | LAUNCHER_SETTINGS | ALONE)
    return wrong_in(bench.run, bench.reference, finished=True, clean=True) or bench.resume(again)


def by_killed_launcher(bench: Bench, ranks: int, again: int) -> str:
    """Kill dbp run, which takes its launcher and all ranks with it."""
    with bench.job(ranks, happens=bench.waits, survive=True) as job:
        job.at("steps", 0)
        os.kill(job.process.pid, signal.SIGKILL)
        result = wait_for_end(job, shared_memory())
    if result.left:
        return f"hang: {result.left}"
    return wrong_in(bench.run, bench.reference, finished=False) or bench.resume(again)
