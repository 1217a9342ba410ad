#!/usr/bin/env bash
# `make demo`: an unmodified nginx serves post-quantum TLS because OPENSSL_CONF names one file. `make demo-debian13`: the
# same in a Debian 13 root, whose OpenSSL 3.5 can use ML-DSA certificates. `make demo-stop` ends both.
#
# Debian 12 or 13, with Rust. Everything it makes lies in target/demo, or in the root. It changes nothing of the system's
# nginx or OpenSSL; packages that are missing for the build are installed by apt-get. Where nginx is not installed, Debian's
# package is unpacked into target/demo instead, because installing it would start a service on port 80.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where programs run (empty: here), the demo's folder as they see it, and as we see it.
root= place=$PWD/target/demo demo=$PWD/target/demo
debian13=/opt/qtls-demo

main() {
    case ${1:-start} in
        start) ;;
        debian13) make_root ;;
        stop) stop && return ;;
        *) fail "demo/run.sh knows start, debian13 and stop, not '$1'" "run: make demo" ;;
    esac
    [ -f /etc/debian_version ] || fail "this demo is written for Debian 12 and 13" "on another system follow docs/install.md"
    mkdir -p "$demo"
    stop_quietly
    build
    find_nginx
    look_at_openssl
    make_certificates
    configure
    start_nginx
    show
    say_what_next
}

say() { printf '\n== %s\n' "$*"; }

# fail WHAT NEXT: both on stderr, and the end.
fail() {
    printf '\ndemo: %s\ndemo: next: %s\n' "$1" "$2" >&2
    exit 1
}

# quietly LOG COMMAND...: its output goes to a log in target/demo that is shown when it fails.
quietly() {
    local log=$demo/$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# there COMMAND...: in the root, where the demo has one, with nothing of our environment.
there() {
    if [ -n "$root" ]; then
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 ${OPENSSL_CONF:+OPENSSL_CONF="$OPENSSL_CONF"} chroot "$root" "$@"
    else
        "$@"
    fi
}

# openssl as the system has it, whatever our environment says.
plain_openssl() { (unset OPENSSL_CONF; there openssl "$@"); }

make_root() {
    [ "$(id -u)" = 0 ] || fail "a Debian 13 root takes root to make and to enter" "run as root: make demo-debian13"
    say "A Debian 13 root, made once and kept in the cache"
    root=$(tests/setup/root.sh trixie) || fail "the root could not be made, its message is above" "mend that and run: make demo-debian13"
    demo=$root$debian13 place=$debian13
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"; }

build() {
    local package missing=()
    for package in gcc libc6-dev make openssl; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "Installing ${missing[*]} (log: target/demo/apt.log)"
        # The password, if sudo wants one, has to be asked for before its output goes to a log.
        as_root true || fail "installing ${missing[*]} needs root, and there is no sudo" \
            "as root: apt-get install ${missing[*]}; then again: make demo"
        quietly apt.log apt_get update || fail "apt-get update failed, its last lines are above" "mend that and run: make demo"
        quietly apt.log apt_get install -y --no-install-recommends "${missing[@]}" ||
            fail "apt-get could not install ${missing[*]}, its last lines are above" "mend that and run: make demo"
    fi
    command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
    command -v cargo >/dev/null || fail "there is no cargo" "install Rust 1.88 or newer, see https://rustup.rs; then: make demo"
    say "Building dist/qtls.so (the provider) and dist/qtls (the tool); the first time takes some minutes"
    make --no-print-directory build || fail "the build failed, its message is above" "Rust 1.88 or newer is needed; then: make demo"
}

# Sets nginx to a program that uses the system's OpenSSL.
find_nginx() {
    if [ -n "$root" ]; then
        nginx=/usr/sbin/nginx
        return
    fi
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx || true)
    if [ -n "$nginx" ]; then
        uses_libssl && return
        say "$nginx has an OpenSSL of its own built in, which reads no provider: taking Debian's package beside it"
    fi
    nginx=$demo/package/usr/sbin/nginx
    if [ ! -x "$nginx" ]; then
        say "nginx is not installed: unpacking Debian's package into target/demo (nothing is installed or started)"
        rm -rf "$demo/package" "$demo/download"
        mkdir -p "$demo/download"
        quietly download.log download || {
            as_root true || fail "apt-get download nginx failed, and apt-get update needs root" "as root: apt-get update; then: make demo"
            quietly apt.log apt_get update || fail "apt-get update failed, its last lines are above" "mend that and run: make demo"
            quietly download.log download || fail "apt-get download nginx failed, its last lines are above" "mend that and run: make demo"
        }
        dpkg-deb -x "$demo"/download/nginx_*.deb "$demo/package"
    fi
    [ -x "$nginx" ] || fail "Debian's package nginx has no /usr/sbin/nginx here" "install nginx yourself; then: make demo"
    uses_libssl || fail "$nginx does not find the system's libssl or another library: $(ldd "$nginx" | grep 'not found' | tr -s '\n\t' ' ')" \
        "apt-get install --no-install-recommends nginx; then: make demo"
}

download() { (cd "$demo/download" && apt-get download nginx); }

uses_libssl() {
    local libraries
    libraries=$(ldd "$nginx" 2>/dev/null) && [[ $libraries =~ libssl\.so\.[34] ]] && [[ $libraries != *"not found"* ]]
}

# Sets openssl to its version, ours to "yes" where it has X25519MLKEM768 itself and we take it over, ml_dsa to "yes" where
# TLS can use ML-DSA certificates: libssl asks providers for signature schemes from 3.2 on.
look_at_openssl() {
    openssl=$(plain_openssl version | cut -d' ' -f2) ours=no ml_dsa=no
    plain_openssl list -kem-algorithms 2>/dev/null | grep -q X25519MLKEM768 && ours=yes
    case $openssl in 3.[01].*) ;; *) ml_dsa=yes ;; esac
    file=with-system.cnf
    if [ "$ours" = yes ]; then
        file=prefer.cnf
        say "OpenSSL $openssl has X25519MLKEM768 and ML-DSA itself; here Q-TLS takes them over (native = prefer)"
    fi
    # Programs in a root see nothing outside of it.
    module=$PWD/dist/qtls.so
    if [ -n "$root" ]; then
        install -m 755 dist/qtls.so "$demo/qtls.so"
        module=$place/qtls.so
    fi
    sed -e "s|/usr/local/lib/qtls/qtls.so|$module|" "openssl-cnf/$file" >"$demo/openssl.cnf"
}

make_certificates() {
    say "A classical certificate: ECDSA P-256, self-signed, for localhost"
    certificate server-ecdsa -newkey ec -pkeyopt ec_paramgen_curve:P-256
    cp "$demo/server-ecdsa.pem" "$demo/ca.pem"
    if [ "$ml_dsa" = yes ]; then
        say "A post-quantum certificate beside it: ML-DSA-65"
        OPENSSL_CONF=$place/openssl.cnf certificate server-ml-dsa -newkey ML-DSA-65
        cat "$demo/server-ml-dsa.pem" >>"$demo/ca.pem"
    else
        say "No ML-DSA certificate: TLS on OpenSSL $openssl cannot use one, from 3.2 on it can. See it on this machine: make demo-debian13"
    fi
}

# certificate NAME ARGUMENTS...: makes NAME.pem and NAME.key.
certificate() {
    local name=$1
    shift
    quietly "$name.log" there openssl req -x509 "$@" -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$place/$name.key" -out "$place/$name.pem" ||
        fail "openssl could not make the certificate $name, its last lines are above" "look at $demo/$name.log"
    OPENSSL_CONF=$place/openssl.cnf there openssl x509 -in "$place/$name.pem" -noout -text |
        grep -E 'Public Key Algorithm|ASN1 OID' | sed 's/^ */   /'
}

# The shipped files with this machine's paths in them.
configure() {
    port=$(free_port 8443)
    application=$(free_port $((port + 1)))
    local site=require_any.conf
    [ "$ml_dsa" = no ] || site=ml-dsa.conf
    # Two certificates are enough to see.
    sed -e "s|/etc/nginx/tls/server\.|$place/server-ecdsa.|" -e "s|/etc/nginx/tls/|$place/|" -e /server-rsa/d \
        -e "s|listen 443 |listen 127.0.0.1:$port |" \
        -e "s|http://127.0.0.1:8080;|http://127.0.0.1:$application;|" "nginx-conf/$site" >"$demo/site.conf"
    sed -e "s|/var/log/nginx/|$place/|" nginx-conf/log.conf >"$demo/log.conf"
    cat >"$demo/nginx.conf" <<CONF
# Made by demo/run.sh.
worker_processes 1;
pid $place/nginx.pid;
error_log $place/error.log;
events {}
http {
    access_log $place/access.log;
    client_body_temp_path $place/temporary;
    proxy_temp_path $place/temporary;
    fastcgi_temp_path $place/temporary;
    uwsgi_temp_path $place/temporary;
    scgi_temp_path $place/temporary;
    include $place/log.conf;
    include $place/site.conf;

    # The application behind the gateway.
    map \$http_x_tls_group \$group {
        default \$http_x_tls_group;
        0x11ec  X25519MLKEM768;
    }
    server {
        listen 127.0.0.1:$application;
        access_log off;
        location / {
            default_type text/plain;
            return 200 "Hello over \$http_x_tls_protocol, key exchange \$group\n";
        }
    }
}
CONF
    : >"$demo/tls.log"
}

# free_port FIRST: the first port from there on that nothing listens on.
free_port() {
    local port
    for port in $(seq "$1" "$(($1 + 200))"); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    fail "something listens on every port from $1 to $(($1 + 200))" "end some of it; then: make demo"
}

start_nginx() {
    version=$(there "$nginx" -v 2>&1 | sed 's/.*: //')
    say "Starting the unmodified $nginx ($version) ${root:+of the root }with OPENSSL_CONF=$place/openssl.cnf"
    OPENSSL_CONF=$place/openssl.cnf quietly start.log there "$nginx" -p "$place/" -e "$place/error.log" -c "$place/nginx.conf" ||
        fail "nginx did not start, its reason is above" "$(doctor)"
    # Its sockets are open before the command returns, its process id is written after that.
    until_true running || fail "nginx ended at once" "look at $demo/error.log"
    # OpenSSL goes on without a module that it can't load.
    grep -qF "$module" "/proc/$(running)/maps" || fail "nginx runs, but without qtls.so" "$(doctor)"
}

# The command that says what is wrong.
doctor() {
    if [ -n "$root" ]; then
        echo "install dist/qtls $demo/qtls; chroot $root $place/qtls doctor --nginx $nginx --conf $place/openssl.cnf --nginx-conf $place/nginx.conf"
    else
        echo "dist/qtls doctor --nginx ${nginx#"$PWD/"} --conf target/demo/openssl.cnf --nginx-conf target/demo/nginx.conf"
    fi
}

show() {
    say "A client of today: qtls probe localhost:$port"
    local status=0
    dist/qtls probe "localhost:$port" --ca "$demo/ca.pem" | tee "$demo/probe.txt" | sed 's/^/   /' || status=$?
    if [ "$status" != 0 ] || ! grep -q 'X25519MLKEM768 negotiated' "$demo/probe.txt"; then
        fail "X25519MLKEM768 was not negotiated" "$(doctor)"
    fi
    if [ "$ml_dsa" = yes ] && ! grep -q mldsa65 "$demo/probe.txt"; then
        fail "the server did not sign with ML-DSA-65" "$(doctor)"
    fi

    say "A client of yesterday, which knows nothing post-quantum: openssl s_client -groups X25519:P-256 -sigalgs ECDSA+SHA256"
    plain_openssl s_client -connect "127.0.0.1:$port" -servername localhost -groups X25519:P-256 -sigalgs ECDSA+SHA256 \
        -CAfile "$place/server-ecdsa.pem" -verify_return_error -ign_eof >"$demo/classical.txt" 2>&1 \
        < <(printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') || true
    grep -E '^(New, TLS|Peer signature type|Hello over)' "$demo/classical.txt" | sed 's/^/   /'
    grep -q '^Hello over' "$demo/classical.txt" ||
        fail "the classical client was not served" "look at $demo/classical.txt and $demo/error.log"
}

say_what_next() {
    local certificates=""
    [ "$ml_dsa" = no ] || certificates=" and serves ML-DSA-65 beside ECDSA"
    cat <<TEXT

== Done: $version on OpenSSL $openssl speaks X25519MLKEM768$certificates, and nobody is locked out.

It goes on running. Type next, in $PWD:
TEXT
    if [ -n "$root" ]; then
        cat <<TEXT
   curl --cacert $demo/server-ecdsa.pem https://localhost:$port/
   cat $demo/tls.log                                       # what nginx logged of each request
   dist/qtls probe localhost:$port --groups X25519         # as a client with classical key exchange
   $(doctor)
Your own gateway: docs/install.md, docs/certificates.md. What runs here: $demo/nginx.conf and openssl.cnf beside it
TEXT
    else
        cat <<TEXT
   OPENSSL_CONF=target/demo/openssl.cnf curl --cacert target/demo/ca.pem https://localhost:$port/
   curl --cacert target/demo/server-ecdsa.pem --curves X25519 https://localhost:$port/
   cat target/demo/tls.log                                # what nginx logged of each request
   dist/qtls probe localhost:$port --groups X25519         # as a client with classical key exchange
   $(doctor)
   dist/qtls --help
Your own gateway: docs/install.md, docs/certificates.md. What runs here: target/demo/nginx.conf and target/demo/openssl.cnf
TEXT
    fi
    echo "Stop it with: make demo-stop"
}

# Prints the process id of the demo's nginx, or fails.
running() {
    local pid
    pid=$(cat "$demo/nginx.pid" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$place/nginx.conf" && echo "$pid"
}

has_ended() { [ ! -d "/proc/$1" ]; }

# until_true COMMAND...: asks it for ten seconds.
until_true() {
    local end=$((SECONDS + 10))
    until "$@" >/dev/null; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

stop_quietly() {
    local pid
    pid=$(running) || return 0
    kill -QUIT "$pid" || fail "process $pid, the demo's nginx, may not be ended by this user" "stop it as the user that started it"
    until_true has_ended "$pid" || fail "nginx, process $pid, still serves a connection" "close it, or: kill $pid"
}

stop() {
    local found=no
    if running >/dev/null; then
        stop_quietly
        found=yes
    fi
    # That of the Debian 13 root, whichever root of the cache it is.
    place=$debian13
    for demo in "${QTLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qtls}"/root-trixie-*/root"$debian13"; do
        running >/dev/null || continue
        stop_quietly
        found=yes
    done
    if [ "$found" = yes ]; then
        echo "The demo's nginx has ended. Its files are in target/demo, or in its root; nothing else was changed."
    else
        echo "The demo's nginx does not run."
    fi
}

main "$@"
