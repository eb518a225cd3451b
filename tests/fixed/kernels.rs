//! Every operation of every graph that can be made for CUDA, held to ONNX Runtime's own table of its kernels
//! (`src/graph/cuda/kernels.txt`).

use std::path::Path;

use popalign::graph::{DType, Dim, Graph, Operators};
use popalign::lora::LoraSpec;
use popalign::nets::clip::ClipConfig;
use popalign::nets::graphs::{self, Options, PlannedSizes};
use popalign::nets::read_config;
use popalign::tensors::Weights;

use crate::nets_support::{cases, fixtures};
use crate::synthetic;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Made for CUDA, and as exported.
const KINDS: [Option<Operators>; 2] = [Some(Operators::Cuda), None];

fn options(compute: DType, made_for: Option<Operators>) -> Options {
    Options {
        compute,
        made_for,
        plan: PlannedSizes {
            batch: 2,
            latent: [16, 16],
            tokens: 12,
        },
        ..Options::default()
    }
}

#[track_caller]
fn runs_on_cuda(graph: &Graph, what: &str) {
    if let Some(lack) = graph.lacks_on_cuda() {
        panic!("{what}: no kernel for {lack}");
    }
}

/// Opens the network in a folder of a case, if it has one.
fn network(case: &Path, folder: &str) -> Option<(std::path::PathBuf, Weights)> {
    let source = case.join(folder);
    let there = source.is_dir();
    there.then(|| {
        (
            source.join("config.json"),
            Weights::open_dir(&source).unwrap(),
        )
    })
}

#[test]
fn unets_have_kernels() {
    for case in cases() {
        let (config, weights) = network(&case, "unet").unwrap();
        let (config, w) = (read_config(&config).unwrap(), weights.scope(""));
        for compute in TYPES {
            for made_for in KINDS {
                let what = format!("{} {compute} {made_for:?}", case.display());
                for lora in [None, Some(LoraSpec::default())] {
                    let options = Options {
                        lora,
                        ..options(compute, made_for)
                    };
                    runs_on_cuda(&graphs::unet(&config, &w, &options).unwrap().graph, &what);
                }
                for checkpointing in [false, true] {
                    let options = Options {
                        checkpointing,
                        ..options(compute, made_for)
                    };
                    let built = graphs::unet_grad(&config, &w, &options).unwrap();
                    runs_on_cuda(&built.graph, &what);
                }
            }
        }
    }
}

/// Some fused operators are for SDXL's widths only.
#[test]
fn sdxls_unet_has_kernels() {
    let dir = tempfile::tempdir().unwrap();
    let config = synthetic::config("sdxl");
    let weights = synthetic::weights(&config, dir.path());
    for compute in TYPES {
        let options = Options {
            compute,
            made_for: Some(Operators::Cuda),
            ..Options::default()
        };
        let forward = graphs::unet(&config, &weights.scope(""), &options).unwrap();
        runs_on_cuda(&forward.graph, &format!("SDXL's unet in {compute}"));
        let training = graphs::unet_grad(&config, &weights.scope(""), &options).unwrap();
        runs_on_cuda(&training.graph, &format!("SDXL's unet_grad in {compute}"));
    }
}

#[test]
fn the_other_networks_have_kernels() {
    for case in cases() {
        for compute in TYPES {
            for made_for in KINDS {
                let options = options(compute, made_for);
                let what = format!("{} {compute} {made_for:?}", case.display());
                let (config, weights) = network(&case, "vae").unwrap();
                let (config, w) = (read_config(&config).unwrap(), weights.scope(""));
                runs_on_cuda(&graphs::vae_decoder(&config, &w, &options).unwrap(), &what);
                runs_on_cuda(&graphs::vae_encoder(&config, &w, &options).unwrap(), &what);
                if let Some((config, weights)) = network(&case, "text_encoder") {
                    let (config, w) = (read_config(&config).unwrap(), weights.scope(""));
                    runs_on_cuda(&graphs::text_encoder(&config, &w, &options).unwrap(), &what);
                }
                if let Some((config, weights)) = network(&case, "text_encoder_2") {
                    let (config, w) = (read_config(&config).unwrap(), weights.scope(""));
                    runs_on_cuda(
                        &graphs::text_encoder_2(&config, &w, &options).unwrap(),
                        &what,
                    );
                }
            }
        }
    }
}

/// What looks at pictures is fp32 in every bundle.
#[test]
fn classifiers_have_kernels() {
    for made_for in KINDS {
        let options = options(DType::F32, made_for);
        for name in ["resnet_basic", "resnet_bottleneck"] {
            let (config, weights) = network(&fixtures(), name).unwrap();
            let config = read_config(&config).unwrap();
            let graph = graphs::classifier(&config, &weights.scope(""), &options).unwrap();
            runs_on_cuda(&graph, name);
        }
        let (config, weights) = network(&fixtures(), "clip").unwrap();
        let config: ClipConfig = read_config(&config).unwrap();
        let w = weights.scope("");
        runs_on_cuda(
            &graphs::clip_vision(&config.vision(), &w, &options).unwrap(),
            "vision",
        );
        runs_on_cuda(
            &graphs::clip_text(&config.text(), &w, &options).unwrap(),
            "text",
        );
    }
}

/// Doubling is Resize until it is written otherwise, and of that CUDA has none in bf16.
#[test]
fn what_has_no_kernel_is_named() {
    let mut g = Graph::made_for(Operators::Cuda);
    let shape = [1, 4, 8, 8].map(Dim::from);
    let x = g.input("x", DType::BF16, &shape).unwrap();
    let y = g.scoped("up.0", |g| g.upsample_nearest_2x(x)).unwrap();
    g.output("y", y).unwrap();
    let lack = g.lacks_on_cuda().unwrap();
    assert_eq!(lack.to_string(), "Resize in bf16 (node `up.0`)");
    g.without_bf16_gaps().unwrap();
    assert_eq!(g.lacks_on_cuda(), None);
}
