#!/bin/sh
# sign.sh KEYS DIRECTORY NAME SIGNER: signs DIRECTORY/NAME with the key in gpg's directory KEYS, in the form "--clearsign" for
# apt's Release, and apart for anything else. Where there is no key one is made for SIGNER. Its public half is DIRECTORY/key.gpg.
set -eu
keys=$1 directory=$2 name=$3 signer=$4
install -d -m 0700 "$keys"
keys=$(cd "$keys" && pwd)
run() { gpg --homedir "$keys" --batch --quiet --yes "$@"; }
if ! run --list-secret-keys --with-colons 2>/dev/null | grep -q ^sec; then
  echo "made a key for $signer in $keys: a release is signed with a key that its users know" >&2
  run --passphrase '' --quick-generate-key "$signer" ed25519 sign 2y
fi
cd "$directory"
case $name in
Release) run --clearsign --output InRelease Release ;;
*) run --armor --detach-sign --output "$name.asc" "$name" ;;
esac
run --export --output key.gpg
