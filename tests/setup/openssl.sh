#!/usr/bin/env bash
# Builds one OpenSSL release as shared libraries from the sources in crate openssl-src; prints its prefix.
. "$(dirname "$0")/lib.sh"

version=${1:?usage: openssl.sh 3.0.2|3.4.1|4.0.3}
case $version in
    3.0.2) crate=300.0.5 ;; # Ubuntu 22.04's
    3.4.1) crate=300.4.2 ;; # the last with the out-of-bounds walk over signature schemes
    4.0.3) crate=400.0.2 ;;
    *) fail "openssl.sh: no openssl-src release is known for '$version'" ;;
esac

make_openssl() {
    local out=$1 prefix=$2 work manifest
    work=$(dirname "$out")
    mkdir -p "$work/fetch/src"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nopenssl-src = "=%s"\n[workspace]\n' \
        "$crate" >"$work/fetch/Cargo.toml"
    : >"$work/fetch/src/lib.rs"
    manifest=$(cd "$work/fetch" && cargo metadata --format-version 1 |
        grep -o "\"manifest_path\":\"[^\"]*/openssl-src-$crate+$version/Cargo.toml\"" | cut -d'"' -f4)
    cp -r "$(dirname "$manifest")/openssl" "$work/source"
    mkdir "$work/build"
    cd "$work/build"
    # The run path makes its programs, and what links to it, find these libraries and no other.
    perl "$work/source/Configure" --prefix="$prefix" --libdir=lib --openssldir="$prefix/ssl" \
        shared no-tests no-legacy no-dtls no-srp LDFLAGS="-Wl,-rpath,$prefix/lib" CFLAGS=-O1
    # Not `build_sw`: that compiles everything once more for the static libraries.
    make -s -j"$(nproc)" build_generated
    make -s -j"$(nproc)" libcrypto.so libssl.so apps/openssl
    mkdir -p "$out"/{bin,lib,ssl,include/openssl}
    cp apps/openssl "$out/bin/"
    cp -P libcrypto.so* libssl.so* "$out/lib/"
    cp "$work"/source/include/openssl/*.h include/openssl/*.h "$out/include/openssl/"
    cp "$work/source/apps/openssl.cnf" "$out/ssl/"
    LD_LIBRARY_PATH=$out/lib "$out/bin/openssl" version | grep -F "OpenSSL $version "
}

"$setup/install-host-packages.sh"
cached "openssl-$version" "$(key "$version" "$crate")" make_openssl
