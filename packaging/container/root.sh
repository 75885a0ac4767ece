#!/bin/sh
# root.sh PROGRAM DIRECTORY: lays out in DIRECTORY what the image holds: the program, the C library and the certificate
# authorities of this Debian, and the few files that they read. There is no shell in it.
set -eu
program=$1
mkdir -p "$2"
root=$(cd "$2" && pwd)
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT

(cd "$packages" && apt-get download -qq libc6 libgcc-s1 ca-certificates)
mkdir "$packages/all"
for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$packages/all"; done

install -D -m 0755 "$program" "$root/usr/bin/infisical"
# The loader, the libraries that the program names, and those that name resolution loads.
find "$packages/all" \( -name 'ld-linux-*.so.*' -o -name libc.so.6 -o -name libm.so.6 -o -name libgcc_s.so.1 \
  -o -name libpthread.so.0 -o -name libdl.so.2 -o -name librt.so.1 -o -name libutil.so.1 -o -name libresolv.so.2 \
  -o -name libnss_dns.so.2 -o -name libnss_files.so.2 \) -printf '%P\n' | while read -r file; do
  mkdir -p "$root/$(dirname "$file")"
  cp -a "$packages/all/$file" "$root/$file"
done
# One certificate after the other, as the distribution's own tool makes the file.
mkdir -p "$root/etc/ssl/certs"
cat "$packages"/all/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\ninfisical:x:65532:65532:infisical:/home/infisical:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\ninfisical:x:65532:\n' >"$root/etc/group"
install -d -m 0700 -o 65532 -g 65532 "$root/home/infisical" "$root/var/lib/infisical"
install -d -m 1777 "$root/tmp"
# Where engines mount; the root itself may be read-only.
install -d "$root/dev" "$root/proc" "$root/run" "$root/sys"
touch "$root/etc/hosts" "$root/etc/resolv.conf"
