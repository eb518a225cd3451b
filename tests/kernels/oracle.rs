//! The twins against what others compute.
