// Noise and q-sample of a training batch.
//
//   e = N(0, 1) at the sample's address (Philox; a pair's two samples share one address)
//   x_t = a x_0 + s e            a = sqrt(acp[t]), s = sqrt(1 - acp[t])
//   target = e                   (epsilon prediction), or a e - s x_0 (v prediction)
//
// Source: Ho et al. 2020 eq. 4; Salimans and Ho 2022 for v. Twin: src/device/cpu.rs `diffuse`.
#include "common.cuh"
#include "philox.cuh"

// latents, noise, sample, target: [batch, n]; prompt_id, image_id: [batch], the two free words of
// the address; tag = purpose << 24 | step; a, s: [batch].
extern "C" __global__ void pa_diffuse(
    const float *latents, const u32 *prompt_id, const u32 *image_id, const float *a,
    const float *s, float *noise, float *sample, float *target, i64 batch, i64 n, u64 seed,
    u32 tag, u32 v_prediction) {
    i64 blocks = (n + 3) / 4;
    for (i64 i = first_index(); i < batch * blocks; i += index_stride()) {
        i64 b = i / blocks;
        i64 block = i - b * blocks;
        Words counter;
        counter.w[0] = (u32)block;
        counter.w[1] = tag;
        counter.w[2] = prompt_id[b];
        counter.w[3] = image_id[b];
        Normals e = normals_of(philox4x32_10(counter, (u32)seed, (u32)(seed >> 32)));
        for (int lane = 0; lane < 4 && block * 4 + lane < n; lane++) {
            i64 at = b * n + block * 4 + lane;
            float x0 = latents[at];
            noise[at] = e.x[lane];
            sample[at] = a[b] * x0 + s[b] * e.x[lane];
            target[at] = v_prediction ? a[b] * e.x[lane] - s[b] * x0 : e.x[lane];
        }
    }
}
SHIM_EXPORT(pa_diffuse)
