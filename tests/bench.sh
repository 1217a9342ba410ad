#!/usr/bin/env bash
# Measures both sides in one run and writes docs/benchmarks.md. Wants a machine with nothing else to do; takes some
# 40 minutes. What counts is the ratio: absolute times differ from machine to machine.
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
sid=$(in_root sid)

# identity NAME ALGORITHM: NAME.pem (a leaf and an intermediate under a root that is not sent), NAME-leaf.pem (the leaf alone) and
# NAME.key, by OpenSSL 3.5.
identity() {
    chroot "$trixie" sh -ec '
        cd /opt/qtls-bench
        make() { openssl genpkey $2 -out "$1.key" && openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"; }
        sign() { openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -days 30 -extfile "$1.ext" -out "$1.crt"; }
        echo "basicConstraints = critical, CA:TRUE" >intermediate.ext
        echo "subjectAltName = DNS:localhost" >localhost.ext
        for name in root intermediate localhost; do make "$name" "$2"; done
        openssl req -x509 -key root.key -subj /CN=root -days 30 -out root.crt
        sign intermediate root
        sign localhost intermediate
        cat localhost.crt intermediate.crt >"$1.pem"
        mv localhost.crt "$1-leaf.pem"
        mv localhost.key "$1.key"
    ' sh "$1" "$2" >"$work/identity.log" 2>&1 || { cat "$work/identity.log" >&2; exit 1; }
    mv "$trixie/opt/qtls-bench/$1"{,-leaf}.pem "$trixie/opt/qtls-bench/$1.key" "$work/"
}
identity ecdsa "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
identity ml-dsa-65 "-algorithm ML-DSA-65"
ecdsa=cert=$work/ecdsa.pem,key=$work/ecdsa.key
ml_dsa=cert=$work/ml-dsa-65.pem,key=$work/ml-dsa-65.key

handshakes_in() {
    local root=$1
    shift
    local arguments=()
    for configuration in "$@"; do arguments+=(--conf "$configuration,chroot=$root"); done
    dist/qtls bench --nginx /usr/sbin/nginx --rounds "$rounds" --handshakes "$handshakes" ${only:+--only "$only"} "${arguments[@]}"
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
    printf '```\n\n## Worker CPU of a handshake with an ML-DSA-65 certificate: stock nginx 1.26 on OpenSSL 3.5\n\n'
    printf 'The leaf alone is sent; `openssl` signs itself, `qtls` is ours with `native = prefer`, `classical` is ECDSA P-256.\n\n```text\n'
    only=full handshakes_in "$trixie" "openssl=$etc/without-hybrid.cnf,group=X25519MLKEM768,${ml_dsa/.pem/-leaf.pem}" \
        "qtls=$etc/prefer.cnf,group=X25519MLKEM768,${ml_dsa/.pem/-leaf.pem}" "classical=$etc/without.cnf,group=X25519,${ecdsa/.pem/-leaf.pem}"
    printf '```\n\n`qtls` against the classical handshake, in a run of its own:\n\n```text\n'
    only=full handshakes_in "$trixie" "classical=$etc/without.cnf,group=X25519,${ecdsa/.pem/-leaf.pem}" \
        "qtls=$etc/prefer.cnf,group=X25519MLKEM768,${ml_dsa/.pem/-leaf.pem}"
    printf '```\n\n## Bytes of a certificate chain on the wire: stock nginx 1.30 on OpenSSL 3.6 (Debian sid)\n\n'
    printf 'Leaf and intermediate, with and without RFC 8879 compression (zlib), which nginx has from 1.29.1 on. ML-DSA keys and\n'
    printf 'signatures are random bytes, and do not get shorter.\n\n```text\n'
    rounds=1 handshakes=200 only=full handshakes_in "$sid" \
        "ecdsa=$etc/prefer.cnf,$ecdsa" "ecdsa-compressed=$etc/prefer.cnf,compress=on,$ecdsa" \
        "ml-dsa-65=$etc/prefer.cnf,$ml_dsa" "ml-dsa-65-compressed=$etc/prefer.cnf,compress=on,$ml_dsa"
    printf '```\n\n'
    QTLS_BENCH_ROUNDS=$rounds QTLS_BENCH_HANDSHAKES=$handshakes tests/bench-hsm.sh
    printf '## Operations through EVP, against OpenSSL 3.5\n\n```text\n'
    provider/benches/run.sh
    printf '```\n'
} >"$work/benchmarks.md"
mkdir -p docs
cp "$work/benchmarks.md" docs/benchmarks.md
cat docs/benchmarks.md
