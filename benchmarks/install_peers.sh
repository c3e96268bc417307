#!/bin/sh
# Makes a virtual environment with the libraries that benchmarks/speed.py compares with.
#
#     sh benchmarks/install_peers.sh [folder]        # default: benchmarks/.peers
#     benchmarks/.peers/bin/python benchmarks/speed.py
#
# PYTHON names the interpreter (default python3, at least 3.11); a C compiler is needed.
# Where pip finds a CPU build of torch of the pinned version, that build is taken.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/.peers}

"${PYTHON:-python3}" -m venv "$venv"
venv=$(cd "$venv" && pwd)
install() {
    "$venv/bin/python" -m pip install -q --disable-pip-version-check \
        -c "$here/../constraints.txt" "$@"
}

# what the peers need and constraints.txt pins; this package itself, editable
install torch numpy scipy pandas matplotlib pillow requests tqdm -e "$here/.."
# --no-deps: their own lists ask for things that are not used here, or for older versions
install --no-deps torchvision==0.28.0 optree==0.20.0 graphviz==0.21 \
    gym==0.26.2 gym-notices==0.1.0 cloudpickle
install --no-deps higher==0.2.1 torchopt==0.7.3 parallel-metalearn==0.5.6 easyfsl==1.5.0

# learn2learn's source package holds C files made for older Pythons: make them anew
install "Cython==0.29.37" setuptools==84.2.1 wheel==0.48.0
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
"$venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps \
    --no-binary learn2learn --no-build-isolation -d "$sources" learn2learn==0.2.0
tar xzf "$sources"/learn2learn-0.2.0.tar.gz -C "$sources"
cd "$sources"/learn2learn-0.2.0
rm learn2learn/data/*.c
"$venv/bin/python" -m cython -3 learn2learn/data/*.pyx
install --no-deps --no-build-isolation .
