"""The setting `kernels`: where it is read, the variables that it stands for, and the bits that it gives."""

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import dbp
from dbp import kernels
from dbp.commands.run import kernel_variables
from dbp.errors import UserError
from dbp.kernels import NATIVE, X86_64_V3, check, configured, lacks, use, variables
from dbp.nn import Dense
from dbp.optim import SGD
from dbp.parallel import Kernels
from tests.jobs import PROGRAMS, ROOT, newest_checkpoint, run
from tests.jobs import dbp as command

HERE = lacks(X86_64_V3) is None
pinnable = pytest.mark.skipif(not HERE, reason=f"this machine lacks {lacks(X86_64_V3)}")
PINNED = ("openblas 0.3.31 Haswell", ["X86_V2", "X86_V3"])


# --- where it is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes", "found"),
    [
        ("", (), NATIVE),
        ('kernels = "x86-64-v3"', (), X86_64_V3),
        ('[data]\ntrain = "kernels"', (), NATIVE),
        ('kernels = "x86-64-v3"', ("seed=1", "kernels=native"), NATIVE),
        ("", ('kernels="x86-64-v3"',), X86_64_V3),
        ("", ("kernels = x86-64-v3",), X86_64_V3),
        ('kernels = "fast"', (), NATIVE),
        ("kernels = [1]", (), NATIVE),
        ("kernels = = 1", (), NATIVE),
    ],
)
def test_it_is_read_from_config_and_changes_and_mistakes_are_left_to_the_settings(tmp_path, text, changes, found):
    (tmp_path / "c.toml").write_text(text)
    assert configured(tmp_path / "c.toml", changes) == found


def test_a_config_that_cannot_be_read_twice_or_at_all_is_left_to_the_settings(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert configured(tmp_path / "pipe", ()) == configured(tmp_path / "none", ()) == NATIVE


def test_dbp_run_reads_it_from_the_command_of_the_ranks(tmp_path):
    (tmp_path / "c.toml").write_text('kernels = "x86-64-v3"')
    words = ["train", str(tmp_path / "c.toml")]
    assert kernel_variables(words) == variables(X86_64_V3) != {}
    assert kernel_variables([*words, "--set", "kernels=native"]) == kernel_variables(["eval", *words[1:]]) == {}


# --- the variables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "last"), [("2.0.2", "ICL"), ("2.3.0rc1", "SPR"), ("2.4.6", "SPR"), ("3.0", "SPR")])
def test_the_names_are_those_of_the_installed_numpy(monkeypatch, version, last):
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: version)
    names = variables(X86_64_V3)["NPY_DISABLE_CPU_FEATURES"].split()
    assert names[-1] == f"AVX512_{last}"
    assert names[0] == ("AVX512F" if version < "2.4" else "X86_V4")


@pytest.mark.parametrize("known", [True, False])
def test_they_replace_others_and_are_removed_where_they_would_crash_numpy(monkeypatch, known):
    monkeypatch.setattr(kernels, "lacks", lambda _kernels: None if known else "a processor with avx2")
    monkeypatch.delitem(sys.modules, "numpy")
    for name in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"):
        monkeypatch.setenv(name, "X")
    use(NATIVE)
    assert os.environ["OPENBLAS_CORETYPE"] == "X"
    use(X86_64_V3)
    names = variables(X86_64_V3)
    assert {name: os.environ.get(name) for name in names} == (names if known else dict.fromkeys(names))
    assert "NPY_ENABLE_CPU_FEATURES" not in os.environ


# --- what is in force -----------------------------------------------------------------------------------


def test_what_was_asked_for_is_accepted_only_if_it_is_in_force(monkeypatch):
    check(NATIVE, "mkl 2024", [])
    monkeypatch.setattr(kernels, "lacks", lambda _kernels: None)
    check(X86_64_V3, *PINNED)
    for wrong in ("SkylakeX", PINNED[1]), ("Haswell", [*PINNED[1], "X86_V4"]), ("Haswell", ["AVX2", "AVX512F"]):
        with pytest.raises(UserError, match="must be chosen before NumPy is loaded") as caught:
            check(X86_64_V3, f"openblas 0.3.31 {wrong[0]}", wrong[1])
        assert str(caught.value).splitlines()[1:] == [f'export {n}="{v}"' for n, v in variables(X86_64_V3).items()]
    with pytest.raises(UserError, match=r"needs a NumPy with OpenBLAS, such as that of pip, but this one has mkl"):
        check(X86_64_V3, "mkl 2024", PINNED[1])


def test_a_machine_that_cannot_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match=r'needs an x86-64 processor, but \S+ has aarch64; set kernels = "native"$'):
        check(X86_64_V3, *PINNED)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda _path: "processor : 0\nflags\t\t: fpu sse2 avx fma bmi1 bmi2 f16c\n")
    with pytest.raises(UserError, match=r"needs a processor with abm, avx2, movbe, which that of \S+ lacks; set"):
        check(X86_64_V3, *PINNED)


@pinnable
def test_a_script_that_has_loaded_numpy_ends_with_the_lines_to_set():
    if "AVX512" not in Kernels.in_force().cpu_features:
        pytest.skip("native kernels are those of x86-64-v3 here")
    x = np.zeros((4, 1))
    with pytest.raises(UserError, match=r"must be chosen before NumPy is loaded"):
        dbp.fit(
            model=[Dense(1)],
            loss="mean_squared_error",
            data=(x, x),
            optimizer=SGD(0.1),
            epochs=1,
            batch_size=4,
            kernels=X86_64_V3,
        )


@pinnable
@pytest.mark.slow
def test_a_training_is_pinned_and_its_checkpoint_says_so(small, tmp_path):
    words = ("train", small, "--set", "epochs=1")
    outcome = command("run", "-n", "2", "--", *words, "--set", "kernels=x86-64-v3", env={"PYTHONWARNINGS": "error"})
    assert outcome.code == 0, outcome.text
    found = newest_checkpoint(tmp_path / "run").provenance
    assert found["blas"].endswith(" Haswell")
    assert re.search(r"(X86_V3|AVX2)$", found["cpu_features"])
    assert {"numpy", "c_library"} <= set(found)
    outcome = command(*words)
    assert outcome.code == 2
    assert "kernels: 'x86-64-v3' in the checkpoint, 'native' now" in outcome.err
    outcome = command(*words, "--accept", "kernels")
    assert outcome.code == 0, outcome.text
    told = "warning: from here on, bits may differ from the run so far, which computed with blas openblas "
    assert (told in outcome.out) == ("AVX512" in Kernels.in_force().cpu_features)


def digests(*words, **environment):
    """Return the digests of the program by name."""
    program = PROGRAMS / "kernel_digests.py"
    outcome = run(sys.executable, "-W", "error", program, *words, env={"PYTHONPATH": str(ROOT), **environment})
    assert outcome.code == 0, outcome.text
    return dict(line.rsplit(": ", 1) for line in outcome.out.splitlines())


@pinnable
@pytest.mark.slow
def test_all_layers_losses_and_optimizers_have_the_same_bits_with_the_kernels_of_another_processor():
    """With those of AMD, where AVX-512 is off; without the setting, some have others on a machine with AVX-512."""
    of_intel = digests(**variables(X86_64_V3))
    assert of_intel == digests(**variables(X86_64_V3) | {"OPENBLAS_CORETYPE": "Zen"})
    if "AVX512" in Kernels.in_force().cpu_features:
        for word, unset in ("activation", "NPY_DISABLE_CPU_FEATURES"), ("layer", "OPENBLAS_CORETYPE"):
            others = digests(word, **{name: v for name, v in variables(X86_64_V3).items() if name != unset})
            assert {name for name, digest in others.items() if of_intel[name] != digest}
