//! What a training run's log says: the curves of the report.

use std::path::Path;

use serde_json::{Value, json};

use super::{Error, Result};
use crate::align::log::{LOG, Line};
use crate::base::fsio;

/// Reads the log of a training run's folder. A torn last line, of a run that goes on, is left out.
///
/// # Errors
/// The file can't be read or holds something else.
pub fn read(dir: &Path) -> Result<Vec<Line>> {
    let path = dir.join(LOG);
    let text = fsio::read_to_string(&path)?;
    let mut lines = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        lines.push(serde_json::from_str(line).map_err(|source| Error::Log {
            path: path.clone(),
            line: index + 1,
            source,
        })?);
    }
    Ok(lines)
}

/// The log in a few numbers, for `scores.json`; means over its first and last tenth.
pub fn summary(lines: &[Line]) -> Value {
    let tenth = lines.len().div_ceil(10);
    // A run without pairs says nothing of them.
    let mean = |lines: &[Line], of: fn(&Line) -> Option<f64>| {
        let values: Vec<f64> = lines.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (first, last) = (&lines[..tenth], &lines[lines.len() - tenth..]);
    let ends =
        |of: fn(&Line) -> Option<f64>| json!({"first": mean(first, of), "last": mean(last, of)});
    json!({
        "steps": lines.last().map(|l| l.step),
        "loss": ends(|l| Some(l.loss)),
        "reward_accuracy": ends(|l| l.reward_accuracy),
        "margin": ends(|l| l.margin),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u32) -> String {
        format!(
            "{{\"step\":{step},\"loss\":{0},\"reward_accuracy\":0.5,\"margin\":0,\"mu\":0,\
             \"grad_norm\":1,\"lr\":0.1,\"samples_per_second\":1,\"seconds\":1}}\n",
            1.0 / f64::from(step)
        )
    }

    #[test]
    fn a_log_is_read_up_to_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG);
        fsio::write(&path, line(1) + &line(2) + "{\"step\":3,").unwrap();
        let lines = read(dir.path()).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(summary(&lines)["loss"], json!({"first": 1.0, "last": 0.5}));
        fsio::write(&path, "{}\n").unwrap();
        let error = read(dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("log.jsonl:1: not a line of a training log")
        );
        assert_eq!(summary(&[])["steps"], Value::Null);
    }
}
