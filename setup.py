"""Build the Cython kernels, once per x86-64 level, with OpenMP where the compiler has it."""

import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("pyodl/_kernels")
ONCE = ["_operation", "_program"]  # no loops over data: one build serves every host
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-g0",
    # No bit may depend on the compiler: products and sums are fused where the source says so.
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",  # kernels look at one tensor as numbers and as bits
    "-Wno-psabi",
    *shlex.split(os.environ.get("PYODL_CFLAGS", "")),  # after ours: sanitizers, -save-temps
]
LEVELS = {
    "x86_64_v3": ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe"],
    "x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx512_fp16": ["-march=x86-64-v4", "-mavx512fp16", "-mprefer-vector-width=512"],
}


# What the compiler and its assembler must take, where flags alone do not tell.
PROBES = {
    "avx512_fp16": "#include <immintrin.h>\n"
    "__m512h fused(__m512h a) { return _mm512_fmadd_ph(a, a, a); }\n",
}


def kernel_names() -> list[str]:
    """Return the kernel modules, all of them but those built once."""
    return sorted(path.stem for path in PACKAGE.glob("*.pyx") if path.stem not in ONCE)


def extensions() -> list[Extension]:
    """Return the extensions with their C files: the same C serves every level."""
    modules = [
        Extension(f"pyodl._kernels.{name}", [str(PACKAGE / f"{name}.pyx")])
        for name in ONCE + kernel_names()
    ]
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
        "embedsignature": True,
    }
    built = cythonize(
        modules,
        compiler_directives=directives,
        annotate="PYODL_ANNOTATE" in os.environ,
        nthreads=os.cpu_count() or 1,
    )
    headers = [str(path) for path in (PACKAGE / "include").glob("*.h")]
    for extension in built:
        extension.extra_compile_args = list(FLAGS)
        extension.include_dirs = [str(PACKAGE)]
        extension.depends = headers
    if platform.machine().lower() in ("x86_64", "amd64"):
        for level in os.environ.get("PYODL_LEVELS", " ".join(LEVELS)).split():
            built += [  # BuildKernels leaves out what the compiler does not know
                Extension(
                    f"pyodl._kernels.{level}.{extension.name.rpartition('.')[2]}",
                    extension.sources,
                    extra_compile_args=FLAGS + LEVELS[level],
                    include_dirs=[str(PACKAGE)],
                    depends=headers,
                )
                for extension in built[: len(modules)]
                if extension.name.rpartition(".")[2] not in ONCE
            ]
    return built


def compiles(compiler: list[str], source: str, flags: list[str]) -> bool:
    """Return whether the C compiler takes ``source`` and links it with ``flags``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.c"
        path.write_text(source)
        command = [*compiler, *flags, str(path), "-o", str(path.with_suffix(""))]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class BuildKernels(build_ext):
    """Adds OpenMP if it is there, and gives each level its own folder for objects."""

    def build_extensions(self) -> None:
        probe = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        if "PYODL_NO_OPENMP" not in os.environ and compiles(
            self.compiler.compiler, probe, ["-fopenmp"]
        ):
            for extension in self.extensions:
                extension.extra_compile_args.append("-fopenmp")
                extension.extra_link_args.append("-fopenmp")
        else:
            self.warn("no OpenMP: pyodl will run on one thread")
        for level, flags in LEVELS.items():
            others = [e for e in self.extensions if f".{level}." not in e.name]
            probe = PROBES.get(level, "") + "int main(void) { return 0; }\n"
            asked = len(others) < len(self.extensions)
            if asked and not compiles(self.compiler.compiler, probe, flags):
                self.warn(f"the compiler has no {' '.join(flags)}: no kernels for {level}")
                self.extensions = others
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        # A copy per extension: parallel builds must not share the folder for objects.
        command = self.__class__(self.distribution)
        command.__dict__.update(self.__dict__)
        command.build_temp = str(Path(self.build_temp) / ext.name)
        build_ext.build_extension(command, ext)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
