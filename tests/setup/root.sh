#!/usr/bin/env bash
# Makes a Debian root with the OpenSSL of one release and the programs that the tests run on it; prints its path.
. "$(dirname "$0")/lib.sh"

name=${1:?usage: root.sh bookworm|trixie|sid|experimental}
common=(openssl libssl-dev ca-certificates)
# Tokens: SoftHSM, the programs that initialise one, p11-kit's server (a token that is a process), what Kryoptic needs.
tokens=(softhsm2 opensc)
case $name in
    # OpenSSL 3.0, nginx 1.22
    bookworm) suite=bookworm packages=(nginx haproxy curl valgrind "${tokens[@]}" p11-kit p11-kit-modules) ;;
    # OpenSSL 3.5, nginx 1.26
    trixie) suite=trixie packages=(nginx haproxy valgrind "${tokens[@]}" p11-kit p11-kit-modules libsqlite3-0 pkcs11-provider) ;;
    # OpenSSL 3.6, PostgreSQL 18
    sid) suite=sid packages=(nginx haproxy curl postgresql-18 valgrind "${tokens[@]}" libsqlite3-0 pkcs11-provider) ;;
    experimental) suite=sid packages=(valgrind) ;; # OpenSSL 4.0 on sid
    *) fail "root.sh: no root is called '$name' (bookworm, trixie, sid, experimental)" ;;
esac

make_root() {
    local out=$1 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    local sources=("deb [signed-by=$keyring] $mirror $suite main") options=()
    local include
    include=$(IFS=,; echo "${common[*]},${packages[*]}")
    case $name in
        # Archives of unreleased suites expire within days; a mirror may be a frozen one.
        sid | experimental) options+=(--aptopt='Acquire::Check-Valid-Until "false"') ;;
    esac
    if [ "$name" = experimental ]; then
        sources+=("deb [signed-by=$keyring] $mirror experimental main")
        # Only OpenSSL comes from there: its priority of 1 keeps everything else on sid.
        options+=(--setup-hook='mkdir -p "$1/etc/apt/preferences.d"'
            --setup-hook='printf "Package: openssl libssl4 libssl-dev openssl-provider-legacy\nPin: release a=experimental\nPin-Priority: 900\n" > "$1/etc/apt/preferences.d/openssl"')
    fi
    while read -r option; do options+=(--aptopt="$option"); done < <(apt_proxy_options)
    printf '%s\n' "${sources[@]}" |
        mmdebstrap --mode=root --variant=essential --format=directory --include="$include" "${options[@]}" \
            --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
            --dpkgopt=force-unsafe-io \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
            --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"' \
            "$suite" "$out/root" -
    rmdir "$out/root/proc" "$out/root/sys" 2>/dev/null || true
    mkdir -p "$out/root/proc" "$out/root/sys" "$out/root/dev/shm"
    chmod 1777 "$out/root/dev/shm" "$out/root/tmp"
    local device
    while read -r device major minor; do
        [ -c "$out/root/dev/$device" ] || mknod -m 666 "$out/root/dev/$device" c "$major" "$minor"
    done <<<'null 1 3
zero 1 5
random 1 8
urandom 1 9'
    # The tests' programs run here without systemd; nothing may need more than chroot and these devices.
    chroot "$out/root" /bin/sh -ec 'id www-data; openssl version; head -c 1 /dev/urandom > /dev/null'
    rm -rf "$out/root/var/lib/apt/lists" "$out/root/var/cache/apt"/*.bin
}

need_root root.sh
path=$(cached "root-$name" "$(key "$name")" make_root)
printf '%s/root\n' "$path"
