//! Ranks that are threads of one process.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};

use popalign::align::Result;
use popalign::align::ranks::Ranks;

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
