//! Which layers have a LoRA, and how its inputs are named.

use crate::base::Values;

/// The highest rank: factors of more hold as many numbers as the layers that they change.
pub const MOST_RANK: usize = 1024;
/// What `--lora-rank` can be.
pub const RANKS: Values<u64> = Values::within("a rank", 1, MOST_RANK as u64);

/// What a LoRA is put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraSpec {
    /// Rank of the factors.
    pub rank: u64,
    /// Module names: a linear layer is targeted if its path is one of these or ends with `.` and
    /// one of these, as PEFT's `target_modules` list.
    pub targets: Vec<String>,
}

impl Default for LoraSpec {
    /// Rank 8 on the attention projections, as PopAlign trains.
    fn default() -> Self {
        let targets = ["to_k", "to_q", "to_v", "to_out.0"]
            .map(String::from)
            .to_vec();
        Self { rank: 8, targets }
    }
}

impl LoraSpec {
    /// Whether the module at `path` is targeted.
    pub fn covers(&self, path: &str) -> bool {
        self.target_of(path).is_some()
    }

    pub(crate) fn target_of(&self, path: &str) -> Option<usize> {
        self.targets.iter().position(|target| {
            path.strip_suffix(target.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
    }
}

/// A linear layer that has LoRA inputs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LoraModule {
    /// Module path without `unet.`.
    pub path: String,
    /// Width of its input: `lora_A.weight` is [rank, in_features].
    pub in_features: u64,
    /// Width of its output: `lora_B.weight` is [out_features, rank].
    pub out_features: u64,
}

impl LoraModule {
    /// Name of the first factor's graph input.
    pub fn input_a(&self) -> String {
        format!("{}.lora_A.weight", self.path)
    }

    /// Name of the second factor's graph input.
    pub fn input_b(&self) -> String {
        format!("{}.lora_B.weight", self.path)
    }
}
