//! `--caption-dropout`: which pairs are trained without their caption, and what stands for it.

use popalign::bundle::Bundle;
use popalign::data::dataset::Dataset;
use popalign::diffusion::text::TextEncoders;
use popalign::prompts::caption_id;
use popalign::runtime::{Runtime, SessionOptions};

use crate::process::succeeded;
use crate::refused::refused;
use crate::trace::Step;
use crate::world::World;

const STEPS: usize = 24;

/// The caption ids of a run's steps.
fn captions(world: &World, name: &str, more: &[&str]) -> Vec<Vec<i64>> {
    let (out, trace) = (
        world.dir().join(name),
        world.dir().join(format!("{name}-trace")),
    );
    let base = [
        "--steps",
        "24",
        "--batch",
        "6",
        "--trace",
        trace.to_str().unwrap(),
    ];
    let options = [&base[..], more].concat();
    succeeded(&world.command_into(&out, &options).output().unwrap());
    (1..=STEPS)
        .map(|n| Step::open(&trace, n).captions().to_vec())
        .collect()
}

#[test]
fn captions_are_dropped_by_address_for_both_sides() {
    let world = World::new();
    let empty = i64::from(caption_id(""));
    let drop = ["--caption-dropout", "0.25"];
    let kept = captions(&world, "kept", &[]);
    let dropped = captions(&world, "dropped", &drop);
    let mut count = 0;
    for (kept, dropped) in kept.iter().flatten().zip(dropped.iter().flatten()) {
        assert!(*kept != empty && (dropped == kept || *dropped == empty));
        count += usize::from(*dropped == empty);
    }
    for pair in dropped.iter().flat_map(|step| step.chunks(2)) {
        assert_eq!(pair[0], pair[1]);
    }
    // 144 pairs, a quarter of them: 36 with a deviation of 5.2, within three of it.
    assert!((20..=52).contains(&(count / 2)), "{count}");
    // However the batch is cut, and from step to step others.
    let cut = captions(
        &world,
        "cut",
        &[&drop[..], &["--micro-batch", "1"]].concat(),
    );
    assert_eq!(cut, dropped);
    assert_ne!(
        dropped[0].iter().map(|id| *id == empty).collect::<Vec<_>>(),
        dropped[1].iter().map(|id| *id == empty).collect::<Vec<_>>()
    );
    // A set has one caption; preserved pictures keep theirs.
    let sets = [
        "--loss",
        "set",
        "--set-size",
        "3",
        "--preserve",
        "0.5",
        "--caption-dropout",
        "0.5",
    ];
    for step in captions(&world, "sets", &sets) {
        for set in step[..12].chunks(6) {
            assert!(set.iter().all(|id| id == &set[0]));
        }
        assert!(step[12..].iter().all(|&id| id != empty));
    }
    let all = captions(&world, "all", &["--caption-dropout", "1"]);
    assert!(all.iter().flatten().all(|&id| id == empty));
}

/// What stands for a dropped caption is what the text encoders make of the empty one.
#[test]
fn the_empty_caption_is_encoded_where_the_data_set_lacks_it() {
    let world = World::demo();
    let dataset = Dataset::open(world.data()).unwrap();
    assert!(dataset.embeddings(caption_id("")).is_err());
    let trace = world.dir().join("trace");
    let options = ["--steps", "1", "--batch", "1", "--caption-dropout", "1"];
    world.trained(&[&options[..], &["--trace", trace.to_str().unwrap()]].concat());
    let step = Step::open(&trace, 1);
    let bundle = Bundle::open(world.bundle()).unwrap();
    let (runtime, session) = (Runtime::load().unwrap(), SessionOptions::default());
    let mut encoders = TextEncoders::open(&bundle, &runtime, &session).unwrap();
    let expected = encoders.encode("").unwrap();
    let doubles = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
    let id = caption_id("");
    assert_eq!(
        step.get(&format!("prompt_embeds.{id:08x}")),
        doubles(expected.prompt_embeds)
    );
    assert_eq!(
        step.get(&format!("pooled.{id:08x}")),
        doubles(expected.pooled.unwrap())
    );
}

/// What guidance draws away from is zeros with SDXL's kind, unless its pipeline says otherwise.
#[test]
fn what_guidance_draws_away_from_can_stand_for_it() {
    let world = World::new();
    let options = ["--steps", "1", "--batch", "1", "--caption-dropout", "1"];
    let more = ["--dropped-caption", "unconditional"];
    let id = caption_id("");
    let dropped = |name: &str| {
        let (out, trace) = (
            world.dir().join(name),
            world.dir().join(format!("{name}-trace")),
        );
        let trace_to = ["--trace", trace.to_str().unwrap()];
        let all = [&options[..], &more, &trace_to].concat();
        succeeded(&world.command_into(&out, &all).output().unwrap());
        Step::open(&trace, 1)
            .get(&format!("prompt_embeds.{id:08x}"))
            .to_vec()
    };
    assert!(dropped("zeros").iter().all(|x| *x == 0.0));
    let index = r#"{"_class_name": "X", "force_zeros_for_empty_prompt": false}"#;
    std::fs::write(world.bundle().join("model_index.json"), index).unwrap();
    assert!(dropped("empty").iter().any(|x| *x != 0.0));
}

#[test]
fn without_the_caption_and_encoders_it_is_refused() {
    let world = World::without_empty_caption();
    let options = ["--caption-dropout", "0.2"];
    refused(&world, &options, &["has no text_encoder", "hint: "]);
}
