//! A data set is what is on the disk: what is missing or damaged in a finished one is made again, byte for
//! byte, by the same command.

use std::fs;
use std::path::{Path, PathBuf};

use popalign::data::dataset::Dataset;

use crate::process::{failed, succeeded};
use crate::world::{SDXL, World, listing, same};

/// Two units of pictures: 16 and 8.
fn options() -> Vec<String> {
    let axes = SDXL.bundle.join("axes.toml").display().to_string();
    let chain = SDXL.bundle.join("chain.toml").display().to_string();
    let options = format!("--neutral 12 --specific 1 --steps 2 --axes {axes} --filter {chain}");
    options.split(' ').map(str::to_owned).collect()
}

struct Set {
    world: World,
    options: Vec<String>,
    whole: PathBuf,
}

impl Set {
    fn new() -> Self {
        let (world, options) = (World::new(&SDXL, &["ox"]), options());
        let set = Self {
            whole: world.path("whole"),
            world,
            options,
        };
        set.run("whole", &[]);
        set
    }

    #[track_caller]
    fn run(&self, out: &str, more: &[&str]) -> String {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        succeeded(&self.world.run(out, &[&options[..], more].concat()))
    }

    /// A copy of the whole set.
    fn copy(&self) -> PathBuf {
        let out = self.world.path("out");
        let _ = fs::remove_dir_all(&out);
        for (name, bytes) in listing(&self.whole) {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        out
    }

    /// A picture of the second unit.
    fn picture(&self) -> String {
        let set = Dataset::open(&self.whole).unwrap();
        set.rows().last().unwrap().file_name.clone().unwrap()
    }
}

type Damage = (&'static str, fn(&Path));

/// What can become of a file.
const DAMAGES: [Damage; 3] = [
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("truncated", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
];

#[test]
fn what_is_missing_or_damaged_is_made_again() {
    let set = Set::new();
    let picture = set.picture();
    let files = [
        picture.as_str(),
        "latents-00000.safetensors",
        "text.safetensors",
        "metadata.jsonl",
        "axes.toml",
    ];
    for file in files {
        for (what, damage) in DAMAGES {
            let out = set.copy();
            damage(&out.join(file));
            let said = set.run("out", &[]);
            let named = format!("1 files are missing or damaged, the first is {file}");
            assert!(said.contains(&named), "{what}: {said}");
            same(&set.whole, &out);
            // It is whole, and stays as it is.
            let said = set.run("out", &[]);
            assert!(
                !said.contains("damaged") && said.contains("0 drawn now"),
                "{said}"
            );
        }
    }
}

#[test]
fn only_units_with_damage_are_drawn_and_by_their_shard() {
    let set = Set::new();
    let out = set.copy();
    fs::write(out.join(set.picture()), "another picture").unwrap();
    let said = set.run("out", &["--shard", "0/2"]);
    assert!(said.contains("0 of 24 pictures to draw"), "{said}");
    assert!(said.contains("1 units are left"), "{said}");
    assert!(Dataset::open(&out).is_err(), "it is not whole");
    let said = set.run("out", &["--shard", "1/2"]);
    assert!(said.contains("8 of 24 pictures to draw"), "{said}");
    same(&set.whole, &out);
}

/// Units that are done count only as far as their files are there.
#[test]
fn an_unfinished_set_is_looked_at_too() {
    let set = Set::new();
    set.run("out", &["--shard", "1/2"]);
    let out = set.world.path("out");
    for file in [set.picture(), "latents-00001.safetensors".to_owned()] {
        for (_, damage) in DAMAGES {
            damage(&out.join(&file));
            let said = set.run("out", &["--shard", "1/2"]);
            assert!(said.contains("8 of 24 pictures to draw"), "{said}");
        }
    }
    fs::remove_file(out.join(set.picture())).unwrap();
    set.run("out", &["--shard", "0/2"]);
    assert!(Dataset::open(&out).is_err(), "a picture is missing");
    set.run("out", &[]);
    same(&set.whole, &out);
}

#[test]
fn what_somebody_changed_is_not_taken_back() {
    let set = Set::new();
    let out = set.copy();
    let rows = fs::read_to_string(out.join("metadata.jsonl")).unwrap();
    let own = rows.replacen("\"dropped\":null", "\"dropped\":\"by hand\"", 1);
    assert_ne!(rows, own);
    fs::write(out.join("metadata.jsonl"), &own).unwrap();
    let axes = fs::read_to_string(out.join("axes.toml")).unwrap();
    fs::write(out.join("axes.toml"), format!("# mine\n{axes}")).unwrap();
    let said = set.run("out", &[]);
    assert!(
        said.contains("metadata.jsonl: changed since it was written"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(out.join("metadata.jsonl")).unwrap(), own);
    assert!(
        fs::read_to_string(out.join("axes.toml"))
            .unwrap()
            .starts_with("# mine")
    );
}

#[test]
fn without_its_manifest_nothing_is_guessed() {
    let set = Set::new();
    let out = set.copy();
    fs::write(out.join("manifest.json"), "").unwrap();
    let options: Vec<&str> = set.options.iter().map(String::as_str).collect();
    let expected = [
        "manifest.json is not a data set's manifest",
        "hint: nothing else says",
    ];
    failed(&set.world.run("out", &options), 1, &expected);
    fs::remove_file(out.join("manifest.json")).unwrap();
    let expected = ["neither empty nor a data set", "hint: "];
    failed(&set.world.run("out", &options), 1, &expected);
}
