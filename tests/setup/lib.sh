# shellcheck shell=bash
# What the set-up scripts share: the cache, its locks and keys, and the host's Debian mirror.
set -euo pipefail
umask 022

setup=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${QTLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qtls}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Standard output is kept for the answer (a path), so that callers can capture it.
say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

need_root() {
    [ "$(id -u)" = 0 ] || fail "$1 needs root (it installs packages or runs chroot); run it as root"
}

# key TEXT...: names what made a cache entry, from the texts and the two scripts that make it.
key() { { printf '%s\n' "$@"; cat "$0" "$setup/lib.sh"; } | sha256sum | cut -c1-16; }

# cached KIND KEY FUNCTION: prints the directory KIND-KEY of the cache, made by FUNCTION when it is missing.
# FUNCTION gets an empty directory to fill, which is renamed at the end, and the final path. Its output
# goes to a log that is shown when it fails.
cached() {
    local kind=$1 target=$cache/$1-$2 build=$3
    mkdir -p "$cache/log"
    if [ ! -d "$target" ]; then
        local lock
        exec {lock}>"$cache/$kind.lock"
        flock -n "$lock" || { say "$kind: waiting for another run that makes it"; flock "$lock"; }
        if [ ! -d "$target" ]; then
            # We hold the lock: what an interrupted run left behind is nobody's.
            rm -rf --one-file-system "$cache/.$kind".??????
            local work log=$cache/log/$kind.log began=$SECONDS status=0
            work=$(mktemp -d "$cache/.$kind.XXXXXX")
            say "$kind: making it (log: $log)"
            # Not in a condition: bash would switch -e off inside.
            set +e
            (set -e; mkdir "$work/out"; "$build" "$work/out" "$target") >"$log" 2>&1 </dev/null {lock}>&-
            status=$?
            set -e
            if [ "$status" != 0 ]; then
                tail -n 40 "$log" >&2
                rm -rf --one-file-system "$work"
                fail "$kind: failed with status $status; the whole log is $log"
            fi
            chmod 755 "$work/out"
            mv -T "$work/out" "$target"
            rm -rf --one-file-system "$work"
            say "$kind: made in $((SECONDS - began)) s, $(du -sm "$target" | cut -f1) MB"
            # Entries made by older scripts that nobody has used for two days.
            find "$cache" -maxdepth 1 -type d -name "$kind-????????????????" ! -path "$target" -mtime +2 \
                -exec rm -rf --one-file-system {} +
        fi
        exec {lock}>&-
    fi
    touch "$target"
    printf '%s\n' "$target"
}

# The Debian archive that this host itself uses; apt reads both forms of its source lists.
debian_mirror() {
    local codename mirror
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Component: main" \
        ${codename:+"Release: $codename"} | head -n 1)
    [ -n "$mirror" ] || fail "no Debian archive with suite '${codename:-?}' and component main in this host's apt sources"
    printf '%s\n' "${mirror%/}"
}

# Options of the host's apt that another apt needs too to reach the same archive.
apt_proxy_options() {
    apt-config dump --no-empty --format '%f "%v";%n' Acquire::http::Proxy Acquire::https::Proxy 2>/dev/null || true
}
