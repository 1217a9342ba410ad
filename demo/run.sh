#!/usr/bin/env bash
# `make demo`: an unmodified nginx serves post-quantum TLS because OPENSSL_CONF names one file. `make demo-stop` ends it.
#
# Debian 12 or 13, with Rust. Everything it makes lies in target/demo. It changes nothing of the system's nginx or
# OpenSSL; packages that are missing for the build are installed by apt-get. Where nginx is not installed, Debian's
# package is unpacked into target/demo instead, because installing it would start a service on port 80.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
demo=$PWD/target/demo

main() {
    case ${1:-start} in
        start) ;;
        stop) stop && return ;;
        *) fail "demo/run.sh knows start and stop, not '$1'" "run: make demo" ;;
    esac
    [ -f /etc/debian_version ] || fail "this demo is written for Debian 12 and 13" "on another system follow docs/install.md"
    mkdir -p "$demo"
    stop_quietly
    build
    find_nginx
    make_certificate
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

make_certificate() {
    say "A classical certificate: ECDSA P-256, self-signed, for localhost"
    quietly certificate.log openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -addext basicConstraints=critical,CA:FALSE -keyout "$demo/server.key" -out "$demo/server.pem" ||
        fail "openssl could not make a certificate, its last lines are above" "look at target/demo/certificate.log"
    openssl x509 -in "$demo/server.pem" -noout -text | grep -E 'Public Key Algorithm|ASN1 OID' | sed 's/^ */   /'
}

# The shipped files with this machine's paths in them.
configure() {
    port=$(free_port 8443)
    application=$(free_port $((port + 1)))
    local file=with-system.cnf
    if env -u OPENSSL_CONF openssl list -kem-algorithms 2>/dev/null | grep -q X25519MLKEM768; then
        file=prefer.cnf
        say "This OpenSSL has X25519MLKEM768 itself; here Q-TLS takes it over (native = prefer)"
    fi
    sed -e "s|/usr/local/lib/qtls/qtls.so|$PWD/dist/qtls.so|" "openssl-cnf/$file" >"$demo/openssl.cnf"
    sed -e "s|/etc/nginx/tls/|$demo/|" -e "s|listen 443 |listen 127.0.0.1:$port |" \
        -e "s|http://127.0.0.1:8080;|http://127.0.0.1:$application;|" nginx-conf/require_any.conf >"$demo/site.conf"
    sed -e "s|/var/log/nginx/|$demo/|" nginx-conf/log.conf >"$demo/log.conf"
    cat >"$demo/nginx.conf" <<CONF
# Made by demo/run.sh.
worker_processes 1;
pid $demo/nginx.pid;
error_log $demo/error.log;
events {}
http {
    access_log $demo/access.log;
    client_body_temp_path $demo/temporary;
    proxy_temp_path $demo/temporary;
    fastcgi_temp_path $demo/temporary;
    uwsgi_temp_path $demo/temporary;
    scgi_temp_path $demo/temporary;
    include $demo/log.conf;
    include $demo/site.conf;

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
    version=$("$nginx" -v 2>&1 | sed 's/.*: //')
    say "Starting the unmodified $nginx ($version) with OPENSSL_CONF=$demo/openssl.cnf"
    OPENSSL_CONF=$demo/openssl.cnf quietly start.log "$nginx" -p "$demo/" -e "$demo/error.log" -c "$demo/nginx.conf" ||
        fail "nginx did not start, its reason is above" "dist/qtls doctor --nginx $nginx --conf $demo/openssl.cnf --nginx-conf $demo/nginx.conf"
    # Its sockets are open before the command returns, its process id is written after that.
    until_true running || fail "nginx ended at once" "look at target/demo/error.log"
    # OpenSSL goes on without a module that it can't load.
    grep -qF "$PWD/dist/qtls.so" "/proc/$(running)/maps" ||
        fail "nginx runs, but without qtls.so" "dist/qtls doctor --nginx $nginx --conf $demo/openssl.cnf --nginx-conf $demo/nginx.conf"
}

show() {
    say "A client of today: qtls probe localhost:$port"
    local status=0
    dist/qtls probe "localhost:$port" --ca "$demo/server.pem" | tee "$demo/probe.txt" | sed 's/^/   /' || status=$?
    if [ "$status" != 0 ] || ! grep -q 'X25519MLKEM768 negotiated' "$demo/probe.txt"; then
        fail "X25519MLKEM768 was not negotiated" "dist/qtls doctor --nginx $nginx --conf $demo/openssl.cnf --nginx-conf $demo/nginx.conf"
    fi

    say "A client of yesterday, which knows no post-quantum group: openssl s_client -groups X25519:P-256"
    # Without our OPENSSL_CONF: the system's own OpenSSL, as it is.
    env -u OPENSSL_CONF openssl s_client -connect "127.0.0.1:$port" -servername localhost -groups X25519:P-256 \
        -CAfile "$demo/server.pem" -verify_return_error -ign_eof >"$demo/classical.txt" 2>&1 \
        < <(printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') || true
    grep -E '^(New, TLS|Hello over)' "$demo/classical.txt" | sed 's/^/   /' ||
        fail "the classical client was not served" "look at target/demo/classical.txt and target/demo/error.log"
}

say_what_next() {
    cat <<TEXT

== Done: $version on $(openssl version | cut -d' ' -f1,2) speaks X25519MLKEM768, and nobody is locked out.

It goes on running. Type next, in $PWD:
   OPENSSL_CONF=target/demo/openssl.cnf curl --cacert target/demo/server.pem https://localhost:$port/
   curl --cacert target/demo/server.pem --curves X25519 https://localhost:$port/
   cat target/demo/tls.log                                # what nginx logged of each request
   dist/qtls probe localhost:$port --groups X25519         # as a classical client
   dist/qtls doctor --nginx ${nginx#"$PWD/"} --conf target/demo/openssl.cnf --nginx-conf target/demo/nginx.conf
   dist/qtls --help
Your own gateway: docs/install.md. What runs here: target/demo/nginx.conf and target/demo/openssl.cnf
Stop it with: make demo-stop
TEXT
}

# Prints the process id of the demo's nginx, or fails.
running() {
    local pid
    pid=$(cat "$demo/nginx.pid" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$demo/nginx.conf" && echo "$pid"
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
    if running >/dev/null; then
        stop_quietly
        echo "The demo's nginx has ended. Its files are in target/demo; nothing else was changed."
    else
        echo "The demo's nginx does not run."
    fi
}

main "$@"
