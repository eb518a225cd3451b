// Clipping and AdamW, in one pass over all LoRA factors.
// Twin: src/device/cpu.rs `adamw`.
#include "adamw.cuh"

// clip: [2] from pa_norm.
extern "C" __global__ void pa_adamw(
    const float *grad, const float *clip, float *p, float *m, float *v, i64 n,
    AdamWStep step) {
    float factor = clip[1];
    for (i64 k = first_index(); k < n; k += index_stride()) {
        float pk = p[k], mk = m[k], vk = v[k];
        adamw_element(step, factor * grad[k], &pk, &mk, &vk);
        m[k] = mk;
        v[k] = vk;
        p[k] = pk;
    }
}
SHIM_EXPORT(pa_adamw)
