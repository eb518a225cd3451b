// Runs a CUDA kernel on the CPU: one fiber a thread, blocks one after another.
//
// The first entry into a fiber is a setcontext; later switches are _setjmp and _longjmp, which make no
// system call. A fiber serves one thread index of every block and launch of its host thread.
//
// Included before a kernel source that g++ compiles as C++ (-DPOPALIGN_SHIM). Supports what
// kernels/ uses: built-in indices, static shared memory and __syncthreads. A barrier that some
// threads never reach is reported and ends the process, as a hang would on a GPU.
#pragma once
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <tuple>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__ static
#define __shared__ static thread_local

struct ShimDim { unsigned x, y, z; };

namespace shim {
constexpr size_t kStack = 64 * 1024;
struct Fiber {
    ucontext_t context;
    jmp_buf resume;
    std::unique_ptr<char[]> stack{new char[kStack]};
    bool started = false, done = false, waiting = false;
};
struct State {
    jmp_buf scheduler;
    std::deque<Fiber> fibers;
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
    ShimDim thread, block, block_dim, grid_dim;
};
inline thread_local State state;

// From a fiber to the scheduler; returns when the scheduler enters the fiber again.
inline void leave(Fiber &f) {
    if (_setjmp(f.resume) == 0) _longjmp(state.scheduler, 1);
}

inline void entry() {
    Fiber &f = state.fibers[state.thread.x];
    for (;;) {
        state.body(state.argument);
        f.done = true;
        leave(f);
    }
}

// From the scheduler to a fiber; returns when the fiber leaves.
inline void enter(Fiber &f) {
    if (_setjmp(state.scheduler) != 0) return;
    if (f.started) _longjmp(f.resume, 1);
    f.started = true;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, entry, 0);
    setcontext(&f.context);
}

inline void barrier() {
    Fiber &f = state.fibers[state.thread.x];
    f.waiting = true;
    leave(f);
}

// One block: rounds in which every live thread runs to its next barrier or to its end. Threads
// that ended count as arrived, as on hardware; a round in which some wait and others end, or all
// wait, releases the barrier.
inline void run_block() {
    State &s = state;
    unsigned threads = s.block_dim.x;
    for (unsigned t = 0; t < threads; t++) s.fibers[t].done = false;
    for (;;) {
        unsigned finished = 0, waiting = 0;
        for (unsigned t = 0; t < threads; t++) {
            Fiber &f = s.fibers[t];
            f.waiting = false;
            if (!f.done) {
                s.thread = {t, 0, 0};
                enter(f);
            }
            finished += f.done;
            waiting += f.waiting;
        }
        if (finished == threads) return;
        if (waiting + finished != threads) {
            fprintf(stderr, "shim: a thread neither waits nor ended\n");
            abort();
        }
        // kernels/ promises that barriers are reached by whole blocks.
        if (finished != 0) {
            fprintf(stderr, "shim: %u threads ended while %u wait at a barrier\n", finished, waiting);
            abort();
        }
    }
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A> *>(args[I])...);
}

template <class... A>
void launch(void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **args) {
    State &s = state;
    struct Bound { void (*kernel)(A...); void **args; } bound{kernel, args};
    s.body = [](void *p) {
        auto *b = static_cast<Bound *>(p);
        call(b->kernel, b->args, std::index_sequence_for<A...>{});
    };
    s.argument = &bound;
    s.grid_dim = {grid[0], grid[1], grid[2]};
    s.block_dim = {block[0], block[1], block[2]};
    while (s.fibers.size() < block[0]) s.fibers.emplace_back();
    for (unsigned b = 0; b < grid[0]; b++) {
        s.block = {b, 0, 0};
        run_block();
    }
}
}  // namespace shim

#define threadIdx (shim::state.thread)
#define blockIdx (shim::state.block)
#define blockDim (shim::state.block_dim)
#define gridDim (shim::state.grid_dim)
#define __syncthreads() shim::barrier()

// The argument layout of cuLaunchKernel.
#define SHIM_EXPORT(kernel)                                                                     \
    extern "C" void shim_##kernel(const unsigned *grid, const unsigned *block, void **args) {   \
        shim::launch(&kernel, grid, block, args);                                               \
    }
