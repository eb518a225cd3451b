//! What a run's time goes to.

use std::iter::Sum;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// What the making of pictures takes, summed over workers: the time that each was at it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// The UNet's steps.
    pub unet: Duration,
    /// The VAE's decoding.
    pub vae: Duration,
    /// The sanity filter.
    pub filter: Duration,
    /// Encoding and writing files.
    pub encode: Duration,
}

impl Times {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.named().iter().map(|(_, time)| *time).sum()
    }

    /// Each with its name.
    pub fn named(&self) -> [(&'static str, Duration); 4] {
        [
            ("unet", self.unet),
            ("vae", self.vae),
            ("filter", self.filter),
            ("encode", self.encode),
        ]
    }

    /// Each one's share of the whole, 0 to 1, with its name.
    pub fn shares(&self) -> [(&'static str, f64); 4] {
        let total = self.total().as_secs_f64().max(f64::MIN_POSITIVE);
        self.named()
            .map(|(name, time)| (name, time.as_secs_f64() / total))
    }
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        self.unet += other.unet;
        self.vae += other.vae;
        self.filter += other.filter;
        self.encode += other.encode;
    }
}

impl Sum for Times {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |mut sum, times| {
            sum += times;
            sum
        })
    }
}

/// Does something, and adds the time it took.
pub(super) fn timed<T>(time: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *time += start.elapsed();
    done
}
