#!/usr/bin/env bash
# Makes everything that one part of the tests needs, and does nothing when it is there: ci (default) or full.
. "$(dirname "$0")/lib.sh"

part=${1:-ci}
"$setup/install-host-packages.sh"
for root in bookworm trixie sid experimental; do "$setup/root.sh" "$root" >/dev/null; done
"$setup/openssl.sh" 3.0.2 >/dev/null
"$setup/nginx-on.sh" 3.4.1 >/dev/null
"$setup/python.sh" 50.0.2 >/dev/null
for linkage in shared static; do "$setup/kryoptic.sh" "$linkage" >/dev/null; done
case $part in
    ci | full) ;;
    *) fail "all.sh: no part is called '$part' (ci, full)" ;;
esac
