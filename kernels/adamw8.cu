// AdamW with both moments in eight bits: what is kept of an element is 2 bytes instead of 8.
//
// One thread block a quantisation block: the moments are dequantised, updated in single precision,
// applied, and quantised again with the block's new largest magnitudes. The update is that of
// pa_adamw; maps, nearest codes and the block of 256 are those of bitsandbytes' AdamW8bit.
// Twin: src/device/blockwise.rs `adamw`.
#include "adamw.cuh"
#include "blockwise.cuh"

// starts: [blocks + 1], where each block of at most 256 elements begins; blocks end with their LoRA
// factor. m_code, v_code: one an element; m_top, v_top: [blocks]; m_map: signed, v_map: unsigned.
// clip: as for pa_adamw.
extern "C" __global__ void pa_adamw8(
    const float *grad, const float *clip, float *p, u8 *m_code, float *m_top, u8 *v_code,
    float *v_top, const i64 *starts, i64 blocks, const float *m_map, const float *v_map,
    AdamWStep step) {
    __shared__ float m_values[CODES];
    __shared__ float v_values[CODES];
    __shared__ float lanes[LANES];
    m_values[threadIdx.x] = m_map[threadIdx.x];
    v_values[threadIdx.x] = v_map[threadIdx.x];
    __syncthreads();
    float factor = clip[1];
    for (i64 b = blockIdx.x; b < blocks; b += gridDim.x) {
        i64 k = starts[b] + threadIdx.x;
        bool live = k < starts[b + 1];
        float m = 0.0f, v = 0.0f;
        if (live) {
            float pk = p[k];
            m = m_values[m_code[k]] * m_top[b];
            v = v_values[v_code[k]] * v_top[b];
            adamw_element(step, factor * grad[k], &pk, &m, &v);
            p[k] = pk;
        }
        float top1 = block_max(fabsf(m), lanes);
        float top2 = block_max(v, lanes);
        if (live) {
            m_code[k] = signed_code(m_values, m, top1);
            v_code[k] = unsigned_code(v_values, v, top2);
        }
        if (threadIdx.x == 0) {
            m_top[b] = top1;
            v_top[b] = top2;
        }
    }
}
SHIM_EXPORT(pa_adamw8)
