//! Ranks as MPI processes, started by `mpirun` or Slurm's `srun`.
//!
//! Links the machine's MPI library, so it is a feature of the build (`--features mpi`), not a
//! default: needs `mpicc` and libclang to build.

use mpi::collective::Root as _;
use mpi::datatype::PartitionMut;
use mpi::point_to_point::{Destination as _, Source as _};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _};
use mpi::{Count, Threading};

use super::{Error, Ranks, Result};

/// Gives `body` this process's place among those that MPI started.
///
/// # Errors
/// [`Error::Ranks`] if MPI does not start, and what `body` returns. Then MPI is not ended in order,
/// which makes `mpirun` and `srun` stop the other ranks: they would wait for this one for ever.
pub fn with<T, E: From<Error>>(
    body: impl FnOnce(Box<dyn Ranks>) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    // Funneled: only the thread that is here passes messages, whatever threads compute.
    let started = mpi::initialize_with_threading(Threading::Funneled);
    let Some((universe, _)) = started else {
        return Err(E::from(Error::Ranks {
            rank: 0,
            problem: "MPI was started before".to_owned(),
        }));
    };
    let result = body(Box::new(Mpi(universe.world())));
    if result.is_err() {
        std::mem::forget(universe);
    }
    result
}

struct Mpi(SimpleCommunicator);

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MPI rank {} of {}", self.0.rank(), self.0.size())
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        index(self.0.rank())
    }

    fn size(&self) -> usize {
        index(self.0.size())
    }

    fn gather(&mut self, own: &[f32]) -> Result<Vec<Vec<f32>>> {
        let mut counts: Vec<Count> = vec![0; self.size()];
        self.0.all_gather_into(&(own.len() as Count), &mut counts);
        let starts: Vec<Count> = counts
            .iter()
            .scan(0, |end, &count| {
                *end += count;
                Some(*end - count)
            })
            .collect();
        let mut all = vec![0.0; counts.iter().map(|&count| index(count)).sum()];
        let mut parts = PartitionMut::new(&mut all, counts.clone(), starts);
        self.0.all_gather_varcount_into(own, &mut parts);
        let mut rest = all.as_slice();
        let mut ranks = Vec::with_capacity(counts.len());
        for &count in &counts {
            let (own, tail) = rest.split_at(index(count));
            ranks.push(own.to_vec());
            rest = tail;
        }
        Ok(ranks)
    }

    fn receive(&mut self, buffer: &mut [f32]) -> Result<()> {
        if self.0.rank() > 0 {
            let before = self.0.process_at_rank(self.0.rank() - 1);
            before.receive_into(buffer);
        }
        Ok(())
    }

    fn send(&mut self, buffer: &[f32]) -> Result<()> {
        let next = self.0.rank() + 1;
        if next < self.0.size() {
            self.0.process_at_rank(next).send(buffer);
        }
        Ok(())
    }

    fn spread(&mut self, buffer: &mut [f32]) -> Result<()> {
        let last = self.0.process_at_rank(self.0.size() - 1);
        last.broadcast_into(buffer);
        Ok(())
    }
}

/// A rank or count of MPI's, which are never negative.
fn index(count: Count) -> usize {
    usize::try_from(count).unwrap_or_default()
}
