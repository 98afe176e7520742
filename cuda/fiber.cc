#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define STATESPACE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STATESPACE_ASAN 1
#endif
#endif
#ifdef STATESPACE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace statespace::cuda::emulated {
namespace {

#ifdef STATESPACE_ASAN
constexpr size_t kStack = 256 * 1024;
#else
constexpr size_t kStack = 64 * 1024;
#endif

// One page below the stack faults, so that an overflow is not silent.
void* map_stack() {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* p = mmap(nullptr, kStack + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mprotect(p, guard, PROT_NONE);
  return static_cast<char*>(p) + guard;
}

void unmap_stack(void* stack) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(static_cast<char*>(stack) - guard, kStack + guard);
}

}  // namespace

#if defined(__x86_64__)
// switch saves the callee-saved registers and the stack pointer in *from, and takes up `to` (ucontext would do, at the
// price of a system call a switch). A new fiber's stack returns into the thunk, which calls r12 with rbx.
extern "C" void statespace_fiber_switch(void** from, void* to);
extern "C" void statespace_fiber_thunk();
asm(R"(
.text
.p2align 4
.hidden statespace_fiber_switch
.globl statespace_fiber_switch
.type statespace_fiber_switch, @function
statespace_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
.size statespace_fiber_switch, .-statespace_fiber_switch
.hidden statespace_fiber_thunk
.globl statespace_fiber_thunk
.type statespace_fiber_thunk, @function
statespace_fiber_thunk:
  movq %rbx, %rdi
  callq *%r12
  ud2
.size statespace_fiber_thunk, .-statespace_fiber_thunk
)");
#endif

Fiber::~Fiber() {
  if (stack_) unmap_stack(stack_);
#if !defined(__x86_64__)
  delete static_cast<ucontext_t*>(own_);
  delete static_cast<ucontext_t*>(caller_);
#endif
}

void Fiber::begin(Fiber* self) {
#ifdef STATESPACE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_size_);
#endif
  self->entry_(self->argument_);
}

void Fiber::start(Entry entry, void* argument) {
  if (!stack_) stack_ = map_stack();
  entry_ = entry, argument_ = argument, fake_own_ = nullptr;
#ifdef STATESPACE_ASAN
  __asan_unpoison_memory_region(stack_, kStack);  // an abandoned kernel leaves its red zones behind
#endif
#if defined(__x86_64__)
  // A frame as the switch leaves it; the two empty words align the thunk's call.
  auto** top = reinterpret_cast<void**>(static_cast<char*>(stack_) + kStack);
  *--top = nullptr;
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&statespace_fiber_thunk);
  *--top = nullptr;                              // rbp
  *--top = this;                                 // rbx
  *--top = reinterpret_cast<void*>(&begin);      // r12
  for (int i = 0; i < 3; ++i) *--top = nullptr;  // r13, r14, r15
  own_ = top;
#else
  if (!own_) own_ = new ucontext_t, caller_ = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(own_);
  getcontext(context);
  context->uc_stack.ss_sp = stack_, context->uc_stack.ss_size = kStack, context->uc_link = nullptr;
  const auto bits = reinterpret_cast<uintptr_t>(this);
  makecontext(context, reinterpret_cast<void (*)()>(+[](unsigned high, unsigned low) {
                begin(reinterpret_cast<Fiber*>(uintptr_t(high) << 32 | low));
              }),
              2, unsigned(uint64_t(bits) >> 32), unsigned(bits));
#endif
}

void Fiber::resume() {
#ifdef STATESPACE_ASAN
  __sanitizer_start_switch_fiber(&fake_caller_, stack_, kStack);
#endif
#if defined(__x86_64__)
  statespace_fiber_switch(&caller_, own_);
#else
  swapcontext(static_cast<ucontext_t*>(caller_), static_cast<ucontext_t*>(own_));
#endif
#ifdef STATESPACE_ASAN
  __sanitizer_finish_switch_fiber(fake_caller_, nullptr, nullptr);
#endif
}

void Fiber::suspend([[maybe_unused]] bool final) {
#ifdef STATESPACE_ASAN
  __sanitizer_start_switch_fiber(final ? nullptr : &fake_own_, caller_stack_, caller_size_);
#endif
#if defined(__x86_64__)
  statespace_fiber_switch(&own_, caller_);
#else
  swapcontext(static_cast<ucontext_t*>(own_), static_cast<ucontext_t*>(caller_));
#endif
#ifdef STATESPACE_ASAN
  __sanitizer_finish_switch_fiber(fake_own_, &caller_stack_, &caller_size_);
#endif
}

}  // namespace statespace::cuda::emulated
