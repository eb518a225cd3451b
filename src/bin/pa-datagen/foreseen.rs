//! What `--dry-run` says.

use std::fmt::Write;
use std::time::Duration;

use popalign::cli::{self, Outcome};
use popalign::datagen::Estimate;
use serde_json::json;

use crate::shown::{shares, shares_json};

/// Says what a run would take.
pub(crate) fn foreseen(estimate: &Estimate, json: bool) -> anyhow::Result<Outcome> {
    if json {
        cli::event(true, &event(estimate));
        return Ok(Outcome::Done);
    }
    // A reader that has gone away (`| head`) is no failure.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text(estimate)?.as_bytes());
    Ok(Outcome::Done)
}

fn event(estimate: &Estimate) -> serde_json::Value {
    let bytes = estimate.bytes;
    let seconds = estimate.time.as_secs_f64();
    let [steps, pictures] = estimate.measured;
    json!({"event": "estimate", "captions": estimate.captions, "pictures": estimate.pictures,
        "todo": estimate.todo, "most": estimate.most, "steps": estimate.steps,
        "picture_steps": estimate.todo * estimate.steps, "ep": estimate.ep,
        "workers": estimate.workers, "batch": estimate.batch,
        "bytes": {"pictures": bytes.pictures, "latents": bytes.latents, "text": bytes.text,
            "rows": bytes.rows, "total": bytes.total()},
        "bytes_free": estimate.free, "seconds": seconds, "hours": seconds / 3600.0,
        "seconds_per_picture": estimate.each.total().as_secs_f64(),
        "shares": shares_json(&estimate.each),
        "measured": {"steps": steps, "pictures": pictures}})
}

fn text(estimate: &Estimate) -> Result<String, std::fmt::Error> {
    let Estimate {
        captions,
        pictures,
        todo,
        most,
        steps,
        ep,
        workers,
        batch,
        bytes,
        ..
    } = estimate;
    let mut text = String::new();
    let or_more = match most > todo {
        true => format!(" if all pass the filter, {most} at most"),
        false => String::new(),
    };
    writeln!(
        text,
        "pictures  {todo} to draw of {pictures}{or_more}, for {captions} captions"
    )?;
    writeln!(
        text,
        "steps     {}, {steps} a picture; {workers} x {batch} pictures at once on {ep}",
        todo * steps
    )?;
    let free = estimate.free.map(|free| format!("; {} free", size(free)));
    writeln!(
        text,
        "bytes     {}: pictures {}, latents {}, text {}, rows {}{}",
        size(bytes.total()),
        size(bytes.pictures),
        size(bytes.latents),
        size(bytes.text),
        size(bytes.rows),
        free.unwrap_or_default()
    )?;
    if estimate.free.is_some_and(|free| free < bytes.total()) {
        writeln!(text, "          there is not enough space")?;
    }
    let each = estimate.each.total();
    writeln!(
        text,
        "time      {}: {} a picture of one worker, {}",
        span(estimate.time),
        span(each),
        shares(&estimate.each)
    )?;
    let [steps, pictures] = estimate.measured;
    writeln!(
        text,
        "          measured on {pictures} pictures of {steps} steps; without loading and the disk"
    )?;
    Ok(text)
}

/// "1.2 GB", as disks are sold.
fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut amount = bytes as f64 / 1e3;
    let mut unit = 0;
    while amount >= 1e3 && unit + 1 < units.len() {
        amount /= 1e3;
        unit += 1;
    }
    format!("{amount:.1} {}", units[unit])
}

/// "3.2 h", "4.0 min", "5.1 s", "70 ms".
fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 3600.0 => format!("{:.1} h", seconds / 3600.0),
        seconds if seconds >= 60.0 => format!("{:.1} min", seconds / 60.0),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_easily() {
        assert_eq!(size(999), "1.0 kB");
        assert_eq!(size(5_240_000_000), "5.2 GB");
        assert_eq!(size(7_000_000_000_000_000), "7000.0 TB");
        let span = |ms| span(Duration::from_millis(ms));
        assert_eq!(span(4_320_000), "1.2 h");
        assert_eq!(
            [span(90_000), span(1_500), span(70)],
            ["1.5 min", "1.5 s", "70 ms"]
        );
    }
}
