#!/usr/bin/env bash
# Installs the Debian packages that the tests use on this machine (Debian 12 or 13).
. "$(dirname "$0")/lib.sh"

packages=(
    mmdebstrap debian-archive-keyring # the test roots
    gcc g++ make perl libc6-dev       # OpenSSL and nginx from source; libFuzzer
    libpcre2-dev zlib1g-dev           # nginx from source
    binutils                          # objdump, readelf: what qtls.so exports and needs
    libssl-dev                        # the ABI check against the host's own headers
    openssl curl iproute2 valgrind
    python3 python3-venv              # PyPI cryptography
    chromium                          # the browser test
    softhsm2 opensc libsqlite3-0      # tokens for qtls and for nginx on an OpenSSL from source
)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0

need_root install-host-packages.sh
mkdir -p "$cache/log"
log=$cache/log/host-packages.log
began=$SECONDS
say "host packages: installing ${missing[*]} (log: $log)"
{
    apt-get -o DPkg::Lock::Timeout=600 update &&
        apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; fail "host packages: apt-get failed; the whole log is $log"; }
say "host packages: installed in $((SECONDS - began)) s"
