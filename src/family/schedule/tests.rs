use std::path::Path;

use super::*;
use crate::base::json;

fn parse(json: &str) -> Result<SchedulerConfig> {
    SchedulerConfig::parse(json.as_bytes(), Path::new("scheduler_config.json"))
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (json, key) in [
        (r#"{"prediction_type":"sample"}"#, "prediction_type"),
        (r#"{"beta_schedule":"squaredcos_cap_v2"}"#, "beta_schedule"),
        (r#"{"beta_start":"x"}"#, "beta_start"),
        (r#"{"beta_end":1.5}"#, "beta_end"),
        (r#"{"timestep_spacing":"odd"}"#, "timestep_spacing"),
        (r#"{"timestep_type":"continuous"}"#, "timestep_type"),
        (r#"{"use_flow_sigmas":true}"#, "use_flow_sigmas"),
        (r#"{"use_dynamic_shifting":true}"#, "use_dynamic_shifting"),
        (r#"{"use_karras_sigmas":"yes"}"#, "use_karras_sigmas"),
        (r#"{"variance_type":"learned_range"}"#, "variance_type"),
        (r#"{"trained_betas":[0.1]}"#, "trained_betas"),
        (r#"{"final_sigmas_type":"end"}"#, "final_sigmas_type"),
        (r#"{"num_train_timesteps":1}"#, "num_train_timesteps"),
        (
            r#"{"num_train_timesteps":99999999999}"#,
            "num_train_timesteps",
        ),
        (r#"{"steps_offset":1000}"#, "steps_offset"),
        (r#"{"predict_epsilon":false}"#, "predict_epsilon"),
        (r#"{"_class_name":"EDMEulerScheduler"}"#, "_class_name"),
        (r#"{"_class_name":["DDIMScheduler"]}"#, "_class_name"),
    ] {
        let error = parse(json).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported { key: k, .. } if *k == key),
            "{error}"
        );
        assert!(error.to_string().contains(key), "{error}");
    }
    assert!(matches!(parse("[]"), Err(Error::Json { .. })));
}

#[test]
fn keys_that_nobody_knows_are_refused_by_name() {
    for (json, key) in [
        (r#"{"sigma_data":0.5}"#, "sigma_data"),
        (r#"{"num_train_timesteps":1000,"shift":3.0}"#, "shift"),
        (r#"{"snr_shift_scale":3.0}"#, "snr_shift_scale"),
        (r#"{"rho":7.0}"#, "rho"),
    ] {
        let error = parse(json).unwrap_err();
        assert!(
            matches!(&error, Error::Key { key: k, .. } if *k == key),
            "{error}"
        );
    }
}

/// Every class with every key of its signature at its default, as diffusers saves them.
#[test]
fn what_diffusers_saves_of_the_classes_listed_is_read() {
    let saved = include_str!("../../../tests/fixtures/schedulers/saved.json");
    let quoted = json::python_words_quoted(saved.as_bytes());
    let saved: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(&quoted).unwrap();
    let mut accepted = Vec::new();
    for config in saved {
        let class = config["_class_name"].as_str().unwrap().to_owned();
        let text = json::python_words_bare(&serde_json::to_string_pretty(&config).unwrap());
        let read = parse(&text);
        assert_eq!(
            read.is_ok(),
            CLASSES.contains(&class.as_str()),
            "{class}: {read:?}"
        );
        match read {
            Ok(_) => accepted.push(class),
            Err(error) => assert!(error.to_string().contains(&class), "{error}"),
        }
    }
    accepted.sort();
    let mut all = CLASSES;
    all.sort_unstable();
    assert_eq!(accepted, all);
}

#[test]
fn what_is_without_effect_is_accepted() {
    for json in [
        r#"{"_class_name":"FlaxPNDMScheduler","_private":{"a":1},"skip_prk_steps":true}"#,
        r#"{"lambda_min_clipped":-Infinity,"variance_type":null,"flow_shift":3.0}"#,
        r#"{"use_karras_sigmas":null,"trained_betas":null,"sigma_min":null}"#,
        r#"{"use_flow_sigmas":false,"variance_type":"fixed_small","timestep_type":"discrete"}"#,
        r#"{"use_karras_sigmas":true,"thresholding":true,"solver_order":3}"#,
    ] {
        parse(json).unwrap();
    }
}

/// diffusers drops the keys that it notes as defaults: every class takes its own.
#[test]
fn noted_defaults_are_not_said() {
    let config = parse(r#"{"clip_sample":false,"_use_default_values":["clip_sample"]}"#).unwrap();
    assert_eq!(config.clip_sample, Some(1.0));
    let config = parse(r#"{"clip_sample":false}"#).unwrap();
    assert_eq!(config.clip_sample, None);
}
