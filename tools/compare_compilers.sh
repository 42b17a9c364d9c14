#!/usr/bin/env bash
# Build pyodl with clang in a temporary folder and compare the bits of its kernels with those of the
# pyodl that is already installed: tests/digest_kernels.py must print the same lines.
#
# usage: tools/compare_compilers.sh           compare; says so and succeeds where there is no clang
#        tools/compare_compilers.sh --find    print the name of the clang found, if any
#
# PYTHON names the interpreter (default: python), which must have numpy, ml_dtypes, setuptools'
# requirements at hand through pip, and pyodl installed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}

clang=
for name in clang clang-22 clang-21 clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
    if command -v "$name" >/dev/null; then
        clang=$name
        break
    fi
done
if [ "${1:-}" = --find ]; then
    echo "$clang"
    exit
fi
if [ -z "$clang" ]; then
    echo "no clang here: the bits of a second compiler are NOT compared"
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$clang" --version | head -n 1

mkdir "$work/source"
(cd "$root" && tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - \
    setup.py pyproject.toml README.md LICENSE pyodl) | tar -xf - -C "$work/source"
isas=$("$python" -P -c 'from pyodl._kernels import available_isas; print(*available_isas())')
export PYODL_LEVELS=${isas/baseline/} # what cannot run here need not be built
CC=$clang "$python" -m pip install -q --no-deps --target "$work/other" "$work/source"

digests() { # $1: folder to import pyodl from, or nothing; $2: the build
    PYTHONPATH=$1${1:+:}${PYTHONPATH:-} PYODL_ISA=$2 "$python" "$root/tests/digest_kernels.py" --quick
}
digests "" "" >"$work/expected"
for isa in $isas; do
    digests "$work/other" "$isa" >"$work/got"
    if ! diff "$work/expected" "$work/got" >"$work/diff"; then
        head -n 20 "$work/diff"
        echo "clang's $isa build has other bits" >&2
        exit 1
    fi
    echo "$isa: $(wc -l <"$work/got") digests, the same"
done
