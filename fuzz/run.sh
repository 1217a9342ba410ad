#!/bin/sh
# Builds every fuzz target and runs each for a while; fails on the first crash and says how to repeat it.
#
#   fuzz/run.sh [seconds-per-target] [target...]      30 seconds and all targets unless told otherwise
#
# Needs only stable Rust and a C++ compiler. cargo-fuzz asks for a nightly compiler because of the sanitizers; coverage,
# which is all that libFuzzer itself needs, is an ordinary LLVM pass. Inputs that found something new stay in
# fuzz/corpus, crashes in fuzz/artifacts; neither is kept in git.
set -eu
cd "$(dirname "$0")"

seconds=${1:-30}
[ $# -eq 0 ] || shift
targets=${*:-$(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)}

# With --target, build scripts and macros are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# shellcheck disable=SC2046 # one --bin for each target, none with a space in its name
cargo build --release --locked --target "$host" $(printf -- '--bin %s ' $targets)

for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log=artifacts/$target/last-run.log
    echo "fuzz: $target, $seconds s"
    if ! "target/$host/release/$target" "corpus/$target" \
        -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz: $target crashed (whole output in fuzz/$log); repeat it with:" >&2
        echo "  (cd fuzz && target/$host/release/$target artifacts/$target/crash-...)" >&2
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p' "$log"
    echo "  edges covered: $(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
done
