#!/usr/bin/env bash
# Builds Debian 13's nginx on one OpenSSL made by openssl.sh; prints its prefix.
. "$(dirname "$0")/lib.sh"

version=${1:?usage: nginx-on.sh 3.4.1}

make_nginx() {
    local out=$1 prefix=$2 work apt mirror
    work=$(dirname "$out")
    apt=$work/apt
    mirror=$(debian_mirror)
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,state,source} "$work/source"
    : >"$apt/state/status"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
    # An apt of its own: the host's sources are not touched.
    {
        cat <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
Dir::State "$apt/state";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
        apt_proxy_options
    } >"$apt/apt.conf"
    export APT_CONFIG=$apt/apt.conf
    apt-get update
    # The upstream sources alone: Debian's own part may be newer than what the archive still, or already, has.
    (cd "$apt/source" && apt-get source --download-only --tar-only nginx)
    tar -xf "$apt"/source/nginx_*.orig.tar.gz -C "$work/source" --strip-components=1
    cd "$work/source"
    ./configure --prefix="$prefix" --with-http_ssl_module --with-http_v2_module --with-threads \
        --with-stream --with-stream_ssl_module --http-log-path=/dev/null \
        --with-cc-opt="-O2 -I$openssl/include" --with-ld-opt="-L$openssl/lib -Wl,-rpath,$openssl/lib"
    make -s -j"$(nproc)"
    make -s install DESTDIR="$work/destination"
    mv "$work/destination$prefix"/* "$out/"
    "$out/sbin/nginx" -V 2>&1 | grep -F "OpenSSL $version"
}

"$setup/install-host-packages.sh"
openssl=$("$setup/openssl.sh" "$version")
cached "nginx-on-$version" "$(key "$openssl")" make_nginx
