#pragma once
// Fibers for the emulated device: a stack each, switched by hand. Address sanitizer is told of every switch.
#include <cstddef>

namespace statespace::cuda::emulated {

class Fiber {
 public:
  using Entry = void (*)(void* argument);

  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  // Starts over: the next resume() calls entry(argument), which must not return but suspend for good.
  void start(Entry entry, void* argument);
  void resume();
  // Back to resume()'s caller; called on this fiber. `final`: it will not be resumed again.
  void suspend(bool final = false);

 private:
  static void begin(Fiber* self);
  struct Context;
  void* stack_ = nullptr;
  void* own_ = nullptr;     // saved state of the fiber
  void* caller_ = nullptr;  // saved state of resume()'s caller
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
  void* fake_own_ = nullptr;  // address sanitizer's fake stacks, and where the caller's stack lies
  void* fake_caller_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_size_ = 0;
};

}  // namespace statespace::cuda::emulated
