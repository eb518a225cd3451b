// What every kernel shares: integer types, grid-stride indices and the fixed-tree block sum.
//
// Rules of this folder: 64-bit indices; results that do not depend on the grid; sums in a fixed
// order (no float atomics); only correctly rounded operations (+ - * / sqrt), compiled without
// fused multiply-add. So a kernel, its emulation and its Rust twin (src/device) give equal bits.
#ifndef POPALIGN_COMMON_CUH
#define POPALIGN_COMMON_CUH

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Threads in a block of every kernel; also the number of lanes of a sum.
#define LANES 256

#ifndef POPALIGN_SHIM
#define SHIM_EXPORT(kernel)
#endif

__device__ inline i64 first_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline i64 index_stride() { return (i64)gridDim.x * blockDim.x; }

// One value per thread folded to one: lane t takes in lane t + s for s = 128, 64 .. 1.
// `lanes` is shared memory for LANES values. Every thread of the block calls it and gets the result.
template <class T, T (*fold)(T, T)> __device__ T block_fold(T value, T *lanes) {
    lanes[threadIdx.x] = value;
    __syncthreads();
    for (u32 s = LANES / 2; s > 0; s >>= 1) {
        if (threadIdx.x < s) lanes[threadIdx.x] = fold(lanes[threadIdx.x], lanes[threadIdx.x + s]);
        __syncthreads();
    }
    T result = lanes[0];
    __syncthreads();
    return result;
}

template <class T> __device__ inline T sum_of(T a, T b) { return a + b; }
template <class T> __device__ inline T smaller_of(T a, T b) { return a < b ? a : b; }
template <class T> __device__ inline T larger_of(T a, T b) { return a > b ? a : b; }

template <class T> __device__ T block_sum(T value, T *lanes) {
    return block_fold<T, sum_of<T>>(value, lanes);
}

template <class T> __device__ T block_max(T value, T *lanes) {
    return block_fold<T, larger_of<T>>(value, lanes);
}

__device__ inline u32 bits_of(float x) {
    union { float f; u32 u; } both;
    both.f = x;
    return both.u;
}

__device__ inline float float_of(u32 bits) {
    union { float f; u32 u; } both;
    both.u = bits;
    return both.f;
}

__device__ inline double double_of(u64 bits) {
    union { double f; u64 u; } both;
    both.u = bits;
    return both.f;
}

#endif
