// Runs a CUDA kernel on the CPU: one fiber a thread, blocks one after another.
//
// Included before a kernel source that g++ compiles as C++ (-DPOPALIGN_SHIM). Supports what
// kernels/ uses: built-in indices, static shared memory and __syncthreads. A barrier that some
// threads never reach is reported and ends the process, as a hang would on a GPU.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__ static
#define __shared__ static thread_local

struct ShimDim { unsigned x, y, z; };

namespace shim {
constexpr size_t kStack = 64 * 1024;
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false, waiting = false;
};
struct State {
    ucontext_t scheduler;
    std::vector<Fiber> fibers;
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
    ShimDim thread, block, block_dim, grid_dim;
};
inline thread_local State state;

inline void entry() {
    State &s = state;
    s.body(s.argument);
    s.fibers[s.thread.x].done = true;
    swapcontext(&s.fibers[s.thread.x].context, &s.scheduler);
}

inline void barrier() {
    State &s = state;
    Fiber &f = s.fibers[s.thread.x];
    f.waiting = true;
    swapcontext(&f.context, &s.scheduler);
}

// One block: rounds in which every live thread runs to its next barrier or to its end. Threads
// that ended count as arrived, as on hardware; a round in which some wait and others end, or all
// wait, releases the barrier.
inline void run_block() {
    State &s = state;
    unsigned threads = s.block_dim.x;
    for (unsigned t = 0; t < threads; t++) {
        Fiber &f = s.fibers[t];
        f.done = f.waiting = false;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = kStack;
        f.context.uc_link = nullptr;
        makecontext(&f.context, entry, 0);
    }
    for (;;) {
        unsigned finished = 0, waiting = 0;
        for (unsigned t = 0; t < threads; t++) {
            Fiber &f = s.fibers[t];
            if (!f.done) {
                f.waiting = false;
                s.thread = {t, 0, 0};
                swapcontext(&s.scheduler, &f.context);
            }
            finished += f.done;
            waiting += f.waiting && !f.done;
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
    while (s.fibers.size() < block[0]) {
        s.fibers.emplace_back();
        s.fibers.back().stack.reset(new char[kStack]);
    }
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
