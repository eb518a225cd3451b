//! Bad input: each is named, ends with exit code 1 (2 for usage), and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{self, failed, stderr};
use crate::world::{Model, SDXL, World, assemble, listing, same};

/// Expects exit code 1 and a message that holds all of `expected`, and no data set.
#[track_caller]
fn refused(world: &World, options: &[&str], expected: &[&str]) {
    ends(world, options, 1, expected);
    assert!(!world.path("out").exists(), "something was left behind");
}

#[track_caller]
fn ends(world: &World, options: &[&str], code: i32, expected: &[&str]) {
    failed(&world.run("out", options), code, expected);
}

fn world() -> World {
    World::new(&SDXL, &["ox"])
}

const QUICK: [&str; 4] = ["--neutral", "2", "--steps", "2"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut all: Vec<&str> = QUICK.to_vec();
    all.extend(more);
    all
}

#[test]
fn prompts_that_are_none() {
    let world = world();
    let prompts = world.path("prompts.csv");
    fs::write(&prompts, "Caption,id\nox,1\n").unwrap();
    refused(&world, &[], &["no `Prompt` column", "Caption, id"]);
    fs::write(
        &prompts,
        "Prompt\n\"a photo of a doctor\nnurse\nchef\npilot\n",
    )
    .unwrap();
    refused(&world, &[], &["prompts.csv:2: the quote that opens here"]);
    fs::write(&prompts, "Prompt\n").unwrap();
    refused(&world, &[], &["holds no prompts"]);
    fs::remove_file(&prompts).unwrap();
    refused(&world, &[], &["prompts.csv"]);
}

#[test]
fn a_list_of_lines_is_read_and_text_that_is_none_is_refused() {
    let world = world();
    let run = |name: &str| {
        let mut command = process::pa_datagen();
        command.args(["--ep", "cpu", "--model"]).arg(&SDXL.bundle);
        command.arg("--prompts").arg(world.path(name));
        command.arg("--out").arg(world.path("out")).args(QUICK);
        command.output().unwrap()
    };
    fs::write(world.path("bad.txt"), b"ox\n\xff").unwrap();
    let output = run("bad.txt");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not UTF-8"));
    fs::write(world.path("bad.yaml"), "- ox\n").unwrap();
    let output = run("bad.yaml");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("bad.yaml: prompts are not read from .yaml"),
        "{text}"
    );
    for (name, text) in [
        ("good.txt", "ox\n\n a hat \n"),
        ("mac.txt", "ox\ra hat\r"),
        ("good.tsv", "Prompt\tid\nox\t1\na hat\t2\n"),
        ("good.json", "[\"ox\", {\"prompt\": \"a hat\"}]"),
        ("good.jsonl", "\u{feff}{\"text\": \"ox\"}\r\n\"a hat\"\r\n"),
    ] {
        let _ = fs::remove_dir_all(world.path("out"));
        fs::write(world.path(name), text).unwrap();
        let output = run(name);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let rows = fs::read_to_string(world.path("out/metadata.jsonl")).unwrap();
        assert_eq!(rows.lines().count(), 4, "{name}: {rows}");
        assert!(rows.contains("\"prompt\":\"ox\""), "{name}: {rows}");
        assert!(rows.contains("\"prompt\":\"a hat\""), "{name}: {rows}");
    }
}

#[test]
fn usage() {
    let world = world();
    for (options, expected) in [
        (&["--specific", "2"][..], "--axes"),
        (&["--lora-scale", "2"], "--lora"),
        (&["--size", "8x"], "WIDTHxHEIGHT"),
        (&["--size", "100000x100000"], "pixels from 1 to 16384"),
        (&["--neutral", "4294967295"], "to 1000000"),
        (&["--neutral", "1000001"], "to 1000000"),
        (&["--specific", "1000001", "--axes", "a"], "to 1000000"),
        (&["--steps", "99999999999"], "a number of steps"),
        (
            &["--batch", "99999999999"],
            "a number of pictures from 1 to 16",
        ),
        (&["--threads", "65535"], "to 1024"),
        (&["--shard", "2/2"], "i/n"),
        (&["--batch", "0"], "--batch"),
        (&["--batch", "17"], "--batch"),
        (&["--cfg", "-1"], "--cfg"),
        (&["--cfg", "NaN"], "--cfg"),
        (&["--annealing", "1,0,1,1"], "T1 <= T2"),
        (&["--steps", "0"], "--steps"),
        (&["--sampler", "heun"], "euler"),
        (&["--format", "webp"], "png"),
        (&["--trt", "--ep", "cpu"], "--ep"),
    ] {
        ends(&world, options, 2, &[expected]);
    }
    assert!(!world.path("out").exists());
}

#[test]
fn options_that_this_model_can_not_follow() {
    let world = world();
    refused(
        &world,
        &quick(&["--size", "30x32"]),
        &["--size 30x32", "multiple of 4", "28 or 32"],
    );
    refused(
        &world,
        &["--steps", "1001"],
        &["--steps is 1001", "1..=1000"],
    );
    refused(&world, &["--neutral", "0"], &["nothing to draw"]);
    let annealed = quick(&["--annealing", "0.5,1,1,1"]);
    refused(&world, &annealed, &["--guidance cfg: it anneals nothing"]);
    let bundle = SDXL.bundle.display().to_string();
    let gpu = [
        "--model",
        &bundle,
        "--prompts",
        "prompts.csv",
        "--out",
        "out",
        "--trt",
    ];
    let mut command = process::pa_datagen();
    let run = command
        .args(gpu)
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    assert!(stderr(&run).contains("tensorrt"), "{}", stderr(&run));
}

#[test]
fn a_bundle_without_a_part() {
    let name = "without-vae";
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("datagen/without-vae/source");
    assemble(&source, "sdxl", "sdxl_3");
    let parts = ["--parts", "text_encoder,unet,vae_decoder"];
    let model = Model::export(name, source.clone(), &parts);
    let world = World::new(&model, &["ox"]);
    refused(
        &world,
        &[],
        &["text_encoder_2", "hint: run pa-export again"],
    );
    let parts = ["--parts", "text_encoder,text_encoder_2,unet"];
    let world = World::new(&Model::export(name, source, &parts), &["ox"]);
    refused(&world, &[], &["vae_decoder"]);
    let nowhere = Model {
        bundle: world.path("nowhere"),
        fixture: world.path(""),
        source: world.path(""),
    };
    let world = World::new(&nowhere, &["ox"]);
    refused(&world, &[], &["nowhere", "hint: make one with: pa-export"]);
}

#[test]
fn a_bundle_without_a_tokenizer() {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("datagen/without-tokenizer/source");
    assemble(&source, "sdxl", "sdxl_3");
    fs::remove_file(source.join("tokenizer_2/merges.txt")).unwrap();
    let model = Model::export("without-tokenizer", source, &["--no-grad"]);
    let world = World::new(&model, &["ox"]);
    ends(&world, &[], 1, &["tokenizer_2 holds no tokenizer"]);
}

#[test]
fn adapters_that_do_not_fit() {
    use popalign::lora::{Factors, LoraAdapter, write_diffusers};
    let world = world();
    let file = world.path("lora.safetensors");
    let lora = file.display().to_string();
    let options = quick(&["--lora", &lora]);
    let fits = popalign::lora::read(SDXL.fixture.join("lora.safetensors")).unwrap();
    let write = |change: &dyn Fn(&mut LoraAdapter)| {
        let mut adapter = fits.clone();
        change(&mut adapter);
        write_diffusers(&file, &adapter).unwrap();
    };
    let first = fits.modules.keys().next().unwrap().clone();
    write(&|a| {
        let f = a.modules[&first].clone();
        let rank = 9;
        let (inputs, outputs) = (f.inputs(), f.outputs());
        let factors = Factors {
            a: vec![0.0; rank * inputs],
            b: vec![0.0; outputs * rank],
            rank,
            alpha: 1.0,
        };
        a.modules.insert(first.clone(), factors);
    });
    refused(
        &world,
        &options,
        &["rank is 9", "ranks up to 8", "hint: export with a higher"],
    );
    write(&|a| {
        let f = a.modules[&first].clone();
        a.modules.insert("down_blocks.7.attn1.to_q".into(), f);
    });
    refused(
        &world,
        &options,
        &["`down_blocks.7.attn1.to_q`", "takes LoRA on"],
    );
    text_encoder(&file);
    refused(
        &world,
        &options,
        &[
            "lora.safetensors",
            "hint: pa-export --lora FILE --merge adds it to the model's weights",
        ],
    );
    write(&|a| a.modules.get_mut(&first).unwrap().a.truncate(4));
    refused(&world, &options, &["lora.safetensors", &first]);
    fs::write(&file, "not tensors").unwrap();
    refused(&world, &options, &["cannot use --lora", "lora.safetensors"]);
    fs::remove_file(&file).unwrap();
    refused(&world, &options, &["lora.safetensors"]);
}

/// An adapter that changes a text encoder too.
fn text_encoder(file: &Path) {
    use popalign::tensors::{NewTensor, write_safetensors};
    let module = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
    let tensors = ["A", "B"].map(|side| {
        let shape = if side == "A" { [1, 8] } else { [8, 1] };
        NewTensor::f32(format!("{module}.lora_{side}.weight"), &shape, &[0.5; 8])
    });
    write_safetensors(file, &tensors, &std::collections::BTreeMap::new()).unwrap();
}

#[test]
fn chains_that_do_not_fit() {
    let world = world();
    let axes = SDXL.bundle.join("axes.toml").display().to_string();
    let chain = world.path("chain.toml");
    let name = chain.display().to_string();
    let options = quick(&["--axes", &axes, "--filter", &name]);
    refused(&world, &options, &["no classifier chain", "chain.toml"]);
    fs::write(&chain, "name = 3").unwrap();
    refused(&world, &options, &["chain.toml: not a chain manifest"]);
    let shipped = fs::read_to_string(SDXL.bundle.join("chain.toml")).unwrap();
    let model = SDXL.bundle.join("classifier/model.onnx");
    let whole = shipped.replace("classifier/model.onnx", &model.display().to_string());
    fs::write(&chain, whole.replace("axis = \"age\"", "axis = \"years\"")).unwrap();
    refused(
        &world,
        &options,
        &[
            &format!("{axes}: axis.age.classifier.output: the chain {name}: "),
            "measures no `age`",
            "gender, skin, years",
        ],
    );
    fs::write(
        &chain,
        whole.replace("\"young\", \"old\"", "\"young\", \"grey\""),
    )
    .unwrap();
    refused(
        &world,
        &options,
        &["axis.age.classifier.labels", "no label `old`"],
    );
}

#[test]
fn folders_that_are_something_else() {
    let world = world();
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/letter.txt"), "dear").unwrap();
    ends(
        &world,
        &QUICK,
        1,
        &["neither empty nor a data set", "hint: "],
    );
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 1);
    fs::remove_dir_all(world.path("out")).unwrap();
    fs::write(world.path("out"), "a file").unwrap();
    ends(&world, &QUICK, 1, &["out"]);
    assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "a file");
}

#[test]
fn an_adapter_that_breaks_the_model() {
    use popalign::lora::write_diffusers;
    let world = world();
    let mut adapter = popalign::lora::read(SDXL.fixture.join("lora.safetensors")).unwrap();
    for factors in adapter.modules.values_mut() {
        factors.b.fill(f32::MAX);
    }
    let file = world.path("lora.safetensors");
    write_diffusers(&file, &adapter).unwrap();
    let lora = file.display().to_string();
    let expected = [
        "picture 0 of \"ox\" came out as NaN or infinity",
        "`out_sample` of unet is",
        "hint: a LoRA that was trained too hard",
    ];
    ends(&world, &quick(&["--lora", &lora]), 1, &expected);
}

/// What fp16 can't hold stops a run that fp32 finishes: black pictures are never written.
#[test]
fn a_network_that_overflows_fp16_is_named() {
    let vae = [
        "picture 0 of \"ox\" came out as NaN or infinity",
        "`sample` of vae_decoder, computed in fp16,",
        "sdxl-vae-fp16-fix",
    ];
    let unet = [
        "picture 0 of \"ox\" came out as NaN or infinity",
        "`out_sample` of unet, computed in fp16,",
        "--dtype bf16 or fp32",
    ];
    let text = [
        "`hidden_states` of text_encoder, computed in fp16,",
        "for the caption \"",
        "--dtype bf16 or fp32",
    ];
    for (folder, file, tensor, expected) in [
        (
            "vae",
            "diffusion_pytorch_model",
            "decoder.conv_out.bias",
            vae,
        ),
        ("unet", "diffusion_pytorch_model", "conv_out.bias", unet),
        (
            "text_encoder",
            "model",
            "embeddings.position_embedding.weight",
            text,
        ),
    ] {
        let name = format!("overflow-{folder}");
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        assemble(&source, "sdxl", "sdxl_3");
        let config = fs::read_to_string(source.join("vae/config.json")).unwrap();
        let config = config.replacen('{', "{\"force_upcast\": false,", 1);
        fs::write(source.join("vae/config.json"), config).unwrap();
        let weights = source.join(folder).join(format!("{file}.safetensors"));
        raise_beyond_fp16(&weights, tensor);
        let options = ["--no-grad", "--dtype", "fp16"];
        let world = World::new(&Model::export(&name, source.clone(), &options), &["ox"]);
        ends(&world, &QUICK, 1, &expected);
        let pictures = fs::read_dir(world.path("out/images")).map_or(0, Iterator::count);
        assert_eq!(pictures, 0, "{folder}");
        let name = format!("{name}-fp32");
        let world = World::new(&Model::export(&name, source, &["--no-grad"]), &["ox"]);
        world.done("out", &QUICK);
    }
}

/// Makes a tensor's values 1e5, in fp32; fp16 ends at 65504.
fn raise_beyond_fp16(path: &Path, tensor: &str) {
    use popalign::tensors::{DType, NewTensor, Weights, write_safetensors};
    let weights = Weights::open_files([path]).unwrap();
    let tensors: Vec<NewTensor<'_>> = weights
        .iter()
        .map(|t| NewTensor {
            name: t.name.clone(),
            dtype: if t.name == tensor {
                DType::F32
            } else {
                t.dtype
            },
            shape: t.shape.clone(),
            data: match t.name == tensor {
                true => 1e5_f32.to_le_bytes().repeat(t.elements() as usize).into(),
                false => t.read_bytes().unwrap().into(),
            },
        })
        .collect();
    assert!(tensors.iter().any(|t| t.name == tensor));
    write_safetensors(path, &tensors, &Default::default()).unwrap();
}

/// A file size limit with its signal ignored makes writes fail as a full disk does.
#[test]
fn a_full_disk_stops_a_run_that_then_goes_on() {
    let world = World::new(&SDXL, &["ox"]);
    let options = ["--neutral", "20", "--steps", "2"];
    let whole = world.done("whole", &options);
    let run = world.command("out", &options);
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$@\"", "bash"]);
    shell.arg(run.get_program()).args(run.get_args());
    let output = shell.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write"), "{text}");
    assert!(text.contains("latents-00000.safetensors"), "{text}");
    assert!(text.contains("File too large"), "{text}");
    same(&whole, &world.done("out", &options));
}

#[test]
fn a_folder_begun_with_other_options() {
    let world = world();
    world.done("out", &QUICK);
    let before = listing(&world.path("out"));
    for (options, expected) in [
        (
            &["--neutral", "2", "--steps", "3"][..],
            "another `steps`: it has 2, this run has 3",
        ),
        (&["--neutral", "3", "--steps", "2"], "another `neutral`"),
        (
            &["--neutral", "2", "--steps", "2", "--seed", "1"],
            "another `seed`",
        ),
        (
            &["--neutral", "2", "--steps", "2", "--negative", ""],
            "another `negative`",
        ),
    ] {
        ends(&world, options, 1, &[expected, "hint: repeat the options"]);
    }
    fs::write(world.path("prompts.csv"), "Prompt\ncow\n").unwrap();
    ends(&world, &QUICK, 1, &["another `prompts`"]);
    assert_eq!(before, listing(&world.path("out")));
}

#[test]
fn a_folder_that_can_not_be_written() {
    // Root may write anywhere but into a folder that is a device's or a file's.
    let world = world();
    let output = world.run("prompts.csv/inner", &QUICK);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("prompts.csv/inner"), "{text}");
}
