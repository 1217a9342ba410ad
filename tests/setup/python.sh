#!/usr/bin/env bash
# Makes a Python environment with PyPI's `cryptography`, which brings an OpenSSL 4.0 of its own; prints its path.
. "$(dirname "$0")/lib.sh"

version=${1:?usage: python.sh 50.0.2}

make_environment() {
    /usr/bin/python3 -m venv "$1"
    "$1/bin/python" -m pip install --no-input --disable-pip-version-check --only-binary :all: "cryptography==$version"
    "$1/bin/python" -c 'from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem'
}

"$setup/install-host-packages.sh"
cached "python-$version" "$(key "$version" "$(/usr/bin/python3 --version)")" make_environment
