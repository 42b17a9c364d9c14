#!/usr/bin/env bash
# Run the 16-lane kernels on a host without AVX-512: build them in a temporary folder with the
# intrinsics written out in C (tools/avx512/immintrin.h), and compare their bits with those of the
# pyodl that is already installed: tests/digest_kernels.py must print the same lines.
#
# PYTHON names the interpreter (default: python), as for tools/compare_compilers.sh. What this does
# not show is that a processor's AVX-512 instructions do what Intel says; tests/test_isa.py shows that
# where there is such a processor.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/source"
(cd "$root" && tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - \
    setup.py pyproject.toml README.md LICENSE pyodl) | tar -xf - -C "$work/source"
PYODL_LEVELS="" PYODL_CFLAGS="-I$root/tools/avx512 -D__AVX512F__ -D__AVX512VL__" \
    "$python" -m pip install -q --no-deps --target "$work/emulated" "$work/source"

"$python" -P "$root/tests/digest_kernels.py" --quick >"$work/expected"
export PYTHONPATH=$work/emulated${PYTHONPATH:+:$PYTHONPATH}
lanes=$("$python" -P -c 'from pyodl._kernels import LANES; print(LANES)')
[ "$lanes" = 16 ] || { echo "built $lanes lanes, not 16" >&2; exit 1; }
"$python" -P "$root/tests/digest_kernels.py" --quick >"$work/got"
if ! diff "$work/expected" "$work/got" >"$work/diff"; then
    head -n 20 "$work/diff"
    echo "the 16-lane kernels have other bits" >&2
    exit 1
fi
echo "16 lanes, emulated: $(wc -l <"$work/got") digests, the same"
