#!/usr/bin/env bash
# Run the kernels as an aarch64 host would: cross-compile them, run them under qemu's user mode with
# an arm64 Python and NumPy, and compare their bits with those of the pyodl that is already
# installed: tests/digest_kernels.py must print the same lines.
#
# Needs Debian 12 with gcc-aarch64-linux-gnu and qemu-user-static, Python 3.11 with Cython and
# setuptools, and the network for what runs on the other side. PYTHON names the interpreter (default:
# python). It takes about four minutes; nothing outside a temporary folder is changed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
for program in aarch64-linux-gnu-gcc qemu-aarch64-static apt-get dpkg-deb; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    { echo "$python is not Python 3.11, which is what Debian 12 has for arm64" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An arm64 Python, unpacked but not installed, by an apt that keeps its own books.
mkdir -p "$work/debs/partial" "$work/lists/partial" "$work/arm64" "$work/site"
touch "$work/status"
apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Cache="$work" \
        -o Dir::Cache::archives="$work/debs" -o Dir::State::lists="$work/lists" \
        -o Dir::State::status="$work/status" -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$work/debs" && apt download libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libffi8 \
    libbz2-1.0 liblzma5 libssl3 libuuid1 python3.11-minimal libpython3.11-minimal \
    libpython3.11-stdlib)
for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/arm64"; done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 --dest "$work/wheels" numpy ml_dtypes
for wheel in "$work"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$work/site"
done

mkdir "$work/source"
(cd "$root" && tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - \
    setup.py pyproject.toml README.md LICENSE pyodl) | tar -xf - -C "$work/source"
(
    cd "$work/source"
    export CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" PYODL_LEVELS=""
    export SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so
    "$python" setup.py -q build_ext --inplace >"$work/build.log" 2>&1 ||
        { tail -n 20 "$work/build.log" >&2; exit 1; }
)

"$python" -P "$root/tests/digest_kernels.py" --quick >"$work/expected"
PYTHONPATH=$work/source:$work/site qemu-aarch64-static -L "$work/arm64" \
    "$work/arm64/usr/bin/python3.11" -P "$root/tests/digest_kernels.py" --quick >"$work/got"
if ! diff "$work/expected" "$work/got" >"$work/diff"; then
    head -n 20 "$work/diff"
    echo "aarch64 has other bits" >&2
    exit 1
fi
echo "aarch64, emulated: $(wc -l <"$work/got") digests, the same"
