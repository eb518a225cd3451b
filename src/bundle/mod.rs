//! The export folder's contract: write, open, verify.
