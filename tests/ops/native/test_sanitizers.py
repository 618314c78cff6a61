"""The kernel's source under the compiler's checks of addresses, undefined behaviour and threads.

``sanitized.cpp`` calls it, without Python and PyTorch. ``make sanitize`` is the other way round:
the tests in Python, with a library that is checked.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hyena.ops.native import library

SOURCES = Path(__file__).parents[3] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX") or "c++")
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
FLAGS = {
    "avx512": [*AVX2, *(f"-mavx512{part}" for part in ("f", "dq", "bw", "vl", "cd"))],
    "avx2": AVX2,
    "portable": [],
}
CHECKS = [(isa, "address,undefined") for isa in library.isas()] + [("portable", "thread")]
# Memory that nobody has written to is full of NaN. What is kept for ever is no leak.
OPTIONS = "detect_leaks=0:malloc_fill_byte=255:max_malloc_fill_size=1000000000"


def compile(*arguments: str | Path) -> None:
    done = run(str(COMPILER), "-std=c++17", "-g", *map(str, arguments))
    assert done.returncode == 0, done.stderr


def run(program: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ASAN_OPTIONS": OPTIONS}
    environment.pop("LD_PRELOAD", None)  # as `make sanitize` sets it, for Python
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=600, env=environment
    )


def skip_without(check: str, folder: Path) -> None:
    """The checks' own libraries are not part of every compiler, nor do they run everywhere."""
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n", encoding="utf-8")
    try:
        compile(f"-fsanitize={check}", empty, "-o", folder / "empty")
        assert run(folder / "empty").returncode == 0
    except (AssertionError, OSError):
        pytest.skip(f"{COMPILER} -fsanitize={check} makes no program that runs here")


@pytest.mark.skipif(COMPILER is None or sys.platform == "win32", reason="needs GCC or Clang")
@pytest.mark.parametrize(("isa", "check"), CHECKS)
def test_nothing_is_found(isa: str, check: str, tmp_path: Path) -> None:
    skip_without(check, tmp_path)
    checks = [f"-fsanitize={check}", "-fno-sanitize-recover=all"]
    flags = ["-I", SOURCES, *FLAGS[isa], "-ffp-contract=fast", "-fno-math-errno"]
    # Inlined everywhere, as it is for speed, the kernel would take minutes to compile.
    inline = "-Dalways_inline=unused"
    objects = [tmp_path / f"{name}.o" for name in ("kernel", "plan", "sanitized")]
    kernel, plan, driver = objects
    build = f"-DHYENA_ISA_{isa.upper()}"
    compile(*checks, *flags, "-O0", inline, build, "-c", SOURCES / "kernel.cpp", "-o", kernel)
    compile(*checks, *flags, "-O0", "-c", SOURCES / "plan.cpp", "-o", plan)
    # The caller is checked for threads only: its own sums take long enough.
    flags += [*checks, "-O1"] if check == "thread" else ["-O1"]
    name = f"-DHYENA_THIS_KERNEL=hyena_kernel_{isa}"
    here = Path(__file__).with_name("sanitized.cpp")
    compile(*flags, name, "-c", here, "-o", driver)
    compile(*checks, *objects, "-pthread", "-o", tmp_path / "program")
    # Of threads, one shape is as good as another.
    done = run(tmp_path / "program", "10" if check == "thread" else "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" cases, 0 failures\n")
    assert done.stderr == ""
