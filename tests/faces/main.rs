//! The face chain: against Pillow, OpenCV and numpy as `scripts/oracle/faces.py` froze them, and on
//! pictures that are not photographs of one person.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod photos;
mod pictures;
mod reference;
mod support;
mod trouble;
