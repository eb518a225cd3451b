//! What launched this process beside others: `mpirun` or `srun`, by what they leave in the environment.

/// The names that launchers give a process's number among all, and how many there are: Open MPI, MPICH and
/// Intel MPI, Slurm.
const RANKS: [[&str; 2]; 3] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    ["PMI_RANK", "PMI_SIZE"],
    ["SLURM_PROCID", "SLURM_NTASKS"],
];
/// The names of its number among those of its machine.
const LOCAL: [&str; 3] = [
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "SLURM_LOCALID",
];

/// This process's number, from 0, and how many there are; nothing where no launcher says it.
pub fn rank_and_size() -> Option<[usize; 2]> {
    named(|name| std::env::var(name).ok())
}

fn named(value: impl Fn(&str) -> Option<String>) -> Option<[usize; 2]> {
    RANKS.iter().find_map(|[rank, size]| {
        let number = |name: &str| value(name)?.parse().ok();
        let (rank, size) = (number(rank)?, number(size)?);
        (rank < size).then_some([rank, size])
    })
}

/// This process's number among those of its machine; 0 where no launcher says it.
pub fn local() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    LOCAL.into_iter().find_map(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_launcher_is_understood() {
        let of = |pairs: &[(&str, &str)]| {
            named(|name| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4")];
        assert_eq!(of(&slurm), Some([3, 4]));
        // mpirun within an allocation of Slurm's: mpirun counts.
        let both = [slurm[0], slurm[1], ("PMI_RANK", "1"), ("PMI_SIZE", "2")];
        assert_eq!(of(&both), Some([1, 2]));
        assert_eq!(of(&[("SLURM_PROCID", "4"), ("SLURM_NTASKS", "4")]), None);
        assert_eq!(of(&[("SLURM_PROCID", "x"), ("SLURM_NTASKS", "4")]), None);
    }
}
