#!/usr/bin/env bash
# Measures handshakes with the key in a token, and prints the section of docs/benchmarks.md. `make bench` calls it; alone it
# measures the same with fewer rounds: QTLS_BENCH_ROUNDS=3 tests/bench-hsm.sh
#
# ECDSA and RSA, and the pools, on Debian 13; ML-DSA on Debian sid, because the pkcs11-provider of Debian 13 has none.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${QTLS_BENCH_ROUNDS:-11} handshakes=${QTLS_BENCH_HANDSHAKES:-2000}
pin=1234
dpkg-query -W libp11-kit-dev >/dev/null 2>&1 || apt-get install -y --no-install-recommends libp11-kit-dev >&2 # pkcs11.h
part=${1:-all}
case $part in
    all) "$0" trixie && exec "$0" sid ;;
    trixie | sid) ;;
    *) echo "bench-hsm.sh: trixie, sid or nothing, not '$part'" >&2; exit 2 ;;
esac
root=$(tests/setup/root.sh "$part")
kryoptic=$(tests/setup/kryoptic.sh shared)
outside=$(mktemp -d "$root/tmp/qtls-bench.XXXXXX")
inside=/tmp/$(basename "$outside")
trap 'rm -rf --one-file-system "$outside"' EXIT

cp dist/qtls.so dist/qtls "$kryoptic/libkryoptic_pkcs11.so" "$outside/"
# Built here and run in the root: both have a libcrypto.so.3.
flags=(-O2 -Wall -Wextra -Werror -I/usr/include/p11-kit-1)
cc "${flags[@]}" -o "$outside/signing_cost" pkcs11/benches/signing_cost.c -lcrypto -ldl
cc "${flags[@]}" -shared -fPIC -o "$outside/distant.so" pkcs11/benches/distant.c -ldl
mkdir "$outside/softhsm" "$outside/status"
printf '%s' "$pin" >"$outside/pin"
printf 'directories.tokendir = %s/softhsm\nobjectstore.backend = file\nlog.level = ERROR\n' "$inside" >"$outside/softhsm.conf"
printf '[[slots]]\nslot = 0\ndbtype = "sqlite"\ndbargs = "%s/kryoptic.sql"\n' "$inside" >"$outside/kryoptic.conf"

# conf NAME MODULE LINE...: an openssl.cnf with the provider and a token, reached through MODULE.
conf() {
    local name=$1 module=$2
    shift 2
    {
        printf 'config_diagnostics = 1\nopenssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = default_sect\n'
        printf 'qtls = qtls_sect\n[default_sect]\nactivate = 1\n[qtls_sect]\nmodule = %s/qtls.so\nactivate = 1\n' "$inside"
        printf 'pkcs11-module = %s\npkcs11-token = bench\npkcs11-pin-source = file:%s/pin\n' "$module" "$inside"
        printf 'pkcs11-status-dir = %s/status\n' "$inside"
        printf '%s\n' "$@"
    } >"$outside/$name.cnf"
}
# The other side of the comparison, with what its authors advise for nginx.
other_conf() {
    printf 'config_diagnostics = 1\nopenssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = default_sect\n'
    printf 'pkcs11 = pkcs11_sect\n[default_sect]\nactivate = 1\n[pkcs11_sect]\nmodule = pkcs11.so\nactivate = 1\n'
    printf 'pkcs11-module-path = %s\npkcs11-module-token-pin = file:%s/pin\npkcs11-module-cache-pins = cache\n' "$1" "$inside"
    printf 'pkcs11-module-quirks = no-deinit no-operation-state\n'
}
softhsm=/usr/lib/softhsm/libsofthsm2.so
for token in softhsm kryoptic; do
    module=$softhsm
    [ $token = softhsm ] || module=$inside/libkryoptic_pkcs11.so
    conf "$token" "$module" "pkcs11-timeout-ms = 0"
    conf "$token-timed" "$module" "pkcs11-timeout-ms = 5000"
    other_conf "$module" >"$outside/$token-other.cnf"
done
for sessions in 1 2 4 8; do
    conf "distant-$sessions" "$inside/distant.so" "pkcs11-sessions = $sessions" "pkcs11-wait-ms = 10000" "pkcs11-timeout-ms = 0"
done

in_root() { chroot "$root" env -u OPENSSL_CONF SOFTHSM2_CONF="$inside/softhsm.conf" KRYOPTIC_CONF="$inside/kryoptic.conf" "$@"; }
{
    in_root softhsm2-util --init-token --free --label bench --so-pin 12345678 --pin "$pin"
    in_root softhsm2-util --module "$inside/libkryoptic_pkcs11.so" --init-token --slot 0 --label bench --so-pin 12345678 --pin "$pin"
    self_signed() { in_root env OPENSSL_CONF="$inside/$1.cnf" openssl req -x509 -key "$2" -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 30 -out "$inside/$3.pem"; }
    key_ref() { in_root "$inside/qtls" key-ref --conf "$inside/$1.cnf" "pkcs11:token=bench;object=$2;type=private" >"$outside/$2-token.key"; }
    # The same key in the file and in the token; ML-DSA is made in the token, and another one in a file.
    id=1
    for algorithm in "ecdsa EC -pkeyopt ec_paramgen_curve:P-256" "rsa RSA -pkeyopt rsa_keygen_bits:2048"; do
        read -r name type options <<<"$algorithm"
        # shellcheck disable=SC2086
        in_root openssl genpkey -algorithm "$type" $options -out "$inside/$name.key"
        self_signed softhsm "$inside/$name.key" "$name"
        in_root softhsm2-util --import "$inside/$name.key" --token bench --pin "$pin" --label "$name" --id "0$id"
        key_ref softhsm "$name"
        id=$((id + 1))
    done
    in_root openssl genpkey -algorithm ML-DSA-65 -out "$inside/mldsa.key"
    self_signed kryoptic "$inside/mldsa.key" mldsa
    in_root "$inside/qtls" hsm generate --conf "$inside/kryoptic.cnf" --type ml-dsa-65 "pkcs11:token=bench;object=mldsa"
    self_signed kryoptic "pkcs11:token=bench;object=mldsa;type=private" mldsa-token
    key_ref kryoptic mldsa
} >"$outside/setup.log" 2>&1 || { cat "$outside/setup.log" >&2; exit 1; }

bench() { dist/qtls bench --rounds "$rounds" --handshakes "$handshakes" --only full --chroot "$root" --nginx /usr/sbin/nginx "$@"; }
environment=env.SOFTHSM2_CONF=$inside/softhsm.conf,env.KRYOPTIC_CONF=$inside/kryoptic.conf

# compare NAME TOKEN TITLE: the table of one type of key, and what is left when both signings are taken off.
compare() {
    local name=$1 token=$2 title=$3 module=$softhsm certificate=$outside/$1.pem table direct
    local handshake="group=X25519MLKEM768,$environment"
    if [ "$token" = kryoptic ]; then
        module=$inside/libkryoptic_pkcs11.so certificate=$outside/$name-token.pem
    fi
    local ours="cert=$certificate,key=$outside/$name-token.key"
    table=$(bench --conf "file=$inside/$token.cnf,$handshake,cert=$outside/$name.pem,key=$outside/$name.key" \
        --conf "qtls=$inside/$token.cnf,$handshake,$ours" --conf "qtls-timed=$inside/$token-timed.cnf,$handshake,$ours" \
        --conf "pkcs11-provider=$inside/$token-other.cnf,$handshake,$ours")
    direct=$(in_root "$inside/signing_cost" "$module" bench "$pin" "$name" "$inside/$name.key" "$((rounds * 5))" 50)
    read -r token_us file_us signing_extra <<<"$direct"
    printf '### %s\n\n```text\n%s\n```\n\n' "$title" "$table"
    printf 'One signature alone: by the token, called directly, %s µs; by libcrypto with the key from the file %s µs.\n' "$token_us" "$file_us"
    awk -v signing="$signing_extra" '$1 == "qtls" { direct = $8 } $1 == "qtls-timed" { timed = $8 }
        END { printf "What is left of the difference, the overhead of Q-TLS: **%.1f µs** with direct calls, %.1f µs with a time-out.\n\n",
              direct - signing, timed - signing }' <<<"$table"
}

explain() {
    printf '`file`: the same kind of key in a file. `qtls`: in the token, direct calls (`pkcs11-timeout-ms = 0`); `qtls-timed`: with the\n'
    printf 'default time-out. `pkcs11-provider`: Debian'"'"'s, with the same key file, token and PIN. X25519MLKEM768 is OpenSSL'"'"'s own for all.\n\n'
}
if [ "$part" = sid ]; then
    printf '## Worker CPU of a handshake with an ML-DSA-65 key in a token: stock nginx 1.30 on OpenSSL 3.6 (Debian sid)\n\n'
    explain
    compare mldsa kryoptic "ML-DSA-65 in Kryoptic"
    exit
fi
printf '## Worker CPU of a handshake with the key in a token: stock nginx 1.26 on OpenSSL 3.5 (Debian 13)\n\n'
explain
compare ecdsa softhsm "ECDSA P-256 in SoftHSM"
compare rsa softhsm "RSA 2048 in SoftHSM"

printf '## Handshakes by the size of the pool: HAProxy 3.0 with 8 threads, ECDSA P-256\n\n'
printf 'SoftHSM behind a delay of 2 ms at each signature, as far as an HSM in the network (`pkcs11/benches/distant.c`). Read the\n'
printf 'column "per s".\n\n```text\n'
pools=()
for sessions in 1 2 4 8; do
    pools+=(--conf "sessions-$sessions=$inside/distant-$sessions.cnf,haproxy=/usr/sbin/haproxy,threads=8,$environment,cert=$outside/ecdsa.pem,key=$outside/ecdsa-token.key")
done
bench --no-pin --connections 16 "${pools[@]}"
printf '```\n\n'
