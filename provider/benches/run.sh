#!/usr/bin/env bash
# Prints the table of operation times: qtls against OpenSSL 3.5's own, on Debian 13's libcrypto, and liboqs's primitives
# where cmake is there to build them.
#
#   provider/benches/run.sh [rounds] [milliseconds]     15 rounds of 20 ms for each operation and side unless told otherwise
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-15} milliseconds=${2:-20}

module=${QTLS_MODULE:-$here/../../dist/qtls.so}
[ -f "$module" ] || { echo "run.sh: no provider at $module: run 'make build', or set QTLS_MODULE" >&2; exit 1; }
root=$("$here/../../tests/setup/root.sh" trixie)
work=$(mktemp -d "$root/tmp/qtls-bench.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

oqs=()
if ! command -v cmake >/dev/null; then
    echo "No liboqs column: cmake is not installed (apt-get install cmake)." >&2
else
    liboqs=$("$here/liboqs.sh")
    oqs=(-DWITH_LIBOQS "-I$liboqs/include" "$liboqs/lib/liboqs.a")
fi
cc -O2 -Wall -Wextra -Werror -o "$work/operations" "$here/operations.c" "${oqs[@]}" -lcrypto
cp "$module" "$work/qtls.so"
inside=/tmp/$(basename "$work")
cat >"$work/openssl.cnf" <<CONF
config_diagnostics = 1
openssl_conf = openssl_init
[openssl_init]
providers = provider_sect
alg_section = alg_sect
[alg_sect]
default_properties = ?provider=qtls
[provider_sect]
default = default_sect
qtls = qtls_sect
[default_sect]
activate = 1
[qtls_sect]
module = $inside/qtls.so
activate = 1
native = prefer
CONF
chroot "$root" env -u OPENSSL_CONF "$inside/operations" "$rounds" "$milliseconds" "$inside/openssl.cnf"
