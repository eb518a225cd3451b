// Euclidean norm of all gradients and the factor that clips it.
//
//   norm = sqrt(sum_k g_k^2),  clip = min(1, max_norm / (norm + 1e-6))
//
// as torch.nn.utils.clip_grad_norm_. Squares are summed in double precision: a gradient of 1e-25
// must not vanish. Stage one: one block a chunk of 65536 elements, whatever the grid; stage two:
// one block over the chunks. Twin: src/device/cpu.rs `global_norm`.
#include "common.cuh"

#define CHUNK 65536

// partial: [ceil(n / CHUNK)]
extern "C" __global__ void pa_square_sums(const float *grad, i64 n, double *partial) {
    __shared__ double lanes[LANES];
    i64 chunks = (n + CHUNK - 1) / CHUNK;
    for (i64 chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        i64 end = (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n;
        double sum = 0.0;
        for (i64 k = chunk * CHUNK + threadIdx.x; k < end; k += LANES)
            sum = sum + (double)grad[k] * (double)grad[k];
        sum = block_sum(sum, lanes);
        if (threadIdx.x == 0) partial[chunk] = sum;
    }
}
SHIM_EXPORT(pa_square_sums)

// clip: [2], the norm and the clipping factor. max_norm = 0 switches clipping off.
extern "C" __global__ void pa_norm(const double *partial, i64 chunks, double max_norm, float *clip) {
    __shared__ double lanes[LANES];
    double sum = 0.0;
    for (i64 k = threadIdx.x; k < chunks; k += LANES) sum = sum + partial[k];
    double norm = sqrt(block_sum(sum, lanes));
    if (threadIdx.x == 0) {
        double factor = max_norm / (norm + 1e-6);
        clip[0] = (float)norm;
        clip[1] = max_norm > 0.0 && factor < 1.0 ? (float)factor : 1.0f;
    }
}
SHIM_EXPORT(pa_norm)
