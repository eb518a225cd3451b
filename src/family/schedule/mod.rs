//! What a model's `scheduler_config.json` says: the noise it was trained with, and how diffusers
//! would sample it.
//!
//! Keys and defaults are diffusers' 0.42 (`schedulers/scheduling_*.py`), whose classes read each
//! other's configurations: a sampler here takes what its class would take of the file. The classes
//! and keys that are understood are listed; any other may mean another kind of model (EDM, flow
//! matching), which would be drawn wrong without a word, so it is refused by name.
//!
//! | keys | here |
//! | --- | --- |
//! | `num_train_timesteps`, `beta_*`, `trained_betas`, `rescale_betas_zero_snr`, `prediction_type` | followed in training and by all samplers |
//! | `timestep_spacing`, `steps_offset` | followed by all samplers but lcm |
//! | `clip_sample`, `clip_sample_range` | followed by ddim, which clips unless told not to, and lcm, which doesn't |
//! | `set_alpha_to_one` | followed by ddim |
//! | `original_inference_steps`, `timestep_scaling` | followed by lcm, which has no spacing of its own |
//! | `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas`, `sigma_min`, `sigma_max`, `final_sigmas_type` | followed by euler and dpmpp_2m (dpmpp_2m_karras always has the first); the others have none of them |
//! | `thresholding` | refused by ddim, lcm and dpmpp_2m |
//! | `interpolation_type` | refused by euler, if not linear |
//! | `solver_order`, `algorithm_type`, `solver_type`, `lambda_min_clipped`, `use_lu_lambdas` | refused by dpmpp_2m, where they say another solver than it is |
//! | `lower_order_final`, `euler_at_final` | followed by dpmpp_2m |
//! | `timestep_type`, `use_flow_sigmas`, `use_dynamic_shifting`, `variance_type`, `shift_terminal`, `predict_epsilon`, `timestep_values` | refused, but for the value that ordinary models have |
//! | [`WITHOUT_EFFECT`] | parameters of other samplers, or of what is refused |

mod config;
mod error;
mod fields;

pub(crate) use config::{Betas, Respacing};
pub use config::{MOST_TIMESTEPS, SchedulerConfig, Spacing, WITHOUT_EFFECT, check_class};
pub use error::{Error, Result};
