// Clipping, AdamW and the 16-bit copy for the graph, in one pass over all LoRA factors.
// Twin: src/device/cpu.rs `adamw`.
#include "adamw.cuh"
#include "cast.cuh"

// clip: [2] from pa_norm; copy: 16-bit parameters, written when copy_kind is 1 (fp16) or 2 (bf16).
extern "C" __global__ void pa_adamw(
    const float *grad, const float *clip, float *p, float *m, float *v, u16 *copy, i64 n,
    AdamWStep step, u32 copy_kind) {
    float factor = clip[1];
    for (i64 k = first_index(); k < n; k += index_stride()) {
        float pk = p[k], mk = m[k], vk = v[k];
        adamw_element(step, factor * grad[k], &pk, &mk, &vk);
        m[k] = mk;
        v[k] = vk;
        p[k] = pk;
        write_copy(copy, copy_kind, k, pk);
    }
}
SHIM_EXPORT(pa_adamw)
