//! A run shared between ranks: the same LoRA, bit for bit, as in one process. Ranks are threads here,
//! and processes under `mpirun` where the build has MPI.

use popalign::align::Config;
use popalign::align::model::UnetGrad;
use popalign::align::optimizer::Optimizer;
use popalign::align::ranks::{Alone, Ranks};
use popalign::align::trainer::{Snapshot, Trainer};
use popalign::device::Cpu;

use crate::threads::{self, Thread, threads};
use crate::world::World;

const STEPS: u32 = 4;
/// Pairs of a step.
const BATCH: usize = 4;

fn config() -> Config {
    Config {
        rank: 2,
        batch: BATCH,
        lr: 1e-3,
        warmup: 0,
        steps: STEPS,
        preserve: 0.5,
        lora_alpha: Some(3.0),
        caption_dropout: 0.4,
        ..Config::default()
    }
}

fn trainer(world: &World, micro_batch: usize, ranks: Box<dyn Ranks>) -> Trainer<Cpu, UnetGrad> {
    threads::trainer(Cpu, world, config(), micro_batch, ranks)
}

fn trained(mut trainer: Trainer<Cpu, UnetGrad>) -> Snapshot {
    for _ in 0..STEPS {
        trainer.step(None).unwrap();
    }
    trainer.agree().unwrap()
}

/// What every one of `size` ranks ends with.
fn shared(world: &World, micro_batch: usize, size: usize) -> Vec<Snapshot> {
    std::thread::scope(|scope| {
        let run = |ranks: Thread| {
            scope.spawn(move || trained(trainer(world, micro_batch, Box::new(ranks))))
        };
        let running: Vec<_> = threads(size).into_iter().map(run).collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// The 8 pictures of a batch and its 2 preserved ones: 2, 3 and 4 ranks get unequal numbers of parts.
#[test]
fn any_number_of_ranks_gives_one_process_bits() {
    let world = World::new();
    for micro_batch in [1, 2] {
        let alone = trained(trainer(&world, micro_batch, Box::new(Alone)));
        assert!(alone.state.p.iter().any(|v| *v != 0.0));
        for size in [2, 3, 4] {
            for (rank, own) in shared(&world, micro_batch, size).iter().enumerate() {
                assert_eq!(
                    *own, alone,
                    "rank {rank} of {size}, micro-batch {micro_batch}"
                );
            }
        }
    }
}

#[test]
fn prodigy_s_estimate_is_the_same_on_every_rank() {
    let world = World::new();
    let run = |ranks: Box<dyn Ranks>| {
        let config = Config {
            optimizer: Optimizer::Prodigy,
            lr: 1.0,
            ..config()
        };
        trained(threads::trainer(Cpu, &world, config, 1, ranks))
    };
    let alone = run(Box::new(Alone));
    std::thread::scope(|scope| {
        let run = &run;
        let start = |ranks: Thread| scope.spawn(move || run(Box::new(ranks)));
        let running: Vec<_> = threads(3).into_iter().map(start).collect();
        for own in running {
            assert_eq!(own.join().unwrap(), alone);
        }
    });
}

#[test]
fn ranks_that_differ_are_found_out() {
    let verdict = |mut ranks: Thread| {
        let numbers = [1.0, (ranks.rank() / 2) as f32];
        popalign::align::ranks::agree(&mut ranks, &numbers, 7)
            .unwrap_err()
            .to_string()
    };
    let verdicts: Vec<String> = std::thread::scope(|scope| {
        let run = |ranks| scope.spawn(move || verdict(ranks));
        let running: Vec<_> = threads(3).into_iter().map(run).collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for verdict in verdicts {
        assert_eq!(
            verdict,
            "after step 7 the LoRA of rank 2 is not that of rank 0"
        );
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_says_so() {
    let output = World::new().run(&["--mpi", "--steps", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(crate::process::stderr(&output).contains("--features mpi"));
}

/// Under `mpirun` with two processes: the same files as one process writes. A rank that fails takes
/// the other with it.
#[cfg(feature = "mpi")]
#[test]
fn mpirun_gives_one_process_files() {
    use std::process::Command;

    use crate::world::{files, stderr, succeeded};

    let world = World::new();
    let options = [
        "--steps",
        "6",
        "--batch",
        "4",
        "--micro-batch",
        "2",
        "--save-every",
        "3",
        "--threads",
        "1",
    ];
    world.trained(&options);
    let mpirun = |options: &[&str]| {
        let out = world.dir().join("shared");
        let own = world.command_into(&out, options);
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", "2"]);
        command
            .arg(own.get_program())
            .args(own.get_args())
            .arg("--mpi");
        (out, command.output().unwrap())
    };
    let (out, output) = mpirun(&options);
    succeeded(&output);
    assert!(stderr(&output).contains("in 2 ranks"));
    assert_eq!(files(&world.out()), files(&out));

    let (_, output) = mpirun(&options);
    assert_ne!(output.status.code(), Some(0), "the folder is taken");
    assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));
}
