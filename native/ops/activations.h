#pragma once
// The pointwise functions that ops share, as the choice that fields() declares and the kernels' switch.
namespace statespace {

constexpr const char* kActivations = "none|silu|gelu|gelu-tanh|sigmoid|tanh|relu|relu2|exp|softplus";

// In the order of kActivations. gelu is the exact one (erf), relu2 the squared ReLU of RWKV.
enum class Activation { none, silu, gelu, gelu_tanh, sigmoid, tanh, relu, relu2, exp, softplus };

}  // namespace statespace
