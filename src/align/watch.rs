//! When a run has run away, though its numbers are still finite.
//!
//! Two things are known of a LoRA that does nothing. Its errors are the reference's: the implied reward
//! g = ref_mse − mse is 0. And a loss of implied rewards is ln 2, times what the pairs weigh. So a step is in
//! doubt if
//!
//! - the winners' error is more than [`ERROR`] times the reference's on the same pictures and noise (their
//!   mean implied reward, without β, is below −ref_mse). Every loss lowers the winners' error;
//! - or the pairs' loss is more than [`LOSS`] times that of doing nothing.
//!
//! A small batch has such steps by chance, a run that learns leaves them again. [`Doubt::STEPS`] in a row end
//! the run: ten whose error says so; fifty whose loss does, for that grows with β, and a high β makes much of
//! little. The newest checkpoint from before the first of them is kept meanwhile, whatever comes after.

use crate::base::exact::neg_log_sigmoid;
use crate::device::Loss;

/// Times the reference's error.
pub const ERROR: f64 = 2.0;
/// Times the loss of doing nothing.
pub const LOSS: f64 = 10.0;

/// What a step looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signs {
    /// The winners' mean error.
    pub error: f64,
    /// The reference's.
    pub reference: f64,
    /// The pairs' loss.
    pub loss: f64,
    /// What it would be without a LoRA, of a loss of implied rewards.
    pub at_rest: Option<f64>,
}

/// Why a step is in doubt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doubt {
    /// The winners' error against the reference's.
    Error(f64, f64),
    /// The loss against that of doing nothing.
    Loss(f64, f64),
}

impl Doubt {
    /// Steps in a row that end a run, by its error and by its loss.
    pub const STEPS: [u32; 2] = [10, 50];

    /// Those of this doubt.
    pub fn steps(&self) -> u32 {
        match self {
            Self::Error(..) => Self::STEPS[0],
            Self::Loss(..) => Self::STEPS[1],
        }
    }
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(own, reference) => write!(
                f,
                "the winners' error is {own:.3e}, without the LoRA it is {reference:.3e}"
            ),
            Self::Loss(own, rest) => {
                write!(
                    f,
                    "the loss is {own:.3e}, without the LoRA it is {rest:.3e}"
                )
            }
        }
    }
}

impl Signs {
    /// Those of a step: `errors` of all samples, `mse` and then `ref_mse`, of which the first `paired` are
    /// winners and losers in turn; `scale` is what each sample's term is multiplied with.
    pub fn of(loss: Loss, value: f64, errors: &[f32], scale: &[f32], paired: usize) -> Self {
        let (mse, reference) = errors.split_at(errors.len() / 2);
        // All of a round's pictures are to come nearer to their targets; of pairs the winners are.
        let each = if loss == Loss::Each { 1 } else { 2 };
        let winners = |of: &[f32]| {
            let own = of[..paired].iter().step_by(each);
            own.map(|&x| f64::from(x)).sum::<f64>() / (paired / each) as f64
        };
        let rewards = !matches!(loss, Loss::Error | Loss::Each);
        Self {
            error: winners(mse),
            reference: winners(reference),
            loss: value,
            at_rest: rewards.then(|| winners(scale) * neg_log_sigmoid(0.0)),
        }
    }

    /// What its error and its loss leave to doubt.
    fn doubts(&self) -> [Option<Doubt>; 2] {
        let far = self.error > ERROR * self.reference;
        // Pairs that all weigh nothing have a loss of 0.
        let loud = self.at_rest.filter(|rest| self.loss > LOSS * rest);
        [
            far.then_some(Doubt::Error(self.error, self.reference)),
            loud.map(|rest| Doubt::Loss(self.loss, rest)),
        ]
    }
}

/// Since when every step was in doubt by its error and by its loss: updates that were done when that began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch(pub [Option<u32>; 2]);

impl Watch {
    /// Looks at the step after `done` updates; gives what is wrong and since when once the run is to end.
    pub fn look(&mut self, done: u32, signs: &Signs) -> Option<(Doubt, u32)> {
        let mut ended = None;
        for (since, doubt) in self.0.iter_mut().zip(signs.doubts()) {
            *since = doubt.map(|_| since.unwrap_or(done));
            let lasts = doubt.zip(*since);
            ended = ended.or(lasts.filter(|(doubt, since)| done + 1 - since >= doubt.steps()));
        }
        ended
    }

    /// Updates that were done when the oldest doubt began, if there is one.
    pub fn since(&self) -> Option<u32> {
        self.0.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Signs = Signs {
        error: 0.3,
        reference: 0.2,
        loss: 2.0,
        at_rest: Some(std::f64::consts::LN_2),
    };

    #[test]
    fn doubtful_steps_in_a_row_end_a_run() {
        let bad = Signs {
            error: 0.41,
            ..GOOD
        };
        let loud = Signs { loss: 7.0, ..GOOD };
        let mut watch = Watch::default();
        for done in 0..9 {
            assert_eq!(watch.look(done, &bad), None);
        }
        assert_eq!(watch.since(), Some(0));
        assert_eq!(watch.look(9, &GOOD), None, "it is over");
        assert_eq!(watch, Watch::default());
        // A loss that is too high lasts longer, whatever the errors are meanwhile.
        let both = Signs { error: 0.5, ..loud };
        for done in 10..59 {
            let signs = if done % 9 == 0 { &loud } else { &both };
            assert_eq!(watch.look(done, signs), None);
        }
        let found = watch.look(59, &loud);
        assert_eq!(found, Some((Doubt::Loss(7.0, std::f64::consts::LN_2), 10)));
        let mut watch = Watch([Some(50), Some(20)]);
        assert_eq!(watch.since(), Some(20));
        assert_eq!(watch.look(59, &both), Some((Doubt::Error(0.5, 0.2), 50)));
    }

    #[test]
    fn signs_are_those_of_the_winners() {
        let errors = [0.5, 9.0, 0.7, 9.0, 8.0, 0.1, 3.0, 0.2, 3.0, 3.0];
        let scale = [1.0, 1.0, 3.0, 3.0, 1.0];
        let signs = Signs::of(Loss::Lead { set: 1 }, 1.0, &errors, &scale, 4);
        assert!((signs.error - 0.6).abs() < 1e-6 && (signs.reference - 0.15).abs() < 1e-6);
        assert_eq!(signs.at_rest, Some(2.0 * neg_log_sigmoid(0.0)));
        let plain = Signs::of(Loss::Error, 1.0, &errors, &scale, 4);
        assert_eq!(plain.at_rest, None);
    }

    /// A LoRA that does nothing is not in doubt, whatever its pairs weigh.
    #[test]
    fn doing_nothing_is_no_doubt() {
        for weight in [0.0f32, 1e-3, 50.0] {
            let loss = f64::from(weight) * neg_log_sigmoid(0.0);
            let loss_of = Loss::Offset { alpha: 0.5 };
            let signs = Signs::of(loss_of, loss, &[0.2; 4], &[weight; 2], 2);
            assert_eq!(signs.doubts(), [None; 2]);
        }
    }
}
