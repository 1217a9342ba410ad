#!/usr/bin/env bash
# Builds the ML-KEM and ML-DSA parts of liboqs from the sources in crate oqs-sys; prints its prefix.
. "$(dirname "$0")/../../tests/setup/lib.sh"

crate=0.11.0+liboqs-0.13.0
command -v cmake >/dev/null || fail "liboqs.sh: no cmake (apt-get install cmake)"

make_liboqs() {
    local out=$1 work manifest
    work=$(dirname "$out")
    mkdir -p "$work/fetch/src"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\noqs-sys = { version = "=%s", default-features = false }\n[workspace]\n' \
        "${crate%%+*}" >"$work/fetch/Cargo.toml"
    : >"$work/fetch/src/lib.rs"
    manifest=$(cd "$work/fetch" && cargo metadata --format-version 1 |
        grep -o "\"manifest_path\":\"[^\"]*/oqs-sys-$crate/Cargo.toml\"" | cut -d'"' -f4)
    # As the crate builds it: code for several processors, chosen when it runs.
    cmake -S "$(dirname "$manifest")/liboqs" -B "$work/build" -DCMAKE_INSTALL_PREFIX="$out" -DCMAKE_INSTALL_LIBDIR=lib \
        -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DOQS_DIST_BUILD=ON -DOQS_BUILD_ONLY_LIB=ON \
        -DOQS_USE_OPENSSL=OFF -DOQS_MINIMAL_BUILD="KEM_ml_kem_512;KEM_ml_kem_768;KEM_ml_kem_1024;SIG_ml_dsa_44;SIG_ml_dsa_65;SIG_ml_dsa_87"
    cmake --build "$work/build" --target install -j"$(nproc)"
}

cached liboqs "$(key "$crate")" make_liboqs
