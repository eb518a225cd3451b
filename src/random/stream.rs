//! The words of one address, drawn one after another.

use super::philox::{Purpose, block};

/// The words of one address, one after another, for draws whose number is not known beforehand.
#[derive(Debug, Clone)]
pub struct Stream {
    seed: u64,
    purpose: Purpose,
    prompt_id: u32,
    image_id: u32,
    step: u32,
    next: u32,
    words: [u32; 4],
}

impl Stream {
    /// The stream of an address. `step` is below [`STEP_LIMIT`](super::STEP_LIMIT).
    pub fn new(seed: u64, purpose: Purpose, prompt_id: u32, image_id: u32, step: u32) -> Self {
        Self {
            seed,
            purpose,
            prompt_id,
            image_id,
            step,
            next: 0,
            words: [0; 4],
        }
    }

    /// The next word.
    pub fn word(&mut self) -> u32 {
        let lane = (self.next % 4) as usize;
        if lane == 0 {
            self.words = block(
                self.seed,
                self.purpose,
                self.prompt_id,
                self.image_id,
                self.step,
                self.next / 4,
            );
        }
        self.next = self.next.wrapping_add(1);
        self.words[lane]
    }

    /// A whole number in `0..n`, every one equally likely (Lemire's method with rejection).
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range has no numbers to draw from");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.word()) * u64::from(n);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// A number in [0, 1) with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 * (1.0 / 16_777_216.0)
    }
}

/// Fisher-Yates with addressed numbers.
pub(crate) fn shuffle<T>(items: &mut [T], stream: &mut Stream) {
    for i in (1..items.len()).rev() {
        items.swap(i, stream.below(i as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gives_the_words_of_its_address_and_fair_ranges() {
        let words = (0..3).flat_map(|i| block(5, Purpose::PairDraw, 1, 2, 3, i));
        let mut stream = Stream::new(5, Purpose::PairDraw, 1, 2, 3);
        assert!(words.take(10).all(|w| stream.word() == w));
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        // Chi-square with 5 degrees of freedom: 20.5 is the 99.9% point.
        let chi: f64 = counts
            .iter()
            .map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0)
            .sum();
        assert!(chi < 20.5, "{counts:?}");
        assert!((0..1000).all(|_| (0.0..1.0).contains(&stream.unit())));
    }
}
