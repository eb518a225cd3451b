use super::*;
use crate::bundle::LoraInfo;
use crate::lora::LoraModule;

const PLAN: SavePlan = SavePlan {
    every: 10,
    steps: 45,
    keep: 2,
};

fn factors() -> FactorSet {
    let module = LoraModule {
        path: "a.to_q".to_owned(),
        in_features: 3,
        out_features: 2,
    };
    let info = LoraInfo {
        rank: 2,
        targets: vec!["to_q".to_owned()],
        modules: vec![module],
    };
    FactorSet::new(&info, 1).unwrap()
}

fn snapshot(step: u32, ema: bool) -> Snapshot {
    let n = factors().layout().total();
    let filled =
        |start: u32| -> Vec<f32> { (0..n).map(|i| (start + step) as f32 + i as f32).collect() };
    Snapshot {
        step,
        state: State {
            p: filled(0),
            moments: Moments::Full {
                m: filled(100),
                v: filled(200),
            },
        },
        ema: ema.then(|| filled(300)),
        watch: Watch([ema.then_some(step - 1), None]),
        draws: BTreeMap::from([(
            7,
            Seen {
                pairs: 3,
                lead: 0.1 + 0.2,
            },
        )]),
        old: ema.then(|| filled(400)),
    }
}

fn steps(out: &Path) -> Vec<u32> {
    folders(out)
        .unwrap()
        .into_iter()
        .map(|(step, _)| step)
        .collect()
}

fn saved(out: &Path, step: u32) {
    save(out, &factors(), &snapshot(step, false), PLAN).unwrap();
}

#[test]
fn what_is_saved_is_read_back() {
    for ema in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        assert!(!any(dir.path()).unwrap());
        save(dir.path(), &factors(), &snapshot(10, ema), PLAN).unwrap();
        let (found, skipped) = newest(dir.path(), &factors()).unwrap();
        assert_eq!((found, skipped), (Some(snapshot(10, ema)), vec![]));
        assert!(any(dir.path()).unwrap());
    }
}

#[test]
fn eight_bit_moments_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let module = |path: &str, inputs: u64| LoraModule {
        path: path.to_owned(),
        in_features: inputs,
        out_features: 2,
    };
    let info = LoraInfo {
        rank: 2,
        targets: vec!["to_q".to_owned()],
        modules: vec![module("a.to_q", 300), module("b.to_q", 3)],
    };
    let factors = FactorSet::new(&info, 2).unwrap();
    let n = factors.layout().total();
    let codes = |seed: usize| Codes {
        codes: (0..n).map(|k| ((k + seed) * 7 % 256) as u8).collect(),
        // 600 elements are three blocks; 4, 6 and 4 are one each.
        absmax: (0..6).map(|k| (k + seed) as f32 * 1e-3).collect(),
    };
    let written = Snapshot {
        step: 10,
        state: State {
            p: vec![0.5; n],
            moments: Moments::Blockwise {
                blocks: factors.layout().blocks(),
                m: codes(1),
                v: codes(2),
            },
        },
        ema: None,
        watch: Watch::default(),
        draws: BTreeMap::new(),
        old: None,
    };
    save(dir.path(), &factors, &written, PLAN).unwrap();
    let (found, skipped) = newest(dir.path(), &factors).unwrap();
    assert_eq!((found, skipped), (Some(written), vec![]));
}

#[test]
fn prodigy_s_state_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = snapshot(10, false);
    let mut own = Prodigy::new(&written.state.p);
    own.s.fill(0.25);
    own.estimate = Estimate {
        d: 0.1 + 0.2,
        most: 0.7,
        numerator: -1e-17,
        updates: 9,
    };
    written.state.moments = Moments::Prodigy(own);
    save(dir.path(), &factors(), &written, PLAN).unwrap();
    let (found, skipped) = newest(dir.path(), &factors()).unwrap();
    assert_eq!((found, skipped), (Some(written), vec![]));
}

#[test]
fn the_latest_planned_ones_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    for (step, left) in [
        (10, vec![10]),
        (20, vec![10, 20]),
        (27, vec![20, 27]), // interrupted here
        (30, vec![20, 30]),
        (33, vec![30, 33]),
        (34, vec![30, 34]),
        (40, vec![30, 40]),
        (45, vec![40, 45]), // the last step of the plan
    ] {
        saved(out, step);
        assert_eq!(steps(out), left, "after {step}");
    }
    // Saved again, and nothing but checkpoints is left.
    saved(out, 45);
    assert_eq!(steps(out), [40, 45]);
    assert_eq!(fs::read_dir(out.join(FOLDER)).unwrap().count(), 2);
}

#[test]
fn damaged_ones_are_passed_over_and_leftovers_removed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let plan = SavePlan { keep: 9, ..PLAN };
    for step in [10, 20, 30, 40] {
        save(out, &factors(), &snapshot(step, false), plan).unwrap();
    }
    fs::remove_file(path(out, 40).join(MANIFEST)).unwrap();
    let state = path(out, 30).join(STATE);
    let mut bytes = fsio::read(&state).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fsio::write(&state, bytes).unwrap();
    let text = fsio::read_to_string(path(out, 20).join(MANIFEST)).unwrap();
    let other = text.replace(FORMAT, "popalign-checkpoint-9");
    fsio::write(path(out, 20).join(MANIFEST), other).unwrap();
    fs::create_dir(out.join(FOLDER).join(".partial-killed")).unwrap();

    let (found, skipped) = newest(out, &factors()).unwrap();
    assert_eq!(found.unwrap().step, 10);
    let reasons: Vec<&str> = skipped.iter().map(|s| s.reason.as_str()).collect();
    for (reason, expected) in reasons.iter().zip([
        "it has no checkpoint.json",
        "state.safetensors is not what was written",
        "its format is popalign-checkpoint-9",
    ]) {
        assert!(reason.contains(expected), "{reason}");
    }
    prune(out, 10, plan, None).unwrap();
    assert_eq!(steps(out), [10]);
    assert_eq!(fs::read_dir(out.join(FOLDER)).unwrap().count(), 1);
}

#[test]
fn what_a_run_that_ran_away_had_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    assert_eq!(keep_before(out, 5).unwrap(), None);
    for step in [10, 20, 30, 40] {
        let mut snapshot = snapshot(step, false);
        snapshot.watch = Watch([None, (step > 10).then_some(20)]);
        save(out, &factors(), &snapshot, PLAN).unwrap();
    }
    assert_eq!(steps(out), [10, 30, 40]);
    assert_eq!(keep_before(out, 20).unwrap(), Some(path(out, 10)));
    assert_eq!(steps(out), [10]);
    assert_eq!(keep_before(out, 10).unwrap(), None);
    assert!(!any(out).unwrap());
}

#[test]
fn a_checkpoint_of_other_layers_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), 10);
    let info = LoraInfo {
        rank: 2,
        targets: vec![],
        modules: vec![LoraModule {
            path: "b.to_q".to_owned(),
            in_features: 3,
            out_features: 2,
        }],
    };
    let other = FactorSet::new(&info, 1).unwrap();
    let (found, skipped) = newest(dir.path(), &other).unwrap();
    assert!(found.is_none());
    assert!(skipped[0].reason.contains("b.to_q"), "{skipped:?}");
}
