//! The names of a checkpoint's small files.

/// A model's index in diffusers' layout.
pub(super) const INDEX: &str = "model_index.json";

/// Files that go into the bundle, where the checkpoint itself has them.
pub(super) const FILES: [&str; 6] = [
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "axes.toml",
    "chain.toml",
    "reference.safetensors",
];
/// Folders whose files go into the bundle; the base's, where the checkpoint has none.
pub(super) const FOLDERS: [&str; 4] =
    ["tokenizer", "tokenizer_2", "scheduler", "feature_extractor"];
/// The same, but never the base's: they are about one model.
pub(super) const OWN_FOLDERS: [&str; 1] = ["prompts"];
/// Files beside a network's weights that belong to it.
pub(super) const NETWORK_FILES: [&str; 2] = ["config.json", "preprocessor_config.json"];
