#!/bin/sh
# Make .venv and install one or more requirements files into it. Called by the Makefile:
#   scripts/install.sh .venv requirements.txt [requirements-dev.txt]
# PYTHON=/path/to/python names the interpreter; TORCH_INDEX=<url> the package index that torch comes from.
set -eu
venv=$1
shift

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3}; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$(${PYTHON:-python3} --version 2>&1 || true)
    echo "DUO Studio needs Python 3.11 or newer; found: ${found:-no python3}." >&2
    echo "Install one (python.org, apt, brew, uv or pyenv) and run make again, or name it: make PYTHON=/path/to/python3.12" >&2
    exit 1
}

if [ ! -x "$venv/bin/python" ] || ! fits "$venv/bin/python"; then
    python=$(find_python)
    echo "Making $venv with $($python --version 2>&1) …"
    "$python" -m venv --clear "$venv" || {
        echo "$python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2
        exit 1
    }
fi

# PyPI's Linux wheel of torch brings 3 GB of CUDA libraries. Without an NVIDIA card the CPU build does the same.
if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then
    index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
else
    index=${TORCH_INDEX-}
fi
reachable() { "$venv/bin/python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=8)' "$1" 2>/dev/null; }

torch=$(grep -hE '^torch(vision)?==' "$@" || true)
has_torch() {
    "$venv/bin/python" -c 'import sys; from importlib.metadata import version; sys.exit(any(
        version(name).split("+")[0] != pin for name, pin in (word.split("==") for word in sys.argv[1:])))' "$@" 2>/dev/null
}
# shellcheck disable=SC2086
if [ -n "$index" ] && [ -n "$torch" ] && ! has_torch $torch; then
    if reachable "$index"; then
        echo "Installing torch for the CPU (about 250 MB, 1 to 3 minutes) …"
        # shellcheck disable=SC2086
        "$venv/bin/pip" install --quiet --index-url "$index" $torch || echo "Not there; taking torch from PyPI instead."
    fi
fi

arguments=
for file in "$@"; do arguments="$arguments -r $file"; done
echo "Installing the packages of $* into $venv (3 to 10 minutes the first time, seconds after that) …"
# shellcheck disable=SC2086
"$venv/bin/pip" install --quiet $arguments
echo "Installed."
