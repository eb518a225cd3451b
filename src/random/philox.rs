//! Addressed randomness: Philox4x32-10 keyed by what the numbers are for.
//!
//! Nothing here has a state that advances. A number is a function of (seed, purpose, prompt id,
//! image id, step, element), so it does not matter in which batch, thread, shard or resumed run it
//! is asked for. The counter is `(element / 4, purpose << 24 | step, prompt id, image id)`, the key
//! is the seed's low and high word.
//!
//! Normals come from Box-Muller with logarithm, sine and cosine written in single-precision
//! `+ - * / sqrt` only. Those are correctly rounded on every IEEE machine, so the CPU and the CUDA
//! kernel (`kernels/philox.cuh`, compiled without fused multiply-add) agree bit for bit, which no
//! library `logf` promises.
//!
//! Source of the generator: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3" (SC 2011). Source of the polynomials: S. Moshier's Cephes (`logf`, `sinf`, `cosf`).

/// What random numbers are drawn for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// The latent a picture starts from.
    InitLatent = 1,
    /// Noise that a stochastic sampler adds at a step.
    SamplerNoise = 2,
    /// Noise that a training sample is diffused with.
    TrainNoise = 3,
    /// The time step of a training pair.
    TrainTimestep = 4,
    /// Which images make up a preference pair.
    PairDraw = 5,
    /// Initial values of LoRA factors.
    LoraInit = 6,
    /// Noise or choices of guidance methods (CADS, Fair Diffusion).
    Guidance = 7,
    /// Resampling of statistics.
    Bootstrap = 8,
    /// The order in which training visits its pairs.
    Shuffle = 9,
    /// Which pairs are trained without their caption at a step.
    CaptionDropout = 10,
    /// The identity that a neutral picture is drawn towards.
    Identity = 11,
}

/// The largest `step` that an address can hold, plus one.
pub const STEP_LIMIT: u32 = 1 << 24;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32: 128 random bits for a counter and a key.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The four words of one block at an address. `step` is below [`STEP_LIMIT`].
pub fn block(
    seed: u64,
    purpose: Purpose,
    prompt_id: u32,
    image_id: u32,
    step: u32,
    index: u32,
) -> [u32; 4] {
    debug_assert!(
        step < STEP_LIMIT,
        "step {step} does not fit the 24 bits of an address"
    );
    let tag = (u32::from(purpose as u8) << 24) | (step & (STEP_LIMIT - 1));
    philox4x32_10(
        [index, tag, prompt_id, image_id],
        [seed as u32, (seed >> 32) as u32],
    )
}

/// Fills `out` with standard normals of an address (at most 2^34 of them).
///
/// Element `i` depends on the address and on `i` alone. Values lie within ±6.77.
pub fn normal(
    seed: u64,
    purpose: Purpose,
    prompt_id: u32,
    image_id: u32,
    step: u32,
    out: &mut [f32],
) {
    for (index, chunk) in (0u32..).zip(out.chunks_mut(4)) {
        let words = block(seed, purpose, prompt_id, image_id, step, index);
        chunk.copy_from_slice(&normals_of(words)[..chunk.len()]);
    }
}

/// Four standard normals from four words: two Box-Muller pairs.
pub fn normals_of(words: [u32; 4]) -> [f32; 4] {
    let [a, b] = box_muller(words[0], words[1]);
    let [c, d] = box_muller(words[2], words[3]);
    [a, b, c, d]
}

/// A word as a number in (0, 1].
pub fn unit_open(word: u32) -> f32 {
    // 2^-32 and 2^-33 scale exactly; the conversion rounds to nearest.
    word as f32 * 2.328_306_4e-10 + 1.164_153_2e-10
}

fn box_muller(magnitude: u32, angle: u32) -> [f32; 2] {
    let radius = (-2.0 * ln(unit_open(magnitude))).sqrt();
    let (sin, cos) = sin_cos_turn(angle);
    [radius * cos, radius * sin]
}

/// Natural logarithm of a positive normal number (Cephes `logf`, within 2 ulp).
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as i32 - 126;
    let mut m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F00_0000);
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1;
        m += m;
    }
    let e = exponent as f32;
    let x = m - 1.0;
    let z = x * x;
    let mut y = 7.037_683_6e-2;
    y = y * x - 1.151_461e-1;
    y = y * x + 1.167_699_9e-1;
    y = y * x - 1.242_014_1e-1;
    y = y * x + 1.424_932_3e-1;
    y = y * x - 1.666_805_7e-1;
    y = y * x + 2.000_071_5e-1;
    y = y * x - 2.499_999_4e-1;
    y = y * x + 3.333_333e-1;
    y = y * x * z;
    y += e * -2.121_944_4e-4;
    y -= 0.5 * z;
    (x + y) + e * 0.693_359_4
}

/// Sine and cosine of `word` / 2^32 of a full turn. The reduction to an eighth of a turn is exact
/// because it is done on the integer.
pub(crate) fn sin_cos_turn(word: u32) -> (f32, f32) {
    let quadrant = word.wrapping_add(1 << 29) >> 30;
    let rest = word.wrapping_sub(quadrant << 30) as i32;
    // 2 pi / 2^32
    let x = rest as f32 * 1.462_918_1e-9;
    let z = x * x;
    let s = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let c = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    match quadrant {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123 1.14, `tests/kat_vectors` (philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn polynomials_follow_the_functions() {
        let mut worst_ln = 0.0f64;
        let mut worst_turn = 0.0f64;
        for i in 0..200_000u32 {
            let word = i.wrapping_mul(0x9E37_79B9);
            let u = unit_open(word);
            let exact = f64::from(u).ln();
            worst_ln = worst_ln.max((f64::from(ln(u)) - exact).abs() / exact.abs().max(1.0));
            let turn = f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU;
            let (s, c) = sin_cos_turn(word);
            worst_turn = worst_turn
                .max((f64::from(s) - turn.sin()).abs())
                .max((f64::from(c) - turn.cos()).abs());
        }
        // A few units in the last place of single precision (6e-8).
        assert!(worst_ln < 2.0e-7, "{worst_ln}");
        assert!(worst_turn < 2.0e-7, "{worst_turn}");
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(unit_open(u32::MAX), 1.0);
        assert!(unit_open(0) > 0.0);
    }

    #[test]
    fn normals_have_the_moments_and_the_distribution() {
        const N: usize = 400_000;
        let mut x = vec![0.0f32; N];
        normal(7, Purpose::InitLatent, 11, 13, 17, &mut x);
        let n = N as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let moment = |k: i32| {
            x.iter()
                .map(|&v| (f64::from(v) - mean).powi(k))
                .sum::<f64>()
                / n
        };
        let (var, skew, kurt) = (moment(2), moment(3), moment(4));
        // Five standard errors of each estimate: 1, sqrt(2), sqrt(15), sqrt(96) over sqrt(n).
        let se = 5.0 / n.sqrt();
        assert!(mean.abs() < se, "{mean}");
        assert!((var - 1.0).abs() < 1.42 * se, "{var}");
        assert!(skew.abs() < 3.88 * se, "{skew}");
        assert!((kurt - 3.0).abs() < 9.8 * se, "{kurt}");
        // Share below the quartiles and the 5% and 95% points.
        for (q, p) in [
            (-1.644_853_6, 0.05),
            (-0.674_489_8, 0.25),
            (0.0, 0.5),
            (1.644_853_6, 0.95),
        ] {
            let share = x.iter().filter(|&&v| f64::from(v) < q).count() as f64 / n;
            assert!(
                (share - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt(),
                "{q}: {share}"
            );
        }
        let lag = |k: usize| {
            x.iter()
                .zip(&x[k..])
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>()
                / n
        };
        for k in [1, 2, 3, 4, 64] {
            assert!(lag(k).abs() < se, "lag {k}: {}", lag(k));
        }
    }

    #[test]
    fn an_element_depends_on_its_address_alone() {
        let at = |purpose, prompt, image, step, len: usize| {
            let mut out = vec![0.0; len];
            normal(
                0x1234_5678_9abc_def0,
                purpose,
                prompt,
                image,
                step,
                &mut out,
            );
            out
        };
        let long = at(Purpose::TrainNoise, 1, 2, 3, 1025);
        for len in [0, 1, 3, 4, 5, 32, 1024] {
            assert_eq!(at(Purpose::TrainNoise, 1, 2, 3, len), long[..len]);
        }
        for other in [
            at(Purpose::InitLatent, 1, 2, 3, 1025),
            at(Purpose::TrainNoise, 0, 2, 3, 1025),
            at(Purpose::TrainNoise, 1, 3, 3, 1025),
            at(Purpose::TrainNoise, 1, 2, 4, 1025),
        ] {
            let same = other.iter().zip(&long).filter(|(a, b)| a == b).count();
            assert!(same <= 1, "{same} equal elements under another address");
        }
    }

    /// Frozen values: a change of these changes every picture and every training run.
    #[test]
    fn the_bits_are_fixed() {
        let mut x = [0.0f32; 4];
        normal(42, Purpose::InitLatent, 0xdead_beef, 7, 0, &mut x);
        assert_eq!(x.map(f32::to_bits), FROZEN, "{x:?}");
    }

    const FROZEN: [u32; 4] = [3_210_319_734, 1_057_904_396, 3_217_547_635, 3_196_153_112];
}
