//! What the user asks of validations.

use super::open::Asked;
use crate::align::Result;
use crate::align::rules::{self, Rule};
use crate::base::Values;

/// What `--validate` can be: as many as a data set has of a caption at most.
pub const PICTURES: Values<u32> = Values::within("a number of pictures", 1, 1_000_000);
/// What `--validate-every` can be.
pub const EVERY: Values<u32> = Values::from("a number of steps", 1);
/// What `--validate-cfg` can be.
pub const SCALES: Values<f32> = Values::from("a scale", 0.0);
/// What `--target-discrepancy` can be.
pub const TARGETS: Values<f64> = Values::from("a number", 0.0);

/// What the user asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The pictures.
    pub asked: Asked,
    /// Steps between validations.
    pub every: u32,
    /// Mean discrepancy over axes at or below which the run ends.
    pub target: Option<f64>,
}

impl Request {
    /// Refuses what can't be, naming the option.
    ///
    /// # Errors
    /// [`Error::Option`](crate::align::Error::Option).
    pub fn check(&self) -> Result<()> {
        rules::check([
            Rule::values("validate", self.asked.pictures, PICTURES),
            Rule::values("validate-every", self.every, EVERY),
            Rule::values("validate-cfg", self.asked.cfg.unwrap_or_default(), SCALES),
            Rule::values(
                "target-discrepancy",
                self.target.unwrap_or_default(),
                TARGETS,
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_can_not_be_are_named() {
        let fine = Request {
            asked: Asked {
                pictures: 4,
                cfg: Some(1.0),
                ..Asked::default()
            },
            every: 10,
            target: Some(0.2),
        };
        fine.check().unwrap();
        let refused = |change: fn(&mut Request)| {
            let mut request = fine.clone();
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert!(refused(|r| r.asked.cfg = Some(f32::NAN)).starts_with("--validate-cfg NaN"));
        assert!(refused(|r| r.target = Some(-1.0)).starts_with("--target-discrepancy -1"));
        assert!(refused(|r| r.asked.pictures = 1 << 31).starts_with("--validate 2147483648"));
    }
}
