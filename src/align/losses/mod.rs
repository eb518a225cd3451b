//! The losses, a file each: formula, parameters and their checks, what it takes.
//!
//! Their arithmetic is the device's ([`crate::device::Loss`]). A loss that an arithmetic of there serves
//! is a file here and a line in [`ALL`].

pub mod dpo;
mod loss;
pub mod min_snr;
pub mod nft;
pub mod popalign;
pub mod preserve;
pub mod set;
pub mod sft;

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use loss::{BETA, BETAS, Loss, Parameters, Takes};

/// Every loss.
pub static ALL: &[&Loss] = &[
    &popalign::LOSS,
    &dpo::LOSS,
    &set::LOSS,
    &sft::LOSS,
    &nft::LOSS,
    &preserve::LOSS,
];

/// Those that `--loss` chooses from.
static CHOICES: LazyLock<Vec<LossKind>> = LazyLock::new(|| {
    let of_pairs = ALL
        .iter()
        .copied()
        .filter(|loss| matches!(loss.takes, Takes::Pairs | Takes::Sets));
    of_pairs.map(LossKind).collect()
});

/// The loss of a run's pairs, or of the pictures it draws itself.
#[derive(Clone, Copy)]
pub struct LossKind(&'static Loss);

impl LossKind {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = ALL.iter().copied();
        all.find(|loss| loss.name == name && loss.takes != Takes::Preserved)
            .map(Self)
    }

    /// The one of runs that draw their own pictures.
    pub fn online() -> Self {
        Self(&nft::LOSS)
    }

    /// The loss itself.
    pub fn loss(self) -> &'static Loss {
        self.0
    }
}

impl Default for LossKind {
    /// The paper's.
    fn default() -> Self {
        Self(&popalign::LOSS)
    }
}

impl Deref for LossKind {
    type Target = Loss;

    fn deref(&self) -> &Loss {
        self.0
    }
}

impl fmt::Debug for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for LossKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for LossKind {}

impl clap::ValueEnum for LossKind {
    fn value_variants<'a>() -> &'a [Self] {
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.about))
    }
}

impl Serialize for LossKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for LossKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| de::Error::custom(format!("there is no loss {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_choose_their_loss() {
        for (k, loss) in ALL.iter().enumerate() {
            assert!(ALL[..k].iter().all(|other| other.name != loss.name));
            let chosen = LossKind::named(loss.name);
            assert_eq!(chosen.is_some(), loss.takes != Takes::Preserved);
            if let Some(chosen) = chosen {
                let text = serde_json::to_string(&chosen).unwrap();
                assert_eq!(text, format!("{:?}", loss.name));
                let back: LossKind = serde_json::from_str(&text).unwrap();
                assert_eq!(back, chosen);
            }
        }
        let error = serde_json::from_str::<LossKind>("\"best\"").unwrap_err();
        assert!(error.to_string().contains("there is no loss \"best\""));
    }
}
