//! A run whose numbers stay on the device, against the same run on the CPU. ONNX Runtime's CPU
//! provider computes the training graph for both, reading and writing the "device's" memory, so
//! every bit of both runs must agree.

use popalign::align::Config;
use popalign::align::model::UnetGrad;
use popalign::align::optimizer::Optimizer;
use popalign::align::ranks::{Alone, Ranks};
use popalign::align::trainer::{Record, Trainer};
use popalign::device::cuda::Cuda;
use popalign::device::{Cpu, Device};

use crate::threads::{self, threads};
use crate::world::World;
use crate::{open, stand_in};

const STEPS: u32 = 3;

fn config() -> Config {
    Config {
        rank: 2,
        batch: 3,
        lr: 1e-3,
        warmup: 0,
        steps: STEPS,
        ema: Some(0.9),
        optimizer: Optimizer::Adamw8bit,
        preserve: 0.2,
        lora_alpha: Some(3.0),
        caption_dropout: 0.0,
        ..Config::default()
    }
}

fn trainer<D: Device>(device: D, world: &World) -> Trainer<D, UnetGrad> {
    shared(device, world, Box::new(Alone))
}

fn shared<D: Device>(device: D, world: &World, ranks: Box<dyn Ranks>) -> Trainer<D, UnetGrad> {
    threads::trainer(device, world, config(), 4, ranks)
}

/// Two ranks whose gradients pass through NCCL have the bits of one process, on the CPU.
pub(crate) fn a_run_on_two_devices() {
    let world = World::new();
    let mut alone = trainer(Cpu, &world);
    for _ in 0..STEPS {
        alone.step(None).unwrap();
    }
    let expected = alone.snapshot().unwrap();
    std::thread::scope(|scope| {
        for ranks in threads(2) {
            let (world, expected) = (&world, &expected);
            scope.spawn(move || {
                let mut own = shared(open(), world, Box::new(ranks));
                let before = stand_in::counters().to_host;
                own.step(None).unwrap();
                // Less than its factors: no gradient went through the host.
                let copied = stand_in::counters().to_host - before;
                assert!(copied < 4 * own.factors.layout().total() as u64, "{copied}");
                for _ in 1..STEPS {
                    own.step(None).unwrap();
                }
                assert_eq!(own.agree().unwrap(), *expected);
            });
        }
    });
}

/// A graph in fp16 takes its noisy latents rounded on the device.
pub(crate) fn a_run_in_half_precision(cuda: Cuda) {
    let world = World::new();
    world.export(&["--lora-rank", "3", "--dtype", "fp16"]);
    let (mut there, mut here) = (trainer(cuda, &world), trainer(Cpu, &world));
    assert_eq!(there.step(None).unwrap(), here.step(None).unwrap());
    assert_eq!(there.snapshot().unwrap(), here.snapshot().unwrap());
}

pub(crate) fn a_run(cuda: Cuda) {
    let world = World::new();
    let mut there = trainer(cuda, &world);
    let mut here = trainer(Cpu, &world);
    for _ in 0..STEPS {
        let (mut a, mut b) = (Record::default(), Record::default());
        let (at, bt) = (
            there.step(Some(&mut a)).unwrap(),
            here.step(Some(&mut b)).unwrap(),
        );
        assert_eq!(at, bt);
        for (name, a, b) in [
            ("sample", a.sample, b.sample),
            ("mse", a.mse, b.mse),
            ("grad", a.grad, b.grad),
            ("after", a.after, b.after),
        ] {
            assert!(a.iter().any(|v| *v != 0.0), "{name} is all zeros");
            assert_eq!(a, b, "{name}");
        }
    }
    assert_eq!(there.snapshot().unwrap(), here.snapshot().unwrap());
    only_scalars_come_back(&mut there);
}

/// Without a record a step copies its errors, the summary of its two terms and a norm to the host, no latents,
/// factors or gradients.
fn only_scalars_come_back(trainer: &mut Trainer<Cuda, UnetGrad>) {
    let before = stand_in::counters().to_host;
    trainer.step(None).unwrap();
    let copied = stand_in::counters().to_host - before;
    let summary = (2 * 4 + 1) * 8;
    // 6 paired pictures and 2 preserved ones, with the LoRA and without.
    let errors = 2 * 8 * 4;
    let norm = 2 * 4;
    assert_eq!(copied, errors + summary + norm);
}
