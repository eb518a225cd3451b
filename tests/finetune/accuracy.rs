//! Reward accuracy by pair and by set, counted again from traces and the list of pairs.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::trace::Step;
use crate::world::{World, log};

const STEPS: usize = 110;
const BATCH: usize = 3;
const SET: usize = 3;

/// 64 draws of 3 pairs are 64 steps of 3: two passes of a block and the beginning of a third.
fn check(loss: &str, together: bool) {
    let world = World::new();
    let trace = world.dir().join("trace");
    world.trained(&[
        "--loss",
        loss,
        "--steps",
        "110",
        "--batch",
        "3",
        "--set-size",
        "3",
        "--lr",
        "5e-3",
        "--warmup",
        "0",
        "--beta",
        "300",
        "--trace",
        trace.to_str().unwrap(),
    ]);
    let text = fs::read_to_string(world.out().join("pairs.jsonl")).unwrap();
    let draws: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["draw"]
                .as_u64()
                .unwrap()
        })
        .collect();
    let lines = log(&world.out().join("log.jsonl"));
    let mut open: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let share = |leads: &[f64]| {
        let right = leads.iter().map(|&lead| {
            if lead > 0.0 {
                1.0
            } else {
                0.5 * f64::from(u8::from(lead == 0.0))
            }
        });
        right.sum::<f64>() / leads.len() as f64
    };
    let (mut ended, mut differ) = (0, false);
    for n in 1..=STEPS {
        let step = Step::open(&trace, n);
        let (mse, reference) = (step.get("mse"), step.get("ref_mse"));
        let reward = |i: usize| reference[i] - mse[i];
        let leads: Vec<f64> = (0..BATCH)
            .map(|p| reward(2 * p) - reward(2 * p + 1))
            .collect();
        let line = &lines[n - 1];
        assert_eq!(line["reward_accuracy"], share(&leads), "{loss}, step {n}");
        let mut sets = Vec::new();
        for (p, lead) in leads.iter().enumerate() {
            let own = open.entry(draws[(n - 1) * BATCH + p]).or_default();
            own.push(*lead);
            if own.len() == SET {
                sets.push(own.iter().sum::<f64>());
                own.clear();
            }
        }
        let found = line["set_accuracy"].as_f64();
        assert_eq!(
            found,
            (!sets.is_empty()).then(|| share(&sets)),
            "{loss}, step {n}"
        );
        ended += sets.len();
        differ |= found.is_some_and(|found| found != line["reward_accuracy"]);
        assert!(!together || found.is_some(), "a step is a set");
    }
    assert!(ended > 64 && differ, "{ended} sets");
}

#[test]
fn sets_are_counted_as_their_pairs_come() {
    check("popalign", false);
}

#[test]
fn sets_that_stay_together_are_counted_at_once() {
    check("set", true);
}
