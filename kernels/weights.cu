// Per-sample factors c_i = dL / d mse_i of a term of the loss, and what the log shows of it.
//
//   g_i = ref_mse_i - mse_i                      (implied reward / beta)
//   offset:    mu = alpha mean(g winners) + (1 - alpha) mean(g losers), detached
//              z_i = s_i beta (g_i - mu),  L = mean_i -ln sigmoid(z_i)
//              c_i = s_i beta sigmoid(-z_i) / N
//   lead:      z = beta sum over the set of (g_w - g_l) / 2,   L = mean over sets of -ln sigmoid(z)
//              c_w = S beta sigmoid(-z) / N,  c_l = -c_w, for sets of S pairs
//   error:     L = mean over winners of mse,  c_w = 2 / N,  c_l = 0
//   reference: z_i = beta g_i,  L = mean_i -ln sigmoid(z_i),  c_i = beta sigmoid(-z_i) / N, without pairs
//   each:      L = mean of mse,  c_i = 1 / N, without pairs
//
// Each sample's part, and so its c_i, is multiplied with its scale; the samples of a set have one. Every
// c_i is multiplied with the term's weight, too. Of a term's samples 2p is the winner and 2p + 1 the loser
// of pair p; N = 2 pairs; s = +1 winner, -1 loser. Which loss of a run is which of these, and where it
// comes from, say src/align/losses.
// Double precision: g is a small difference and beta is in the thousands. One block.
// Twin: src/device/weights.rs.
#include "common.cuh"
#include "exact.cuh"

#define LOSS_OFFSET 0
#define LOSS_LEAD 1
#define LOSS_ERROR 2
#define LOSS_REFERENCE 3
#define LOSS_EACH 4

// A term: its samples are first .. first + count.
struct Term { i64 first, count, set, kind; double weight, beta, alpha; };

// What a term reads and writes of its samples.
struct Samples { const float *mse, *ref_mse, *scale; float *c; };

__device__ inline double reward(Samples s, i64 i) { return (double)s.ref_mse[i] - (double)s.mse[i]; }

// By how much the winners of pair p's set lead.
__device__ inline double lead_of(Samples s, i64 p, i64 set) {
    i64 first = p - p % set;
    double sum = 0.0;
    for (i64 q = first; q < first + set; q++) sum = sum + (reward(s, 2 * q) - reward(s, 2 * q + 1));
    return sum;
}

// -ln sigmoid(z) = max(-z, 0) + ln(1 + e^-|z|), and sigmoid(-z).
struct Logistic { double loss, miss; };

__device__ inline Logistic logistic(double z) {
    double e = exp_neg(z < 0.0 ? -z : z);
    Logistic of;
    of.loss = (z < 0.0 ? -z : 0.0) + log1p_unit(e);
    of.miss = z < 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
    return of;
}

// Pair p's factors; returns `loss` with its part added, one side after the other.
__device__ inline double pair_loss(Samples s, Term term, double mu, i64 p, double loss) {
    double n = (double)term.count;
    if (term.kind == LOSS_ERROR) {
        double own = (double)s.scale[2 * p];
        s.c[2 * p] = (float)(term.weight * own * (2.0 / n));
        s.c[2 * p + 1] = 0.0f;
        return loss + own * (double)s.mse[2 * p];
    }
    for (int side = 0; side < 2; side++) {
        double sign = side == 0 ? 1.0 : -1.0, own = (double)s.scale[2 * p + side];
        double z = term.kind == LOSS_LEAD ? 0.5 * term.beta * lead_of(s, p, term.set)
                                          : sign * term.beta * (reward(s, 2 * p + side) - mu);
        Logistic of = logistic(z);
        // Where a set has one logit every sample holds its loss, whose mean over samples is its mean
        // over sets.
        loss = loss + own * of.loss;
        double factor = (double)term.set * (sign * term.beta * of.miss / n);
        s.c[2 * p + side] = (float)(term.weight * own * factor);
    }
    return loss;
}

// The losses of pairs. Lane t sums pairs t, t + 256 ..; then the fixed tree.
__device__ inline void paired(Samples s, Term term, double *lanes, double *summary) {
    i64 pairs = term.count / 2;
    double winners = 0.0, losers = 0.0, right = 0.0;
    for (i64 p = threadIdx.x; p < pairs; p += LANES) {
        winners = winners + reward(s, 2 * p);
        losers = losers + reward(s, 2 * p + 1);
        double lead = lead_of(s, p, 1);
        right = right + (lead > 0.0 ? 1.0 : (lead == 0.0 ? 0.5 : 0.0));
    }
    double count = (double)pairs;
    double mean_w = block_sum(winners, lanes) / count;
    double mean_l = block_sum(losers, lanes) / count;
    double accuracy = block_sum(right, lanes) / count;
    double mu = term.kind == LOSS_OFFSET ? term.alpha * mean_w + (1.0 - term.alpha) * mean_l : 0.0;
    double loss = 0.0;
    for (i64 p = threadIdx.x; p < pairs; p += LANES) loss = pair_loss(s, term, mu, p, loss);
    loss = block_sum(loss, lanes) / (term.kind == LOSS_ERROR ? count : 2.0 * count);
    if (threadIdx.x == 0) {
        summary[0] = loss;
        summary[1] = mu;
        summary[2] = accuracy;
        summary[3] = term.beta * (mean_w - mean_l);
    }
}

// The loss of samples without pairs, added up sample after sample by thread 0.
__device__ inline void single(Samples s, Term term, double *lanes, double *summary) {
    double n = (double)term.count;
    double sum = 0.0;
    for (i64 start = 0; start < term.count; start += LANES) {
        i64 i = start + threadIdx.x;
        if (i < term.count) {
            double own = (double)s.scale[i];
            if (term.kind == LOSS_EACH) {
                lanes[threadIdx.x] = own * (double)s.mse[i];
                s.c[i] = (float)(own * (term.weight / n));
            } else {
                Logistic of = logistic(term.beta * reward(s, i));
                lanes[threadIdx.x] = own * of.loss;
                s.c[i] = (float)(own * (term.weight * term.beta * of.miss / n));
            }
        }
        __syncthreads();
        if (threadIdx.x == 0)
            for (i64 k = 0; k < LANES && start + k < term.count; k++) sum = sum + lanes[k];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        summary[0] = sum / n;
        summary[1] = summary[2] = summary[3] = 0.0;
    }
}

// errors: [2, total], mse and ref_mse of all samples; scale, c: [total].
// summary: loss, mu, accuracy (share of pairs whose winner leads, ties half), margin (mean beta (g_w - g_l)).
extern "C" __global__ void pa_weights(
    const float *errors, const float *scale, i64 total, float *c, double *summary, Term term) {
    __shared__ double lanes[LANES];
    Samples s;
    s.mse = errors + term.first;
    s.ref_mse = errors + total + term.first;
    s.scale = scale + term.first;
    s.c = c + term.first;
    if (term.kind == LOSS_REFERENCE || term.kind == LOSS_EACH) single(s, term, lanes, summary);
    else paired(s, term, lanes, summary);
}
SHIM_EXPORT(pa_weights)

// place: [1], that of the first of n numbers that is infinite or NaN; n where all are finite. One block.
extern "C" __global__ void pa_first_bad(const float *errors, i64 n, double *place) {
    __shared__ double lanes[LANES];
    i64 first = n;
    for (i64 k = threadIdx.x; k < first; k += LANES)
        if ((bits_of(errors[k]) & 0x7F800000u) == 0x7F800000u) first = k;
    double found = block_fold<double, smaller_of<double>>((double)first, lanes);
    if (threadIdx.x == 0) place[0] = found;
}
SHIM_EXPORT(pa_first_bad)
