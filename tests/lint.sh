#!/usr/bin/env bash
# Format, lints, licences and sources of dependencies. The advisory database lies outside the package registries, so
# `cargo deny check advisories` is left to who has it: `tests/lint.sh --advisories`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --workspace --all-targets -- -D warnings

cargo_deny=$(tests/setup/cargo-deny.sh)
checks=(bans licenses sources)
[ "${1:-}" = --advisories ] && checks+=(advisories)
"$cargo_deny" --log-level warn check "${checks[@]}"
