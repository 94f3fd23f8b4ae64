#!/usr/bin/env bash
# Where sources are published, from the address of a Git remote: https://HOST/PATH, or nothing if that
# is no address others can use. It becomes a label of a public image, so a user name, a password or
# a token in the address (https://TOKEN@host/…, as CI clones) stays out.
#     scripts/source-url.sh URL
set -euo pipefail
url=${1:-}
case "$url" in
https://*) rest=${url#https://} ;;
# A port of SSH is none of HTTPS.
ssh://*) rest=$(sed -E 's#^([^/]*):[0-9]+(/|$)#\1\2#' <<<"${url#ssh://}") ;;
*://*) exit 0 ;;
*)
    # user@host:path; anything else is a file.
    [[ $url =~ ^[^@:/]+@([^@:/]+):/*(.+)$ ]] || exit 0
    rest=${BASH_REMATCH[1]}/${BASH_REMATCH[2]}
    ;;
esac
rest=${rest%%[?#]*}
host=${rest%%/*}
path=/${rest#*/}
[ "$host" != "$rest" ] || path=
# A password with a slash in it would be half of it here.
[[ $path != *@* ]] || exit 0
printf 'https://%s%s\n' "${host##*@}" "$path"
