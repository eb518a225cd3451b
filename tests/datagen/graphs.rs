//! Graphs made for a run's sizes.

use popalign::graph::{check, external_files};
use popalign::runtime::{Ep, Runtime, Session, SessionOptions};

use crate::process::stderr;
use crate::world::{SDXL, World};

#[test]
fn graphs_for_the_runs_sizes_are_written_and_nothing_is_drawn() {
    let world = World::new(&SDXL, &["ox"]);
    let graphs = world.path("graphs");
    for target in ["plain", "cuda"] {
        let options = [
            "--write-graph",
            graphs.to_str().unwrap(),
            "--target",
            target,
            "--batch",
            "3",
        ];
        let output = world.run("out", &options);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(!world.path("out").exists());
        for (part, rows) in [
            ("text_encoder", 1),
            ("text_encoder_2", 1),
            // Guidance doubles a batch.
            ("unet", 6),
            ("vae_decoder", 1),
        ] {
            let model = graphs.join(part).join("model.onnx");
            check(&model).unwrap();
            for file in external_files(&std::fs::read(&model).unwrap()).unwrap() {
                assert!(model.with_file_name(&file).is_file(), "{part}/{file}");
            }
            // What CUDA's operators are, a CPU has no kernels for.
            if target == "plain" {
                let runtime = Runtime::load().unwrap();
                let session = Session::open(&runtime, &model, &SessionOptions::new(Ep::Cpu, 0, 1));
                let session = session.unwrap();
                let batch = session.inputs()[0].dims[0];
                assert_eq!(batch, Some(rows), "{part}");
                let inputs = session.inputs().iter().chain(session.optional_inputs());
                let mut names = inputs.map(|spec| spec.name.as_str());
                assert!(!names.any(|name| name.contains("lora")), "{part}");
            }
        }
    }
}
