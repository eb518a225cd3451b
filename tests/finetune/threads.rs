//! Ranks that are threads of one process, and trainers for them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};

use popalign::align::factors::FactorSet;
use popalign::align::model::UnetGrad;
use popalign::align::ranks::Ranks;
use popalign::align::source::Source;
use popalign::align::trainer::{Settings, Trainer};
use popalign::align::{Config, Making, Result};
use popalign::bundle::Bundle;
use popalign::data::pairs;
use popalign::data::pool::Pool;
use popalign::device::Device;
use popalign::diffusion::schedule::SchedulerConfig;
use popalign::runtime::{Runtime, SessionOptions};

use crate::world::World;

/// A rank that is a thread.
#[derive(Debug)]
pub(crate) struct Thread {
    rank: usize,
    size: usize,
    board: Arc<(Mutex<Vec<Vec<f32>>>, Barrier)>,
    before: Option<Receiver<Vec<f32>>>,
    next: Option<Sender<Vec<f32>>>,
}

/// `size` ranks that know each other.
pub(crate) fn threads(size: usize) -> Vec<Thread> {
    let board = Arc::new((Mutex::new(vec![Vec::new(); size]), Barrier::new(size)));
    let mut before = None;
    let rank = |rank| {
        let (to, from) = channel();
        let last = rank + 1 == size;
        Thread {
            rank,
            size,
            board: Arc::clone(&board),
            before: before.replace(from),
            next: (!last).then_some(to),
        }
    };
    (0..size).map(rank).collect()
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&mut self, own: &[f32]) -> Result<Vec<Vec<f32>>> {
        let (board, barrier) = &*self.board;
        board.lock().unwrap()[self.rank] = own.to_vec();
        barrier.wait();
        let all = board.lock().unwrap().clone();
        barrier.wait();
        Ok(all)
    }

    fn receive(&mut self, buffer: &mut [f32]) -> Result<()> {
        if let Some(before) = &self.before {
            buffer.copy_from_slice(&before.recv().unwrap());
        }
        Ok(())
    }

    fn send(&mut self, buffer: &[f32]) -> Result<()> {
        if let Some(next) = &self.next {
            next.send(buffer.to_vec()).unwrap();
        }
        Ok(())
    }

    fn spread(&mut self, buffer: &mut [f32]) -> Result<()> {
        let all = self.gather(buffer)?;
        buffer.copy_from_slice(&all[self.size - 1]);
        Ok(())
    }
}

/// A run of a world's model on ONNX Runtime's CPU provider, with one thread.
pub(crate) fn trainer<D: Device>(
    device: D,
    world: &World,
    config: Config,
    micro_batch: usize,
    ranks: Box<dyn Ranks>,
) -> Trainer<D, UnetGrad> {
    let bundle = Bundle::open(world.bundle()).unwrap();
    let factors = FactorSet::new(bundle.lora().unwrap(), config.rank).unwrap();
    let factors = factors.with_alpha(config.alpha_of_lora() as f32);
    let pool = Pool::open(&[world.data()]).unwrap();
    let pairs = pairs::draw(&pool, None, 1, 50, config.sets()).unwrap();
    let options = SessionOptions {
        threads: 1,
        ..SessionOptions::default()
    };
    let runtime = Runtime::load().unwrap();
    let (set, making) = (&pool.sets()[0], Making::default());
    let model = UnetGrad::open(&runtime, &bundle, &options, set, &factors, making).unwrap();
    let scheduler = bundle.dir().join("scheduler/scheduler_config.json");
    let scheduler = SchedulerConfig::read(&scheduler).unwrap();
    let source = Source::new(pool, pairs, &scheduler, &config, None).unwrap();
    let settings = Settings {
        device,
        model,
        factors,
        config,
        source,
        micro_batch,
        grad_memory: u64::MAX,
        ranks,
        artist: None,
    };
    Trainer::new(settings).unwrap()
}
