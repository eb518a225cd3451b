//! Pairs with weights of their own.

use std::fs;

use crate::process::succeeded;
use crate::trace::{ROUNDING, Step, close, loss, softplus_of_minus};
use crate::world::{World, log};

/// A list of pairs with weights: each multiplies its pair's factors and terms.
#[test]
fn pairs_have_weights() {
    let world = World::new();
    let run = |name: &str, more: &[&str]| {
        let (out, trace) = (
            world.dir().join(name),
            world.dir().join(format!("{name}-trace")),
        );
        let base = [
            "--steps", "3", "--batch", "3", "--lr", "5e-3", "--warmup", "0",
        ];
        let options = [&base[..], more, &["--trace", trace.to_str().unwrap()]].concat();
        succeeded(&world.command_into(&out, &options).output().unwrap());
        (out, trace)
    };
    let (plain, _) = run("plain", &[]);
    let list = fs::read_to_string(plain.join("pairs.jsonl")).unwrap();
    let weights = [0.0, 0.5, 2.0, 1.0];
    let lines = list.lines().take(8).zip(weights.iter().cycle());
    let weighted: String = lines
        .map(|(line, w)| line.replacen('{', &format!("{{\"weight\":{w:?},"), 1) + "\n")
        .collect();
    let path = world.dir().join("weighted.jsonl");
    fs::write(&path, weighted).unwrap();
    for kind in ["popalign", "dpo", "sft"] {
        let more = [
            "--pairs",
            path.to_str().unwrap(),
            "--loss",
            kind,
            "--beta",
            "300",
        ];
        let (out, trace) = run(kind, &more);
        for n in 1..=3 {
            let step = Step::open(&trace, n);
            let own: Vec<f64> = (0..3).map(|p| weights[(3 * (n - 1) + p) % 4]).collect();
            let scale: Vec<f64> = own.iter().flat_map(|&w| [w, w]).collect();
            assert_eq!(step.get("scale"), scale);
            let (mse, reference) = (step.get("mse"), step.get("ref_mse"));
            let (_, mu, c) = loss(kind, 300.0, 0.5, mse, reference);
            let c: Vec<f64> = c.iter().zip(&scale).map(|(c, w)| c * w).collect();
            close("weight", step.get("weight"), &c, ROUNDING);
            // Each pair's own part of the loss: of what it would be without the others, a third.
            let total: f64 = (0..3)
                .map(|p| {
                    let z = |i: usize, side: f64| side * 300.0 * (reference[i] - mse[i] - mu);
                    let (w, l) = (2 * p, 2 * p + 1);
                    let dpo = 150.0 * ((reference[w] - mse[w]) - (reference[l] - mse[l]));
                    own[p] / 3.0
                        * match kind {
                            "popalign" => {
                                0.5 * (softplus_of_minus(z(w, 1.0)) + softplus_of_minus(z(l, -1.0)))
                            }
                            "dpo" => softplus_of_minus(dpo),
                            _ => mse[w],
                        }
                })
                .sum();
            let line = &log(&out.join("log.jsonl"))[n - 1];
            close(
                "loss",
                &[line["loss"].as_f64().unwrap()],
                &[total],
                ROUNDING,
            );
        }
    }
}
