"""The setting `kernels`: which routines of NumPy and of its OpenBLAS a run computes with, by environment variables.

By default both pick the fastest ones for the processor, and different ones give different bits. The variables count
only if they are set before NumPy is loaded, so nothing here loads it.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dbp.errors import UserError

NATIVE, X86_64_V3 = KERNELS = ("native", "x86-64-v3")
CORE_TYPE = "OPENBLAS_CORETYPE"
DISABLED, ENABLED = "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"  # NumPy takes one of them at most
HASWELL = "Haswell"  # OpenBLAS's kernel for x86-64-v3
FLAGS = {"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"}  # of x86-64-v3, as Linux names them
# NumPy's features beyond x86-64-v3, by the version that began to name them so. It warns of a name that it lacks.
BEYOND = {
    (2, 4): "X86_V4 AVX512_ICL AVX512_SPR",
    (2, 3): "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    (2, 0): "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}


def variables(kernels: str) -> dict[str, str]:
    """Return the environment variables that choose some kernels for the installed NumPy; none for native ones."""
    if kernels != X86_64_V3:
        return {}
    import importlib.metadata

    major, minor = re.findall(r"\d+", importlib.metadata.version("numpy"))[:2]
    names = next(names for version, names in BEYOND.items() if (int(major), int(minor)) >= version)
    return {CORE_TYPE: HASWELL, DISABLED: names}


def use(kernels: str) -> None:
    """Set the variables in this process, if NumPy is not loaded yet; remove them where they would crash NumPy."""
    if "numpy" in sys.modules or kernels == NATIVE:
        return
    os.environ.pop(ENABLED, None)
    for name, value in variables(kernels).items():
        if lacks(kernels) is None:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def lacks(kernels: str) -> str | None:
    """Return what this machine lacks for some kernels; None if nothing is known to be missing."""
    if kernels != X86_64_V3:
        return None
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"an x86-64 processor, but {platform.node()} has {platform.machine()}"
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return None
    missing = FLAGS - set(found[1].split()) if found else set()
    return f"a processor with {', '.join(sorted(missing))}, which that of {platform.node()} lacks" if missing else None


def configured(config: Path, changes: Iterable[str]) -> str:
    """Return the kernels that a config file and changes of the form key=value ask for.

    What is wrong with them counts as native here, and is reported when the settings are read.
    """
    asked = [text for key, _, text in (change.partition("=") for change in changes) if key.strip() == "kernels"]
    value = asked[-1].strip().strip("\"'") if asked else _in_file(config)
    return value if value in KERNELS else NATIVE


def _in_file(config: Path) -> object:
    """Return the value in a file, read as TOML only if it contains the word, as thousands of ranks may do this."""
    try:
        text = config.read_bytes() if config.is_file() else b""  # a pipe can be read only once
    except OSError:
        return NATIVE
    if b"kernels" not in text:
        return NATIVE
    import tomllib

    try:
        return tomllib.loads(text.decode()).get("kernels", NATIVE)
    except (ValueError, RecursionError):  # also of TOML and of Unicode
        return NATIVE


def check(kernels: str, blas: str, features: Sequence[str]) -> None:
    """Raise UserError unless NumPy computes with some kernels.

    Args:
        kernels: those that were asked for.
        blas: NumPy's BLAS and its kernel, as in force.
        features: the processor's features that NumPy uses.
    """
    if kernels == NATIVE:
        return
    if missing := lacks(kernels):
        raise UserError(f'kernels = "{kernels}" needs {missing}; set kernels = "{NATIVE}"')
    if "openblas" not in blas:
        raise UserError(
            f'kernels = "{kernels}" needs a NumPy with OpenBLAS, such as that of pip, but this one has '
            f'{blas or "an unknown BLAS"}; install that NumPy, or set kernels = "{NATIVE}"'
        )
    beyond = [name for name in features if name.startswith(("AVX512", "X86_V4", "AVX10"))]
    if beyond or blas.rpartition(" ")[2] not in (HASWELL, "Zen"):  # the kernels of Zen give the bits of Haswell's
        lines = "".join(f'\nexport {name}="{value}"' for name, value in variables(kernels).items())
        raise UserError(
            f'kernels = "{kernels}" must be chosen before NumPy is loaded, which computes with {blas} and '
            f"{' '.join(beyond) or 'no more than x86-64-v3'}; set these before the start, and if they are set already, "
            f"install the NumPy of pip, which obeys them:{lines}"
        )
