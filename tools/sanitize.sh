#!/usr/bin/env bash
# Builds the C++ operators with the address and undefined-behaviour
# sanitizers of g++ and runs their tests (about 5 min on 2 cores).
#
#   VENV  the environment to use, as tools/setup_env.sh leaves it   (.venv)
#
# Arguments go to pytest. The package is built apart, in build/sanitize.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly VENV=$(realpath "${VENV:-.venv}")
readonly BUILD=build/sanitize
readonly FLAGS='-fsanitize=address,undefined -fno-sanitize=vptr
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer'

[[ -x $VENV/bin/python ]] || {
    echo "error: no environment in $VENV; run make env first" >&2
    exit 1
}

runtime() {
    local path
    path=$(g++ -print-file-name="$1")
    [[ -e $path ]] || {
        echo "error: g++ has no $1; install it (Debian: libgcc-12-dev)" >&2
        exit 1
    }
    printf '%s' "$path"
}
asan=$(runtime libasan.so)
ubsan=$(runtime libubsan.so)

rm -rf "$BUILD"
mkdir -p "$BUILD"
cp -R mmskip tests pyproject.toml "$BUILD"
rm -f "$BUILD"/mmskip/native/_native*.so
echo 'Building with sanitizers (about a minute).'
# In one line each: distutils splits them at blanks.
flags=$(tr -s '\n ' ' ' <<<"$FLAGS")
CXX=g++ CFLAGS=$flags CXXFLAGS=$flags LDFLAGS=$flags \
    "$VENV/bin/python" setup.py -q build_ext \
    --build-lib "$BUILD" --build-temp "$BUILD/temp"
[[ -e $BUILD/mmskip/native/_native.so ]] || {
    echo 'error: the operators were not built, see above' >&2
    exit 1
}

cd "$BUILD"
echo 'Running the tests of the operators.'
# Python's own memory is never given back: leaks are not looked for.
env LD_PRELOAD="$asan:$ubsan" ASAN_OPTIONS=detect_leaks=0 \
    UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=. \
    OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" \
    "$VENV/bin/python" -m pytest -q -p no:cacheprovider \
    tests/native/test_library.py tests/native/test_plan.py \
    tests/native/test_plan_refusals.py tests/skip_conv/test_stream.py \
    tests/plan/test_accelerate_propagation.py \
    tests/plan/test_accelerate_precision.py \
    tests/plan/test_accelerate_transposed.py tests/plan/test_lower.py \
    tests/plan/test_quantize.py tests/plan/test_fold_activations.py \
    tests/va_red2/test_native.py "$@"
