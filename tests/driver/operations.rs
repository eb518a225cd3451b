//! Every operation of [`Device`], with the same numbers on both devices.

use popalign::device::cpu::Half;
use popalign::device::cuda::Cuda;
use popalign::device::{
    AdamW, Clip, Cpu, Device, Diffuse, Errors, HostState, Layout, Loss, Moments, State,
};
use popalign::random;
use popalign::random::Purpose;

use crate::stand_in;

/// Numbers that one operation gave, by name.
type Results = Vec<(&'static str, Vec<u32>)>;

fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    random::normal(seed, Purpose::Bootstrap, 1, 2, 3, &mut x);
    x
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

pub(crate) fn every_operation(cuda: &Cuda) {
    for n in [1, 255, 256, 257, 5003] {
        assert_eq!(results(cuda, n), results(&Cpu, n), "sizes of {n}");
    }
}

/// The one body that both devices run.
fn results<D: Device>(device: &D, n: usize) -> (Results, [(HostState, Vec<u32>); 2]) {
    let mut out = Results::new();
    let get = |buffer: &D::Buffer| bits(&device.download(buffer).unwrap());
    diffuse(device, n, &mut out);

    let layout = Layout::new([n / 3, n - n / 3, 0, 5]);
    let grads = device.upload(&values(1, 3 * layout.total())).unwrap();
    let mut sum = device.zeros(layout.total()).unwrap();
    let c = [0.5, 0.0, -1.25];
    device.accumulate(&grads, &layout, &c, &mut sum).unwrap();
    out.push(("accumulate", get(&sum)));

    let clip = device.global_norm(&sum, 1.0).unwrap();
    out.push(("global_norm", bits(&[clip.norm, clip.factor])));

    weights(device, n, &mut out);
    let zeros = [Moments::zeros(&layout), Moments::blockwise_zeros(&layout)];
    let update = |moments| optimized(device, &layout, moments, &sum, clip);
    (out, zeros.map(update))
}

/// Two updates and their average.
fn optimized<D: Device>(
    device: &D,
    layout: &Layout,
    moments: Moments<Vec<f32>, Vec<u8>>,
    grad: &D::Buffer,
    clip: Clip,
) -> (HostState, Vec<u32>) {
    let start = State {
        p: values(2, layout.total()),
        moments,
    };
    let mut state = start
        .try_map(|b| device.upload(b), |q| device.upload_bytes(q))
        .unwrap();
    let mut average = device.upload(&values(3, layout.total())).unwrap();
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 1e-2,
    };
    for t in 1..3 {
        let step = adamw.step(t, 1e-3);
        device.adamw(&step, clip, grad, &mut state).unwrap();
        device.ema(&state.p, &mut average, 0.9).unwrap();
    }
    let end = state.try_map(|b| device.download(b), |q| device.download_bytes(q));
    (end.unwrap(), bits(&device.download(&average).unwrap()))
}

fn diffuse<D: Device>(device: &D, n: usize, out: &mut Results) {
    let call = Diffuse {
        seed: 0x0123_4567_89ab_cdef,
        purpose: Purpose::TrainNoise,
        step: 7,
        elements: n,
        addresses: &[(5, 6), (7, 8)],
        signal: &[0.9, 0.5],
        sigma: &[0.43, 0.86],
        v_prediction: true,
    };
    let latents = device.upload(&values(4, 2 * n)).unwrap();
    let diffused = device.diffuse(&call, &latents).unwrap();
    for (name, buffer) in [
        ("noise", &diffused.noise),
        ("sample", &diffused.sample),
        ("target", &diffused.target),
    ] {
        out.push((name, bits(&device.download(buffer).unwrap())));
    }
    // That the halves are right is seen through the graph that reads them (`training`).
    let halves = device.to_half(&diffused.sample, Half::F16).unwrap();
    assert_ne!(device.halves_address(&halves), 0);
}

fn weights<D: Device>(device: &D, n: usize, out: &mut Results) {
    let pairs = 5 * n.min(60);
    let positive = |seed, n| -> Vec<f32> {
        let values = values(seed, n);
        values.iter().map(|v| v.abs() * 1e-3 + 0.1).collect()
    };
    let errors = Errors {
        mse: &positive(5, 2 * pairs),
        ref_mse: &positive(6, 2 * pairs),
        scale: &positive(7, pairs),
    };
    let beta = 5000.0;
    for loss in [
        Loss::PopAlign { beta, alpha: 0.3 },
        Loss::Dpo { beta },
        Loss::Sft { beta },
        Loss::Set { beta, size: 5 },
    ] {
        let weights = device.weights(&loss, &errors).unwrap();
        out.push(("c", bits(&weights.c)));
        let summary = [weights.loss, weights.mu, weights.accuracy, weights.margin];
        let halves = summary
            .map(f64::to_bits)
            .map(|b| [b as u32, (b >> 32) as u32]);
        out.push(("summary", halves.concat()));
    }
}

/// A device without room says so and stays usable.
pub(crate) fn memory_that_runs_out(cuda: &Cuda) {
    let before = stand_in::counters().live_bytes;
    stand_in::limit(before + 1000);
    let error = cuda.zeros(10_000).unwrap_err().to_string();
    assert!(
        error.contains("allocate") && error.contains("memory"),
        "{error}"
    );
    stand_in::limit(u64::MAX);
    let kept = cuda.upload(&[1.0, 2.0]).unwrap();
    assert_eq!(cuda.download(&kept).unwrap(), [1.0, 2.0]);
    let clip = Clip {
        norm: 1.0,
        factor: 1.0,
    };
    assert_eq!(
        cuda.global_norm(&cuda.zeros(3).unwrap(), 1.0)
            .unwrap()
            .factor,
        clip.factor
    );
}
