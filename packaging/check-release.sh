#!/bin/sh
# check-release.sh VERSION: whether the changelog and the tag, if there is one, agree with what is going to be built.
set -eu
version=$1
latest=$(sed -n 's/^## \[\([^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
tag=$(git tag --points-at HEAD --list 'v*' 2>/dev/null | sort -V | tail -n 1)
if [ -n "$tag" ]; then
  if [ "$tag" != "v$version" ]; then
    echo "this commit has the tag $tag; Cargo.toml says version $version" >&2
    exit 1
  fi
  if ! grep -q "^## \[$version\] - [0-9]\{4\}-[0-9][0-9]-[0-9][0-9]$" CHANGELOG.md; then
    echo "CHANGELOG.md has no heading \"## [$version] - YYYY-MM-DD\" for the tag $tag" >&2
    exit 1
  fi
elif [ "$latest" != Unreleased ] && [ "$latest" != "$version" ]; then
  echo "CHANGELOG.md begins with ${latest:-no version}; Cargo.toml says version $version" >&2
  exit 1
fi
echo "version $version${tag:+, tag $tag}, changelog: ${latest}"
