//! Classifier chains, discrepancy, quality, the report.
