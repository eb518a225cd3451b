//! How long ONNX Runtime takes to load SDXL's training graph.

use std::path::Path;

use popalign::base::fsio;
use popalign::graph::{DType, Operators};
use popalign::nets::graphs::{Options, unet_grad};
use popalign::runtime::{Ep, Runtime, Session, SessionOptions};

use crate::synthetic;

/// What loading may take, in seconds of one core.
const LIMIT: f64 = 15.0;

/// Seconds that this thread has computed.
fn computed() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // Behind the name, which may have blanks: the 12th and 13th are ticks as user and as system.
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// In ONNX's own operators, without a pass over the graph, weights where they are.
#[test]
fn sdxls_training_graph_loads_fast() {
    let dir = tempfile::tempdir().unwrap();
    let config = synthetic::config("sdxl");
    let weights = synthetic::weights(&config, dir.path());
    let options = Options {
        compute: DType::F16,
        made_for: Some(Operators::Standard),
        ..Options::default()
    };
    let start = computed();
    let graph = unet_grad(&config, &weights.scope(""), &options)
        .unwrap()
        .graph;
    let built = computed() - start;
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let model = dir.path().join("model.onnx");
    fsio::write(&model, &graph.to_onnx(name, "zeros.bin").model).unwrap();
    let session = SessionOptions {
        weights_in_place: true,
        finished: true,
        ..SessionOptions::new(Ep::Cpu, 0, 1)
    };
    let start = computed();
    Session::open(&Runtime::load().unwrap(), &model, &session).unwrap();
    let loaded = computed() - start;
    println!("built in {built:.1} s, loaded in {loaded:.1} s");
    assert!(loaded < LIMIT, "loading took {loaded:.1} s of a core");
}
