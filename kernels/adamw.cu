// Clipping, AdamW and the 16-bit copy for the graph, in one pass over all LoRA factors.
//
//   g = clip grad
//   m = m + (1 - beta1) (g - m),   v = beta2 v + (1 - beta2) g^2
//   p = (1 - lr wd) p - (lr / (1 - beta1^t)) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// Decoupled weight decay (Loshchilov and Hutter 2019), operations in the order of
// torch.optim.AdamW. Twin: src/device/cpu.rs `adamw`.
#include "common.cuh"
#include "cast.cuh"

// keep = 1 - lr wd; rate = lr / (1 - beta1^t); root = sqrt(1 - beta2^t); one1 = 1 - beta1,
// one2 = 1 - beta2: computed in double on the host and rounded once.
// clip: [2] from pa_norm; copy: 16-bit parameters, written when copy_kind is 1 (fp16) or 2 (bf16).
extern "C" __global__ void pa_adamw(
    const float *grad, const float *clip, float *p, float *m, float *v, u16 *copy, i64 n,
    float keep, float rate, float root, float one1, float beta2, float one2, float eps,
    u32 copy_kind) {
    float factor = clip[1];
    for (i64 k = first_index(); k < n; k += index_stride()) {
        float g = factor * grad[k];
        float mk = m[k] + one1 * (g - m[k]);
        float vk = beta2 * v[k] + one2 * g * g;
        float denominator = sqrtf(vk) / root + eps;
        float pk = p[k] * keep - rate * mk / denominator;
        m[k] = mk;
        v[k] = vk;
        p[k] = pk;
        write_copy(copy, copy_kind, k, pk);
    }
}
SHIM_EXPORT(pa_adamw)
