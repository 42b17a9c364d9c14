#!/usr/bin/env bash
# Build pyodl with AddressSanitizer and UndefinedBehaviorSanitizer in a temporary folder and run the
# tests with it; the first finding ends the run.
#
# usage: tools/sanitize.sh [--short] [pytest arguments]
#        --short   every kernel once (tests/digest_kernels.py --quick) and the recorded vectors
#
# PYTHON names the interpreter (default: python); it must have what the tests need.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
short=
if [ "${1:-}" = --short ]; then
    short=yes
    shift
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
(cd "$root" && tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - \
    setup.py pyproject.toml README.md LICENSE pyodl) | tar -xf - -C "$work/source"

# -O1 keeps the checks and the lines they name; what vector code does is checked all the same.
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
export CC=gcc PYODL_CFLAGS=$sanitizers LDFLAGS="-fsanitize=address,undefined"
isas=$("$python" -P -c 'from pyodl._kernels import available_isas; print(*available_isas())')
export PYODL_LEVELS=${isas/baseline/} # what cannot run here need not be built
"$python" -m pip install -q --no-deps --target "$work/installed" "$work/source"
unset PYODL_CFLAGS LDFLAGS PYODL_LEVELS

export PYTHONPATH=$work/installed PYTHONMALLOC=malloc OMP_WAIT_POLICY=passive
# Python itself is not instrumented: it leaks on purpose, and the library must come first.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
libstdcpp=$(gcc -print-file-name=libstdc++.so.6)
# Where C++ extensions are imported, the C++ library must be there when the sanitizer starts.
if [ -e "$libstdcpp" ]; then LD_PRELOAD="$LD_PRELOAD $libstdcpp"; fi
export LD_PRELOAD

cd "$root"
if [ -n "$short" ]; then
    workers=()
    for isa in $isas; do
        PYODL_ISA=$isa "$python" tests/digest_kernels.py --quick --threads 2 >"$work/$isa" &
        workers+=($!)
    done
    for worker in "${workers[@]}"; do wait "$worker"; done
    wc -l $(printf "$work/%s " $isas) # kernels without findings
    set -- tests/test_golden.py tests/test_bad_input.py "$@"
fi
# -P: the package in this folder is not the one under test.
"$python" -P -m pytest --rootdir "$root" -p no:cacheprovider "$@"
