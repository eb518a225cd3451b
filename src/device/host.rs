//! The CPU as a device.

use super::adamw::{AdamWStep, Clip};
use super::error::Error;
use super::half::Half;
use super::layout::Layout;
use super::loss::{Term, Weights};
use super::noise::{Diffuse, Diffused};
use super::operations::Device;
use super::prodigy::{Prodigy, ProdigyMoments, ProdigyUpdate};
use super::state::Codes;
use super::{blockwise, cpu, prodigy, weights};
use crate::runtime::Memory;

/// The CPU, through the twins of the kernels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Device for Cpu {
    type Buffer = Vec<f32>;
    type Halves = Vec<u16>;
    type Bytes = Vec<u8>;

    fn name(&self) -> String {
        "cpu".to_owned()
    }

    fn memory(&self) -> Memory {
        Memory::Host
    }

    fn address(&self, buffer: &Vec<f32>) -> u64 {
        buffer.as_ptr() as u64
    }

    fn address_mut(&self, buffer: &mut Vec<f32>) -> u64 {
        buffer.as_mut_ptr() as u64
    }

    fn halves_address(&self, halves: &Vec<u16>) -> u64 {
        halves.as_ptr() as u64
    }

    fn zeros(&self, n: usize) -> Result<Vec<f32>, Error> {
        Ok(vec![0.0; n])
    }

    fn to_half(&self, buffer: &Vec<f32>, kind: Half) -> Result<Vec<u16>, Error> {
        Ok(cpu::to_half(buffer, kind))
    }

    fn upload(&self, host: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(host.to_vec())
    }

    fn download(&self, buffer: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(buffer.clone())
    }

    fn upload_bytes(&self, host: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(host.to_vec())
    }

    fn download_bytes(&self, bytes: &Vec<u8>) -> Result<Vec<u8>, Error> {
        Ok(bytes.clone())
    }

    fn diffuse(&self, call: &Diffuse<'_>, latents: &Vec<f32>) -> Result<Diffused<Vec<f32>>, Error> {
        let zeros = || vec![0.0; latents.len()];
        let mut out = Diffused {
            noise: zeros(),
            sample: zeros(),
            target: zeros(),
        };
        cpu::diffuse(
            call,
            latents,
            &mut out.noise,
            &mut out.sample,
            &mut out.target,
        );
        Ok(out)
    }

    fn place(&self, errors: &Vec<f32>, places: &[usize], all: &mut Vec<f32>) -> Result<(), Error> {
        cpu::place(errors, places, all);
        Ok(())
    }

    fn weights(
        &self,
        terms: &[Term],
        errors: &Vec<f32>,
        scale: &[f32],
    ) -> Result<Weights<Vec<f32>>, Error> {
        let mut c = vec![0.0; scale.len()];
        let sums = terms
            .iter()
            .map(|term| weights::weights(term, errors, scale, &mut c));
        Ok(Weights {
            terms: sums.collect(),
            bad: weights::first_bad(errors),
            c,
        })
    }

    fn accumulate(
        &self,
        grads: &Vec<f32>,
        layout: &Layout,
        c: &Vec<f32>,
        places: &[usize],
        sum: &mut Vec<f32>,
    ) -> Result<(), Error> {
        cpu::accumulate(grads, layout, c, places, sum);
        Ok(())
    }

    fn scale(&self, from: &Vec<f32>, layout: &Layout, scale: f32) -> Result<Vec<f32>, Error> {
        Ok(cpu::scale(from, layout, scale))
    }

    fn global_norm(&self, grad: &Vec<f32>, max_norm: f64) -> Result<Clip, Error> {
        Ok(cpu::global_norm(grad, max_norm))
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Vec<f32>,
        p: &mut Vec<f32>,
        [m, v]: [&mut Vec<f32>; 2],
    ) -> Result<(), Error> {
        cpu::adamw(step, clip, grad, p, m, v);
        Ok(())
    }

    fn adamw8(
        &self,
        step: &AdamWStep,
        clip: Clip,
        grad: &Vec<f32>,
        p: &mut Vec<f32>,
        blocks: &Layout,
        [m, v]: [&mut Codes<Vec<f32>, Vec<u8>>; 2],
    ) -> Result<(), Error> {
        blockwise::adamw(step, clip, grad, p, blocks, m, v);
        Ok(())
    }

    fn prodigy_moments(
        &self,
        step: &ProdigyMoments,
        clip: Clip,
        grad: &Vec<f32>,
        p: &Vec<f32>,
        own: &mut Prodigy<Vec<f32>>,
    ) -> Result<[f64; 2], Error> {
        Ok(prodigy::moments(step, clip, grad, p, own))
    }

    fn prodigy_update(
        &self,
        step: &ProdigyUpdate,
        p: &mut Vec<f32>,
        own: &Prodigy<Vec<f32>>,
    ) -> Result<(), Error> {
        prodigy::update(step, p, &own.m, &own.v);
        Ok(())
    }

    fn ema(&self, p: &Vec<f32>, average: &mut Vec<f32>, decay: f64) -> Result<(), Error> {
        cpu::ema(p, average, (1.0 - decay) as f32);
        Ok(())
    }
}
