//! Fine-tuning: losses, the gradient step, the optimizer, checkpoints.
