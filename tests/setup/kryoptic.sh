#!/usr/bin/env bash
# Builds Kryoptic, a software token with ML-DSA, from its crate; prints the directory that holds libkryoptic_pkcs11.so.
#
#   kryoptic.sh shared   on the process's own libcrypto, from 3.5 on: Debian 13 and sid
#   kryoptic.sh static   with an OpenSSL of its own inside, which nobody else sees: for a process on an older libcrypto
. "$(dirname "$0")/lib.sh"

linkage=${1:?usage: kryoptic.sh shared|static}
version=1.5.4
openssl_crate=300.6.1 # OpenSSL 3.6.3
# libclang and its headers are for bindgen.
common=(gcc libc6-dev pkg-config libsqlite3-dev)
case $linkage in
    shared) suite=trixie packages=(libssl-dev libclang1-19 libclang-common-19-dev) features=() ;;
    static) suite=bookworm packages=(make perl libclang1-14 libclang-common-14-dev) features=(--no-default-features --features standard,ossl/ossl-sys) ;;
    *) fail "kryoptic.sh: no build is called '$linkage' (shared, static)" ;;
esac

# source_of CRATE VERSION: where cargo keeps the crate's files, fetched when they are missing.
source_of() {
    local fetch
    fetch=$(mktemp -d)
    mkdir "$fetch/src"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n[workspace]\n' \
        "$1" "$2" >"$fetch/Cargo.toml"
    : >"$fetch/src/lib.rs"
    (cd "$fetch" && cargo metadata --format-version 1) |
        grep -o "\"manifest_path\":\"[^\"]*/$1-$2[^/\"]*/Cargo.toml\"" | head -n 1 | cut -d'"' -f4 | xargs dirname
    rm -rf "$fetch"
}

make_kryoptic() {
    local out=$1 work root include mirror options=()
    work=$(dirname "$out")
    root=$work/root
    mirror=$(debian_mirror)
    include=$(IFS=,; echo "${common[*]},${packages[*]}")
    while read -r option; do options+=(--aptopt="$option"); done < <(apt_proxy_options)
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" |
        mmdebstrap --mode=root --variant=essential --format=directory --include="$include" "${options[@]}" \
            --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            "$suite" "$root" -
    # All that the build needs is fetched here: inside the root there is no network and no certificate.
    cp -r "$(source_of kryoptic "$version")" "$root/kryoptic"
    (cd "$root/kryoptic" && mkdir .cargo && cargo vendor --locked --versioned-dirs vendor >.cargo/config.toml)
    [ "$linkage" = shared ] || cp -r "$(source_of openssl-src "$openssl_crate")/openssl" "$root/openssl"
    mkdir -p "$root/rust" "$root/proc" "$root/dev"
    unshare --mount sh -ec '
        mount --bind "$1" "$2/rust"
        mount -t proc proc "$2/proc"
        mount --bind /dev "$2/dev"
        root=$2
        shift 2
        exec chroot "$root" "$@"' sh "$(rustc --print sysroot)" "$root" \
        /usr/bin/env -i PATH=/rust/bin:/usr/bin:/bin HOME=/kryoptic /bin/sh -ec '
        if [ -d /openssl ]; then
            cd /openssl
            # What ossl-sys would build, and no more than it needs.
            ./Configure no-shared no-apps no-docs no-tests no-atexit no-legacy no-dso -fPIC enable-ec_nistp_64_gcc_128
            make -s -j"$(nproc)" build_generated
            make -s -j"$(nproc)" libcrypto.a
            export KRYOPTIC_OPENSSL_SOURCES=/openssl
        fi
        cd /kryoptic
        cargo build --release --frozen "$@" --features pqc
    ' sh "${features[@]}"
    # The tests read no backtrace of it.
    objcopy --strip-debug "$root/kryoptic/target/release/libkryoptic_pkcs11.so" "$out/libkryoptic_pkcs11.so"
    # With an OpenSSL of its own inside it shows none of its symbols, and takes none of the process's.
    [ "$linkage" = shared ] || ! readelf --wide --dyn-syms "$out/libkryoptic_pkcs11.so" | grep -E ' (EVP|ERR|CRYPTO|OSSL)_'
}

need_root kryoptic.sh
"$setup/install-host-packages.sh"
cached "kryoptic-$linkage" "$(key "$linkage" "$version" "$openssl_crate" "$(rustc --version)")" make_kryoptic
