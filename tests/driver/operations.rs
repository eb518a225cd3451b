//! Every operation of [`Device`], with the same numbers on both devices.

use popalign::device::cuda::Cuda;
use popalign::device::{
    AdamW, Clip, Cpu, Device, Diffuse, Half, HostState, Layout, Loss, Moments, Prodigy, State,
    Term, update,
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
fn results<D: Device>(device: &D, n: usize) -> (Results, [(HostState, Vec<u32>); 3]) {
    let mut out = Results::new();
    let get = |buffer: &D::Buffer| bits(&device.download(buffer).unwrap());
    diffuse(device, n, &mut out);

    let layout = Layout::new([n / 3, n - n / 3, 0, 5]);
    let grads = device.upload(&values(1, 3 * layout.total())).unwrap();
    let mut sum = device.zeros(layout.total()).unwrap();
    let c = device.upload(&[-1.25, 0.5, 7.0, 0.0]).unwrap();
    device
        .accumulate(&grads, &layout, &c, &[1, 3, 0], &mut sum)
        .unwrap();
    out.push(("accumulate", get(&sum)));

    let scaled = device.scale(&sum, &layout, 1.75).unwrap();
    out.push(("scale", get(&scaled)));

    let clip = device.global_norm(&sum, 1.0).unwrap();
    out.push(("global_norm", bits(&[clip.norm, clip.factor])));

    weights(device, n, &mut out);
    let moments = [
        Moments::zeros(&layout),
        Moments::blockwise_zeros(&layout),
        Moments::Prodigy(Prodigy::new(&values(2, layout.total()))),
    ];
    let update = |moments| optimized(device, &layout, moments, &sum, clip);
    (out, moments.map(update))
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
        update(device, &adamw, (t, 1e-3), clip, grad, &mut state).unwrap();
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
    let (pairs, kept) = (5 * n.min(60), n.min(7));
    let samples = 2 * pairs + kept;
    let positive = |seed, n| -> Vec<f32> {
        let values = values(seed, n);
        values.iter().map(|v| v.abs() * 1e-3 + 0.1).collect()
    };
    let scale = positive(7, samples);
    let errors = errors_in_parts(device, &positive(5, samples), &positive(6, samples));
    out.push(("errors", bits(&device.download(&errors).unwrap())));
    let term = |loss, samples| Term {
        loss,
        beta: 5000.0,
        weight: 0.7,
        samples,
    };
    for loss in [
        Loss::Offset { alpha: 0.3 },
        Loss::Lead { set: 1 },
        Loss::Error,
        Loss::Lead { set: 5 },
    ] {
        let both = [
            term(loss, 0..2 * pairs),
            term(Loss::Reference, 2 * pairs..samples),
        ];
        for terms in [&both[..1], &both] {
            let weights = device.weights(terms, &errors, &scale).unwrap();
            assert_eq!(weights.bad, None);
            out.push(("c", bits(&device.download(&weights.c).unwrap())));
            for own in weights.terms {
                let summary = [own.loss, own.mu, own.accuracy, own.margin];
                let halves = summary
                    .map(f64::to_bits)
                    .map(|b| [b as u32, (b >> 32) as u32]);
                out.push(("summary", halves.concat()));
            }
        }
    }
    let mut bad = [positive(5, samples), positive(6, samples)].concat();
    for place in [2 * samples - 1, samples, 1] {
        bad[place] = f32::NAN;
        let bad = device.upload(&bad).unwrap();
        let terms = [term(Loss::Error, 0..2 * pairs)];
        let weights = device.weights(&terms, &bad, &scale).unwrap();
        assert_eq!(weights.bad, Some(place));
    }
}

/// Errors of a batch that came in two micro-batches: of the samples at even places, then at odd ones.
fn errors_in_parts<D: Device>(device: &D, mse: &[f32], ref_mse: &[f32]) -> D::Buffer {
    let mut all = device.zeros(2 * mse.len()).unwrap();
    for first in 0..2 {
        let places: Vec<usize> = (first..mse.len()).step_by(2).collect();
        let pick = |from: &[f32]| -> Vec<f32> { places.iter().map(|&p| from[p]).collect() };
        let part = [pick(mse), pick(ref_mse)].concat();
        let part = device.upload(&part).unwrap();
        device.place(&part, &places, &mut all).unwrap();
    }
    all
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
