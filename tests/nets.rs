//! Every network against diffusers, transformers and peft on random tiny models.
//!
//! The models, inputs and results under `fixtures/nets` were written by `scripts/oracle/nets.py`.
//! `POPALIGN_NETS_FIXTURES` names another folder of that layout (a fresh draw) to run instead.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of tests fails and reports as a test does"
)]

mod nets_support;

use std::path::{Path, PathBuf};

use nets_support::{Part, cases, fixtures, open_with, relative_error, run};
use popalign::graph::Graph;
use popalign::lora::LoraSpec;
use popalign::nets::clip::ClipConfig;
use popalign::nets::graphs::{self, Options, PlannedSizes};
use popalign::nets::read_config;
use popalign::runtime::{Ep, Session, SessionOptions};
use popalign::tensors::Weights;

/// fp32 sums of a few thousand terms in another order than torch's: the largest difference, as a
/// share of the largest value, over a whole network and its gradients. (torch's own fp32 is up to
/// 6e-5 away from its fp64 on these models.)
const FP32_NETWORK: f32 = 1e-4;

/// Rank of the oracle's adapters.
const RANK: u64 = 2;

fn options() -> Options {
    let spec = LoraSpec {
        rank: RANK,
        ..LoraSpec::default()
    };
    Options {
        lora: Some(spec),
        ..Options::default()
    }
}

/// A network of a case, exported and opened.
struct Net {
    case: PathBuf,
    session: Session,
}

impl Net {
    /// Builds and opens the network in a folder of `case`; nothing if the case has none.
    fn open(
        case: &Path,
        folder: &str,
        build: impl FnOnce(&Path, &Weights) -> Graph,
    ) -> Option<Self> {
        Self::open_by(case, folder, build, nets_support::open)
    }

    fn open_by(
        case: &Path,
        folder: &str,
        build: impl FnOnce(&Path, &Weights) -> Graph,
        session: impl FnOnce(&Graph, &Weights) -> Session,
    ) -> Option<Self> {
        let source = case.join(folder);
        if !source.is_dir() {
            return None;
        }
        let weights = Weights::open_dir(&source).unwrap();
        let graph = build(&source.join("config.json"), &weights);
        // One graph holds only a half of a VAE or of a CLIP model.
        if folder != "vae" && !case.ends_with("clip") {
            assert!(
                weights.unused().is_empty(),
                "{source:?}: {:?} unused",
                weights.unused()
            );
        }
        Some(Self {
            case: case.to_path_buf(),
            session: session(&graph, &weights),
        })
    }

    /// Runs `part` at every batch size up to the stored one and compares each sample of each
    /// output.
    fn compare(&mut self, part: &str) {
        let expected = Part::open(&self.case, part);
        let at = format!("{} {part}", self.case.display());
        let mut worst = (0.0, String::new());
        for batch in (1..=expected.batch()).rev() {
            let outputs = run(&mut self.session, &expected.inputs, batch);
            assert_eq!(outputs.names().len(), expected.outputs.len(), "{at}");
            for (name, tensor) in &expected.outputs {
                let found = outputs.f32(name).unwrap();
                let mut shape = tensor.shape.clone();
                shape[0] = batch;
                assert_eq!(found.shape(), shape, "{at} {name}");
                let found: Vec<f32> = found.iter().copied().collect();
                let each = found.len() / batch;
                let samples = found.chunks(each).zip(tensor.f32s.chunks(each));
                for (sample, (a, b)) in samples.enumerate() {
                    let error = relative_error(a, b);
                    if error > worst.0 {
                        worst = (error, format!("{name}, sample {sample} of {batch}"));
                    }
                }
            }
        }
        println!("{at}: {:e} ({})", worst.0, worst.1);
        assert!(
            worst.0 <= FP32_NETWORK,
            "{at} is off by {:e}: {}",
            worst.0,
            worst.1
        );
    }
}

fn open_gradient(case: &Path) -> Net {
    open_gradient_with(case, options())
}

fn open_gradient_with(case: &Path, options: Options) -> Net {
    open_gradient_by(case, options, nets_support::open)
}

fn open_gradient_by(
    case: &Path,
    options: Options,
    session: impl FnOnce(&Graph, &Weights) -> Session,
) -> Net {
    let options = Part::open(case, "unet_grad").with_targets(options);
    let build = |config: &Path, w: &Weights| {
        let config = read_config(config).unwrap();
        graphs::unet_grad(&config, &w.scope(""), &options)
            .unwrap()
            .graph
    };
    Net::open_by(case, "unet", build, session).unwrap()
}

#[test]
fn text_encoders_equal_transformers() {
    for case in cases() {
        let first = Net::open(&case, "text_encoder", |config, w| {
            graphs::text_encoder(&read_config(config).unwrap(), &w.scope(""), &options()).unwrap()
        });
        let second = Net::open(&case, "text_encoder_2", |config, w| {
            graphs::text_encoder_2(&read_config(config).unwrap(), &w.scope(""), &options()).unwrap()
        });
        assert!(first.is_some() || second.is_some());
        for (net, part) in [(first, "text_encoder"), (second, "text_encoder_2")] {
            if let Some(mut net) = net {
                net.compare(part);
            }
        }
    }
}

#[test]
fn unets_equal_diffusers_at_several_sizes() {
    for case in cases() {
        let build = |config: &Path, w: &Weights| {
            let config = read_config(config).unwrap();
            graphs::unet(&config, &w.scope(""), &options())
                .unwrap()
                .graph
        };
        let mut net = Net::open(&case, "unet", build).unwrap();
        net.compare("unet");
        net.compare("unet_wide");
    }
}

#[test]
fn gradients_equal_autograd_with_peft() {
    for case in cases() {
        let mut net = open_gradient(&case);
        net.compare("unet_grad");
        bits_stay_without_lora(&mut net);
    }
}

/// Recomputing changes when things are computed, not what: blocks, or only what is large at the
/// planned sizes, of which small pictures have nothing.
#[test]
fn recomputed_gradients_have_the_same_bits() {
    let small = Options {
        plan: PlannedSizes {
            batch: 1,
            latent: [8, 8],
            ..PlannedSizes::default()
        },
        ..options()
    };
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        let compute = |options, gated| {
            let mut net = open_gradient_with(&case, options);
            assert_eq!(net.session.input("checkpoint_gate").is_some(), gated);
            run(&mut net.session, &part.inputs, part.batch())
        };
        let expected = compute(small.clone(), false);
        for options in [options(), checkpointed(None)] {
            let found = compute(options, true);
            for name in expected.names() {
                let [a, b] = [&expected, &found].map(|o| o.f32_vec(name).unwrap());
                assert_eq!(a, b, "{} {name}", case.display());
            }
        }
    }
}

/// As training opens the graphs of large models.
#[test]
fn gradients_of_weights_in_place_equal_autograd() {
    let in_place = SessionOptions {
        weights_in_place: true,
        ..SessionOptions::new(Ep::Cpu, 0, 2)
    };
    for case in cases() {
        let open = |graph: &Graph, weights: &Weights| open_with(graph, weights, &in_place);
        let mut net = open_gradient_by(&case, options(), open);
        net.compare("unet_grad");
        bits_stay_without_lora(&mut net);
    }
}

/// At the default plan's 128 x 128 latents one head of the outermost layers has a GiB of scores:
/// the limit cuts every head off and its queries into eight.
#[test]
fn gradients_of_cut_attention_equal_autograd() {
    for case in cases() {
        let mut net = open_gradient_with(&case, checkpointed(Some(1 << 27)));
        net.compare("unet_grad");
    }
}

fn checkpointed(score_limit: Option<u64>) -> Options {
    Options {
        checkpointing: true,
        score_limit,
        ..options()
    }
}

/// With an adapter of zeros both errors have the same bits, so that implied rewards begin at 0.
fn bits_stay_without_lora(net: &mut Net) {
    let mut part = Part::open(&net.case, "unet_grad");
    let mut same = |part: &Part, what: &str| {
        for batch in 1..=part.batch() {
            let outputs = run(&mut net.session, &part.inputs, batch);
            let errors = ["mse", "ref_mse"].map(|name| outputs.f32_vec(name).unwrap());
            let case = net.case.display();
            assert_eq!(errors[0], errors[1], "{case}, {what}, batch {batch}");
        }
    };
    // As training starts: A random, B zero.
    for (name, array) in &mut part.inputs {
        if name.contains("lora_B") {
            array.f32s.fill(0.0);
        }
    }
    same(&part, "B of zeros");
    part.inputs.retain(|name, _| !name.contains("lora_"));
    same(&part, "nothing fed");
}

#[test]
fn vaes_equal_diffusers() {
    for case in cases() {
        let encoder = Net::open(&case, "vae", |config, w| {
            graphs::vae_encoder(&read_config(config).unwrap(), &w.scope(""), &options()).unwrap()
        });
        encoder.unwrap().compare("vae_encoder");
        let decoder = Net::open(&case, "vae", |config, w| {
            graphs::vae_decoder(&read_config(config).unwrap(), &w.scope(""), &options()).unwrap()
        });
        decoder.unwrap().compare("vae_decoder");
    }
}

#[test]
fn clip_towers_equal_transformers() {
    let case = fixtures().join("clip");
    let vision = Net::open(&case, "", |config, w| {
        let config: ClipConfig = read_config(config).unwrap();
        graphs::clip_vision(&config.vision(), &w.scope(""), &options()).unwrap()
    });
    vision.unwrap().compare("clip_vision");
    let text = Net::open(&case, "", |config, w| {
        let config: ClipConfig = read_config(config).unwrap();
        graphs::clip_text(&config.text(), &w.scope(""), &options()).unwrap()
    });
    text.unwrap().compare("clip_text");
}

#[test]
fn resnet_classifiers_equal_transformers() {
    for name in ["resnet_basic", "resnet_bottleneck"] {
        let net = Net::open(&fixtures().join(name), "", |config, w| {
            graphs::classifier(&read_config(config).unwrap(), &w.scope(""), &options()).unwrap()
        });
        net.unwrap().compare("classifier");
    }
}
