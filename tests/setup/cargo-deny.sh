#!/usr/bin/env bash
# Prints the path of a cargo-deny, built once where the machine has none.
. "$(dirname "$0")/lib.sh"

version=0.20.2
if command -v cargo-deny >/dev/null; then
    command -v cargo-deny
    exit
fi
build() { cargo install --locked --root "$1" --target-dir "$1/target" cargo-deny --version "=$version" && rm -rf "$1/target"; }
printf '%s/bin/cargo-deny\n' "$(cached cargo-deny "$(key "$version" "$(rustc --version)")" build)"
