#!/usr/bin/env bash
# Run the 16-lane kernels on a host without AVX-512: build them in temporary folders with the
# intrinsics written out in C (tools/avx512/immintrin.h), for x86-64-v4 and with binary16
# arithmetic, and compare their bits with those of the pyodl that is already installed:
# tests/digest_kernels.py must print the same lines.
#
# PYTHON names the interpreter (default: python), as for tools/compare_compilers.sh. What this does
# not show is that a processor's AVX-512 instructions do what Intel says; tests/test_isa.py shows
# that where there is such a processor.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/source"
(cd "$root" && tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - \
    setup.py pyproject.toml README.md LICENSE pyodl) | tar -xf - -C "$work/source"
"$python" -P "$root/tests/digest_kernels.py" --quick >"$work/expected"

# -O1: at -O3 the intrinsics, written out, take three times as long to compile, and are no quicker.
compare() { # name, lanes of fp16-fma, arithmetics, flags
    PYODL_LEVELS="" PYODL_CFLAGS="-I$root/tools/avx512 -D__AVX512F__ -D__AVX512VL__ -O1 ${*:4}" \
        "$python" -m pip install -q --no-deps --target "$work/$1" "$work/source"
    local -x PYTHONPATH=$work/$1${PYTHONPATH:+:$PYTHONPATH}
    local lanes
    lanes=$("$python" -P -c 'from pyodl._kernels import LANES; print(LANES[0], LANES[2])')
    [ "$lanes" = "16 $2" ] || { echo "$1: built $lanes lanes, not 16 $2" >&2; exit 1; }
    # shellcheck disable=SC2046
    "$python" -P "$root/tests/digest_kernels.py" --quick \
        $(printf -- '--arithmetic %s ' $3) >"$work/got"
    if ! diff <(grep -E ", (${3// /|})," "$work/expected") "$work/got" >"$work/diff"; then
        head -n 20 "$work/diff"
        echo "the kernels of $1 have other bits" >&2
        exit 1
    fi
    echo "$1, emulated: $(wc -l <"$work/got") digests, the same"
}
compare x86_64_v4 16 "fp16-fp32acc fp16-fma fp16-muladd bf16-fp32acc bf16-fma fp32"
compare avx512_fp16 32 "fp16-fma fp16-muladd" -D__AVX512FP16__ # the others are the same code
