//! Models of the hub, from a hub on this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Output;

use popalign::bundle::{Bundle, Part};

use crate::checkpoint::{World, pa_export};
use crate::hub_server::{COMMIT, Faults, HubServer, TOKEN};
use crate::outputs::same;
use crate::process::stderr;

/// A repository with more in it than an export needs, and a hub that serves it.
struct Hub {
    world: World,
    server: HubServer,
}

impl Hub {
    fn new(faults: Faults) -> Self {
        let world = World::new();
        let unet = world.src().join("unet");
        for name in ["fp16.safetensors", "non_ema.safetensors", "onnx"] {
            let weights = unet.join(format!("diffusion_pytorch_model.{name}"));
            fs::copy(world.unet_weights(), weights).unwrap();
        }
        fs::write(world.src().join("sd_tiny.safetensors"), "another format").unwrap();
        fs::write(world.src().join("picture.png"), "a demonstration").unwrap();
        fs::write(world.src().join("README.md"), "# Tiny").unwrap();
        // Files of the same contents are fetched once; these are not to be.
        for name in ["tokenizer", "tokenizer_2"] {
            let vocabulary = format!("{{\"{name}\": 0}}");
            fs::write(world.src().join(name).join("vocab.json"), vocabulary).unwrap();
        }
        let server = HubServer::new(&world.src(), faults);
        Self { world, server }
    }

    fn cache(&self) -> PathBuf {
        self.world.dir().join("home/hub/models--org--tiny")
    }

    fn snapshot(&self) -> PathBuf {
        self.cache().join("snapshots").join(COMMIT)
    }

    fn export(&self, options: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = pa_export();
        command
            .current_dir(self.world.dir())
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_HOME", self.world.dir().join("home"))
            .env("HF_ENDPOINT", &self.server.url)
            .arg("-o")
            .arg(self.world.out())
            .args(options);
        for (name, value) in environment {
            command.env(name, value);
        }
        command.output().unwrap()
    }

    #[track_caller]
    fn exported(&self, options: &[&str]) -> String {
        let output = self.export(options, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }

    #[track_caller]
    fn refused(&self, options: &[&str], environment: &[(&str, &str)], expected: &[&str]) {
        let output = self.export(options, environment);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in expected {
            assert!(text.contains(part), "{text:?} should contain {part:?}");
        }
        assert!(!self.world.out().exists());
    }

    /// The files whose bytes were asked for, in order.
    fn fetched(&self) -> Vec<String> {
        let requests = self.server.requests();
        let bytes = requests.iter().filter(|r| r.method == "GET");
        let of_files = bytes.filter_map(|r| r.path.strip_prefix("/org/tiny/resolve/"));
        let of_commit = of_files.map(|p| p.strip_prefix(COMMIT).unwrap());
        of_commit
            .map(|p| p.trim_start_matches('/').to_owned())
            .collect()
    }
}

#[test]
fn an_id_becomes_the_bundle_that_the_folder_does_and_only_what_is_needed_is_fetched() {
    let hub = Hub::new(Faults::default());
    let text = hub.exported(&["org/tiny"]);
    assert!(
        text.contains("fetched unet/config.json of org/tiny"),
        "{text}"
    );
    let fetched = hub.fetched();
    for needed in [
        "model_index.json",
        "moved/README.md",
        "axes.toml",
        "prompts/train.csv",
        "tokenizer_2/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "clip/model.safetensors",
    ] {
        assert!(fetched.iter().any(|f| f == needed), "{needed}: {fetched:?}");
    }
    for other in ["fp16", "non_ema", "onnx", "sd_tiny", "picture"] {
        assert!(
            !fetched.iter().any(|f| f.contains(other)),
            "{other}: {fetched:?}"
        );
    }
    let weights = "unet/diffusion_pytorch_model.safetensors";
    // One file under three names: the blob, and a real one in the folder of every graph.
    let linked = hub.world.out().join(weights).symlink_metadata().unwrap();
    assert!(linked.is_file());
    assert_eq!(
        linked.ino(),
        hub.snapshot().join(weights).metadata().unwrap().ino()
    );
    assert_eq!(
        fs::read_to_string(hub.cache().join("refs/main")).unwrap(),
        COMMIT
    );
    Bundle::open(hub.world.out()).unwrap();

    let other = hub.world.dir().join("from-folder");
    let output = pa_export()
        .arg(hub.world.src())
        .arg("-o")
        .arg(&other)
        .output();
    assert!(output.unwrap().status.success());
    same(&hub.world.out(), &other, &[Part::Unet, Part::VaeDecoder]);
}

#[test]
fn parts_variants_and_revisions_choose_what_is_fetched() {
    let hub = Hub::new(Faults::default());
    hub.exported(&["org/tiny@v1/x", "--parts", "unet", "--variant", "fp16"]);
    let weights: Vec<String> = hub
        .fetched()
        .into_iter()
        .filter(|f| f.ends_with("safetensors"))
        .collect();
    assert_eq!(weights, ["unet/diffusion_pytorch_model.fp16.safetensors"]);
    assert!(hub.cache().join("refs/v1/x").is_file());
    hub.refused_after(
        &["org/tiny", "--variant", "ema"],
        "no weights of variant `ema` in ",
    );
}

impl Hub {
    /// A refusal where a bundle stands already.
    #[track_caller]
    fn refused_after(&self, options: &[&str], expected: &str) {
        let output = self.export(options, &[]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_was_fetched_serves_again_and_offline() {
    let hub = Hub::new(Faults::default());
    hub.exported(&["org/tiny"]);
    let before = hub.fetched().len();
    hub.exported(&["org/tiny"]);
    assert_eq!(hub.fetched().len(), before, "nothing is fetched twice");
    let offline = [("HF_HUB_OFFLINE", "1")];
    let requests = hub.server.requests().len();
    let output = hub.export(&["org/tiny"], &offline);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = hub.export(&["org/tiny@no-such"], &offline);
    assert!(
        stderr(&output).contains("has no files of org/tiny@no-such"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        hub.server.requests().len(),
        requests,
        "offline nobody is asked"
    );
}

#[test]
fn a_cache_that_lacks_something_offline_says_what() {
    let hub = Hub::new(Faults::default());
    hub.exported(&["org/tiny", "--parts", "unet"]);
    fs::remove_dir_all(hub.world.out()).unwrap();
    let offline = [("HF_HUB_OFFLINE", "yes")];
    let hint = "hint: unset HF_HUB_OFFLINE";
    let variant = ["org/tiny", "--parts", "unet", "--variant", "fp16"];
    hub.refused(
        &variant,
        &offline,
        &["weights of variant `fp16` in unet/", hint],
    );
    hub.refused(
        &["org/other"],
        &offline,
        &["has no files of org/other", hint],
    );
    let weights = hub
        .snapshot()
        .join("unet/diffusion_pytorch_model.safetensors");
    fs::remove_file(weights.canonicalize().unwrap()).unwrap();
    hub.refused(
        &["org/tiny", "--parts", "unet"],
        &offline,
        &["no weights in unet/ of org/tiny", hint],
    );
    // Online the dangling link is mended.
    hub.exported(&["org/tiny", "--parts", "unet"]);
}

#[test]
fn a_path_that_exists_wins() {
    let hub = Hub::new(Faults::default());
    let local = hub.world.dir().join("org");
    fs::create_dir(&local).unwrap();
    std::os::unix::fs::symlink(hub.world.src(), local.join("tiny")).unwrap();
    hub.exported(&["org/tiny", "--parts", "unet"]);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let hub = Hub::new(Faults {
        cuts: 3,
        ..Faults::default()
    });
    hub.exported(&["org/tiny", "--parts", "unet"]);
    let from = |r: &crate::hub_server::Request| r.headers.get("range").cloned().unwrap();
    let requests = hub.server.requests();
    let starts: Vec<String> = requests.iter().filter(|r| r.cdn).map(from).collect();
    let size = fs::metadata(hub.world.unet_weights()).unwrap().len();
    let half = size / 2;
    let quarter = half + (size - half) / 2;
    let last = quarter + (size - quarter) / 2;
    assert_eq!(
        starts,
        [0, half, quarter, last].map(|b| format!("bytes={b}-"))
    );
}

#[test]
fn a_broken_run_is_continued_by_the_next() {
    let hub = Hub::new(Faults::default());
    let bytes = fs::read(hub.world.unet_weights()).unwrap();
    let blobs = hub.cache().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let hash = popalign::base::fsio::sha256_bytes(&bytes);
    fs::write(blobs.join(format!("{hash}.incomplete")), &bytes[..1000]).unwrap();
    hub.exported(&["org/tiny", "--parts", "unet"]);
    let requests = hub.server.requests();
    let cdn = requests.iter().find(|r| r.cdn).unwrap();
    assert_eq!(cdn.headers["range"], "bytes=1000-");
    assert_eq!(fs::read(blobs.join(hash)).unwrap(), bytes);
}

#[test]
fn a_server_that_ignores_ranges_still_gives_the_right_bytes() {
    let hub = Hub::new(Faults {
        cuts: 1,
        no_ranges: true,
        ..Faults::default()
    });
    hub.exported(&["org/tiny", "--parts", "unet"]);
    let weights = hub
        .snapshot()
        .join("unet/diffusion_pytorch_model.safetensors");
    assert_eq!(
        fs::read(weights).unwrap(),
        fs::read(hub.world.unet_weights()).unwrap()
    );
}

#[test]
fn a_connection_that_breaks_without_end_is_given_up_and_what_came_is_kept() {
    let hub = Hub::new(Faults {
        cuts: 1000,
        ..Faults::default()
    });
    hub.refused(
        &["org/tiny", "--parts", "unet"],
        &[],
        &[
            "unet/diffusion_pytorch_model.safetensors of org/tiny",
            "hint: run the command again",
        ],
    );
    let kept = fs::read_dir(hub.cache().join("blobs")).unwrap();
    let kept = kept.map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|n| n.ends_with(".incomplete")).count(), 1);
}

#[test]
fn bytes_that_are_not_the_promised_ones_are_refused() {
    let hub = Hub::new(Faults {
        corrupt: true,
        ..Faults::default()
    });
    hub.refused(
        &["org/tiny", "--parts", "unet"],
        &[],
        &["was fetched with sha256", "but the hub says", "hint: "],
    );
}

#[test]
fn a_private_repository_needs_the_token_which_no_other_host_gets() {
    let hub = Hub::new(Faults::default());
    let private = ["org/private", "--parts", "unet"];
    hub.refused(
        &private,
        &[],
        &["HTTP 401", "org/private", "hint: ", "HF_TOKEN"],
    );
    hub.refused(&private, &[("HF_TOKEN", "hf_wrong")], &["HTTP 401"]);
    let output = hub.export(&private, &[("HF_TOKEN", TOKEN)]);
    assert!(output.status.success(), "{}", stderr(&output));
    for request in hub.server.requests().iter().filter(|r| r.cdn) {
        assert!(
            !request.headers.contains_key("authorization"),
            "{request:?}"
        );
    }
    // The token that `hf auth login` stores serves as well.
    let file = hub.world.dir().join("home/token");
    fs::write(file, format!("{TOKEN}\n")).unwrap();
    let output = hub.export(&private, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn ids_that_name_nothing() {
    let hub = Hub::new(Faults::default());
    hub.refused(
        &["org/nothing"],
        &[],
        &["HTTP 404", "the list of files of org/nothing", "hint: "],
    );
    hub.refused(&["org/tiny@v9"], &[], &["HTTP 404", "org/tiny@v9"]);
    hub.refused(
        &["org/tiny/x.safetensors"],
        &[],
        &["no x.safetensors of org/tiny (HTTP 404)"],
    );
    hub.refused(
        &["nothing"],
        &[],
        &["there is no nothing, and it is no hub id", "org/name"],
    );
    let base = [
        hub.world.src().join("unet").display().to_string(),
        "--base".into(),
        "a/b/c".into(),
    ];
    hub.refused(
        &base.each_ref().map(String::as_str),
        &[],
        &["--base a/b/c is neither", "hint: "],
    );
    hub.refused(
        &["org/tiny"],
        &[("HF_ENDPOINT", "http://127.0.0.1:1")],
        &["cannot fetch the list of files of org/tiny", "hint: "],
    );
}

#[test]
fn a_hub_that_names_paths_outside_the_cache_is_refused() {
    for extra in ["../evil", "/etc/evil", "unet/../../evil", "a\\b"] {
        let hub = Hub::new(Faults {
            extra: Some(extra),
            ..Faults::default()
        });
        hub.refused(&["org/tiny"], &[], &[extra, "which is no plain path"]);
    }
    let hub = Hub::new(Faults {
        etag: Some("../../evil"),
        ..Faults::default()
    });
    hub.refused(
        &["org/tiny"],
        &[],
        &["has the ETag `../../evil`, expected a hash"],
    );
}

#[test]
fn a_base_of_the_hub_gives_what_the_checkpoint_lacks_and_no_more() {
    let hub = Hub::new(Faults::default());
    let unet = hub.world.src().join("unet");
    hub.exported(&[unet.to_str().unwrap(), "--base", "org/tiny"]);
    let fetched = hub.fetched();
    assert!(
        fetched
            .iter()
            .any(|f| f == "vae/diffusion_pytorch_model.safetensors")
    );
    assert!(fetched.iter().any(|f| f == "tokenizer/vocab.json"));
    assert!(
        !fetched.iter().any(|f| f.starts_with("unet/")),
        "{fetched:?}"
    );
    assert!(!fetched.iter().any(|f| f == "axes.toml"), "{fetched:?}");
}

#[test]
fn the_shards_that_an_index_names_are_fetched() {
    let hub = Hub::new(Faults::default());
    crate::folders::shard(&hub.world);
    fs::remove_file(hub.world.unet_weights()).unwrap();
    hub.exported(&["org/tiny", "--parts", "unet"]);
    let weights = hub
        .fetched()
        .into_iter()
        .filter(|f| f.starts_with("unet/part-"));
    assert_eq!(weights.count(), 2);
}
