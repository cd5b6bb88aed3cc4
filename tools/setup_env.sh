#!/usr/bin/env bash
# Sets up a virtual environment in which mmskip, mmdet, mmpose and mmaction2
# run and are tested. A second run takes seconds.
#
#   VENV             where the environment goes                 (.venv)
#   PYTHON           a Python 3.11 or 3.12 to make it with      (python3.11)
#   TORCH_INDEX_URL  where torch and torchvision come from      (pip's own)
#                    https://download.pytorch.org/whl/cpu: small, CPU only
#                    https://download.pytorch.org/whl/cu130: a CUDA release
#   FORCE_CUDA=1     build mmcv's CUDA ops though no GPU is visible
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly VENV=${VENV:-.venv}
readonly PINS=tools/pins.txt
readonly LOGS=$VENV/setup_logs
readonly STAMP=$VENV/.mmskip-ready
readonly PY=$VENV/bin/python

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The environment is as this script would leave it if none of these changed.
fingerprint() {
    { cat "$PINS" tools/setup_env.sh tools/build_mmcv.py setup.py
      cat mmskip/native/csrc/* 2>/dev/null || true
      printf '%s\n' "$PWD" "${TORCH_INDEX_URL:-}" "${FORCE_CUDA:-}"
    } | sha256sum | cut -d ' ' -f 1
}

# --- what this machine must have --------------------------------------------

find_python() {
    local candidate found candidates=(python3.11 python3.12 python3)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            found=$("$candidate" -c 'import sys
print("%d.%d" % sys.version_info[:2], sys.implementation.name)' 2>/dev/null)
        then
            [[ $found =~ ^3\.1[12]\ cpython$ ]] &&
                { echo "$candidate"; return; }
        fi
    done
    fail "expected CPython 3.11 or 3.12, got ${found:-no Python} from" \
        "'${candidate}'; install it (Debian, Ubuntu: python3.11" \
        'python3.11-venv python3.11-dev) or set PYTHON=/path/to/python3.11'
}

check_machine() {
    local machine program
    machine=$(uname -sm)
    [[ $machine == 'Linux x86_64' ]] ||
        fail "expected Linux on x86-64, got $machine; the pinned wheels" \
            '(decord, xtcocotools) exist for nothing else'
    for program in gcc g++; do
        command -v "$program" >/dev/null 2>&1 ||
            fail "$program not found; the ops of mmcv are compiled here:" \
                'install it (Debian, Ubuntu: build-essential)'
    done
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$1 cannot make virtual environments; install its venv module" \
            '(Debian, Ubuntu: python3.11-venv)'
    "$1" -c 'import os, sysconfig
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
raise SystemExit(not os.path.exists(header))' ||
        fail "$1 has no Python.h; the ops of mmcv are compiled here:" \
            'install its headers (Debian, Ubuntu: python3.11-dev)'
}

# --- running a step, visibly --------------------------------------------------

# The line of a log that says most about why a command failed.
reason_in() {
    local skip network reason
    skip='ResolutionImpossible|subprocess-exited|and is likely not a|'
    skip+='Failed (to build|building)|generation failed|see above|'
    skip+='Could not build wheels|did not run successfully|^ *(note|hint|\[notice\])'
    network='Name or service not known|Temporary failure in name resolution|'
    network+='Connection (refused|reset)|timed out|certificate verify failed'
    reason=$({ grep -aE '(ERROR|[Ee]rror):|[Ff]atal|No space left|Killed' "$1" |
                   grep -avE "$skip" || grep -avE "^ *\$|$skip" "$1" || true
             } | tail -n 1 | cut -c 1-300 | sed 's/^ *//')
    network=$(grep -aoE "$network" "$1" | tail -n 1 || true)
    printf '%s' "${reason:-no output}${network:+ ($network)}"
}

# "12/77 files" while ninja compiles, nothing otherwise.
compiled_in() {
    grep -aoE '^ *\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null | tail -n 1 |
        sed -E 's/.*\[([0-9]+\/[0-9]+)\]/, \1 files/' || true
}

# Until it is stopped: a line that moves on a terminal, else one a minute.
report_progress() {
    local log=$1 label=$2 begin=$SECONDS
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        if [[ -t 1 ]]; then
            printf '\r    %ds%s\033[K' $((SECONDS - begin)) \
                "$(compiled_in "$log")"
        elif (((SECONDS - begin) % 60 == 0)); then
            printf '    %s: %ds%s\n' "$label" $((SECONDS - begin)) \
                "$(compiled_in "$log")"
        fi
    done
}

# step NAME DURATION COMMAND...
step() {
    local name=$1 duration=$2 log reporter status=0 begin=$SECONDS
    shift 2
    log=$LOGS/${name//[^a-z0-9]/-}.log
    printf '  %-22s (usually %s)\n' "$name" "$duration"
    report_progress "$log" "$name" &
    reporter=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    kill "$reporter" 2>/dev/null || true
    wait "$reporter" 2>/dev/null || true
    [[ ! -t 1 ]] || printf '\r\033[K'
    ((status == 0)) ||
        fail "step '$name' failed: $(reason_in "$log"); log: $log"
    printf '    done in %ds\n' $((SECONDS - begin))
}

# --- the steps ----------------------------------------------------------------

# pip_install [OPTION...] NAME...: each NAME at its pinned version.
pip_install() {
    local argument pin arguments=()
    for argument; do
        pin=$(grep -i "^$argument==" "$PINS" || true)
        arguments+=("${pin:-$argument}")
    done
    "$PY" -m pip install --no-input --disable-pip-version-check \
        -c "$PINS" "${arguments[@]}"
}

# pinned NAME: its version.
pinned() { sed -n "s/^$1==//Ip" "$PINS"; }

# By exact version: a range may choose a build of gigabytes for CUDA.
install_torch() {
    local source=()
    if [[ -n ${TORCH_INDEX_URL:-} ]]; then
        source=(--index-url "$TORCH_INDEX_URL"
                --extra-index-url https://pypi.org/simple)
    fi
    pip_install "${source[@]}" torch &&
        pip_install "${source[@]}" --no-deps torchvision
}

# A build that saw no torch, or another one, installs without complaint.
mmcv_ops_run() {
    "$PY" -c '
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]])
kept = nms(boxes, torch.tensor([0.5, 0.9]), 0.5)[1].tolist()
if kept != [1]:
    raise SystemExit(f"error: mmcv.ops.nms kept {kept}, expected [1]")'
}

# Compiled in a few large units it takes a fifth of the time, see there. CUDA
# builds gain nothing from that.
install_joined_mmcv() {
    local wheel
    "$PY" -c 'import os, torch
raise SystemExit(torch.cuda.is_available()
                 or os.environ.get("FORCE_CUDA") == "1")' || return 1
    wheel=$("$PY" tools/build_mmcv.py "$(pinned mmcv)" | tail -n 1) &&
        "$PY" -m pip install --no-input --disable-pip-version-check \
            -c "$PINS" --no-deps --force-reinstall "$wheel" && mmcv_ops_run
}

install_mmcv() {
    install_joined_mmcv && return
    echo 'mmcv was not built in joined units; building it file by file.'
    install_plain_mmcv
}

install_plain_mmcv() {
    local arguments=(-v --no-deps --no-build-isolation --no-binary=mmcv mmcv)
    export MMCV_WITH_OPS=1
    pip_install "${arguments[@]}" && mmcv_ops_run && return
    # pip may have taken an older build from its cache; then once from scratch.
    grep -q 'Using cached mmcv' "$LOGS/mmcv.log" || return 1
    echo 'The cached build of mmcv has no usable ops; building it again.'
    pip_install --force-reinstall --no-cache-dir "${arguments[@]}" &&
        mmcv_ops_run
}

check_cuda_compiler() {
    "$PY" -c '
import torch
from torch.utils.cpp_extension import CUDA_HOME
raise SystemExit(torch.cuda.is_available() and CUDA_HOME is None)' ||
        fail 'torch sees a GPU, but there is no nvcc to build the ops of mmcv' \
            'with; install the CUDA toolkit of the version torch was built' \
            'with, or set TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu'
}

# With their declared requirements mmpose would bring chumpy, which does not
# build and is never imported, and mmaction2 a second OpenCV.
install_hosts() {
    pip_install --no-deps mmdet mmpose mmaction2
}

main() {
    local python mmcv_time='2 min on 2 cores, the ops are compiled'
    if [[ -f $STAMP && $(<"$STAMP") == "$(fingerprint)" ]]; then
        echo "The environment in $VENV is up to date."
        return
    fi
    echo "Setting up $VENV; the first time takes about 6 minutes."
    if [[ ! -x $PY ]]; then
        python=$(find_python)
        check_machine "$python"
        "$python" -m venv "$VENV" ||
            fail "$python could not make a virtual environment in $VENV"
    fi
    [[ $("$PY" -c 'import sys; print(*sys.version_info[:2])') =~ 3\ 1[12] ]] ||
        fail "expected Python 3.11 or 3.12 in $VENV, got $("$PY" -V 2>&1); remove" \
            'that folder or set VENV to another one'
    mkdir -p "$LOGS"
    rm -f "$STAMP"

    step 'build tools' '15 s' \
        pip_install pip setuptools wheel ninja cython numpy
    step 'torch' '1 min, more with CUDA' install_torch
    # For Python 3.12 xtcocotools is compiled, with the tools from above.
    step 'libraries' '1 min' pip_install --no-build-isolation \
        mmengine opencv-python importlib_metadata json-tricks munkres \
        xtcocotools decord einops pycocotools scipy shapely terminaltables \
        matplotlib packaging pillow six tqdm rich av lap motmetrics \
        prometheus_client ray onnx pytest pytest-xdist hypothesis ruff pre_commit
    if mmcv_ops_run >/dev/null 2>&1; then
        echo '  mmcv                   (there, and its ops run)'
    else
        check_cuda_compiler
        step 'mmcv' "$mmcv_time" install_mmcv
    fi
    step 'mmdet mmpose mmaction2' '10 s' install_hosts
    step 'mmskip' '1 min, its C++ is compiled' \
        pip_install --no-deps --no-build-isolation -e .
    step 'check' '30 s' "$PY" -m mmskip.doctor
    fingerprint >"$STAMP"
    echo "Ready: . $VENV/bin/activate; python -m mmskip.doctor tells more."
}

main
