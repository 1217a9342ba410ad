#!/usr/bin/env bash
# Sets up and runs the tests; says how long each part took.
#
#   tests/run.sh ci      what every change has to pass (make test)
#   tests/run.sh full    the whole product of versions, groups and clients (make test-full)
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-ci}
case $part in ci) fuzz_seconds=10 ;; full) fuzz_seconds=120 ;; *) echo "tests/run.sh: ci or full, not '$part'" >&2; exit 2 ;; esac
export QTLS_TESTS=$part

began=$SECONDS
step() {
    local started=$SECONDS title=$1
    shift
    printf '\n==> %s\n' "$title"
    "$@"
    printf '<== %s: %d s\n' "$title" $((SECONDS - started))
}

command -v cargo >/dev/null || { echo "tests/run.sh: no cargo; install Rust first (https://rustup.rs)" >&2; exit 1; }

step "packages of this machine" tests/setup/install-host-packages.sh
step "style and lints" tests/lint.sh
# Debian roots and other OpenSSLs: mostly waiting for disk and archive, so the build goes on beside it.
log=$(mktemp)
tests/setup/all.sh "$part" >"$log" 2>&1 &
roots=$!
step "build" make build
step "Debian roots, other OpenSSLs (log of $roots)" bash -c 'tail --pid="$1" -n +1 -f "$2"' wait "$roots" "$log"
wait "$roots" || { echo "tests/run.sh: the set-up failed, see above" >&2; exit 1; }
rm -f "$log"
step "unit and component tests" cargo test --locked -p qtls-crypto -p qtls-pkcs11 -p qtls-provider -p qtls-cli
step "cross-component tests ($part)" cargo test --locked -p qtls-tests
step "fuzz targets, $fuzz_seconds s each" fuzz/run.sh "$fuzz_seconds"
printf '\nAll parts passed in %d s.\n' $((SECONDS - began))
