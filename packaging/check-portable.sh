#!/bin/sh
# check-portable.sh PROGRAM GLIBC BYTES: whether PROGRAM runs with the C library of version GLIBC, is no larger than BYTES, and does
# not say where it was built, which would make every build of it different.
set -eu
program=$1 glibc=$2 limit=$3
newest=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
newest=${newest#GLIBC_}
newest=${newest:-0} # A static program has no version.
if [ "$(printf '%s\n' "$newest" "$glibc" | sort -V | tail -n 1)" != "$glibc" ]; then
  echo "$program needs the C library's version $newest; $glibc was meant to be enough" >&2
  exit 1
fi
size=$(stat -c %s "$program")
if [ "$size" -gt "$limit" ]; then
  echo "$program has $size bytes; $limit was meant to be enough" >&2
  exit 1
fi
for place in "$PWD" "${CARGO_HOME:-$HOME/.cargo}"; do
  if grep -qaF "$place/" "$program"; then
    echo "$program names a directory of this machine, $place" >&2
    exit 1
  fi
done
libraries=$(objdump -p "$program" | awk '$1 == "NEEDED" { print $2 }' | sort | tr '\n' ' ')
for library in $libraries; do
  case $library in
  libc.so.6 | libm.so.6 | libgcc_s.so.1 | libpthread.so.0 | libdl.so.2 | librt.so.1 | libutil.so.1 | ld-linux-*.so.*) ;;
  *)
    echo "$program needs $library, which not every distribution has" >&2
    exit 1
    ;;
  esac
done
echo "$program: $size bytes, C library $newest or later, $libraries"
