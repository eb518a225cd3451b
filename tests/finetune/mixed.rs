//! Data sets of pictures of several sizes, and gradients that don't all fit in memory.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{stderr, succeeded};
use crate::resume::{CUT, lora};
use crate::trace::Step;
use crate::world::{LATENT, World, log, tensors};

/// Channels, height and width of the second data set's latents.
const OTHER: [usize; 3] = [4, 4, 10];
/// Sums of a few thousand squares, and the graph at another batch size.
const NETWORK: f64 = 2e-5;

/// A world with a second data set of the same captions.
struct Mixed {
    world: World,
    second: PathBuf,
}

impl Mixed {
    fn new() -> Self {
        let world = World::new();
        let second = world.dir().join("second");
        fs::rename(world.data(), world.dir().join("first")).unwrap();
        world.data_set_of(OTHER, 20, Some(6), &|_, _| ());
        fs::rename(world.data(), &second).unwrap();
        fs::rename(world.dir().join("first"), world.data()).unwrap();
        Self { world, second }
    }

    fn run(&self, name: &str, options: &[&str]) -> PathBuf {
        let out = self.world.dir().join(name);
        let output = self.world.command_into(&out, options).output().unwrap();
        succeeded(&output);
        out
    }

    fn second(&self) -> &str {
        self.second.to_str().unwrap()
    }
}

fn lines(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("pairs.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

/// Its place among the data sets, of a pair.
fn data(pair: &Value) -> u64 {
    let of = |side: &str| pair[side]["data"].as_u64().unwrap_or(0);
    assert_eq!(of("winner"), of("loser"), "both sides have one size");
    of("winner")
}

#[test]
fn sizes_are_mixed_and_the_cut_changes_nothing_but_rounding() {
    let mixed = Mixed::new();
    let base = [
        "--data",
        mixed.second(),
        "--steps",
        "4",
        "--lr",
        "1e-2",
        "--warmup",
        "1",
    ];
    let run = |cut: &str| {
        let out = mixed.run(cut, &[&base[..], &["--micro-batch", cut]].concat());
        let file = tensors(&out.join("pytorch_lora_weights.safetensors"));
        let values = file.values().flat_map(|t| t.read_f32().unwrap());
        (out, values.map(f64::from).collect::<Vec<f64>>())
    };
    let (out, whole) = run("64");
    let pairs = lines(&out);
    let from_second = pairs.iter().filter(|pair| data(pair) == 1).count();
    // Four subjects, two of each data set: half of 64 draws, give or take.
    assert!(
        (100..220).contains(&from_second),
        "{from_second} of {}",
        pairs.len()
    );
    let visited: Vec<u64> = pairs[..4].iter().map(data).collect();
    assert!(visited.contains(&0) && visited.contains(&1), "{visited:?}");
    for cut in ["1", "2", "3"] {
        let (_, other) = run(cut);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut whole.iter().zip(&other).map(|(a, b)| a - b));
        let error = apart / norm(&mut whole.iter().copied());
        assert!(error <= CUT, "micro-batch {cut}: off by {error:e}");
    }
}

/// A step on a pair of each size is, term by term, the two steps that have one of them each.
#[test]
fn a_mixed_step_is_the_sum_of_its_parts() {
    let mixed = Mixed::new();
    let dir = mixed.world.dir();
    let base = [
        "--steps",
        "1",
        "--batch",
        "2",
        "--loss",
        "sft",
        "--grad-clip",
        "0",
    ];
    let drawn = mixed.run("drawn", &[&base[..], &["--data", mixed.second()]].concat());
    let all = lines(&drawn);
    let find = |set: u64| all.iter().find(|pair| data(pair) == set).unwrap().clone();
    let with = |pair: &Value, set: u64, weight: f64| {
        let mut pair = pair.clone();
        pair["weight"] = weight.into();
        for side in ["winner", "loser"] {
            pair[side]["data"] = set.into();
        }
        pair.to_string() + "\n"
    };
    let (a, b) = (find(0), find(1));
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let both = write("both.jsonl", with(&a, 0, 1.0) + &with(&b, 1, 1.0));
    let both = mixed.run(
        "both",
        &[&base[..], &["--data", mixed.second(), "--pairs", &both]].concat(),
    );
    let line = &log(&both.join("log.jsonl"))[0];

    // Of each data set alone, the other place of the batch filled with the same pair at weight 0.
    let alone = |name: &str, data: PathBuf, text: String| {
        let (pairs, trace) = (write(name, text), dir.join(format!("{name}-trace")));
        let out = dir.join(format!("{name}-out"));
        let mut command = mixed.world.command_into(&out, &base);
        // The world's own data set stands in the command; the last folder alone is wanted.
        let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let at = arguments.iter().position(|a| a == "--data").unwrap();
        arguments[at + 1] = data.into();
        command = std::process::Command::new(command.get_program());
        command
            .args(arguments)
            .args(["--pairs", &pairs])
            .arg("--trace")
            .arg(&trace);
        succeeded(&command.output().unwrap());
        Step::open(&trace, 1)
    };
    let first = alone(
        "a",
        mixed.world.data(),
        with(&a, 0, 1.0) + &with(&a, 0, 0.0),
    );
    let second = alone(
        "b",
        mixed.second.clone(),
        with(&b, 0, 0.0) + &with(&b, 0, 1.0),
    );
    let loss = 0.5 * (first.get("mse")[0] + second.get("mse")[2]);
    let found = line["loss"].as_f64().unwrap();
    assert!((found / loss - 1.0).abs() < NETWORK, "{found} {loss}");
    let squares: f64 = first
        .factors()
        .iter()
        .flat_map(|name| {
            let name = format!("grad.{name}");
            let sums = first.get(&name).iter().zip(second.get(&name));
            sums.map(|(a, b)| (a + b).powi(2)).collect::<Vec<f64>>()
        })
        .sum();
    let found = line["grad_norm"].as_f64().unwrap();
    assert!(
        (found / squares.sqrt() - 1.0).abs() < NETWORK,
        "{found} {}",
        squares.sqrt()
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let mixed = Mixed::new();
    let trace = mixed.world.dir().join("trace");
    let trace = trace.to_str().unwrap();
    let run = |options: &[&str], expected: &str| {
        let output = mixed.world.run(options);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
        assert!(!mixed.world.out().exists());
    };
    run(
        &["--data", mixed.second(), "--trace", trace],
        "a step's file holds pictures of one size, the data sets have several",
    );
    // A pair across sizes.
    let pairs = mixed.world.dir().join("across.jsonl");
    let drawn = mixed.run("drawn", &["--steps", "1", "--data", mixed.second()]);
    let mut pair = lines(&drawn).into_iter().find(|p| data(p) == 0).unwrap();
    pair["loser"]["data"] = 1.into();
    fs::write(&pairs, pair.to_string()).unwrap();
    run(
        &["--data", mixed.second(), "--pairs", pairs.to_str().unwrap()],
        "across.jsonl:1: its pictures have different sizes",
    );
    // Another model's embeddings.
    let other = World::new();
    other.data_set_of(LATENT, 24, Some(6), &|_, _| ());
    run(
        &["--data", other.data().to_str().unwrap()],
        "differ in the sizes of their text embeddings",
    );
}

#[test]
fn gradients_that_do_not_fit_are_computed_twice_to_the_same_bits() {
    let world = World::new();
    let cut = ["--micro-batch", "3", "--preserve", "0.2"];
    let kept = lora(&world, "kept", &cut);
    // None fits; some do.
    for (name, memory) in [("none", "0"), ("some", "0.15")] {
        let more = [&cut[..], &["--grad-memory", memory]].concat();
        assert_eq!(kept, lora(&world, name, &more), "--grad-memory {memory}");
    }
}
