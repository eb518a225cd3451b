//! Running the graphs of two bundles side by side.

use std::path::Path;

use popalign::bundle::{Bundle, Part};
use popalign::lora::Fitted;
use popalign::runtime::{Feed, Runtime, Session, SessionOptions};

/// The parts of SDXL that draw and train.
pub(crate) const DRAWING: [Part; 6] = [
    Part::TextEncoder,
    Part::TextEncoder2,
    Part::Unet,
    Part::UnetGrad,
    Part::VaeDecoder,
    Part::VaeEncoder,
];

/// The outputs of one graph on made-up inputs, by name.
pub(crate) fn outputs(out: &Path, part: Part) -> Vec<(String, Vec<f32>)> {
    outputs_with(out, part, None)
}

/// The same with an adapter.
pub(crate) fn outputs_with(
    out: &Path,
    part: Part,
    adapter: Option<&Fitted>,
) -> Vec<(String, Vec<f32>)> {
    let bundle = Bundle::open(out).unwrap();
    let runtime = Runtime::load().unwrap();
    let options = SessionOptions {
        threads: 1,
        ..SessionOptions::default()
    };
    let mut session = bundle.session(&runtime, part, &options).unwrap();
    let arrays = inputs(&session);
    let mut feed = Feed::new();
    for (name, values, shape) in &arrays {
        if name == "input_ids" {
            let ids: Vec<i64> = (0..values.len() as i64).map(|i| i * 7 % 50).collect();
            feed.push_i64(name.as_str(), ids, shape);
        } else {
            feed.push_f32(name.as_str(), values.as_slice(), shape);
        }
    }
    if let Some(adapter) = adapter {
        adapter.feed(&mut feed);
    }
    let run = session.run(&feed).unwrap();
    let names = run.names().to_vec();
    let values = |name: String| {
        let values = run.f32_vec(&name).unwrap();
        (name, values)
    };
    names.into_iter().map(values).collect()
}

/// A value and a shape for every input: batch 2, 16 for other free dimensions, 5 tokens.
pub(crate) fn inputs(session: &Session) -> Vec<(String, Vec<f32>, Vec<usize>)> {
    let made = session.inputs().iter().map(|spec| {
        let free = if spec.name == "encoder_hidden_states" {
            5
        } else {
            16
        };
        let size = |(axis, dim): (usize, &Option<i64>)| match dim {
            Some(n) => *n as usize,
            None if axis == 0 => 2,
            None => free,
        };
        let shape: Vec<usize> = spec.dims.iter().enumerate().map(size).collect();
        let count: usize = shape.iter().product();
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
        (spec.name.clone(), (0..count).map(value).collect(), shape)
    });
    made.collect()
}

/// Asserts that two bundles compute the same numbers, to the last bit.
#[track_caller]
pub(crate) fn same(a: &Path, b: &Path, parts: &[Part]) {
    for &part in parts {
        let (a, b) = (outputs(a, part), outputs(b, part));
        assert_eq!(a.len(), b.len(), "{part}");
        for ((name, left), (other, right)) in a.iter().zip(&b) {
            assert_eq!(name, other, "{part}");
            assert!(left == right, "{part}: {name} differs");
        }
    }
}
