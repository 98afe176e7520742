{
  "targets": [
    {
      "target_name": "statespace",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "message": "Building by CMake, as npm run build:native does",
          "inputs": ["CMakeLists.txt", "scripts/build-native.cjs"],
          "outputs": ["<(PRODUCT_DIR)/statespace.node"],
          "action": [
            "node", "scripts/build-native.cjs",
            "--arch", "<(target_arch)",
            "--folder", "build-gyp-<(target_arch)",
            "--copy", "<(PRODUCT_DIR)/statespace.node"
          ]
        }
      ]
    }
  ]
}
