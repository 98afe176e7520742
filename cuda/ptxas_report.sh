#!/bin/sh
# Runs nvcc and keeps what ptxas said of its kernels beside the object, for resources.mjs.
for word; do
  case $last in -o) object=$word ;; esac
  last=$word
done
"$@" 2>"${object:-nvcc}.ptxas"
status=$?
grep -v '^ptxas info\|^    [0-9]* bytes stack frame' "${object:-nvcc}.ptxas" >&2
exit $status
