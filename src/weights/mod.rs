//! Views of weights stored on disk, and LoRA files.
