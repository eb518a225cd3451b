//! The launch code of `src/device/cuda.rs` and the device-resident training step, run without a GPU:
//! cudarc finds a stand-in for the driver, whose device is this process and whose kernels are those
//! of `kernels/` through the shim. Arguments, sizes and lifetimes are real; only speed is not.
//!
//! One test: what the driver counts is the process's.
#![expect(unsafe_code, reason = "calls into the compiled stand-in")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../shim/compile.rs"]
mod compile_shim;
mod operations;
#[path = "../process/mod.rs"]
mod process;
mod stand_in;
#[path = "../finetune/threads.rs"]
mod threads;
mod training;
#[path = "../finetune/world.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod world;

use popalign::device::cuda::{self, Cuda};

fn open() -> Cuda {
    let mut cuda = Cuda::open(0).unwrap();
    // SAFETY: the stand-in's device memory is this process's.
    unsafe { cuda.assume_host_memory() };
    cuda
}

#[test]
fn the_launch_code_gives_the_cpu_twins_bits() {
    stand_in::install();
    assert_eq!(cuda::probe().unwrap(), 1);
    let error = Cuda::open(1).unwrap_err().to_string();
    assert!(
        error.contains("device 1 was asked for, there are 1"),
        "{error}"
    );

    operations::every_operation(&open());
    operations::memory_that_runs_out(&open());
    training::a_run(open());
    training::a_run_on_two_devices();
    training::a_run_in_half_precision(open());

    let left = stand_in::counters();
    assert_eq!((left.live_bytes, left.live_blocks), (0, 0), "memory leaks");
}
