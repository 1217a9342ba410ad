#!/usr/bin/env bash
# Measures both sides in one run and writes docs/benchmarks.md. Wants a machine with nothing else to do; takes some
# ten minutes. What counts is the ratio: absolute times differ from machine to machine.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${QTLS_BENCH_ROUNDS:-11} handshakes=${QTLS_BENCH_HANDSHAKES:-2000}
tests/setup/install-host-packages.sh
command -v cmake >/dev/null || apt-get install -y --no-install-recommends cmake # for liboqs, the third side of the operations
make build

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# conf NAME GROUPS [native = prefer]: an openssl.cnf, with the provider unless NAME says that it is without.
conf() {
    local name=$1 groups=$2 native=${3:-yield}
    {
        printf 'config_diagnostics = 1\nopenssl_conf = init\n[init]\nssl_conf = ssl\nproviders = providers\n'
        [ "$native" = prefer ] && printf 'alg_section = algorithms\n[algorithms]\ndefault_properties = ?provider=qtls\n'
        printf '[ssl]\nsystem_default = tls\n[tls]\nGroups = %s\n[providers]\ndefault = default_sect\n' "$groups"
        [[ $name = without* ]] || printf 'qtls = qtls_sect\n'
        printf '[default_sect]\nactivate = 1\n[qtls_sect]\nmodule = /opt/qtls-bench/qtls.so\nactivate = 1\nnative = %s\n' "$native"
    } >"$work/$name.cnf"
}
conf without X25519:P-256
conf without-hybrid X25519MLKEM768:X25519
conf with X25519MLKEM768:X25519
conf prefer X25519MLKEM768:X25519 prefer

# A root of the cache is used by several runs: our files go into a folder of their own.
in_root() {
    local root
    root=$(tests/setup/root.sh "$1")
    mkdir -p "$root/opt/qtls-bench"
    cp dist/qtls.so "$work"/*.cnf "$root/opt/qtls-bench/"
    printf '%s\n' "$root"
}
bookworm=$(in_root bookworm)
trixie=$(in_root trixie)

handshakes_in() {
    local root=$1
    shift
    local arguments=()
    for configuration in "$@"; do arguments+=(--conf "$configuration,chroot=$root"); done
    dist/qtls bench --nginx /usr/sbin/nginx --rounds "$rounds" --handshakes "$handshakes" "${arguments[@]}"
}

etc=/opt/qtls-bench
{
    cat <<'HEAD'
# Benchmarks

Written by `make bench`, both sides of each table in one run. Read the ratios: absolute times belong to one machine and
one day. How the figures come about is said in `qtls bench --help` (handshakes) and in `provider/benches/` (operations).

HEAD
    printf 'Machine: %s, %s cores, Linux %s. Date: %s.\n\n' \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r | cut -d- -f1)" "$(date -u +%F)"
    printf '## Worker CPU of a handshake: stock nginx 1.22 on OpenSSL 3.0 (Debian 12)\n\n'
    printf 'One worker, ECDSA P-256 certificate. OpenSSL 3.0 has no post-quantum group of its own.\n\n```text\n'
    handshakes_in "$bookworm" "classical=$etc/without.cnf,group=X25519" "qtls=$etc/with.cnf,group=X25519MLKEM768"
    printf '```\n\n## Worker CPU of a handshake: stock nginx 1.26 on OpenSSL 3.5 (Debian 13)\n\n'
    printf '`openssl` is its own X25519MLKEM768; `qtls` is ours with `native = prefer`.\n\n```text\n'
    handshakes_in "$trixie" "openssl=$etc/without-hybrid.cnf,group=X25519MLKEM768" \
        "qtls=$etc/prefer.cnf,group=X25519MLKEM768" "classical=$etc/without.cnf,group=X25519"
    printf '```\n\n## Operations through EVP, against OpenSSL 3.5\n\n```text\n'
    provider/benches/run.sh
    printf '```\n'
} >"$work/benchmarks.md"
mkdir -p docs
cp "$work/benchmarks.md" docs/benchmarks.md
cat docs/benchmarks.md
