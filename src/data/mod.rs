//! Prompts, axes, data sets, pairs.
